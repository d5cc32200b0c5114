"""Sockets of datagrams: UDP and the Unix domain. Source: udp(7), unix(7).

Unlike Linux's UDP they lose nothing for want of room: a sender waits. See docs/rationale.md, "Why no queue drops".
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Address, Family, InetAddress
from agentvm.kernel.net.in_flight import Parcel
from agentvm.kernel.net.incoming import Message, MessageQueue
from agentvm.kernel.net.link import fill
from agentvm.kernel.net.socket import Received, Socket, SocketKind
from agentvm.kernel.open_file import Buffers
from agentvm.kernel.wait import Readiness, WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.net.network import Network
    from agentvm.kernel.net.unix_names import Naming

__all__ = ["DatagramSocket"]

#: The longest datagram of UDP over version 4.
_MOST_UDP: Final = 65_507


class DatagramSocket(Socket):
    """One socket of datagrams. Guarded by the kernel lock."""

    __slots__ = ("_remote", "_short", "incoming", "is_shut_read", "is_shut_write", "peer")

    def __init__(self, network: "Network", family: Family) -> None:
        super().__init__(network, family, SocketKind.DATAGRAM)
        level = network.registry.open_object("max_datagrams")
        self.incoming = MessageQueue(network.space, self.options.receive_bytes, level)
        network.space.assure(self.incoming)
        #: Where it is connected to, if it is: an address, or a socket of the Unix domain.
        self._remote: Address | None = None
        self.peer: DatagramSocket | None = None
        self.is_shut_read = self.is_shut_write = False
        #: The queue in which a datagram of its found no room, and the datagram's length.
        self._short: tuple[MessageQueue, int] | None = None

    @property
    def remote(self) -> Address | None:
        return self._remote

    def join(self, other: "DatagramSocket") -> None:
        """Make two sockets without names a pair: socketpair(2)."""
        for end, far in ((self, other), (other, self)):
            end.settle(far)

    def settle(self, peer: "DatagramSocket") -> None:
        """Be connected to another socket of the Unix domain."""
        self.peer, self._remote = peer, peer.shown

    def connect(self, address: Address, naming: "Naming") -> bool:
        """Send to this address from now on, and receive only from there. ECONNREFUSED, EPROTOTYPE, EPERM, ..."""
        self.check_family(address)
        if isinstance(address, InetAddress):
            self.network.name_client(self, address)
            self.peer, self._remote = None, address.target.seen_by(self.family)
        else:
            self.settle(self.network.find_datagram_name(self, address, naming))
        return True

    def shutdown(self, *, read: bool, write: bool) -> None:
        if self._remote is None and self.family is not Family.UNIX:
            raise KernelError(Errno.ENOTCONN, "the socket is not connected")
        self.is_shut_read |= read
        self.is_shut_write |= write
        self.waiting.notify()

    # -- transfer -----------------------------------------------------------------------------------------------------
    def send_nowait(
        self,
        buffers: Buffers,
        address: Address | None = None,
        naming: "Naming | None" = None,
        parcel: Parcel | None = None,
    ) -> int:
        """EDESTADDRREQ, ENOTCONN, EMSGSIZE, EPIPE, ECONNREFUSED, ENETUNREACH, EPERM, EAGAIN; what naming fails with."""
        if self.is_shut_write:
            raise KernelError(Errno.EPIPE, "the socket was shut down for writing")
        self.raise_error()
        size = sum(map(len, buffers))
        target = self._target(address, naming, size)
        if target is None:
            if parcel is not None:
                parcel.drop()
            return size
        if target.is_shut_read and self.family is Family.UNIX:
            raise KernelError(Errno.EPIPE, "nobody receives what is sent here")
        message = Message(b"".join(buffers), self.shown, parcel)
        try:
            target.incoming.put(message)
        except KernelError as error:
            self._short = (target.incoming, size) if error.errno is Errno.EAGAIN else None
            raise
        self._short = None
        if parcel is not None:
            parcel.queue_of = target
        target.waiting.notify()
        return size

    def _target(self, address: Address | None, naming: "Naming | None", size: int) -> "DatagramSocket | None":
        """Return who gets a datagram; None if nobody does, which UDP does not tell."""
        if self.family is Family.UNIX:
            return self._named_target(address, naming)
        address = address if address is not None else self._remote
        if not isinstance(address, InetAddress):
            if address is None:
                raise KernelError(Errno.EDESTADDRREQ, "the socket is not connected, and no address is given")
            raise KernelError(Errno.EAFNOSUPPORT, f"{address} for a socket of {self.family.name}")
        address.check_family(self.family)
        if size > _MOST_UDP:
            raise KernelError(Errno.EMSGSIZE, f"{size} bytes, {_MOST_UDP} are the most")
        if not address.port:
            raise KernelError(Errno.EINVAL, "port 0")
        target = self.network.find_datagram_port(self, address)
        if target is None and self._remote is not None:
            self.error = Errno.ECONNREFUSED
        return target

    def _named_target(self, address: Address | None, naming: "Naming | None") -> "DatagramSocket":
        if address is not None:
            self.check_family(address)
            assert naming is not None
            return self.network.find_datagram_name(self, address, naming)
        if self.peer is None:
            raise KernelError(Errno.ENOTCONN, "the socket is not connected, and no address is given")
        if not self.peer.references:
            self.peer = self._remote = None
            raise KernelError(Errno.ECONNREFUSED, "the other socket is gone")
        return self.peer

    def accepts(self, source: Socket) -> bool:
        """Whether a datagram from `source` may come in: a connected socket receives from one only."""
        if self.peer is not None:
            return self.peer is source
        if isinstance(self._remote, InetAddress):
            return isinstance(source.local, InetAddress) and self._remote.plain == source.local.target.plain
        return True

    def receive_nowait(self, buffers: Buffers, *, peek: bool = False) -> Received:
        """EAGAIN, ECONNREFUSED; nothing after a shutdown."""
        incoming = self.incoming
        self.raise_error()
        if not incoming.messages:
            if self.is_shut_read:
                return Received(0, 0)
            raise KernelError(Errno.EAGAIN, "nothing waits to be received")
        message = incoming.messages[0] if peek else incoming.take()
        count = fill(buffers, message.data)
        return Received(count, len(message.data), message.source, None if peek else message.parcel)

    # -- life and waiting ---------------------------------------------------------------------------------------------
    def on_last_close(self) -> None:
        self.peer = None
        self.incoming.close()
        self.network.registry.close_object(self.incoming.level)
        super().on_last_close()

    def queues(self, ready: int) -> Iterable[WaitQueue]:
        queues = [self.waiting] if ready & Readiness.READ else []
        target = self._short[0] if self._short is not None else self.peer.incoming if self.peer is not None else None
        if ready & Readiness.WRITE and target is not None:
            queues += [target.room_waiters, self.network.space.waiters]
        return queues

    def readiness(self) -> int:
        ready = Readiness.READ if self.incoming.messages or self.is_shut_read else Readiness.NONE
        if self.error is not None:
            ready |= Readiness.ERROR | Readiness.READ
        if self.is_shut_read and self.is_shut_write:
            ready |= Readiness.HANGUP
        if self._short is None or self._short[0].fits(self._short[1]):
            ready |= Readiness.WRITE
        return ready

    def readable_bytes(self) -> int:
        return len(self.incoming.messages[0].data) if self.incoming.messages else 0

    def resize(self) -> None:
        self.incoming.set_limit(self.options.receive_bytes)
        self.incoming.room_waiters.notify()
