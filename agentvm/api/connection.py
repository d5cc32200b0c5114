"""The host's end of a connection to a socket on which a process in a VM listens."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentvm.errno import KernelError
from agentvm.errors import InvalidArgument
from agentvm.kernel.net.address import LOOPBACK4, LOOPBACK6
from agentvm.kernel.net.host_end import HostEnd
from agentvm.kernel.net.unix_names import Naming
from agentvm.limits.gauge import LimitExceeded

if TYPE_CHECKING:
    from agentvm.api.launch import Launched
    from agentvm.kernel.kernel import Kernel
    from agentvm.kernel.net.stream import StreamSocket

__all__ = ["Connection", "connect_to", "connect_to_listener"]


class Connection:
    """A stream of bytes in both directions. One thread may send while another receives; `close` may come from any.

    It holds a place among max_sockets until the process has closed its end.
    """

    def __init__(self, outgoing: HostEnd, incoming: HostEnd) -> None:
        self._outgoing = outgoing
        self._incoming = incoming

    def send(self, data: bytes) -> int:
        """Send all of `data`, waiting while the process does not read.

        Raises BrokenPipeError if it reads no more.
        """
        done = self._outgoing.write(data)
        if done < len(data):
            raise BrokenPipeError(f"{done} of {len(data)} bytes were taken: the connection is closed")
        return done

    def recv(self, size: int = 1 << 16) -> bytes:
        """Return at most `size` bytes as soon as there are any, b"" at the end or once closed."""
        return self._incoming.read(size) if size > 0 else b""

    def shutdown(self) -> None:
        """Send no more: the process reads the end of the stream. Receiving goes on."""
        self._outgoing.close()

    def close(self) -> None:
        """Close both directions; a call that waits returns. Idempotent."""
        self._outgoing.close()
        self._incoming.close()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect_to_listener(launched: "Launched", number: int) -> Connection:
    """Connect to a listener of a process, by its place among them; it need not accept yet.

    Raises `InvalidArgument` if there is no such listener, ConnectionRefusedError if it is closed, for
    max_listener_backlog (EAGAIN), or for max_sockets (ENFILE).
    """
    if not 0 <= number < len(launched.listeners):
        raise InvalidArgument(
            f"process {launched.record.pid} has {len(launched.listeners)} listeners, and none has the number {number}: "
            "start it with listeners=...",
            listener=number,
        )
    return _connect(launched.kernel, lambda: launched.listeners[number])


def connect_to(kernel: "Kernel", address: int | str | bytes) -> Connection:
    """Connect to a TCP port of the VM's loopback network, or to a path of the Unix domain; see `AgentVM.connect`."""
    if isinstance(address, int):
        if not 0 < address <= 65_535:
            raise InvalidArgument(f"{address} is no port: ports go from 1 to 65535", address=address)
        return _connect(kernel, lambda: _at_port(kernel, address))
    path = address.encode("utf-8", "surrogateescape") if isinstance(address, str) else address
    if not path.startswith(b"/"):
        raise InvalidArgument(f"{address!r} is neither a port nor an absolute path inside the VM", address=address)
    return _connect(kernel, lambda: kernel.network.listener_named(path, Naming(kernel.vfs.root, b"/")))


def _at_port(kernel: "Kernel", port: int) -> "StreamSocket":
    network = kernel.network
    for loopback in (LOOPBACK4, LOOPBACK6):
        found = network.listener_at(loopback.with_port(port))
        if found is not None:
            return found
    raise ConnectionRefusedError(
        f"no process of the VM listens at port {port}; start one that does, and let it listen before you connect"
    )


def _connect(kernel: "Kernel", find: "Callable[[], StreamSocket]") -> Connection:
    with kernel.lock:
        try:
            end = kernel.network.connect_host(find())
        except LimitExceeded as error:
            way_out = error.spec.raised(error.capacity, error.observed)
            raise ConnectionRefusedError(f"{error}; let the process accept, or raise it with {way_out}") from None
        except KernelError as error:
            raise ConnectionRefusedError(str(error)) from None
        return Connection(
            HostEnd(end, kernel.lock, kernel.clock, reads=False), HostEnd(end, kernel.lock, kernel.clock, reads=True)
        )
