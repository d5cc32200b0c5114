"""host_net: options of sockets. Source: socket(7), tcp(7), ip(7), ipv6(7); numbers as Linux has them.

What cannot change anything inside a VM is accepted and told again; what would promise something that is not so, is not.
"""

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final

from agentvm.abi.agentos.net_sockets import NOT_A_SOCKET
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, Number, Pointer
from agentvm.abi.sockets import socket_of
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Family
from agentvm.kernel.net.socket import SocketKind

if TYPE_CHECKING:
    from agentvm.kernel.net.socket import Socket

__all__ = ["net_getsockopt", "net_setsockopt"]

_SOCKET, _WASI_SOCKET = 1, 0x7FFF_FFFF
_IP, _TCP, _UDP, _IPV6 = 0, 6, 17, 41
_INT, _TIMEVAL, _LINGER = Struct("<i"), Struct("<qq"), Struct("<ii")
_MICROSECONDS: Final = 1_000_000

(_REUSEADDR, _TYPE, _ERROR, _SNDBUF, _RCVBUF, _LINGER_OPTION, _REUSEPORT) = (2, 3, 4, 7, 8, 13, 15)
(_RCVTIMEO, _SNDTIMEO, _RCVTIMEO_NEW, _SNDTIMEO_NEW) = (20, 21, 66, 67)
(_ACCEPTCONN, _PROTOCOL, _DOMAIN, _V6ONLY) = (30, 38, 39, 26)

#: What is accepted and changes nothing, with its value at first: level, option.
_PLAIN = {
    (_SOCKET, 5): 0,  # SO_DONTROUTE
    (_SOCKET, 6): 0,  # SO_BROADCAST
    (_SOCKET, 9): 0,  # SO_KEEPALIVE: the other end never vanishes unheard
    (_SOCKET, 10): 0,  # SO_OOBINLINE
    (_SOCKET, 12): 0,  # SO_PRIORITY
    (_SOCKET, 18): 1,  # SO_RCVLOWAT
    (_SOCKET, 19): 1,  # SO_SNDLOWAT
    (_TCP, 1): 0,  # TCP_NODELAY: nothing is ever delayed
    (_TCP, 2): 32_768,  # TCP_MAXSEG
    (_TCP, 3): 0,  # TCP_CORK
    (_TCP, 4): 7_200,  # TCP_KEEPIDLE
    (_TCP, 5): 75,  # TCP_KEEPINTVL
    (_TCP, 6): 9,  # TCP_KEEPCNT
    (_TCP, 9): 0,  # TCP_DEFER_ACCEPT
    (_TCP, 12): 1,  # TCP_QUICKACK
    (_TCP, 18): 0,  # TCP_USER_TIMEOUT
    (_TCP, 23): 0,  # TCP_FASTOPEN
    (_IP, 1): 0,  # IP_TOS
    (_IP, 2): 64,  # IP_TTL
    (_IP, 10): 1,  # IP_MTU_DISCOVER
    (_IP, 11): 0,  # IP_RECVERR
    (_IPV6, 16): 64,  # IPV6_UNICAST_HOPS
    (_IPV6, 67): 0,  # IPV6_TCLASS
}
_NO_SUCH = {
    Errno.ENOPROTOOPT: "there is no such option, or it can only be asked for",
    Errno.EINVAL: "the value is shorter than the option's",
}


@syscall(NOT_A_SOCKET | _NO_SUCH | {Errno.EDOM: "a time of no whole second or less than a second"})
def net_setsockopt(ctx: CallContext, fd: Fd, level: Number, option: Number, value: Block) -> None:
    """Set an option of a socket."""
    socket, key = socket_of(ctx, fd), (_SOCKET if level == _WASI_SOCKET else level, option)
    setter = _SETTERS.get(key)
    if setter is not None:
        setter(socket, value)
        return
    _check_level(socket, key)
    socket.options.plain[key] = _number(value)


@syscall(NOT_A_SOCKET | _NO_SUCH)
def net_getsockopt(ctx: CallContext, fd: Fd, level: Number, option: Number, value: Pointer, value_len: Pointer) -> None:
    """Tell an option of a socket, cut off where there is no room. SO_ERROR is told once."""
    socket, key = socket_of(ctx, fd), (_SOCKET if level == _WASI_SOCKET else level, option)
    length = ctx.memory.span(value_len, 4)
    room = ctx.memory.span(value, int.from_bytes(length, "little"))
    getter = _GETTERS.get(key)
    if getter is None:
        _check_level(socket, key)
        told = _INT.pack(socket.options.plain.get(key, _PLAIN[key]))
    else:
        told = getter(socket)
    piece = told[: len(room)]
    room[: len(piece)] = piece
    length[:] = len(piece).to_bytes(4, "little")


def _check_level(socket: "Socket", key: tuple[int, int]) -> None:
    """Raise ENOPROTOOPT for an option that there is not, or that is another protocol's; ENOTSUP on Linux."""
    is_own = {
        _SOCKET: True,
        _IP: socket.family is not Family.UNIX,
        _IPV6: socket.family is Family.INET6,
        _TCP: socket.family is not Family.UNIX and socket.kind is SocketKind.STREAM,
    }
    if key not in _PLAIN or not is_own[key[0]]:
        raise KernelError(Errno.ENOPROTOOPT, f"option {key[1]} of level {key[0]}")


def _number(value: memoryview) -> int:
    if len(value) < _INT.size:
        raise KernelError(Errno.EINVAL, f"{len(value)} bytes for a number")
    number: int = _INT.unpack_from(value)[0]
    return number


# -- options that have an effect --------------------------------------------------------------------------------------
def _set_reuse_address(socket: "Socket", value: memoryview) -> None:
    socket.options.reuse_address = bool(_number(value))


def _set_reuse_port(socket: "Socket", value: memoryview) -> None:
    socket.options.reuse_port = bool(_number(value))


def _set_receive_bytes(socket: "Socket", value: memoryview) -> None:
    socket.options.set_receive_bytes(max(0, _number(value)), socket.network.space.most)
    socket.resize()


def _set_send_bytes(socket: "Socket", value: memoryview) -> None:
    socket.options.set_send_bytes(max(0, _number(value)), socket.network.space.most)
    socket.resize()


def _set_receive_timeout(socket: "Socket", value: memoryview) -> None:
    socket.options.receive_timeout_ns = _timeout(value)


def _set_send_timeout(socket: "Socket", value: memoryview) -> None:
    socket.options.send_timeout_ns = _timeout(value)


def _timeout(value: memoryview) -> int | None:
    if len(value) < _TIMEVAL.size:
        raise KernelError(Errno.EINVAL, f"{len(value)} bytes for a time")
    seconds, microseconds = _TIMEVAL.unpack_from(value)
    if not 0 <= microseconds < _MICROSECONDS:
        raise KernelError(Errno.EDOM, f"{microseconds} microseconds")
    if seconds < 0:
        return 0
    return (seconds * _MICROSECONDS + microseconds) * 1_000 or None


def _pack_timeout(timeout_ns: int | None) -> bytes:
    return _TIMEVAL.pack(*divmod((timeout_ns or 0) // 1_000, _MICROSECONDS))


def _set_linger(socket: "Socket", value: memoryview) -> None:
    if len(value) < _LINGER.size:
        raise KernelError(Errno.EINVAL, f"{len(value)} bytes for a struct linger")
    on, seconds = _LINGER.unpack_from(value)
    socket.options.linger = int(bool(on)), seconds
    socket.options.aborts = bool(on) and not seconds


def _set_only6(socket: "Socket", value: memoryview) -> None:
    if socket.family is not Family.INET6:
        raise KernelError(Errno.ENOPROTOOPT, "the socket is not of version 6")
    if socket.is_bound:
        raise KernelError(Errno.EINVAL, "the socket is bound")
    socket.options.only6 = bool(_number(value))


_SETTERS: dict[tuple[int, int], "Callable[[Socket, memoryview], None]"] = {
    (_SOCKET, _REUSEADDR): _set_reuse_address,
    (_SOCKET, _REUSEPORT): _set_reuse_port,
    (_SOCKET, _RCVBUF): _set_receive_bytes,
    (_SOCKET, _SNDBUF): _set_send_bytes,
    (_SOCKET, _RCVTIMEO): _set_receive_timeout,
    (_SOCKET, _SNDTIMEO): _set_send_timeout,
    (_SOCKET, _RCVTIMEO_NEW): _set_receive_timeout,
    (_SOCKET, _SNDTIMEO_NEW): _set_send_timeout,
    (_SOCKET, _LINGER_OPTION): _set_linger,
    (_IPV6, _V6ONLY): _set_only6,
}


def _error(socket: "Socket") -> bytes:
    return _INT.pack(socket.take_error() or 0)


def _protocol(socket: "Socket") -> bytes:
    if socket.family is Family.UNIX:
        return _INT.pack(0)
    return _INT.pack(_TCP if socket.kind is SocketKind.STREAM else _UDP)


_GETTERS: dict[tuple[int, int], "Callable[[Socket], bytes]"] = {
    (_SOCKET, _REUSEADDR): lambda socket: _INT.pack(socket.options.reuse_address),
    (_SOCKET, _REUSEPORT): lambda socket: _INT.pack(socket.options.reuse_port),
    (_SOCKET, _TYPE): lambda socket: _INT.pack(socket.type_number),
    (_SOCKET, _ERROR): _error,
    (_SOCKET, _SNDBUF): lambda socket: _INT.pack(min(socket.options.send_bytes, socket.network.space.most)),
    (_SOCKET, _RCVBUF): lambda socket: _INT.pack(min(socket.options.receive_bytes, socket.network.space.most)),
    (_SOCKET, _LINGER_OPTION): lambda socket: _LINGER.pack(*socket.options.linger),
    (_SOCKET, _RCVTIMEO): lambda socket: _pack_timeout(socket.options.receive_timeout_ns),
    (_SOCKET, _SNDTIMEO): lambda socket: _pack_timeout(socket.options.send_timeout_ns),
    (_SOCKET, _RCVTIMEO_NEW): lambda socket: _pack_timeout(socket.options.receive_timeout_ns),
    (_SOCKET, _SNDTIMEO_NEW): lambda socket: _pack_timeout(socket.options.send_timeout_ns),
    (_SOCKET, _ACCEPTCONN): lambda socket: _INT.pack(socket.is_listening),
    (_SOCKET, _PROTOCOL): _protocol,
    (_SOCKET, _DOMAIN): lambda socket: _INT.pack(socket.family),
    (_IPV6, _V6ONLY): lambda socket: _INT.pack(socket.options.only6),
}
