"""The ends of a connection: they know each other as `peer`, and each holds what it has yet to receive.

What differs between TCP and the Unix domain is what Linux does differently; connections to the host are simpler than
either, and lose nothing. Source: tcp(7), unix(7), and what Linux 6 answers.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Address, Family
from agentvm.kernel.net.in_flight import Parcel
from agentvm.kernel.net.incoming import ByteStream, Message, MessageQueue
from agentvm.kernel.net.socket import Received, Socket, SocketKind
from agentvm.kernel.open_file import Buffers
from agentvm.kernel.wait import Readiness, WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.net.network import Network
    from agentvm.kernel.net.unix_names import Naming

__all__ = ["ConnectedSocket", "State", "fill"]


class State(Enum):
    """What a socket of this kind is doing."""

    IDLE = "idle"  # it may connect, or listen
    LISTENING = "listening"
    CONNECTING = "connecting"  # it waits for room among those that wait to be accepted
    CONNECTED = "connected"  # or was: until it is closed


class Loss(Enum):
    """What has become of the other end, as far as sending goes."""

    NONE = "none"
    GONE = "gone"  # TCP has yet to find out: it takes what is sent next, and loses it
    BROKEN = "broken"  # EPIPE


class ConnectedSocket(Socket):
    """What a socket is that has, or may get, another end. Guarded by the kernel lock."""

    __slots__ = ("_short_of", "incoming", "is_host", "is_shut_read", "is_shut_write", "loss", "peer", "state")

    def __init__(
        self, network: "Network", family: Family, kind: SocketKind, *, has_place: bool = True, is_host: bool = False
    ) -> None:
        """`is_host`: the host's own end of a connection, which no limit on sockets is about."""
        super().__init__(network, family, kind, has_place=has_place)
        self.is_host = is_host
        self.state = State.IDLE
        self.peer: ConnectedSocket | None = None
        self.incoming: ByteStream | MessageQueue | None = None
        self.is_shut_read = self.is_shut_write = False
        self.loss = Loss.NONE
        #: The length of the message for which there was no room.
        self._short_of = 0

    @property
    def is_tcp(self) -> bool:
        """Whether it goes by TCP's rules."""
        return self.family is not Family.UNIX and not (self.peer is not None and self.peer.is_host)

    def join(self, other: "ConnectedSocket") -> None:
        """Make two ends of one connection."""
        for end, far in ((self, other), (other, self)):
            end.state = State.CONNECTED
            end.peer = far
            end.incoming = end.make_incoming(far)
            if end.has_place or end.is_host:
                self.network.space.assure(end.incoming)
            if end.is_host:  # it may send, and make room here and for others
                for queue in (far.waiting, end.incoming.room_waiters, self.network.space.waiters):
                    queue.host_ends += 1

    def make_incoming(self, peer: "ConnectedSocket") -> ByteStream | MessageQueue:
        limit = min(self.options.receive_bytes, peer.options.send_bytes)
        if self.kind is SocketKind.STREAM:
            return ByteStream(self.network.space, limit)
        return MessageQueue(self.network.space, limit, self.network.registry.open_object("max_datagrams"))

    # -- transfer -----------------------------------------------------------------------------------------------------
    def send_nowait(
        self,
        buffers: Buffers,
        address: Address | None = None,
        naming: "Naming | None" = None,
        parcel: Parcel | None = None,
    ) -> int:
        """EPIPE, ENOTCONN, ECONNRESET, EMSGSIZE, EAGAIN. `address` is ignored."""
        peer = self.peer
        if peer is None or self.loss is not Loss.NONE or self.is_shut_write:
            return self._send_in_vain(buffers)
        incoming = peer.incoming
        if isinstance(incoming, ByteStream):
            done = incoming.put(buffers, parcel)
        else:
            assert incoming is not None
            done = self._send_message(incoming, buffers, parcel)
        if parcel is not None:
            parcel.queue_of = peer
        if len(peer.waiting):
            peer.waiting.notify()
        return done

    def _send_message(self, incoming: MessageQueue, buffers: Buffers, parcel: Parcel | None) -> int:
        message = Message(b"".join(buffers), self.shown, parcel)
        try:
            incoming.put(message)
        except KernelError as error:
            self._short_of = len(message.data) if error.errno is Errno.EAGAIN else 0
            raise
        self._short_of = 0
        return len(message.data)

    def _send_in_vain(self, buffers: Buffers) -> int:
        if self.is_tcp:
            self.raise_error()
        if self.state is State.CONNECTING:
            raise KernelError(Errno.EAGAIN, "the socket is not connected yet")
        if self.state is not State.CONNECTED and not self.is_tcp:
            raise KernelError(Errno.ENOTCONN, f"the socket is {self.state.value}")
        if self.loss is Loss.GONE and self.is_tcp and not self.is_shut_write:
            self.loss = Loss.BROKEN
            return sum(map(len, buffers))
        raise KernelError(Errno.EPIPE, "nobody receives what is sent here")

    def receive_nowait(self, buffers: Buffers, *, peek: bool = False) -> Received:
        """ENOTCONN, ECONNRESET, EAGAIN; nothing at the end."""
        incoming = self.incoming
        if incoming is None or not len(incoming):
            return self._receive_nothing(buffers)
        if isinstance(incoming, ByteStream):
            if peek:
                return Received(count := incoming.peek(buffers), count)
            count, parcel = incoming.take(buffers)
            return Received(count, count, None, parcel)
        message = incoming.messages[0] if peek else incoming.take()
        count = fill(buffers, message.data)
        return Received(count, len(message.data), None, None if peek else message.parcel)

    def read_nowait(self, buffers: Buffers) -> int:
        incoming = self.incoming
        if isinstance(incoming, ByteStream) and incoming.data:
            count, parcel = incoming.take(buffers)
            if parcel is not None:
                parcel.drop()
            return count
        return super().read_nowait(buffers)

    def _receive_nothing(self, buffers: Buffers) -> Received:
        self.raise_error()
        if self.state is State.CONNECTING:
            raise KernelError(Errno.EAGAIN, "the socket is not connected yet")
        incoming = self.incoming
        if incoming is None:
            errno = Errno.ENOTCONN if self.is_tcp or self.kind is SocketKind.SEQPACKET else Errno.EINVAL
            raise KernelError(Errno.ENOTCONN if self.is_listening else errno, f"the socket is {self.state.value}")
        if incoming.is_ended or self.is_shut_read:
            return Received(0, 0)
        if self.kind is SocketKind.STREAM and not any(map(len, buffers)):
            return Received(0, 0)
        raise KernelError(Errno.EAGAIN, "nothing waits to be received")

    # -- ends ---------------------------------------------------------------------------------------------------------
    def shutdown(self, *, read: bool, write: bool) -> None:
        if self.state is not State.CONNECTED and self.is_tcp:
            raise KernelError(Errno.ENOTCONN, f"the socket is {self.state.value}")
        peer, incoming = self.peer, self.incoming
        if write and not self.is_shut_write:
            self.is_shut_write = True
            self.far_room.notify()
            if peer is not None and peer.incoming is not None:
                peer.incoming.is_ended = True
                peer.waiting.notify()
        if read and not self.is_shut_read:
            self.is_shut_read = True
            self.waiting.notify()
            if peer is not None and not self.is_tcp:
                peer.loss = Loss.BROKEN
                assert incoming is not None
                if peer.is_host or self.is_host:
                    incoming.clear()
                incoming.room_waiters.notify()

    def leave_peer(self, incoming: ByteStream | MessageQueue) -> None:
        peer, self.peer = self.peer, None
        is_tcp = self.family is not Family.UNIX
        breaks_off = bool(len(incoming)) or not self.has_place or (is_tcp and self.options.aborts)
        self.incoming = None
        if self.is_host:
            self.network.space.waiters.host_ends -= 1
        if peer is not None:
            peer.lose(is_broken=breaks_off and not (self.is_host or peer.is_host), is_tcp=is_tcp)
        incoming.close()
        if isinstance(incoming, MessageQueue):
            self.network.registry.close_object(incoming.level)

    def lose(self, *, is_broken: bool, is_tcp: bool) -> None:
        """The other end is gone; `is_broken`: it has not received everything."""
        was_hosts = self.peer is not None and self.peer.is_host
        self.peer = None
        assert self.incoming is not None
        self.incoming.is_ended = True
        self.loss = Loss.GONE if is_tcp and not is_broken and not self.is_host and not was_hosts else Loss.BROKEN
        if was_hosts:
            self.waiting.host_ends -= 1
        if is_broken:
            self.error = Errno.ECONNRESET
        self.waiting.notify()

    # -- waiting ------------------------------------------------------------------------------------------------------
    @property
    def far_room(self) -> WaitQueue:
        """Who waits for room at the other end."""
        peer = self.peer
        return peer.incoming.room_waiters if peer is not None and peer.incoming is not None else self.waiting

    def queues(self, ready: int) -> Iterable[WaitQueue]:
        if not ready & Readiness.WRITE or self.peer is None:
            return (self.waiting,)
        room = (self.far_room, self.network.space.waiters)
        return (self.waiting, *room) if ready & Readiness.READ else room

    def readiness(self) -> int:
        incoming = self.incoming
        if incoming is None:
            return self.unconnected_readiness()
        ready = Readiness.NONE
        if len(incoming):
            ready = Readiness.READ
        is_read_over = incoming.is_ended or self.is_shut_read
        if is_read_over:
            ready |= Readiness.READ
        if self.error is not None:
            ready |= Readiness.ERROR
        is_write_over = self.is_shut_write or self.loss is Loss.BROKEN
        if is_write_over or self.loss is Loss.GONE:
            ready |= Readiness.WRITE
            if is_read_over and is_write_over:
                ready |= Readiness.HANGUP
        elif self._has_far_room():
            ready |= Readiness.WRITE
        return ready

    def _has_far_room(self) -> bool:
        far = self.peer.incoming if self.peer is not None else None
        if isinstance(far, MessageQueue):
            return far.fits(self._short_of)
        return far is None or far.has_room()

    def unconnected_readiness(self) -> int:
        """What `readiness` is for a socket that has no other end, and had none."""
        raise NotImplementedError

    def readable_bytes(self) -> int:
        incoming = self.incoming
        if isinstance(incoming, MessageQueue):
            return len(incoming.messages[0].data) if incoming.messages else 0
        return len(incoming) if incoming is not None else 0

    def resize(self) -> None:
        for end in (self, self.peer):
            if end is not None and end.incoming is not None:
                send_bytes = end.peer.options.send_bytes if end.peer is not None else end.options.receive_bytes
                end.incoming.set_limit(min(end.options.receive_bytes, send_bytes))
                end.incoming.room_waiters.notify()


def fill(buffers: Buffers, data: bytes) -> int:
    """Copy as much of `data` as fits, and return how much that is."""
    done = 0
    for buffer in buffers:
        piece = data[done : done + len(buffer)]
        buffer[: len(piece)] = piece
        done += len(piece)
    return done
