"""The host's end of a connection to a socket on which a process in a VM listens."""

from agentvm.api.launch import Launched
from agentvm.errno import KernelError
from agentvm.errors import InvalidArgument
from agentvm.kernel.pipe import HostPipeEnd
from agentvm.limits.gauge import LimitExceeded

__all__ = ["Connection", "connect"]


class Connection:
    """A stream of bytes in both directions. One thread may send while another receives; `close` may come from any.

    It holds a place among max_sockets until the process has closed its end.
    """

    def __init__(self, outgoing: HostPipeEnd, incoming: HostPipeEnd) -> None:
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


def connect(launched: Launched, number: int) -> Connection:
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
    kernel = launched.kernel
    with kernel.lock:
        try:
            to_guest, from_guest = launched.listeners[number].connect()
        except LimitExceeded as error:
            way_out = error.spec.raised(error.capacity, error.observed)
            raise ConnectionRefusedError(f"{error}; let the process accept, or raise it with {way_out}") from None
        except KernelError as error:
            raise ConnectionRefusedError(str(error)) from None
        return Connection(
            HostPipeEnd(to_guest, kernel.lock, kernel.clock, reads=False),
            HostPipeEnd(from_guest, kernel.lock, kernel.clock, reads=True),
        )
