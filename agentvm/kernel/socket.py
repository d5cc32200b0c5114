"""Connected byte-stream sockets and listeners inside the VM. A socket is two pipes, a listener a bounded backlog."""

from collections import deque

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.pipe import Pipe, PipeReader, PipeWriter
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.wait import Readiness, WaitQueue
from agentvm.limits.gauge import Gauge

__all__ = ["Listener", "SocketFile"]


class SocketFile(OpenFile):
    """One end of a connection: reads from one pipe, writes to another. Guarded by the kernel lock."""

    __slots__ = ("_incoming", "_outgoing", "_place", "_reader", "_writer")

    filetype = Filetype.SOCKET_STREAM
    is_stream = True

    def __init__(self, incoming: Pipe, outgoing: Pipe, place: Gauge, flags: FdFlags = FdFlags(0)) -> None:
        """`place` is max_sockets, of which the caller has acquired one. Both pipes must share one wait queue, so that
        a process can wait for either direction."""
        super().__init__(flags)
        self._incoming, self._outgoing, self._place = incoming, outgoing, place
        self._reader: PipeReader | None = PipeReader(incoming)
        self._writer: PipeWriter | None = PipeWriter(outgoing)

    def read_nowait(self, buffers: Buffers) -> int:
        return self._reader.read_nowait(buffers) if self._reader else 0

    def write_nowait(self, buffers: Buffers) -> int:
        if self._writer is None:
            raise KernelError(Errno.EPIPE, "the socket was shut down for writing")
        return self._writer.write_nowait(buffers)

    def peek(self, buffers: Buffers) -> int:
        """Copy what waits, and leave it there."""
        if self._reader is None:
            return 0
        done = 0
        for buffer in buffers:
            chunk = self._incoming.data[done : done + len(buffer)]
            buffer[: len(chunk)] = chunk
            done += len(chunk)
        return done

    def shutdown(self, *, read: bool, write: bool) -> None:
        """Close one or both directions; doing so twice is fine."""
        if read and self._reader:
            self._reader.on_last_close()
            self._reader = None
        if write and self._writer:
            self._writer.on_last_close()
            self._writer = None

    def readiness(self) -> int:
        ready = self._reader.readiness() if self._reader else Readiness.READ | Readiness.HANGUP
        return ready | (self._writer.readiness() if self._writer else Readiness.WRITE | Readiness.ERROR)

    def readable_bytes(self) -> int:
        return len(self._incoming.data)

    @property
    def waiters(self) -> WaitQueue | None:
        return self._incoming.waiters

    def stat(self) -> FileStat:
        return FileStat(0, 0, Filetype.SOCKET_STREAM, 1, 0, 0, 0, 0, 0o600)

    def on_last_close(self) -> None:
        self.shutdown(read=True, write=True)
        self._place.release()


class Listener(OpenFile):
    """A listening socket. Connections that wait to be accepted hold a place in max_sockets each; their other end may
    send already."""

    __slots__ = ("_backlog", "_limit", "_place", "_waiters", "closed")

    filetype = Filetype.SOCKET_STREAM

    def __init__(self, place: Gauge, backlog: int = 16) -> None:
        super().__init__()
        self._place = place
        self._limit = backlog
        self._backlog: deque[SocketFile] = deque()
        self._waiters = WaitQueue()
        self.closed = False
        place.acquire()

    def connect(self, incoming: Pipe, outgoing: Pipe) -> None:
        """Queue a connection whose guest end reads `incoming`. ECONNREFUSED, ENFILE, EAGAIN if the backlog is full."""
        if self.closed:
            raise KernelError(Errno.ECONNREFUSED, "nobody listens any more")
        if len(self._backlog) >= self._limit:
            raise KernelError(Errno.EAGAIN, f"{self._limit} connections wait to be accepted")
        self._place.acquire()
        self._backlog.append(SocketFile(incoming, outgoing, self._place))
        self._waiters.notify()

    def accept_nowait(self, flags: FdFlags) -> SocketFile:
        """Return the connection that has waited longest; EAGAIN if there is none."""
        if not self._backlog:
            raise KernelError(Errno.EAGAIN, "no connection waits")
        connection = self._backlog.popleft()
        connection.flags = flags
        return connection

    def read_nowait(self, buffers: Buffers) -> int:
        raise KernelError(Errno.ENOTCONN, "the socket listens")

    def readiness(self) -> int:
        return Readiness.READ if self._backlog else Readiness.NONE

    @property
    def waiters(self) -> WaitQueue | None:
        return self._waiters

    def stat(self) -> FileStat:
        return FileStat(0, 0, Filetype.SOCKET_STREAM, 1, 0, 0, 0, 0, 0o600)

    def on_last_close(self) -> None:
        self.closed = True
        while self._backlog:
            self._backlog.popleft().on_last_close()
        self._place.release()
