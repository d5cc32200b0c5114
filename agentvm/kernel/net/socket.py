"""What all sockets have in common: a place among max_sockets, an address, options, an error that waits to be told.

No method blocks: one that would raises EAGAIN, and its caller waits on `queues`. All need the kernel lock.
"""

from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import UNNAMED, Address, Family, InetAddress
from agentvm.kernel.net.in_flight import Parcel
from agentvm.kernel.net.options import SocketOptions
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.wait import Readiness, WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.net.network import Network
    from agentvm.kernel.net.unix_names import Naming

__all__ = ["Received", "Socket", "SocketKind"]


class SocketKind(Enum):
    """How a socket carries data, with the host ABI's numbers of socketpair."""

    STREAM = 1
    DATAGRAM = 2
    SEQPACKET = 3


class Received(NamedTuple):
    """What was received: how many bytes were copied, how long the message is, its sender, and its descriptors."""

    copied: int
    length: int
    source: Address | None = None
    parcel: Parcel | None = None


class Socket(OpenFile):
    """One socket. Its place among max_sockets is given back with its last close."""

    __slots__ = ("error", "family", "has_place", "kind", "local", "network", "options", "type_number", "waiting")

    is_stream = True
    is_socket = True

    def __init__(self, network: "Network", family: Family, kind: SocketKind, *, has_place: bool = True) -> None:
        """`has_place`: the caller has acquired one of max_sockets for it."""
        super().__init__()
        self.network = network
        self.family = family
        self.kind = kind
        #: The number by which the program asked for this kind, which SO_TYPE returns.
        self.type_number = kind.value
        self.options = SocketOptions()
        #: Its own address; None for one of the internet families that was not bound.
        self.local: Address | None = UNNAMED if family is Family.UNIX else None
        #: The error that SO_ERROR, or the next call, tells.
        self.error: Errno | None = None
        #: Who waits to receive, to accept, or to be connected.
        self.waiting = WaitQueue(f"a socket of {family.name}")
        self.has_place = has_place

    # -- as an open file ----------------------------------------------------------------------------------------------
    @property
    def filetype(self) -> Filetype:  # type: ignore[override]
        return Filetype.SOCKET_DGRAM if self.kind is SocketKind.DATAGRAM else Filetype.SOCKET_STREAM

    @property
    def waiters(self) -> WaitQueue | None:
        return self.waiting

    def timeout_ns(self, ready: int) -> int | None:
        return self.options.receive_timeout_ns if ready & Readiness.READ else self.options.send_timeout_ns

    def stat(self) -> FileStat:
        return FileStat(0, 0, self.filetype, 1, 0, 0, 0, 0, 0o777)

    def read_nowait(self, buffers: Buffers) -> int:
        received = self.receive_nowait(buffers)
        if received.parcel is not None:
            received.parcel.drop()
        return received.copied

    def write_nowait(self, buffers: Buffers) -> int:
        return self.send_nowait(buffers)

    def on_last_close(self) -> None:
        self.network.unname(self)
        self.give_place_back()

    # -- places -------------------------------------------------------------------------------------------------------
    def take_place(self) -> None:
        """Have a place among max_sockets; ENFILE."""
        if not self.has_place:
            self.network.places.acquire()
            self.has_place = True

    def give_place_back(self) -> None:
        if self.has_place:
            self.has_place = False
            self.network.places.release()

    # -- names --------------------------------------------------------------------------------------------------------
    @property
    def is_listening(self) -> bool:
        return False

    @property
    def carries_bytes(self) -> bool:
        """Whether it is a stream: messages have no bounds there."""
        return self.kind is SocketKind.STREAM

    @property
    def is_bound(self) -> bool:
        return self.local not in (None, UNNAMED)

    @property
    def remote(self) -> Address | None:
        """The address of the other end; None where there is none."""
        raise NotImplementedError

    @property
    def shown(self) -> Address:
        """The socket's own address, as getsockname(2) tells it."""
        if self.local is not None:
            return self.local
        return InetAddress(4 if self.family is Family.INET else 6, 0)

    def check_unbound(self) -> None:
        """Raise EINVAL for a socket that has a name already."""
        if self.is_bound:
            raise KernelError(Errno.EINVAL, f"the socket is bound to {self.local}")

    def check_family(self, address: Address) -> None:
        """Raise EAFNOSUPPORT, or EINVAL in the Unix domain, for an address of another family."""
        if isinstance(address, InetAddress):
            if self.family is Family.UNIX:
                raise KernelError(Errno.EINVAL, f"{address} for a socket of the Unix domain")
            address.check_family(self.family)
        elif self.family is not Family.UNIX:
            raise KernelError(Errno.EAFNOSUPPORT, f"{address} for a socket of {self.family.name}")

    def take_error(self) -> Errno | None:
        """Return the error that waits, once: SO_ERROR."""
        error, self.error = self.error, None
        return error

    def raise_error(self) -> None:
        """Raise the error that waits, once."""
        if self.error is not None:
            error, self.error = self.error, None
            raise KernelError(error, "an error waited at the socket")

    # -- what the kinds do --------------------------------------------------------------------------------------------
    def connect(self, address: Address, naming: "Naming") -> bool:
        """Begin to connect. True once it is done, False if it goes on by itself: see `is_connecting`."""
        raise NotImplementedError

    def listen(self, backlog: int) -> None:
        """Accept connections from now on, of which about `backlog` may wait."""
        raise KernelError(Errno.ENOTSUP, "a socket of datagrams accepts no connections")

    def accept_nowait(self, flags: FdFlags) -> "Socket":
        """Return the connection that has waited longest. EAGAIN; EINVAL: not listening; ENFILE."""
        raise KernelError(Errno.ENOTSUP, "a socket of datagrams accepts no connections")

    def shutdown(self, *, read: bool, write: bool) -> None:
        """Close one or both directions; doing so twice is fine. ENOTCONN."""
        raise NotImplementedError

    def send_nowait(
        self,
        buffers: Buffers,
        address: Address | None = None,
        naming: "Naming | None" = None,
        parcel: Parcel | None = None,
    ) -> int:
        """Send bytes or one message; return how many bytes were taken. `address` is for datagrams."""
        raise NotImplementedError

    def receive_nowait(self, buffers: Buffers, *, peek: bool = False) -> Received:
        """Receive bytes or one message; with `peek` it stays where it is. EAGAIN."""
        raise NotImplementedError

    def resize(self) -> None:
        """SO_RCVBUF or SO_SNDBUF was set."""
        raise NotImplementedError

    def queues(self, ready: int) -> Iterable[WaitQueue]:
        raise NotImplementedError
