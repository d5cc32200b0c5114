"""The network of one VM: its sockets, who has which address, and the limits that they share. Nothing leads out of it.

All needs the kernel lock.
"""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import (
    ANY4,
    ANY6,
    LOOPBACK4,
    LOOPBACK6,
    Address,
    Family,
    InetAddress,
    UnixAddress,
)
from agentvm.kernel.net.datagram import DatagramSocket
from agentvm.kernel.net.in_flight import InFlight
from agentvm.kernel.net.outside import NoOutside, Outside
from agentvm.kernel.net.ports import Ports
from agentvm.kernel.net.socket import Socket, SocketKind
from agentvm.kernel.net.space import BufferSpace
from agentvm.kernel.net.stream import StreamSocket
from agentvm.kernel.net.unix_names import Naming, UnixNames
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.registry import Registry

__all__ = ["Network"]


class Network:
    """One VM's sockets. Made when the first one is needed."""

    def __init__(self, registry: Registry, vfs: Vfs, outside: Outside | None = None) -> None:
        self.registry = registry
        #: max_sockets and max_connections.
        self.places = registry.gauge("max_sockets")
        self.connections = registry.gauge("max_connections")
        self.space = BufferSpace(registry.gauge("max_socket_buffer_bytes"), self.places)
        self.in_flight = InFlight(registry.gauge("max_open_fds"))
        self.outside: Outside = outside if outside is not None else NoOutside()
        self._streams, self._datagrams = Ports(), Ports()
        self._names = UnixNames(vfs)

    # -- making -------------------------------------------------------------------------------------------------------
    def socket(self, family: Family, kind: SocketKind) -> Socket:
        """Make a socket; ENFILE, EPROTONOSUPPORT."""
        if kind is SocketKind.SEQPACKET and family is not Family.UNIX:
            raise KernelError(Errno.EPROTONOSUPPORT, f"{family.name} has no sequenced packets")
        self.places.acquire()
        return DatagramSocket(self, family) if kind is SocketKind.DATAGRAM else StreamSocket(self, family, kind)

    def pair(self, kind: SocketKind) -> tuple[Socket, Socket]:
        """Make two sockets of the Unix domain that are connected to each other; ENFILE."""
        self.places.acquire(2)
        if kind is SocketKind.DATAGRAM:
            first, second = DatagramSocket(self, Family.UNIX), DatagramSocket(self, Family.UNIX)
            first.join(second)
            return first, second
        one, other = StreamSocket(self, Family.UNIX, kind), StreamSocket(self, Family.UNIX, kind)
        one.join(other)
        return one, other

    def listener_for_host(self) -> StreamSocket:
        """Make a socket without a name that listens for connections of the host; ENFILE."""
        self.places.acquire()
        socket = StreamSocket(self, Family.UNIX)
        socket.listen_for_host(-1)
        return socket

    def connect_host(self, listener: StreamSocket) -> StreamSocket:
        """Connect the host to a listening socket, and return its end. ECONNREFUSED; ENFILE, for max_sockets; EAGAIN."""
        backlog = listener.backlog
        if backlog is None:
            raise KernelError(Errno.ECONNREFUSED, "nobody listens any more")
        self.places.acquire()  # of the end that the guest will accept
        try:
            if not backlog.has_room:
                backlog.refuse()
            end = StreamSocket(self, listener.family, listener.kind, has_place=False, is_host=True)
            end.meet(listener)
        except BaseException:
            self.places.release()
            raise
        return end

    # -- names --------------------------------------------------------------------------------------------------------
    def bind(self, socket: Socket, address: Address, naming: Naming) -> None:
        """Give a socket an address. EINVAL, EADDRINUSE, EADDRNOTAVAIL, and what making a file fails with."""
        socket.check_family(address)
        if isinstance(address, UnixAddress):
            socket.local = self._names.bind(socket, address, naming)
            return
        socket.check_unbound()
        if not address.plain.is_any and not address.is_loopback:
            raise KernelError(Errno.EADDRNOTAVAIL, f"{address} is not an address of this VM")
        socket.local = self._ports(socket).claim(socket, address)

    def prepare_listen(self, socket: StreamSocket) -> None:
        """Give a socket a port if it has none, and see that nobody else listens there. EADDRINUSE."""
        if socket.family is Family.UNIX:
            return
        if socket.local is None:
            socket.local = self._streams.claim(socket, ANY4 if socket.family is Family.INET else ANY6)
        self._streams.check_listen(socket)

    def name_client(self, socket: Socket, target: Address) -> None:
        """Give a socket that connects the address from which it does."""
        if not isinstance(target, InetAddress):
            return
        source = (LOOPBACK4 if target.plain.version == 4 else LOOPBACK6).seen_by(socket.family)
        if socket.local is None:
            socket.local = self._ports(socket).claim_free(socket, source)
        elif isinstance(socket.local, InetAddress) and socket.local.is_any:
            socket.local = source.with_port(socket.local.port)

    def unname(self, socket: Socket) -> None:
        """The socket is gone; its address is free."""
        if isinstance(socket.local, UnixAddress):
            self._names.release(socket, socket.local)
        elif socket.local is not None and socket in self._ports(socket).at(socket.local.port):
            self._ports(socket).release(socket, socket.local.port)

    def _ports(self, socket: Socket) -> Ports:
        return self._datagrams if socket.kind is SocketKind.DATAGRAM else self._streams

    # -- finding ------------------------------------------------------------------------------------------------------
    def find_listener(self, client: StreamSocket, address: Address, naming: Naming) -> StreamSocket:
        """Return who listens at an address. ECONNREFUSED, EPROTOTYPE, ENETUNREACH, and what naming fails with."""
        if isinstance(address, InetAddress):
            target = address.target
            if not target.is_loopback:
                self.outside.connect(target)
            found: Socket | None = self.listener_at(target)
        else:
            found = self._names.find(address, naming)
            if found is not None and found.kind is not client.kind:
                raise KernelError(Errno.EPROTOTYPE, f"{address} is a socket of another kind")
        if not isinstance(found, StreamSocket) or not found.is_listening:
            raise KernelError(Errno.ECONNREFUSED, f"nobody listens at {address}")
        return found

    def listener_at(self, target: InetAddress) -> StreamSocket | None:
        """Return the TCP socket that listens at an address of the VM, the closest match; None if nobody does."""
        best: tuple[int, StreamSocket] | None = None
        for socket in self._streams.at(target.port):
            if isinstance(socket, StreamSocket) and socket.is_listening:
                rank = _closeness(socket, target)
                if rank and (best is None or rank > best[0]):
                    best = rank, socket
        return None if best is None else best[1]

    def listener_named(self, path: bytes, naming: Naming) -> StreamSocket:
        """Return the stream socket of the Unix domain that listens at a path. ECONNREFUSED, ENOENT, ..."""
        found = self._names.find(UnixAddress(path), naming)
        if not isinstance(found, StreamSocket) or found.kind is not SocketKind.STREAM or not found.is_listening:
            raise KernelError(Errno.ECONNREFUSED, f"nobody listens at {path!r}")
        return found

    def find_datagram_port(self, source: Socket, address: InetAddress) -> DatagramSocket | None:
        """Return who gets a datagram for an address, None if nobody does. ENETUNREACH."""
        target = address.target
        if not target.is_loopback:
            self.outside.send_to(target)
        self.name_sender(source, target)
        best: tuple[int, DatagramSocket] | None = None
        for socket in self._datagrams.at(target.port):
            assert isinstance(socket, DatagramSocket)
            rank = _closeness(socket, target)
            if rank and socket.accepts(source):
                rank += 4 if socket.remote is not None else 0
                if best is None or rank >= best[0]:  # of equals the latest one
                    best = rank, socket
        return None if best is None else best[1]

    def name_sender(self, source: Socket, target: InetAddress) -> None:
        """Give a socket that sends without an address a port, on any address of its family."""
        if source.local is None:
            anywhere = ANY4 if source.family is Family.INET else ANY6
            source.local = self._datagrams.claim_free(source, anywhere)

    def find_datagram_name(self, source: DatagramSocket, address: Address, naming: Naming) -> DatagramSocket:
        """Return the socket of a name of the Unix domain. ECONNREFUSED, ENOENT, EPROTOTYPE, EPERM, EINVAL."""
        assert isinstance(address, UnixAddress)
        found = self._names.find(address, naming)
        if not isinstance(found, DatagramSocket):
            raise KernelError(Errno.EPROTOTYPE, f"{address} is a socket of another kind")
        if not found.accepts(source):
            raise KernelError(Errno.EPERM, f"{address} receives from another socket only")
        return found

    # -- life ---------------------------------------------------------------------------------------------------------
    def refresh(self) -> None:
        """Caps were raised: who waits for room may have it."""
        self.space.refresh()

    def close(self) -> None:
        """Drop what is on its way in sockets that nobody can reach. The processes must have ended. Idempotent."""
        self.in_flight.close()


def _closeness(socket: Socket, target: InetAddress) -> int:
    """How well a socket's address matches a target: 3 exactly, 2 any of its version, 1 any of both; 0 not at all."""
    local = socket.local
    if not isinstance(local, InetAddress):
        return 0
    plain = local.plain
    if plain.version == target.version:
        return 3 if plain.host == target.host else 2 if plain.is_any else 0
    return 1 if plain.version == 6 and plain.is_any and not socket.options.only6 else 0
