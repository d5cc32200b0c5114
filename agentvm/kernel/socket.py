"""Connected byte-stream sockets and listeners inside the VM. A socket is two pipes, a listener a bounded backlog."""

from agentvm.bounded import Full, ItemQueue
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.pipe import Pipe, PipeReader, PipeWriter
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.wait import Readiness, WaitQueue
from agentvm.limits.gauge import Gauge
from agentvm.limits.registry import Registry

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
        return self._incoming.peek(buffers) if self._reader else 0

    def shutdown(self, *, read: bool, write: bool) -> None:
        """Close one or both directions; doing so twice is fine."""
        if read and self._reader:
            self._reader.on_last_close()
            self._reader = None
        if write and self._writer:
            self._writer.on_last_close()
            self._writer = None

    def readiness(self) -> int:
        ready = self._reader.readiness() if self._reader else Readiness.HANGUP
        if ready & Readiness.HANGUP:
            ready |= Readiness.READ  # a socket at its end is readable: poll(2)
        return ready | (self._writer.readiness() if self._writer else Readiness.WRITE | Readiness.ERROR)

    def readable_bytes(self) -> int:
        return len(self._incoming)

    @property
    def waiters(self) -> WaitQueue | None:
        return self._incoming.waiters

    def stat(self) -> FileStat:
        return FileStat(0, 0, Filetype.SOCKET_STREAM, 1, 0, 0, 0, 0, 0o600)

    def on_last_close(self) -> None:
        self.shutdown(read=True, write=True)
        self._place.release()


class Listener(OpenFile):
    """A listening socket. Connections that wait to be accepted, at most max_listener_backlog, hold a place in
    max_sockets each; their other end may send already."""

    __slots__ = ("_backlog", "_gauge", "_place", "_registry", "_waiters", "closed")

    filetype = Filetype.SOCKET_STREAM

    def __init__(self, registry: Registry) -> None:
        """ENFILE: max_sockets is reached."""
        super().__init__()
        self._registry = registry
        self._place = registry.gauge("max_sockets")
        self._place.acquire()
        self._gauge = registry.open_object("max_listener_backlog")
        self._backlog: ItemQueue[SocketFile] = ItemQueue(self._gauge, full=Full.REFUSES)
        self._waiters = WaitQueue("a listening socket", host_ends=1)  # the host may connect
        self.closed = False

    def connect(self) -> tuple[Pipe, Pipe]:
        """Queue a connection, and return the pipes to and from its guest's end, for the other one.

        ECONNREFUSED; ENFILE: max_sockets is reached; EAGAIN: max_listener_backlog is.
        """
        if self.closed:
            raise KernelError(Errno.ECONNREFUSED, "nobody listens any more")
        self._place.acquire()
        both = WaitQueue("a connection")
        to_guest, from_guest = Pipe(self._registry, both), Pipe(self._registry, both)
        connection = SocketFile(to_guest, from_guest, self._place)
        try:
            self._backlog.put(connection)
        except KernelError:
            connection.on_last_close()
            raise
        self._waiters.notify()
        return to_guest, from_guest

    def accept_nowait(self, flags: FdFlags) -> SocketFile:
        """Return the connection that has waited longest; EAGAIN if there is none."""
        if not self._backlog:
            raise KernelError(Errno.EAGAIN, "no connection waits")
        connection = self._backlog.take()
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
            self._backlog.take().on_last_close()
        self._registry.close_object(self._gauge)
        self._place.release()
