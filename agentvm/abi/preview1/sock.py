"""preview1: sockets. A guest has only those that were opened for it; nothing else makes one in preview1."""

from typing import TYPE_CHECKING

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, FdFlagsBits, NewFd, ReadBuffers, RoFlags, SdFlags, Size, SocketFlags, WriteBuffers
from agentvm.abi.rights import CONNECTION, FD_READ, FD_WRITE, Rights
from agentvm.abi.sockets import MessageFlag, accept, open_socket, receive, send, socket_of
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import FdFlags

if TYPE_CHECKING:
    from agentvm.kernel.net.socket import Socket

__all__ = ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"]

_SOCK_ACCEPT = int(Rights.SOCK_ACCEPT)
_SOCK_SHUTDOWN = int(Rights.SOCK_SHUTDOWN)
_NOT_A_SOCKET = {Errno.ENOTSOCK: "fd is not a socket"}
_NOT_CONNECTED = _NOT_A_SOCKET | {Errno.ENOTCONN: "the socket listens, or is not connected"}
_BROKEN = {
    Errno.ECONNRESET: "the other end was closed before it had received everything",
    Errno.ECONNREFUSED: "nobody has the address that the socket is connected to",
}
_INTERRUPTED = {Errno.EINTR: "a signal came"}
_RECV_PEEK, _RECV_WAITALL = 1, 2
_MESSAGE_FLAGS = (0, MessageFlag.PEEK, MessageFlag.WAITALL, MessageFlag.PEEK | MessageFlag.WAITALL)
_SHUT_RD, _SHUT_WR = 1, 2
_NONBLOCK = int(FdFlags.NONBLOCK)


@syscall(
    _NOT_A_SOCKET
    | {
        Errno.EINVAL: "the socket does not listen, or a flag is unknown",
        Errno.EAGAIN: "the socket is non-blocking and no connection waits",
        Errno.EMFILE: "max_open_fds_per_process is reached",
        Errno.ENFILE: "max_open_fds, max_sockets or max_connections is reached",
        Errno.ENOTCAPABLE: "no SOCK_ACCEPT",
    }
    | _INTERRUPTED,
    restarts=True,
)
def sock_accept(ctx: CallContext, fd: Fd, flags: FdFlagsBits) -> NewFd:
    """Accept a connection that waits at a listening socket."""
    listener = socket_of(ctx, fd)
    if not listener.is_listening:
        raise KernelError(Errno.EINVAL, f"fd {fd} is not a listening socket")
    ctx.descriptor(fd, _SOCK_ACCEPT)
    if flags & ~_NONBLOCK:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    return open_socket(ctx, accept(ctx, listener, FdFlags(flags)), rights=CONNECTION)


@syscall(
    _NOT_CONNECTED
    | _BROKEN
    | {
        Errno.EAGAIN: "non-blocking and no data",
        Errno.EINVAL: "a flag is unknown, or the socket is of the Unix domain and not connected",
    }
    | _INTERRUPTED,
    restarts=True,
)
def sock_recv(ctx: CallContext, fd: Fd, ri_data: ReadBuffers, ri_flags: SocketFlags) -> tuple[Size, RoFlags]:
    """Receive from a connected socket; RECV_PEEK leaves the data there, RECV_WAITALL fills the buffers."""
    socket = _connected(ctx, fd, FD_READ)
    if ri_flags & ~(_RECV_PEEK | _RECV_WAITALL):
        raise KernelError(Errno.EINVAL, f"ri_flags {ri_flags:#x}")
    received = receive(ctx, socket, ri_data, _MESSAGE_FLAGS[ri_flags])
    if received.parcel is not None:
        received.parcel.drop()
    return received.copied, 1 if received.length > received.copied else 0


@syscall(
    _NOT_CONNECTED
    | _BROKEN
    | {
        Errno.EDESTADDRREQ: "it is a socket of datagrams that is not connected",
        Errno.EMSGSIZE: "the datagram is longer than the other socket ever takes",
        Errno.EPIPE: "the other end is gone, or this one was shut down",
        Errno.EAGAIN: "non-blocking and no room",
        Errno.EINVAL: "a flag is set: preview1 has none",
    }
    | _INTERRUPTED,
    restarts=True,
)
def sock_send(ctx: CallContext, fd: Fd, si_data: WriteBuffers, si_flags: SocketFlags) -> Size:
    """Send on a connected socket."""
    socket = _connected(ctx, fd, FD_WRITE)
    if si_flags:
        raise KernelError(Errno.EINVAL, f"si_flags {si_flags:#x}")
    return send(ctx, socket, si_data)


@syscall(_NOT_CONNECTED | {Errno.EINVAL: "how is neither RD, WR nor both", Errno.ENOTCAPABLE: "no SOCK_SHUTDOWN"})
def sock_shutdown(ctx: CallContext, fd: Fd, how: SdFlags) -> None:
    """Shut down one or both directions of a connected socket."""
    socket = _connected(ctx, fd, 0)
    ctx.descriptor(fd, _SOCK_SHUTDOWN)
    if how not in (_SHUT_RD, _SHUT_WR, _SHUT_RD | _SHUT_WR):
        raise KernelError(Errno.EINVAL, f"how {how:#x}")
    socket.shutdown(read=bool(how & _SHUT_RD), write=bool(how & _SHUT_WR))


def _connected(ctx: CallContext, fd: int, right: int) -> "Socket":
    socket = socket_of(ctx, fd)
    if socket.is_listening:
        raise KernelError(Errno.ENOTCONN, f"fd {fd} is a listening socket")
    ctx.descriptor(fd, right)
    return socket
