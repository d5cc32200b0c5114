"""FIFOs: inodes that have a pipe for as long as they are open. Source: fifo(7), open(2)."""

from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.guest_pipe import NamedPipe
from agentvm.kernel.lending import Lent
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.pipe import PipeReader, PipeWriter
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.inode import INODE_SLOTS, Inode
from agentvm.kernel.wait import Readiness, WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.vfs.tree import MemoryFilesystem

__all__ = ["FifoInode"]

_NONBLOCK = int(FdFlags.NONBLOCK)


class FifoInode(Inode):
    """A FIFO. `pipe` is there while it is open, and then holds a place in max_pipes."""

    __slots__ = (*INODE_SLOTS, "pipe")

    filetype = Filetype.UNKNOWN

    def __init__(self, filesystem: "MemoryFilesystem", ino: int, mode: int) -> None:
        self._start(filesystem, ino, mode)
        self.pipe: NamedPipe | None = None

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        """Open one end, or both. The file may still wait for the other: see `OpenFile.is_opening`.

        ENXIO: non-blocking, for writing alone, and nobody reads; ENFILE: max_pipes is reached.
        """
        pipe = self.pipe
        if write and not read and flags & _NONBLOCK and (pipe is None or not pipe.readers):
            raise KernelError(Errno.ENXIO, "nobody reads the FIFO")
        if pipe is None:
            pipe = self.pipe = self.filesystem.pipes.make_named()
        self.opens += 1
        return _OpenFifo(self, pipe, flags, read=read, write=write)

    def closed(self) -> None:
        pipe = self.pipe
        if pipe is not None and not (pipe.readers or pipe.writers):
            self.pipe = None
        super().closed()


class _OpenFifo(OpenFile):
    """One opening of a FIFO, with an end of its pipe or both."""

    __slots__ = ("_inode", "_pipe", "_reader", "_seen", "_writer")

    is_stream = True
    on_disk = False

    def __init__(self, inode: FifoInode, pipe: NamedPipe, flags: FdFlags, *, read: bool, write: bool) -> None:
        super().__init__(flags)
        self._inode = inode
        self._pipe = pipe
        self._reader = PipeReader(pipe) if read else None
        self._writer = PipeWriter(pipe) if write else None
        pipe.reader_opens += read
        pipe.writer_opens += write
        #: How often the other end had been opened when it was not there; None where it was, or has come since.
        self._seen: int | None = None
        if not (pipe.readers and pipe.writers):
            self._seen = pipe.reader_opens if write else pipe.writer_opens
        pipe.waiters.notify()

    @property
    def is_opening(self) -> bool:  # type: ignore[override]
        return self._is_alone() and not self.flags & _NONBLOCK

    def _is_alone(self) -> bool:
        """Whether the other end has not been there since this one was opened."""
        if self._seen is None:
            return False
        if self._seen != (self._pipe.reader_opens if self._writer else self._pipe.writer_opens):
            self._seen = None
        return self._seen is not None

    @property
    def waiters(self) -> WaitQueue | None:
        return self._pipe.waiters

    # -- transfer -----------------------------------------------------------------------------------------------------
    def read_nowait(self, buffers: Buffers) -> int:
        if self._reader is None:
            raise KernelError(Errno.EBADF, "not open for reading")
        return self._reader.read_nowait(buffers)

    def write_nowait(self, buffers: Buffers) -> int:
        if self._writer is None:
            raise KernelError(Errno.EBADF, "not open for writing")
        return self._writer.write_nowait(buffers)

    def readiness(self) -> int:
        ready = Readiness.NONE
        if self._reader is not None:
            ready |= self._reader.readiness()
            if self._is_alone():  # no writer has gone: none has come
                ready &= ~Readiness.HANGUP
        if self._writer is not None:
            ready |= self._writer.readiness()
        return ready

    def readable_bytes(self) -> int:
        return self._reader.readable_bytes() if self._reader is not None else 0

    def lend(self, lent: Lent, ready: int) -> None:
        self._pipe.lend(lent, reads=bool(ready & Readiness.READ))

    def take_back(self, lent: Lent) -> None:
        self._pipe.take_back(lent)

    # -- attributes ---------------------------------------------------------------------------------------------------
    def stat(self) -> FileStat:
        return self._inode.stat()

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self._inode.set_times(atime_ns, mtime_ns)

    def set_mode(self, mode: int) -> None:
        self._inode.set_mode(mode)

    def set_owner(self, uid: int, gid: int) -> None:
        self._inode.set_owner(uid, gid)

    def on_last_close(self) -> None:
        for end in (self._reader, self._writer):
            if end is not None:
                end.on_last_close()
        self._inode.closed()
