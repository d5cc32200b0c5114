"""Who has which port of the VM's loopback network. Source: ip(7), socket(7) SO_REUSEADDR and SO_REUSEPORT."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import InetAddress

if TYPE_CHECKING:
    from agentvm.kernel.net.socket import Socket

__all__ = ["Ports"]

#: The ports that are given to sockets that ask for none (net.ipv4.ip_local_port_range).
_FIRST, _LAST = 32_768, 60_999
MOST_PORT: Final = 65_535


class Ports:
    """The ports of one protocol. Guarded by the kernel lock; bounded by max_sockets, as each socket has one at most."""

    __slots__ = ("_by_port", "_next")

    def __init__(self) -> None:
        self._by_port: dict[int, list[Socket]] = {}
        self._next = _FIRST

    def __iter__(self) -> "Iterator[Socket]":
        for sockets in self._by_port.values():
            yield from sockets

    def at(self, port: int) -> "list[Socket]":
        """Return the sockets that are bound to a port, the latest last."""
        return self._by_port.get(port, [])

    def claim(self, socket: "Socket", address: InetAddress) -> InetAddress:
        """Bind a socket, and return the address with its port. EADDRINUSE."""
        if address.port == 0:
            address = address.with_port(self._free_port(Errno.EADDRINUSE))
        elif conflict := self._conflict(socket, address, listens=False):
            raise KernelError(Errno.EADDRINUSE, f"port {address.port} is bound to {conflict.local}")
        self._by_port.setdefault(address.port, []).append(socket)
        return address

    def claim_free(self, socket: "Socket", address: InetAddress) -> InetAddress:
        """As `claim`, for a socket that connects or sends and was never bound. EAGAIN (Linux: ip(7))."""
        address = address.with_port(self._free_port(Errno.EADDRNOTAVAIL))
        self._by_port[address.port] = [socket]
        return address

    def check_listen(self, socket: "Socket") -> None:
        """Raise EADDRINUSE if another socket listens where this one wants to."""
        assert isinstance(socket.local, InetAddress)
        if conflict := self._conflict(socket, socket.local, listens=True):
            raise KernelError(Errno.EADDRINUSE, f"a socket listens at {conflict.local}")

    def release(self, socket: "Socket", port: int) -> None:
        """The socket has the port no more."""
        sockets = self._by_port[port]
        sockets.remove(socket)
        if not sockets:
            del self._by_port[port]

    def _conflict(self, socket: "Socket", address: InetAddress, *, listens: bool) -> "Socket | None":
        for other in self.at(address.port):
            local = other.local
            assert isinstance(local, InetAddress)
            both_only6 = other.options.only6 if local.version == 6 else socket.options.only6
            if other is socket or not address.overlaps(local, both_only6=both_only6):
                continue
            if listens and not other.is_listening:
                continue
            if socket.options.reuse_port and other.options.reuse_port:
                continue
            if socket.options.reuse_address and other.options.reuse_address and not other.is_listening:
                continue
            return other
        return None

    def _free_port(self, errno: Errno) -> int:
        for _ in range(_FIRST, _LAST + 1):
            port = self._next
            self._next = port + 1 if port < _LAST else _FIRST
            if port not in self._by_port:
                return port
        raise KernelError(errno, f"every port from {_FIRST} to {_LAST} is in use")
