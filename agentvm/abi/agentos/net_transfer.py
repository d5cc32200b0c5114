"""host_net: sending and receiving. Source: send(2), recv(2)."""

from agentvm.abi.agentos.addresses import AddressOut, parse_address
from agentvm.abi.agentos.net_sockets import NAMING_ERRORS, NOT_A_SOCKET, naming_of
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, Number, OutBuffer, Pointer, Size
from agentvm.abi.rights import FD_READ, FD_WRITE
from agentvm.abi.sockets import MessageFlag, receive, send, socket_of
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.socket import Received
from agentvm.kernel.stat import FdFlags

__all__ = [
    "RECEIVE_ERRORS",
    "RECEIVE_FLAGS",
    "SEND_ERRORS",
    "SEND_FLAGS",
    "check_flags",
    "net_recv",
    "net_recvfrom",
    "net_send",
    "net_sendto",
]

SEND_FLAGS = int(MessageFlag.DONTWAIT | MessageFlag.NOSIGNAL | MessageFlag.EOR)
RECEIVE_FLAGS = int(
    MessageFlag.PEEK
    | MessageFlag.TRUNC
    | MessageFlag.DONTWAIT
    | MessageFlag.WAITALL
    | MessageFlag.CMSG_CLOEXEC
    | MessageFlag.NOSIGNAL
)
_TRUNC = int(MessageFlag.TRUNC)

SEND_ERRORS = NOT_A_SOCKET | {
    Errno.EPIPE: "nobody receives what is sent, or the socket was shut down for writing: SIGPIPE too, but for NOSIGNAL",
    Errno.ENOTCONN: "the socket is not connected",
    Errno.EDESTADDRREQ: "a datagram, and neither an address nor a connection",
    Errno.ECONNRESET: "the other end was closed before it had received everything",
    Errno.ECONNREFUSED: "nobody has the address that the socket is connected to",
    Errno.EMSGSIZE: "the message is longer than the other socket ever takes",
    Errno.EAGAIN: "non-blocking, and no room: max_socket_buffer_bytes, max_datagrams; or SO_SNDTIMEO is over",
    Errno.ENETUNREACH: "the address is outside of the VM",
    Errno.EADDRNOTAVAIL: "every port is in use",
    Errno.ENOTSUP: "a flag is unknown",
    Errno.EINVAL: "port 0",
    Errno.EINTR: "a signal came",
}
RECEIVE_ERRORS = NOT_A_SOCKET | {
    Errno.ENOTCONN: "the socket is not connected",
    Errno.EINVAL: "the socket is of the Unix domain and not connected",
    Errno.ECONNRESET: "the other end was closed before it had received everything",
    Errno.ECONNREFUSED: "nobody has the address that the socket is connected to, or nobody listens there",
    Errno.EAGAIN: "non-blocking, and nothing waits; or SO_RCVTIMEO is over",
    Errno.ENOTSUP: "a flag is unknown",
    Errno.EINTR: "a signal came",
}


def check_flags(flags: int, known: int) -> None:
    """Raise ENOTSUP for a flag that nothing here heeds."""
    if flags & ~known:
        raise KernelError(Errno.ENOTSUP, f"flags {flags:#x}")


@syscall(SEND_ERRORS, restarts=True)
def net_send(ctx: CallContext, fd: Fd, data: Block, flags: Number) -> Size:
    """Send on a connected socket."""
    socket = socket_of(ctx, fd, FD_WRITE)
    if flags:
        check_flags(flags, SEND_FLAGS)
    return send(ctx, socket, (data,), flags)


@syscall(
    SEND_ERRORS
    | NAMING_ERRORS
    | {
        Errno.EISCONN: "an address, for a socket of the Unix domain that is connected",
        Errno.EPROTOTYPE: "the socket of that name is of another type",
        Errno.EPERM: "the socket of that name receives from another one only",
    },
    restarts=True,
)
def net_sendto(ctx: CallContext, fd: Fd, data: Block, flags: Number, addr: Block) -> Size:
    """Send a datagram to an address; an empty one means where the socket is connected to."""
    socket = socket_of(ctx, fd, FD_WRITE)
    check_flags(flags, SEND_FLAGS)
    address = parse_address(ctx, addr) if len(addr) else None
    return send(ctx, socket, (data,), flags, address=address, naming=naming_of(ctx))


@syscall(RECEIVE_ERRORS, restarts=True)
def net_recv(ctx: CallContext, fd: Fd, buf: OutBuffer, flags: Number) -> Size:
    """Receive from a socket; with TRUNC the length of the whole datagram is returned."""
    socket = socket_of(ctx, fd, FD_READ)
    if not flags and not socket.flags & FdFlags.NONBLOCK and socket.carries_bytes:
        return ctx.read(socket, (buf,))
    check_flags(flags, RECEIVE_FLAGS)
    return _count(receive(ctx, socket, (buf,), flags), flags)


@syscall(RECEIVE_ERRORS, restarts=True)
def net_recvfrom(
    ctx: CallContext, fd: Fd, buf: OutBuffer, flags: Number, ret: Pointer, ret_addr: Pointer, addr_len: Pointer
) -> None:
    """As `net_recv`, and tell who sent the datagram; for a stream the address is empty."""
    socket = socket_of(ctx, fd, FD_READ)
    check_flags(flags, RECEIVE_FLAGS)
    told, count = AddressOut(ctx, ret_addr, addr_len), ctx.memory.span(ret, 4)
    received = receive(ctx, socket, (buf,), flags)
    count[:] = _count(received, flags).to_bytes(4, "little")
    told.write(received.source)


def _count(received: Received, flags: int) -> int:
    """What a call returns: descriptors that nobody asked for are closed."""
    if received.parcel is not None:
        received.parcel.drop()
    return received.length if flags & _TRUNC else received.copied
