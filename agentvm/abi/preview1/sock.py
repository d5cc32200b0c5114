"""preview1: sockets. A guest has only those that were opened for it; nothing else makes one in preview1."""

from agentvm.abi.context import CallContext, remaining
from agentvm.abi.params import Fd, FdFlagsBits, NewFd, ReadBuffers, RoFlags, SdFlags, Size, SocketFlags, WriteBuffers
from agentvm.abi.rights import CONNECTION, FD_READ, FD_WRITE, Rights
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import Buffers
from agentvm.kernel.socket import Listener, SocketFile
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.wait import Readiness

__all__ = ["sock_accept", "sock_recv", "sock_send", "sock_shutdown"]

_SOCK_ACCEPT = int(Rights.SOCK_ACCEPT)
_SOCK_SHUTDOWN = int(Rights.SOCK_SHUTDOWN)
_NOT_A_SOCKET = {Errno.ENOTSOCK: "fd is not a socket"}
_NOT_CONNECTED = _NOT_A_SOCKET | {Errno.ENOTCONN: "the socket listens"}
_INTERRUPTED = {Errno.EINTR: "a signal came"}
_RECV_PEEK, _RECV_WAITALL = 1, 2
_SHUT_RD, _SHUT_WR = 1, 2
_NONBLOCK = int(FdFlags.NONBLOCK)


@syscall(
    _NOT_A_SOCKET
    | {
        Errno.EINVAL: "the socket does not listen, or a flag is unknown",
        Errno.EAGAIN: "the socket is non-blocking and no connection waits",
        Errno.EMFILE: "max_open_fds_per_process is reached",
        Errno.ENFILE: "max_open_fds is reached",
        Errno.ENOTCAPABLE: "no SOCK_ACCEPT",
    }
    | _INTERRUPTED,
    restarts=True,
)
def sock_accept(ctx: CallContext, fd: Fd, flags: FdFlagsBits) -> NewFd:
    """Accept a connection that waits at a listening socket."""
    descriptor = ctx.descriptor(fd)
    listener = descriptor.file
    if not isinstance(listener, Listener):
        known = isinstance(listener, SocketFile)
        raise KernelError(Errno.EINVAL if known else Errno.ENOTSOCK, f"fd {fd} is not a listening socket")
    ctx.descriptor(fd, _SOCK_ACCEPT)
    if flags & ~_NONBLOCK:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    fds = ctx.process.fds
    fds.reserve()
    if not listener.readiness() and not listener.flags & FdFlags.NONBLOCK:
        ctx.wait_for(listener, Readiness.READABLE)
        fds.reserve()  # others of the VM may have taken the last one; the connection then stays where it is
    connection = listener.accept_nowait(FdFlags(flags))
    return fds.open(Descriptor(connection, CONNECTION, 0))


@syscall(
    _NOT_CONNECTED | {Errno.EAGAIN: "non-blocking and no data", Errno.EINVAL: "a flag is unknown"} | _INTERRUPTED,
    restarts=True,
)
def sock_recv(ctx: CallContext, fd: Fd, ri_data: ReadBuffers, ri_flags: SocketFlags) -> tuple[Size, RoFlags]:
    """Receive from a connected socket; RECV_PEEK leaves the data there, RECV_WAITALL fills the buffers."""
    socket = _connected(ctx, fd, FD_READ)
    if ri_flags & ~(_RECV_PEEK | _RECV_WAITALL):
        raise KernelError(Errno.EINVAL, f"ri_flags {ri_flags:#x}")
    if ri_flags & _RECV_PEEK:
        if not socket.readiness() & Readiness.READABLE:
            if socket.flags & FdFlags.NONBLOCK:
                raise KernelError(Errno.EAGAIN, "no data waits")
            ctx.wait_for(socket, Readiness.READABLE)
        return socket.peek(ri_data), 0
    done = ctx.read(socket, ri_data)
    if ri_flags & _RECV_WAITALL and done:
        done += _receive_rest(ctx, socket, remaining(ri_data, done))
    return done, 0


def _receive_rest(ctx: CallContext, socket: SocketFile, rest: Buffers) -> int:
    """Fill `rest`, and return how far that went: to the end of the stream, or until a non-blocking socket is empty."""
    done = 0
    while rest:
        try:
            count = ctx.read(socket, rest)
        except KernelError:
            break
        if not count:
            break
        done += count
        rest = remaining(rest, count)
    return done


@syscall(
    _NOT_CONNECTED
    | {
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
    return ctx.write(socket, si_data)


@syscall(_NOT_CONNECTED | {Errno.EINVAL: "how is neither RD, WR nor both", Errno.ENOTCAPABLE: "no SOCK_SHUTDOWN"})
def sock_shutdown(ctx: CallContext, fd: Fd, how: SdFlags) -> None:
    """Shut down one or both directions of a connected socket."""
    socket = _connected(ctx, fd, 0)
    ctx.descriptor(fd, _SOCK_SHUTDOWN)
    if how not in (_SHUT_RD, _SHUT_WR, _SHUT_RD | _SHUT_WR):
        raise KernelError(Errno.EINVAL, f"how {how:#x}")
    socket.shutdown(read=bool(how & _SHUT_RD), write=bool(how & _SHUT_WR))


def _connected(ctx: CallContext, fd: int, right: int) -> SocketFile:
    file = ctx.descriptor(fd).file
    if isinstance(file, Listener):
        raise KernelError(Errno.ENOTCONN, f"fd {fd} is a listening socket")
    if not isinstance(file, SocketFile):
        raise KernelError(Errno.ENOTSOCK, f"fd {fd} is not a socket")
    ctx.descriptor(fd, right)
    return file
