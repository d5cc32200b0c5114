"""Those that wait at a listening socket: connections to be accepted, and behind them sockets that wait for room."""

from typing import TYPE_CHECKING

from agentvm.bounded import Full, ItemQueue
from agentvm.errno import Errno, KernelError
from agentvm.limits.registry import Registry

if TYPE_CHECKING:
    from agentvm.kernel.net.stream import StreamSocket

__all__ = ["Backlog"]


class Backlog:
    """At most max_listener_backlog connections, and at most one more than the program asked for, as on Linux.

    Guarded by the kernel lock. Sockets in line are live ones: max_sockets bounds them.
    """

    __slots__ = ("_gauge", "_line", "_most", "_queue", "_registry")

    def __init__(self, registry: Registry, most: int) -> None:
        self._registry = registry
        self._gauge = registry.open_object("max_listener_backlog")
        self._queue: ItemQueue[StreamSocket] = ItemQueue(self._gauge, full=Full.REFUSES)
        self._line: dict[StreamSocket, None] = {}
        self.set_most(most)

    def __len__(self) -> int:
        return len(self._queue)

    def set_most(self, most: int) -> None:
        """Let so many wait, and one more; a negative number means as many as may be."""
        self._most = most + 1 if most >= 0 else 1 << 31

    @property
    def has_room(self) -> bool:
        """Whether another connection can wait."""
        return len(self._queue) < min(self._most, self._gauge.cap)

    def put(self, connection: "StreamSocket") -> None:
        """Let a connection wait, for which there is room."""
        self._queue.put(connection)

    def first(self) -> "StreamSocket":
        """Return the connection that has waited longest; EAGAIN if there is none."""
        if not len(self._queue):
            raise KernelError(Errno.EAGAIN, "no connection waits")
        return self._queue.first

    def take(self) -> "StreamSocket":
        """Take it out."""
        return self._queue.take()

    def refuse(self) -> None:
        """Note that a connection found no room; raises `LimitExceeded` where it is max_listener_backlog that says so,
        and EAGAIN where it is the program."""
        if len(self._queue) >= self._gauge.cap:
            self._gauge.acquire()
        raise KernelError(Errno.EAGAIN, f"{len(self._queue)} connections wait to be accepted")

    def queue_up(self, socket: "StreamSocket") -> None:
        """Let a socket wait for room."""
        if len(self._queue) >= self._gauge.cap:
            self._gauge.refuse(len(self._queue) + 1)
        self._line[socket] = None

    def leave(self, socket: "StreamSocket") -> None:
        """It waits no more."""
        self._line.pop(socket, None)

    def next_in_line(self) -> "StreamSocket | None":
        """Take out the socket that has waited for room longest; None if there is none."""
        for socket in self._line:
            del self._line[socket]
            return socket
        return None

    def close(self) -> None:
        """End the connections that nobody will accept."""
        while len(self._queue):
            self._queue.take().on_last_close()
        self._registry.close_object(self._gauge)
