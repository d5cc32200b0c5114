"""What the guests of one VM may cost on the host's disks: the limits of host mounts, and how they are counted."""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.vfs.space import Space
from agentvm.limits.gauge import Ceiling, Gauge
from agentvm.limits.registry import Registry

__all__ = ["MAX_OFFSET", "HostQuota"]

#: The largest size and offset that the host's calls take.
MAX_OFFSET = (1 << 63) - 1


class HostQuota:
    """Counts net growth: what the VM adds, less what it removes, never below zero. Guarded by the VM's kernel lock.

    So the files of all its mounts together never take more than the cap beyond what they took when they were mounted,
    and a guest that cleans up can go on. Sizes count, not blocks: a hole that a guest makes costs as much as data, and
    filling a hole in a file of the operator's costs nothing.
    """

    __slots__ = ("_file_bytes", "_inodes", "_write_bytes", "io_bytes")

    def __init__(self, write_bytes: Gauge, inodes: Gauge, file_bytes: Ceiling, io_bytes: Ceiling) -> None:
        self._write_bytes = write_bytes
        self._inodes = inodes
        self._file_bytes = file_bytes
        self.io_bytes = io_bytes

    @classmethod
    def of(cls, registry: Registry) -> "HostQuota":
        """Return the quota that the limits of a VM make."""
        return cls(
            registry.gauge("max_host_write_bytes"),
            registry.gauge("max_host_inodes"),
            registry.ceiling("max_file_bytes"),
            registry.ceiling("max_io_bytes"),
        )

    def call_bytes(self, asked: int) -> int:
        """Return how many of the `asked` bytes one call moves: `max_io_bytes` makes the count short."""
        ceiling = self.io_bytes
        return asked if asked <= ceiling.top or ceiling.observe(asked) else int(ceiling.cap)

    def room_in_file(self, offset: int, asked: int) -> int:
        """Return how many bytes at `offset` a file may still have. EFBIG if none: `max_file_bytes`, or the host's."""
        room = min(MAX_OFFSET, self._file_bytes.cap) - offset
        if room >= asked:
            return asked
        if room > 0:
            return int(room)
        self.check_size(offset + asked)
        raise AssertionError("check_size lets a size pass that room_in_file refused")

    def check_size(self, size: int) -> None:
        """EFBIG if a file may not become `size` bytes long."""
        self._file_bytes.check(size)
        if size > MAX_OFFSET:
            raise KernelError(Errno.EFBIG, f"{size} bytes is more than a file can have")

    def grow(self, size: int) -> None:
        """Take `size` bytes, or raise ENOSPC and take none."""
        self._write_bytes.acquire(size)

    def grow_up_to(self, size: int, least: int) -> int:
        """Take what fits of `size` bytes and return it; ENOSPC, and nothing taken, if that is less than `least`."""
        room = self._write_bytes.cap - self._write_bytes.used
        if room >= size:
            self._write_bytes.acquire(size)
            return size
        if room < least:
            self._write_bytes.acquire(size)
        self._write_bytes.refuse(self._write_bytes.used + size)
        taken = max(0, int(room))
        self._write_bytes.acquire(taken)
        return taken

    def shrink(self, size: int) -> None:
        """Give back what the VM freed."""
        self._write_bytes.release(min(size, self._write_bytes.used))

    @property
    def space(self) -> Space:
        """How much the guests may still add."""
        return Space.under(self._inodes, self._write_bytes)

    def add_name(self) -> None:
        """Take one file, directory or link; ENOSPC."""
        self._inodes.acquire()

    def remove_name(self) -> None:
        """Give one back."""
        if self._inodes.used > 0:
            self._inodes.release()
