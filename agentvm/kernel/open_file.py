"""The open file description: what descriptors point to, and what every kind of file can be asked.

A kind overrides what it supports; the rest refuses with the errno that Linux gives. No method blocks: one that would
raises EAGAIN, and the caller waits on `waiters` (see `kernel/wait.py`). All methods need the kernel lock.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.wait import Readiness, WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.lending import Lent
    from agentvm.kernel.vfs.node import Node

__all__ = ["Buffers", "OpenFile"]

#: Guest memory to read into or write from, already checked.
Buffers = Sequence[memoryview]


class OpenFile:
    """A reference-counted open file description. The fd tables of processes own the references."""

    __slots__ = ("flags", "on_release", "references")

    filetype: Filetype = Filetype.UNKNOWN
    #: False for streams: `seek` and the positioned calls then refuse with ESPIPE.
    seekable: bool = False
    #: The directory that is open; None for every other kind of file.
    node: "Node | None" = None
    #: True for pipes and sockets: a blocking write goes on until all is written, max_io_bytes bounds one call.
    is_stream: bool = False
    is_socket: bool = False
    #: True for files and directories in memory or on the host: what the disk rates are about.
    on_disk: bool = False
    #: True while its opening waits for somebody else: who opens a FIFO waits for the other end, and closes it if not.
    is_opening: bool = False
    #: True for what no guest can have written: files of read-only mounts.
    is_operators: bool = False

    def __init__(self, flags: FdFlags = FdFlags(0)) -> None:
        self.flags = flags
        self.references = 0
        #: Called right before the last close: what is locked is let go of.
        self.on_release: Callable[[], None] | None = None

    # -- life ---------------------------------------------------------------------------------------------------------
    def drop(self) -> None:
        """Give one reference back; with the last one the file is closed."""
        self.references -= 1
        if self.references == 0:
            if self.on_release is not None:
                self.on_release()
            self.on_last_close()

    def on_last_close(self) -> None:
        """Give everything back. Called once, when the last descriptor is closed."""

    # -- transfer -----------------------------------------------------------------------------------------------------
    def read_nowait(self, buffers: Buffers) -> int:
        """Fill `buffers` from the current offset; return the count, 0 at the end. EAGAIN: would block."""
        raise KernelError(Errno.EBADF, "not open for reading")

    def write_nowait(self, buffers: Buffers) -> int:
        """Write `buffers` at the current offset; return how much was taken. EAGAIN: would block."""
        raise KernelError(Errno.EBADF, "not open for writing")

    def pread(self, buffers: Buffers, offset: int) -> int:
        """Fill `buffers` from `offset`; the current offset stays."""
        raise KernelError(Errno.ESPIPE)

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        """Write `buffers` at `offset`; the current offset stays."""
        raise KernelError(Errno.ESPIPE)

    def seek(self, offset: int, whence: Whence) -> int:
        """Move the current offset; return the new one. EINVAL if it would be negative."""
        raise KernelError(Errno.ESPIPE)

    # -- waiting ------------------------------------------------------------------------------------------------------
    def readiness(self) -> int:
        """Tell what would not block now. Regular files are always ready."""
        return Readiness.READ | Readiness.WRITE

    def readable_bytes(self) -> int:
        """Tell how many bytes a read would return now, for `poll_oneoff`; 0 where unknown."""
        return 0

    @property
    def waiters(self) -> WaitQueue | None:
        """The queue that is notified when `readiness` changes; None if it never does."""
        return None

    def queues(self, ready: int) -> Iterable[WaitQueue]:
        """Return those of the queues on which to wait until this is `ready` for that; none if it always is."""
        queue = self.waiters
        return () if queue is None else (queue,)

    def timeout_ns(self, ready: int) -> int | None:
        """Return how long a call waits for that at most, in nanoseconds, before it is EAGAIN; None: for ever."""
        return None

    def lend(self, lent: "Lent", ready: int) -> None:
        """A process sleeps until this is `ready`, and lends its buffers. A kind need not take the offer."""

    def take_back(self, lent: "Lent") -> None:
        """The process is awake again: its buffers are its own."""

    def version(self) -> Hashable:
        """Return what stays equal exactly as long as the contents do; None where that can't be told."""
        return None

    # -- attributes ---------------------------------------------------------------------------------------------------
    def stat(self) -> FileStat:
        raise KernelError(Errno.EBADF)

    def set_flags(self, flags: FdFlags) -> None:
        self.flags = flags

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set the times that are given; None leaves one as it is."""
        raise KernelError(Errno.EINVAL)

    def set_mode(self, mode: int) -> None:
        """Set the permission bits: fchmod(2)."""
        raise KernelError(Errno.EINVAL)

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner and the group: fchown(2), once it was asked who may."""
        raise KernelError(Errno.EINVAL)

    @property
    def stored_bytes(self) -> int:
        """How many bytes of data are kept for this file; holes are none."""
        return self.stat().size

    def truncate(self, size: int) -> None:
        raise KernelError(Errno.EINVAL)

    def allocate(self, offset: int, length: int) -> None:
        """Make sure that the range can be written: the file grows to its end if it is shorter."""
        raise KernelError(Errno.ESPIPE)

    def advise(self, offset: int, length: int, advice: int) -> None:
        raise KernelError(Errno.ESPIPE)

    def sync(self, *, data_only: bool) -> None:
        raise KernelError(Errno.EINVAL)

    # -- directories --------------------------------------------------------------------------------------------------
    def entries(self, cookie: int) -> Iterator[DirEntry]:
        """Iterate over the entries after `cookie` (0: from the start), "." and ".." first."""
        raise KernelError(Errno.ENOTDIR)
