"""host_process: pairs of sockets, and descriptors that are sent through sockets. Source: socketpair(2), unix(7)."""

from agentvm.abi.agentos.net_sockets import FULL, KINDS
from agentvm.abi.agentos.net_transfer import RECEIVE_ERRORS, RECEIVE_FLAGS, SEND_ERRORS, SEND_FLAGS, check_flags
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, NewFd, Number, OutBuffer, Pointer, Size
from agentvm.abi.rights import CONNECTION, FD_READ, FD_WRITE
from agentvm.abi.sockets import MessageFlag, open_socket, receive, send, socket_of
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Family
from agentvm.kernel.net.in_flight import MOST_RIGHTS, Parcel
from agentvm.kernel.net.socket import Socket, SocketKind
from agentvm.kernel.stat import FdFlags

__all__ = ["fd_recvmsg_rights", "fd_sendmsg_rights", "fd_socketpair"]

_CLOEXEC, _PEEK = int(MessageFlag.CMSG_CLOEXEC), int(MessageFlag.PEEK)
_DATA_CUT, _RIGHTS_CUT, _LENGTH_SHIFT = 1, 2, 2
_MOST_LENGTH = (1 << 30) - 1
_NO_RIGHTS = {
    Errno.ENOTSOCK: "fd is no socket, or one that carries no descriptors: of an internet family, or of datagrams and "
    "not connected; net_sendto and net_recvfrom serve those",
}


@syscall(FULL | {Errno.ENFILE: "max_open_fds or max_sockets is reached", Errno.EINVAL: "the kind is unknown"})
def fd_socketpair(ctx: CallContext, kind: Number, nonblock: Number, cloexec: Number) -> tuple[NewFd, NewFd]:
    """Make two sockets that are connected to each other: streams (1), datagrams (2), or sequenced packets (3)."""
    found = KINDS.get(kind)
    if found is None:
        raise KernelError(Errno.EINVAL, f"kind {kind}")
    ctx.process.fds.reserve(2)
    first, second = ctx.kernel.network.pair(found)
    for socket in (first, second):
        socket.type_number = kind
        if nonblock:
            socket.flags = FdFlags.NONBLOCK
    numbers = [open_socket(ctx, socket, cloexec=bool(cloexec), rights=CONNECTION) for socket in (first, second)]
    return numbers[0], numbers[1]


@syscall(
    SEND_ERRORS
    | _NO_RIGHTS
    | {
        Errno.EINVAL: f"more than {MOST_RIGHTS} descriptors",
        Errno.ENFILE: "max_open_fds is reached: descriptors on their way count",
    },
    restarts=True,
)
def fd_sendmsg_rights(ctx: CallContext, fd: Fd, data: Block, rights: Pointer, count: Number, flags: Number) -> Size:
    """Send bytes or a message with descriptors, which whoever receives it gets as his own."""
    socket = _carrier(ctx, fd, FD_WRITE)
    check_flags(flags, SEND_FLAGS)
    if count > MOST_RIGHTS:
        raise KernelError(Errno.EINVAL, f"{count} descriptors in one message, {MOST_RIGHTS} are allowed")
    numbers = ctx.memory.span(rights, 4 * count).cast("I").tolist() if count else []
    descriptors = [ctx.descriptor(number) for number in numbers]
    if not descriptors or (socket.carries_bytes and not len(data)):  # a stream has no place for them without a byte
        return send(ctx, socket, (data,), flags)
    parcel = ctx.kernel.network.in_flight.pack(descriptors)
    try:
        return send(ctx, socket, (data,), flags, parcel=parcel)
    except BaseException:
        parcel.drop()
        raise


@syscall(RECEIVE_ERRORS | _NO_RIGHTS, restarts=True)
def fd_recvmsg_rights(
    ctx: CallContext, fd: Fd, data: OutBuffer, rights: Pointer, rights_cap: Number, flags: Number
) -> tuple[Size, Number, Number]:
    """Receive bytes or a message, and the descriptors that came with it.

    The third result: bit 0 if the message was cut off, bit 1 if descriptors were dropped, the whole length above.
    """
    socket = _carrier(ctx, fd, FD_READ)
    check_flags(flags, RECEIVE_FLAGS)
    places = ctx.memory.span(rights, 4 * min(rights_cap, MOST_RIGHTS))
    received = receive(ctx, socket, (data,), flags)
    told = min(received.length, _MOST_LENGTH) << _LENGTH_SHIFT
    if received.length > received.copied:
        told |= _DATA_CUT
    opened = 0
    if received.parcel is not None:
        sent = len(received.parcel)
        opened = _open(ctx, received.parcel, places, cloexec=bool(flags & _CLOEXEC))
        if opened < sent:
            told |= _RIGHTS_CUT
    return received.copied, opened, told


def _open(ctx: CallContext, parcel: Parcel, places: memoryview, *, cloexec: bool) -> int:
    """Open the descriptors of a parcel, as many as there is room for, and return how many; the rest is closed."""
    most, opened = len(places) // 4, 0
    for descriptor in parcel.take():
        if opened == most:
            continue
        descriptor.cloexec = cloexec
        try:
            number = ctx.process.fds.open(descriptor)
        except KernelError:
            most = opened  # EMFILE: the message is received all the same, as on Linux
            continue
        places[4 * opened : 4 * opened + 4] = number.to_bytes(4, "little")
        opened += 1
    return opened


def _carrier(ctx: CallContext, fd: int, right: int) -> Socket:
    """Return a socket that carries descriptors. For others libc goes on with sendto and recvfrom at ENOTSOCK."""
    socket = socket_of(ctx, fd, right)
    if socket.family is not Family.UNIX or (socket.kind is SocketKind.DATAGRAM and socket.remote is None):
        raise KernelError(Errno.ENOTSOCK, f"fd {fd} carries no descriptors")
    return socket
