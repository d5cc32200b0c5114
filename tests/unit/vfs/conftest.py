"""What the tests of the filesystem share: a filesystem with its limits, and short names for its operations."""

from collections.abc import Callable

import pytest

from agentvm.clock import ManualClock
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.amount import Amount
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry


class Files:
    """A filesystem, its limits, and its operations as the host uses them: from the root, not confined."""

    def __init__(self, **limits: Amount) -> None:
        self.registry = Registry(Limits(**limits))
        self.clock = ManualClock(realtime_ns=1_700_000_000_000_000_000, step_ns=1)
        self.pieces = 0
        self.vfs = Vfs(self.registry, self.clock, between=self._between)
        self.free = {"root": self.vfs.root, "confined": False}
        self.root = self.vfs.root

    def _between(self) -> None:
        self.pieces += 1

    def open(self, path: bytes, *, flags: FdFlags = FdFlags(0), **how: object) -> OpenFile:
        return self.vfs.open_at(self.root, path, **self.free, flags=flags, **how)  # type: ignore[arg-type]

    def create(self, path: bytes, data: bytes = b"") -> OpenFile:
        file = self.open(path, create=True, write=True)
        if data:
            file.pwrite([memoryview(data)], 0)
        return file

    def put(self, path: bytes, data: bytes = b"") -> None:
        self.create(path, data).on_last_close()

    def get(self, path: bytes) -> bytes:
        file = self.open(path)
        data = content(file)
        file.on_last_close()
        return data

    def mkdir(self, path: bytes) -> None:
        self.vfs.mkdir_at(self.root, path, **self.free)

    def symlink(self, path: bytes, target: bytes) -> None:
        self.vfs.symlink_at(self.root, path, **self.free, target=target)

    def link(self, path: bytes, new: bytes) -> None:
        self.vfs.link_at(self.root, path, self.root, new, **self.free)

    def rename(self, path: bytes, new: bytes) -> None:
        self.vfs.rename_at(self.root, path, self.root, new, **self.free)

    def unlink(self, path: bytes) -> None:
        self.vfs.unlink_at(self.root, path, **self.free)

    def rmdir(self, path: bytes) -> None:
        self.vfs.rmdir_at(self.root, path, **self.free)

    def names(self, path: bytes) -> list[bytes]:
        directory = self.open(path, directory=True)
        names = [entry.name for entry in directory.entries(2)]
        directory.on_last_close()
        return names

    def charged(self) -> tuple[int, int]:
        """What the gauges hold: bytes and inodes. Fails if a recount differs."""
        memory, temporary = self.vfs.memory.recount(), self.vfs.temporary.recount()
        held = (self.registry.gauge("max_filesystem_bytes").used, self.registry.gauge("max_inodes").used)
        assert held == (memory.charged_bytes + temporary.charged_bytes, memory.inodes + temporary.inodes)
        assert self.registry.gauge("max_temp_storage_bytes").used == temporary.charged_bytes
        return held


def content(file: OpenFile) -> bytes:
    """All bytes of an open file."""
    buffer = bytearray(file.stat().size)
    return bytes(buffer[: file.pread([memoryview(buffer)], 0)])


@pytest.fixture
def files() -> Files:
    return Files()


@pytest.fixture
def make_files() -> Callable[..., Files]:
    return Files
