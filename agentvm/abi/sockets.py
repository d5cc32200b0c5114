"""What the socket calls of preview1 and of the host ABI have in common: finding the socket, and waiting for it.

Source: accept(2), send(2), recv(2), and socket(7) for SO_RCVTIMEO and SO_SNDTIMEO.
"""

from enum import IntFlag
from typing import TYPE_CHECKING, Final, cast

from agentvm.abi.context import CallContext
from agentvm.abi.rights import CONNECTION, LISTENER
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.lending import remaining
from agentvm.kernel.open_file import Buffers
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.wait import Readiness

if TYPE_CHECKING:
    from agentvm.kernel.net.address import Address
    from agentvm.kernel.net.in_flight import Parcel
    from agentvm.kernel.net.socket import Received, Socket
    from agentvm.kernel.net.unix_names import Naming

__all__ = ["MessageFlag", "accept", "open_socket", "receive", "send", "socket_of"]

_NONBLOCK = FdFlags.NONBLOCK


class MessageFlag(IntFlag):
    """The MSG_* flags that mean something here, with Linux's numbers."""

    PEEK = 0x2
    TRUNC = 0x20
    DONTWAIT = 0x40
    EOR = 0x80
    WAITALL = 0x100
    NOSIGNAL = 0x4000
    CMSG_CLOEXEC = 0x4000_0000


_PEEK: Final = int(MessageFlag.PEEK)
_DONTWAIT: Final = int(MessageFlag.DONTWAIT)
_WAITALL: Final = int(MessageFlag.WAITALL)
_NOSIGNAL: Final = int(MessageFlag.NOSIGNAL)


def socket_of(ctx: CallContext, fd: int, rights: int = 0) -> "Socket":
    """Return the socket of a descriptor that has all of `rights`; EBADF, ENOTSOCK, ENOTCAPABLE."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None:
        raise KernelError(Errno.EBADF, f"fd {fd} is not open")
    if not descriptor.file.is_socket:
        raise KernelError(Errno.ENOTSOCK, f"fd {fd} is not a socket")
    if descriptor.rights & rights != rights:
        raise ctx.refusal(fd, rights)
    return cast("Socket", descriptor.file)


def open_socket(
    ctx: CallContext, socket: "Socket", *, cloexec: bool = False, rights: int = CONNECTION | LISTENER
) -> int:
    """Give the process a descriptor of a new socket. EMFILE, ENFILE: the socket is closed then."""
    try:
        return ctx.process.fds.open(Descriptor(socket, rights, 0, cloexec=cloexec))
    except BaseException:
        socket.on_last_close()
        raise


def accept(ctx: CallContext, socket: "Socket", flags: FdFlags) -> "Socket":
    """Return a connection that waits at a listening socket, waiting for one.

    EAGAIN; EINVAL: it does not listen; EMFILE, ENFILE: the connection stays where it is.
    """
    fds = ctx.process.fds
    while True:
        fds.reserve()  # others of the VM may have taken the last one meanwhile
        try:
            return socket.accept_nowait(flags)
        except KernelError as error:
            if error.errno is not Errno.EAGAIN or socket.flags & _NONBLOCK:
                raise
        ctx.wait_for(socket, Readiness.READABLE)


def send(
    ctx: CallContext,
    socket: "Socket",
    data: Buffers,
    flags: int = 0,
    *,
    address: "Address | None" = None,
    naming: "Naming | None" = None,
    parcel: "Parcel | None" = None,
) -> int:
    """Send all of `data`, or one message, waiting for room; return how many bytes were taken.

    What was taken before an error is reported as a count; the error then comes with the next call. A parcel that was
    not sent is the caller's still.
    """
    waits = not (socket.flags & _NONBLOCK or flags & _DONTWAIT)
    whole = rest = ctx.clip(data)
    done = 0
    while True:
        try:
            done += socket.send_nowait(rest, address, naming, parcel)
        except KernelError as error:
            if done:
                return done
            if error.errno is Errno.EPIPE and not flags & _NOSIGNAL and socket.carries_bytes:
                ctx.signal_broken_pipe()
            if error.errno is not Errno.EAGAIN or not waits:
                raise
            ctx.wait_for(socket, Readiness.WRITABLE)
            continue
        rest = remaining(whole, done)
        if not rest or not waits:
            return done
        parcel = None
        if not _wait_on(ctx, socket):
            return done


def _wait_on(ctx: CallContext, socket: "Socket") -> bool:
    """Wait for room for the rest. False where a signal or a deadline ends that."""
    try:
        ctx.wait_for(socket, Readiness.WRITABLE)
    except KernelError:
        return False
    return True


def receive(ctx: CallContext, socket: "Socket", buffers: Buffers, flags: int = 0) -> "Received":
    """Receive what there is, or one message, waiting for it; WAITALL fills the buffers from a stream."""
    buffers = ctx.clip(buffers)
    waits = not (socket.flags & _NONBLOCK or flags & _DONTWAIT)
    peeks = bool(flags & _PEEK)
    while True:
        try:
            received = socket.receive_nowait(buffers, peek=peeks)
            break
        except KernelError as error:
            if error.errno is not Errno.EAGAIN or not waits:
                raise
        ctx.wait_for(socket, Readiness.READABLE)
    is_whole = not received.copied or received.parcel is not None or not socket.carries_bytes
    if flags & _WAITALL and waits and not peeks and not is_whole:
        count = received.copied + _receive_rest(ctx, socket, remaining(buffers, received.copied))
        return received._replace(copied=count, length=count)
    return received


def _receive_rest(ctx: CallContext, socket: "Socket", rest: Buffers) -> int:
    """Fill `rest`, and return how far that went: to the end of the stream, to a signal or an error."""
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
