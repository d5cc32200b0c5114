"""host_net: making sockets, naming, connecting, accepting. Source: socket(2), bind(2), connect(2), accept(2)."""

from agentvm.abi.agentos.addresses import AddressOut, parse_address
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, NewFd, Number, Pointer, Signed
from agentvm.abi.rights import FD_READ
from agentvm.abi.sockets import accept, open_socket, socket_of
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Family
from agentvm.kernel.net.socket import Socket, SocketKind
from agentvm.kernel.net.stream import StreamSocket
from agentvm.kernel.net.unix_names import Naming
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.wait import Readiness

__all__ = [
    "FULL",
    "KINDS",
    "NAMING_ERRORS",
    "NOT_A_SOCKET",
    "naming_of",
    "net_accept",
    "net_bind",
    "net_close",
    "net_connect",
    "net_getpeername",
    "net_getsockname",
    "net_listen",
    "net_set_nonblock",
    "net_socket",
    "net_validate_accept",
    "net_validate_socket",
]

_CLOEXEC, _NONBLOCK = 0x2000, 0x4000
_NONBLOCKING = FdFlags.NONBLOCK
#: The numbers of wasi-libc, and those of POSIX and of socketpair.
KINDS = {
    6: SocketKind.STREAM,
    1: SocketKind.STREAM,
    5: SocketKind.DATAGRAM,
    2: SocketKind.DATAGRAM,
    3: SocketKind.SEQPACKET,
}
_FAMILIES = {int(family): family for family in Family}
_TCP, _UDP = 6, 17
_PROTOCOLS = {SocketKind.STREAM: (0, _TCP), SocketKind.DATAGRAM: (0, _UDP), SocketKind.SEQPACKET: (0,)}

NOT_A_SOCKET = {Errno.ENOTSOCK: "fd is not a socket"}
FULL = {
    Errno.EMFILE: "max_open_fds_per_process is reached",
    Errno.ENFILE: "max_open_fds or max_sockets is reached",
}
NAMING_ERRORS = {
    Errno.EINVAL: "the address is no address, or of another domain",
    Errno.EAFNOSUPPORT: "the address is of another family than the socket",
    Errno.EACCES: "the process was not given the root directory, and so no paths",
    Errno.ENOENT: "a part of the path is not there",
    Errno.ENOTDIR: "a part of the path is not a directory",
    Errno.ELOOP: "max_symlinks is passed",
    Errno.ENAMETOOLONG: "max_path_bytes or max_name_bytes is passed",
    Errno.EIO: "the host's disk failed",
}


def naming_of(ctx: CallContext) -> Naming:
    """Return from where the process sees paths."""
    process = ctx.process
    return Naming(process.root, process.image.cwd, process.umask)


@syscall(
    FULL
    | {
        Errno.EAFNOSUPPORT: "the domain is none of INET, INET6, UNIX",
        Errno.EINVAL: "the type is unknown, or has unknown flags",
        Errno.EPROTONOSUPPORT: "the domain has no such type, or the type no such protocol",
    }
)
def net_socket(ctx: CallContext, domain: Number, type: Number, protocol: Number) -> NewFd:  # noqa: A002 - the ABI's name
    """Make a socket; the type may have CLOEXEC (0x2000) and NONBLOCK (0x4000) in it."""
    family, kind = _FAMILIES.get(domain), KINDS.get(type & ~(_CLOEXEC | _NONBLOCK))
    if family is None:
        raise KernelError(Errno.EAFNOSUPPORT, f"domain {domain}")
    if kind is None:
        raise KernelError(Errno.EINVAL, f"type {type:#x}")
    allowed = (0, 1) if family is Family.UNIX else _PROTOCOLS[kind]
    if protocol not in allowed:
        raise KernelError(Errno.EPROTONOSUPPORT, f"protocol {protocol} for type {type:#x} of {family.name}")
    ctx.process.fds.reserve()
    socket = ctx.kernel.network.socket(family, kind)
    socket.type_number = type & ~(_CLOEXEC | _NONBLOCK)
    if type & _NONBLOCK:
        socket.flags = _NONBLOCKING
    return open_socket(ctx, socket, cloexec=bool(type & _CLOEXEC))


@syscall(NOT_A_SOCKET)
def net_set_nonblock(ctx: CallContext, fd: Fd, on: Number) -> None:
    """Have calls on a socket fail with EAGAIN where they would wait, or have them wait again."""
    socket = socket_of(ctx, fd)
    socket.set_flags(socket.flags | _NONBLOCKING if on else socket.flags & ~_NONBLOCKING)


@syscall(
    NOT_A_SOCKET
    | NAMING_ERRORS
    | {
        Errno.EINVAL: "the socket has an address already, or the address is no address",
        Errno.EADDRINUSE: "another socket has it, or the path exists",
        Errno.EADDRNOTAVAIL: "it is no loopback address, nor any address",
        Errno.EPERM: "the filesystem has no sockets",
        Errno.EROFS: "the filesystem is read-only",
        Errno.ENOSPC: "max_filesystem_bytes or max_inodes is reached",
    }
)
def net_bind(ctx: CallContext, fd: Fd, addr: Block) -> None:
    """Give a socket an address: a port of the loopback network, a path, or an abstract name."""
    ctx.kernel.network.bind(socket_of(ctx, fd), parse_address(ctx, addr), naming_of(ctx))


@syscall(
    NOT_A_SOCKET
    | {
        Errno.EINVAL: "the socket is connected, or of the Unix domain and has no name",
        Errno.EADDRINUSE: "another socket listens at its address",
        Errno.ENOTSUP: "it is a socket of datagrams",
    }
)
def net_listen(ctx: CallContext, fd: Fd, backlog: Signed) -> None:
    """Accept connections from now on; one more than `backlog` may wait, and at most max_listener_backlog."""
    socket_of(ctx, fd).listen(backlog)


@syscall(
    NOT_A_SOCKET
    | FULL
    | {
        Errno.EINVAL: "the socket does not listen",
        Errno.EAGAIN: "the socket is non-blocking and no connection waits",
        Errno.ENFILE: "max_open_fds, max_sockets or max_connections is reached; the connection stays queued",
        Errno.ENOTSUP: "it is a socket of datagrams",
        Errno.EINTR: "a signal came",
    },
    restarts=True,
)
def net_accept(ctx: CallContext, fd: Fd, ret_fd: Pointer, ret_addr: Pointer, ret_addr_len: Pointer) -> None:
    """Accept a connection that waits at a listening socket, and tell who it is from."""
    listener = socket_of(ctx, fd, FD_READ)
    told, number = AddressOut(ctx, ret_addr, ret_addr_len), ctx.memory.span(ret_fd, 4)
    connection = accept(ctx, listener, FdFlags(0))
    number[:] = open_socket(ctx, connection).to_bytes(4, "little")
    told.write(connection.remote)


@syscall(
    NOT_A_SOCKET
    | NAMING_ERRORS
    | {
        Errno.ECONNREFUSED: "nobody listens there, or the path is no socket's",
        Errno.EISCONN: "the socket is connected, or listens",
        Errno.EALREADY: "it is being connected",
        Errno.EINPROGRESS: "it is non-blocking, of TCP, and connects by itself from now on",
        Errno.EAGAIN: "it is non-blocking, of the Unix domain, and max_listener_backlog is reached there",
        Errno.EPROTOTYPE: "the socket of that name is of another type",
        Errno.EPERM: "the socket of that name receives from another one only",
        Errno.ENOBUFS: "max_connections is reached",
        Errno.ENETUNREACH: "the address is outside of the VM",
        Errno.EADDRNOTAVAIL: "every port is in use",
        Errno.EINTR: "a signal came; one of TCP connects by itself then",
    }
)
def net_connect(ctx: CallContext, fd: Fd, addr: Block) -> None:
    """Connect a socket, waiting while too many connections wait there to be accepted."""
    socket, address = socket_of(ctx, fd), parse_address(ctx, addr)
    is_nonblocking = bool(socket.flags & _NONBLOCKING)
    is_tcp = socket.kind is SocketKind.STREAM and socket.family is not Family.UNIX
    if not (is_tcp and is_nonblocking):
        if not socket.connect(address, naming_of(ctx)):
            assert isinstance(socket, StreamSocket)
            _wait_for_room(ctx, socket, is_nonblocking=is_nonblocking)
        return
    assert isinstance(socket, StreamSocket)
    was_begun, has_failed = socket.is_unannounced, socket.error is not None
    try:
        socket.connect(address, naming_of(ctx))
        if was_begun:
            return
        socket.is_unannounced = True
    except KernelError as error:
        if error.errno is not Errno.ECONNREFUSED or has_failed:
            raise
        socket.error = error.errno
    raise KernelError(Errno.EINPROGRESS, "the socket is being connected")


def _wait_for_room(ctx: CallContext, socket: StreamSocket, *, is_nonblocking: bool) -> None:
    """Wait until a listener has room. A socket of the Unix domain gives up where that does not come."""
    is_unix = socket.family is Family.UNIX
    if is_nonblocking:
        socket.stop_connecting()
        raise KernelError(Errno.EAGAIN, "too many connections wait to be accepted")
    timeout_ns = socket.options.send_timeout_ns
    deadline_ns = None if timeout_ns is None else ctx.clock.monotonic_ns() + timeout_ns
    try:
        ctx.wait_until(socket, Readiness.READ, lambda: not socket.is_connecting, deadline_ns)
    except KernelError as error:
        if is_unix:
            socket.stop_connecting()
            raise
        socket.is_unannounced = True
        if error.errno is Errno.EAGAIN:
            raise KernelError(Errno.EINPROGRESS, "the socket is being connected") from None
        raise
    socket.raise_error()


@syscall(NOT_A_SOCKET)
def net_validate_socket(ctx: CallContext, fd: Fd) -> None:
    """Tell whether a descriptor is a socket."""
    socket_of(ctx, fd)


@syscall(NOT_A_SOCKET | {Errno.EINVAL: "the socket does not listen", Errno.ENOTSUP: "it is a socket of datagrams"})
def net_validate_accept(ctx: CallContext, fd: Fd) -> None:
    """Tell whether a descriptor is a socket that accepts connections."""
    socket = socket_of(ctx, fd)
    if socket.kind is SocketKind.DATAGRAM:
        raise KernelError(Errno.ENOTSUP, f"fd {fd} is a socket of datagrams")
    if not socket.is_listening:
        raise KernelError(Errno.EINVAL, f"fd {fd} does not listen")


@syscall(NOT_A_SOCKET)
def net_getsockname(ctx: CallContext, fd: Fd, addr: Pointer, addr_len: Pointer) -> None:
    """Tell a socket's own address."""
    socket: Socket = socket_of(ctx, fd)
    AddressOut(ctx, addr, addr_len).write(socket.shown)


@syscall(NOT_A_SOCKET | {Errno.ENOTCONN: "the socket is not connected"})
def net_getpeername(ctx: CallContext, fd: Fd, addr: Pointer, addr_len: Pointer) -> None:
    """Tell the address of the other end."""
    remote = socket_of(ctx, fd).remote
    told = AddressOut(ctx, addr, addr_len)
    if remote is None:
        raise KernelError(Errno.ENOTCONN, f"fd {fd} is not connected")
    told.write(remote)


@syscall(NOT_A_SOCKET)
def net_close(ctx: CallContext, fd: Fd) -> None:
    """Close a socket's descriptor."""
    socket_of(ctx, fd)
    ctx.process.fds.close(fd)
