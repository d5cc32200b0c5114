"""Sockets that listen, connect and accept: of TCP, and streams and sequenced packets of the Unix domain.

Source: tcp(7), unix(7), listen(2), connect(2), and what Linux 6 answers.
"""

from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import UNNAMED, Address, Family, InetAddress
from agentvm.kernel.net.backlog import Backlog
from agentvm.kernel.net.link import ConnectedSocket, State
from agentvm.kernel.net.socket import SocketKind
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.wait import Readiness

if TYPE_CHECKING:
    from agentvm.kernel.net.network import Network
    from agentvm.kernel.net.unix_names import Naming

__all__ = ["StreamSocket"]


class StreamSocket(ConnectedSocket):
    """A stream socket, or one of sequenced packets. Guarded by the kernel lock."""

    __slots__ = ("_remote", "_waits_at", "backlog", "holds_connection", "is_unannounced")

    def __init__(
        self,
        network: "Network",
        family: Family,
        kind: SocketKind = SocketKind.STREAM,
        *,
        has_place: bool = True,
        is_host: bool = False,
    ) -> None:
        super().__init__(network, family, kind, has_place=has_place, is_host=is_host)
        self.backlog: Backlog | None = None
        #: Whether it is connected, and a connect that did not wait has yet to say so.
        self.is_unannounced = False
        self._remote: Address | None = None if family is not Family.UNIX else UNNAMED
        self.holds_connection = False
        #: The listener at which it waits for room.
        self._waits_at: StreamSocket | None = None

    @property
    def is_listening(self) -> bool:
        return self.state is State.LISTENING

    @property
    def remote(self) -> Address | None:
        return self._remote if self.state is State.CONNECTED else None

    @property
    def is_connecting(self) -> bool:
        return self.state is State.CONNECTING

    # -- becoming connected -------------------------------------------------------------------------------------------
    def listen(self, backlog: int) -> None:
        """EADDRINUSE; EINVAL: it is connected, or has no name in the Unix domain; ENFILE."""
        if self.state is State.LISTENING:
            assert self.backlog is not None
            self.backlog.set_most(backlog)
            return
        if self.state is not State.IDLE or (self.family is Family.UNIX and not self.is_bound):
            raise KernelError(Errno.EINVAL, f"a socket that is {self.state.value}, bound to {self.local}")
        self.network.prepare_listen(self)
        self._begin_to_listen(backlog)

    def _begin_to_listen(self, backlog: int) -> None:
        self.backlog = Backlog(self.network.registry, backlog)
        self.state = State.LISTENING
        self.waiting.host_ends += 1  # the host may connect

    def listen_for_host(self, backlog: int) -> None:
        """Listen without a name, for the host, which knows the socket itself."""
        self._begin_to_listen(backlog)

    def connect(self, address: Address, naming: "Naming") -> bool:
        """EISCONN, EALREADY, ECONNREFUSED, EPROTOTYPE, ENOBUFS, and what naming fails with.

        False: too many wait to be accepted there. It is connected once there is room.
        """
        if self.state is State.CONNECTING:
            raise KernelError(Errno.EALREADY, "the socket is being connected")
        if self.state is not State.IDLE:
            if self.is_unannounced:
                self.is_unannounced = False
                return True
            errno = Errno.EINVAL if self.is_listening and self.family is Family.UNIX else Errno.EISCONN
            raise KernelError(errno, f"the socket is {self.state.value}")
        self.raise_error()
        self.check_family(address)
        listener = self.network.find_listener(self, address, naming)
        assert listener.backlog is not None
        self.network.connections.acquire()
        self.holds_connection = True
        try:
            self.network.name_client(self, address)
        except BaseException:
            self._give_connection_back()
            raise
        self._remote = address.target.seen_by(self.family) if isinstance(address, InetAddress) else listener.local
        self.state = State.CONNECTING
        if not listener.backlog.has_room:
            self._waits_at = listener
            listener.backlog.queue_up(self)
            return False
        self.meet(listener)
        return True

    def meet(self, listener: "StreamSocket") -> None:
        """Be connected: the other end waits at `listener`, which has room, to be accepted."""
        assert listener.backlog is not None
        self._waits_at = None
        other = StreamSocket(self.network, listener.family, self.kind, has_place=self.is_host)
        other.type_number = listener.type_number
        other.options = listener.options.copy()
        self.join(other)
        if isinstance(self._remote, InetAddress) and isinstance(self.local, InetAddress):
            other.local = self._remote.plain.seen_by(listener.family)
            other._remote = self.local.plain.seen_by(listener.family)
        else:
            other.local, other._remote = listener.local, self.local
        listener.backlog.put(other)
        listener.waiting.notify()
        self.waiting.notify()

    def stop_connecting(self) -> None:
        """Give up before there was room."""
        if self._waits_at is not None and self._waits_at.backlog is not None:
            self._waits_at.backlog.leave(self)
            self.fail_to_connect(None)

    def fail_to_connect(self, error: Errno | None) -> None:
        """The listener is gone, or the socket gives up."""
        self._waits_at = None
        self.is_unannounced = False
        self.state = State.IDLE
        self.error = error
        self._give_connection_back()
        self.waiting.notify()

    def accept_nowait(self, flags: FdFlags) -> "StreamSocket":
        """ENFILE, for max_sockets or max_connections, leaves the connection where it is."""
        if self.backlog is None:
            raise KernelError(Errno.EINVAL, "the socket does not listen")
        accepted = self.backlog.first()
        connections = self.network.connections
        if not connections.try_acquire():
            raise KernelError(Errno.ENFILE, f"max_connections: {connections.cap} are there", limit="max_connections")
        try:
            accepted.take_place()
        except KernelError:
            connections.release()
            raise
        accepted.holds_connection = True
        self.backlog.take()
        accepted.flags = flags
        assert accepted.incoming is not None
        self.network.space.assure(accepted.incoming)
        self._admit()
        return accepted

    def _admit(self) -> None:
        """Connect those that wait for room at this listener."""
        assert self.backlog is not None
        while self.backlog.has_room and (waiting := self.backlog.next_in_line()) is not None:
            waiting.meet(self)

    # -- ends ---------------------------------------------------------------------------------------------------------
    def on_last_close(self) -> None:
        if self.backlog is not None:
            self._stop_listening()
        self.stop_connecting()
        if self.incoming is not None:
            self.leave_peer(self.incoming)
        self._give_connection_back()
        super().on_last_close()

    def _stop_listening(self) -> None:
        assert self.backlog is not None
        backlog, self.backlog = self.backlog, None
        self.state = State.IDLE
        self.waiting.host_ends -= 1
        while (waiting := backlog.next_in_line()) is not None:
            waiting.fail_to_connect(Errno.ECONNREFUSED)
        backlog.close()

    def _give_connection_back(self) -> None:
        if self.holds_connection:
            self.holds_connection = False
            self.network.connections.release()

    def unconnected_readiness(self) -> int:
        if self.backlog is not None:
            return Readiness.READ if len(self.backlog) else Readiness.NONE
        if self.state is State.CONNECTING:
            return Readiness.NONE
        ready = Readiness.WRITE | Readiness.HANGUP
        return ready | Readiness.READ | Readiness.ERROR if self.error is not None else ready
