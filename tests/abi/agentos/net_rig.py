"""Socket calls of a proxy, with what their tests need: addresses as text, and results as values."""

from agentvm import Errno
from tests.abi.rig import Rig

__all__ = [
    "CLOEXEC", "DGRAM", "DONTWAIT", "INET", "INET6", "NONBLOCK", "NOSIGNAL", "PEEK", "SEQPACKET", "STREAM", "TRUNC",
    "UNIX", "WAITALL", "Net",
]  # fmt: skip

INET, INET6, UNIX = 1, 2, 3
STREAM, DGRAM, SEQPACKET = 6, 5, 3
CLOEXEC, NONBLOCK = 0x2000, 0x4000
PEEK, TRUNC, DONTWAIT, WAITALL, NOSIGNAL = 2, 0x20, 0x40, 0x100, 0x4000
_ROOM = 160


class Net:
    """The socket calls of one proxy; those that return a value must succeed."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    # -- making and naming --------------------------------------------------------------------------------------------
    def socket(self, domain: int = INET, kind: int = STREAM, protocol: int = 0) -> int:
        return self.rig.made("net_socket", domain, kind, protocol)

    def bind(self, fd: int, address: str) -> Errno:
        return self.rig.call("net_bind", fd, *self.rig.text(address))

    def listen(self, fd: int, backlog: int = 16) -> Errno:
        return self.rig.call("net_listen", fd, backlog & 0xFFFF_FFFF)

    def connect(self, fd: int, address: str) -> Errno:
        return self.rig.call("net_connect", fd, *self.rig.text(address))

    def accept(self, fd: int) -> tuple[int, str]:
        out, (address, length) = self.rig.space(4), self._room()
        self.rig.ok("net_accept", fd, out, address, length, writes=[(out, 4), (address, _ROOM), (length, 4)])
        return self.rig.number(out), self._text(address, length)

    def name(self, fd: int, call: str = "net_getsockname") -> str:
        address, length = self._room()
        self.rig.ok(call, fd, address, length, writes=[(address, _ROOM), (length, 4)])
        return self._text(address, length)

    def peer(self, fd: int) -> str:
        return self.name(fd, "net_getpeername")

    def _room(self) -> tuple[int, int]:
        return self.rig.space(_ROOM), self.rig.put(_ROOM.to_bytes(4, "little"))

    def _text(self, address: int, length: int) -> str:
        return self.rig.read(address, self.rig.number(length)).decode()

    def listener(self, address: str = "127.0.0.1:0", backlog: int = 16, *, kind: int = STREAM) -> tuple[int, str]:
        """Return a socket that listens, and its address."""
        domain = UNIX if address.startswith("unix") else INET6 if address.startswith("[") else INET
        fd = self.socket(domain, kind)
        assert (self.bind(fd, address), self.listen(fd, backlog)) == (Errno.SUCCESS, Errno.SUCCESS)
        return fd, self.name(fd)

    def connected(self, address: str = "127.0.0.1:0", *, flags: int = 0, kind: int = STREAM) -> tuple[int, int]:
        """Return the two ends of a new connection, the connecting one first."""
        listener, where = self.listener(address, kind=kind)
        domain = UNIX if where.startswith("unix") else INET6 if where.startswith("[") else INET
        client = self.socket(domain, kind)
        assert self.connect(client, where) is Errno.SUCCESS
        server, _ = self.accept(listener)
        self.rig.ok("net_close", listener)
        for fd in (client, server) if flags else ():
            self.rig.ok("net_set_nonblock", fd, 1)
        return client, server

    def pair(self, kind: int = 1, *, nonblock: int = 0, cloexec: int = 0) -> tuple[int, int]:
        first, second = self.rig.space(4), self.rig.space(4)
        self.rig.ok("fd_socketpair", kind, nonblock, cloexec, first, second, writes=[(first, 4), (second, 4)])
        return self.rig.number(first), self.rig.number(second)

    # -- transfer -----------------------------------------------------------------------------------------------------
    def send(self, fd: int, data: bytes, flags: int = 0) -> int:
        return self.rig.made("net_send", fd, self.rig.put(data), len(data), flags)

    def send_errno(self, fd: int, data: bytes = b"x", flags: int = 0) -> Errno:
        return self.rig.call("net_send", fd, self.rig.put(data), len(data), flags, 64)

    def recv(self, fd: int, size: int = 100, flags: int = 0) -> bytes:
        buffer = self.rig.space(size)
        self.rig.ok("net_recv", fd, buffer, size, flags, 64, writes=[(64, 4), (buffer, size)])
        return self.rig.read(buffer, min(size, self.rig.number(64)))

    def recv_errno(self, fd: int, flags: int = 0) -> Errno:
        return self.rig.call("net_recv", fd, self.rig.space(8), 8, flags, 64)

    def sendto(self, fd: int, data: bytes, address: str, flags: int = 0) -> int:
        return self.rig.made("net_sendto", fd, self.rig.put(data), len(data), flags, *self.rig.text(address))

    def sendto_errno(self, fd: int, data: bytes, address: str) -> Errno:
        return self.rig.call("net_sendto", fd, self.rig.put(data), len(data), 0, *self.rig.text(address), 64)

    def recvfrom(self, fd: int, size: int = 100, flags: int = 0) -> tuple[bytes, int, str]:
        """Return what was received, the number that the call returned, and the sender's address."""
        buffer, (address, length) = self.rig.space(size), self._room()
        results = [(64, 4), (buffer, size), (address, _ROOM), (length, 4)]
        self.rig.ok("net_recvfrom", fd, buffer, size, flags, 64, address, length, writes=results)
        count = self.rig.number(64)
        return self.rig.read(buffer, min(size, count)), count, self._text(address, length)

    # -- options ------------------------------------------------------------------------------------------------------
    def set_option(self, fd: int, level: int, option: int, value: bytes | int) -> Errno:
        data = value if isinstance(value, bytes) else value.to_bytes(4, "little", signed=True)
        return self.rig.call("net_setsockopt", fd, level, option, self.rig.put(data), len(data))

    def option(self, fd: int, level: int, option: int, size: int = 4) -> bytes:
        room, length = self.rig.space(size), self.rig.put(size.to_bytes(4, "little"))
        self.rig.ok("net_getsockopt", fd, level, option, room, length, writes=[(room, size), (length, 4)])
        return self.rig.read(room, self.rig.number(length))

    def number(self, fd: int, level: int, option: int) -> int:
        return int.from_bytes(self.option(fd, level, option), "little", signed=True)

    def error(self, fd: int) -> Errno:
        """SO_ERROR."""
        return Errno(self.number(fd, 1, 4))

    # -- descriptors in messages --------------------------------------------------------------------------------------
    def send_rights(self, fd: int, data: bytes, *rights: int, flags: int = 0) -> int:
        return self.rig.made("fd_sendmsg_rights", fd, self.rig.put(data), len(data), *self._numbers(rights), flags)

    def send_rights_errno(self, fd: int, data: bytes, *rights: int) -> Errno:
        place = self.rig.put(data)
        return self.rig.call("fd_sendmsg_rights", fd, place, len(data), *self._numbers(rights), 0, 64)

    def _numbers(self, numbers: tuple[int, ...]) -> tuple[int, int]:
        return self.rig.put(b"".join(number.to_bytes(4, "little") for number in numbers)), len(numbers)

    def recv_rights(self, fd: int, size: int = 100, room: int = 4, flags: int = 0) -> tuple[bytes, list[int], int]:
        """Return what was received, the new descriptors, and the flags of the message."""
        buffer, numbers = self.rig.space(size), self.rig.space(4 * room)
        results = [(64, 4), (68, 4), (72, 4), (buffer, size), (numbers, 4 * room)]
        self.rig.ok("fd_recvmsg_rights", fd, buffer, size, numbers, room, flags, 64, 68, 72, writes=results)
        opened = [self.rig.number(numbers + 4 * index) for index in range(self.rig.number(68))]
        return self.rig.read(buffer, self.rig.number(64)), opened, self.rig.number(72)
