"""A guest that makes the socket calls that it is told to, one at a time."""

from agentvm.abi.agentos import AGENTOS
from agentvm.api.vm import AgentVM
from agentvm.doctor.modules import calling
from agentvm.errno import Errno

__all__ = ["SocketGuest"]

_NET = AGENTOS["host_net"]
#: The calls that it has.
_CALLS = [
    _NET[name]
    for name in (
        "net_socket",
        "net_bind",
        "net_listen",
        "net_accept",
        "net_connect",
        "net_send",
        "net_recv",
        "net_close",
    )
]
_INET, _UNIX = 1, 3
_STREAM, _DATAGRAM, _NONBLOCK = 6, 5, 0x4000
#: Where its memory holds what calls return, texts, and data; as much of that as one call moves.
_RESULT, _TEXT, _DATA, _PIECE_BYTES = 64, 1024, 65_536, 4096


class SocketGuest:
    """One process with sockets that wait for nothing. Each method returns the errno's name, "OK" if there is none."""

    def __init__(self, vm: AgentVM) -> None:
        """Raises what `AgentVM.instantiate` raises."""
        self._instance = vm.instantiate(calling(*_CALLS))

    def __enter__(self) -> "SocketGuest":
        return self

    def __exit__(self, *_: object) -> None:
        self._instance.close()

    def _call(self, name: str, *arguments: int) -> str:
        errno = self._instance.call(name, *arguments)
        assert isinstance(errno, int)
        return Errno(errno).name if errno else "OK"

    def _result(self) -> int:
        return int.from_bytes(self._instance.read_memory(_RESULT, 4), "little")

    def _text(self, text: str) -> tuple[int, int]:
        self._instance.write_memory(_TEXT, text.encode())
        return _TEXT, len(text)

    def socket(self, *, datagrams: bool = False) -> tuple[str, int]:
        """Make a socket, of TCP or of datagrams of the Unix domain; return its descriptor too."""
        family, kind = (_UNIX, _DATAGRAM) if datagrams else (_INET, _STREAM)
        return self._call("net_socket", family, kind | _NONBLOCK, 0, _RESULT), self._result()

    def listen(self, port: int, backlog: int = 1024) -> int:
        """Listen at a port, which must work; return the descriptor."""
        return self._listen(_INET, f"127.0.0.1:{port}", backlog)

    def listen_at(self, address: str, backlog: int = 1024) -> int:
        """Listen at an address of the Unix domain, which must work; return the descriptor."""
        return self._listen(_UNIX, address, backlog)

    def _listen(self, family: int, address: str, backlog: int) -> int:
        said = self._call("net_socket", family, _STREAM | _NONBLOCK, 0, _RESULT)
        fd = self._result()
        assert (said, self.bind(fd, address), self._call("net_listen", fd, backlog)) == ("OK", "OK", "OK")
        return fd

    def bind(self, fd: int, address: str) -> str:
        return self._call("net_bind", fd, *self._text(address))

    def connect(self, fd: int, address: str) -> str:
        """Connect. A socket of TCP that does not wait says EINPROGRESS, which is as good here."""
        said = self._call("net_connect", fd, *self._text(address))
        return "OK" if said == "EINPROGRESS" else said

    def accept(self, fd: int) -> tuple[str, int]:
        return self._call("net_accept", fd, _RESULT, 0, 0), self._result()

    def send(self, fd: int, size: int) -> tuple[str, int]:
        """Send `size` bytes in pieces, as far as that goes; return how far."""
        done = 0
        while done < size:
            said = self._call("net_send", fd, _DATA, min(_PIECE_BYTES, size - done), 0, _RESULT)
            if said != "OK":
                return said, done
            done += self._result()
        return "OK", done

    def send_each(self, fd: int, count: int) -> tuple[str, int]:
        """Send `count` datagrams of one byte, as far as that goes; return how far."""
        for done in range(count):
            said = self._call("net_send", fd, _DATA, 1, 0, _RESULT)
            if said != "OK":
                return said, done
        return "OK", count

    def receive(self, fd: int, size: int = _PIECE_BYTES) -> int:
        """Receive once, which must work; return how much came."""
        assert self._call("net_recv", fd, _DATA, size, 0, _RESULT) == "OK"
        return self._result()

    def close(self, fd: int) -> None:
        """Close a socket, which must work."""
        assert self._call("net_close", fd) == "OK"

    def connected(self, listener: int, port: int) -> tuple[int, int]:
        """Return the two ends of a new connection, which must work."""
        _, client = self.socket()
        assert self.connect(client, f"127.0.0.1:{port}") == "OK"
        said, server = self.accept(listener)
        assert said == "OK"
        return client, server
