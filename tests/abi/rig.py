"""The proxy guest with what the tests of calls need: a trace, checks on its memory, and a few shorthands."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import wasmtime

from agentvm import AgentVM, Errno
from agentvm.abi.preview1 import PREVIEW1, UNSTABLE
from agentvm.abi.rights import ALL, DIRECTORY_BASE, DIRECTORY_INHERITING, FILE_BASE, Rights
from agentvm.abi.syscall import SyscallSpec
from agentvm.testing.proxy import ProxyGuest, proxy_module

__all__ = ["ALL", "CREAT", "DIRECTORY", "EVERY_FILE_RIGHT", "EXCL", "TRUNC", "WILD", "Boot", "Rig", "assembled"]

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
EVERY_FILE_RIGHT = FILE_BASE
#: A pointer near the end of the 32-bit space: adding almost any length to it wraps around in 32 bits.
WILD = 0xFFFF_FFF8
ROOT = 3

Boot = Callable[..., "Rig"]


@cache
def assembled(module: str) -> bytes:
    """Return the proxy of an import module, as a binary module."""
    table: Mapping[str, SyscallSpec] = {"preview1": PREVIEW1, "unstable": UNSTABLE}[module]
    return bytes(wasmtime.wat2wasm(proxy_module(table.values())))


class Rig(ProxyGuest):
    """A proxy whose every failing call is checked to have left its memory alone."""

    def __init__(self, vm: AgentVM, module: str, trace: list[str], **start: Any) -> None:
        table = PREVIEW1 if module == "preview1" else UNSTABLE
        super().__init__(vm, table.values(), assembled(module), **start)
        self.trace = trace

    def call(self, name: str, *arguments: int) -> Errno:
        before = self.memory()
        errno = super().call(name, *arguments)
        if errno is not Errno.SUCCESS:
            assert self.memory() == before, f"{name} failed with {errno.name} and wrote to memory"
        return errno

    def ok(self, name: str, *arguments: int, writes: Iterable[tuple[int, int]] | None = None) -> None:
        """Make a call that must succeed; with `writes`, it may write to those (address, size) ranges alone."""
        before = bytearray(self.memory())
        errno = self.call(name, *arguments)
        assert errno is Errno.SUCCESS, f"{name}{arguments}: {errno.name}"
        if writes is not None:
            after = self.memory()
            for address, size in writes:
                before[address : address + size] = after[address : address + size]
            assert after == bytes(before), f"{name} wrote outside its results"

    # -- shorthands for calls that must succeed -----------------------------------------------------------------------
    def open(
        self,
        path: str,
        oflags: int = 0,
        rights: int = EVERY_FILE_RIGHT,
        inheriting: int = 0,
        fdflags: int = 0,
        *,
        base: int = ROOT,
    ) -> int:
        """Open a file, and return its descriptor."""
        out = self.space(4)
        self.ok("path_open", base, 1, *self.text(path), oflags, rights, inheriting, fdflags, out, writes=[(out, 4)])
        return self.number(out)

    def open_dir(self, path: str, rights: int = DIRECTORY_BASE, inheriting: int = DIRECTORY_INHERITING) -> int:
        return self.open(path, DIRECTORY, rights, inheriting)

    def create(self, path: str, data: bytes = b"") -> int:
        """Make a file in the VM, and return a descriptor that reads and writes."""
        self.vm.fs.write(path, data)
        return self.open(path.lstrip("/"))

    def write(self, fd: int, *pieces: bytes) -> int:
        """Write with fd_write, and return the count."""
        out = self.space(4)
        iovs = self.iovecs(*((self.put(piece), len(piece)) for piece in pieces))
        self.ok("fd_write", fd, *iovs, out, writes=[(out, 4)])
        return self.number(out)

    def read_fd(self, fd: int, size: int) -> bytes:
        """Read with fd_read."""
        out, buffer = self.space(4), self.space(size)
        self.ok("fd_read", fd, *self.iovecs((buffer, size)), out, writes=[(out, 4), (buffer, size)])
        return self.read(buffer, self.number(out))

    def rights(self, fd: int) -> tuple[int, int]:
        """Return the rights of a descriptor, and those it passes on."""
        out = self.space(24)
        self.ok("fd_fdstat_get", fd, out, writes=[(out, 24)])
        return self.number(out + 8, 8), self.number(out + 16, 8)

    def drop(self, fd: int, *rights: Rights) -> None:
        """Give up rights of a descriptor."""
        base, inheriting = self.rights(fd)
        for right in rights:
            base &= ~int(right)
        self.ok("fd_fdstat_set_rights", fd, base, inheriting)

    def set_flags(self, fd: int, flags: int) -> None:
        self.ok("fd_fdstat_set_flags", fd, flags)

    def open_fds(self) -> list[int]:
        """Return the numbers that are open, without leaving a line in the trace."""
        lines = len(self.trace)
        found = [fd for fd in range(16) if super(Rig, self).call("fd_fdstat_get", fd, 64) is Errno.SUCCESS]
        self.instance.write_memory(64, b"?" * 24)
        del self.trace[lines:]
        return found
