"""host_process: descriptors: pipes, duplicates, FD_CLOEXEC. Source: pipe(2), dup(2), fcntl(2), close_range(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, NewFd, Number, Signed
from agentvm.abi.rights import STDIN, STDOUT
from agentvm.abi.syscall import Support, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import CWD_NUMBERS, Descriptor

__all__ = ["fd_dup", "fd_dup2", "fd_dup_min", "fd_getfd", "fd_pipe", "fd_setfd", "proc_closefrom", "pty_open"]

_CLOEXEC = 1
_FULL = {
    Errno.EMFILE: "max_open_fds_per_process is reached",
    Errno.ENFILE: "max_open_fds is reached",
}


@syscall(_FULL | {Errno.ENFILE: "max_open_fds or max_pipes is reached"})
def fd_pipe(ctx: CallContext) -> tuple[NewFd, NewFd]:
    """Make a pipe, and return its reading and its writing end."""
    fds = ctx.process.fds
    fds.reserve(2)
    reader, writer = ctx.kernel.vfs.pipes.make()
    return fds.open(Descriptor(reader, STDIN, 0)), fds.open(Descriptor(writer, STDOUT, 0))


@syscall(_FULL)
def fd_dup(ctx: CallContext, fd: Fd) -> NewFd:
    """Return the lowest free number as another one of the same open file; it stays open over exec."""
    return ctx.process.fds.open(_duplicate(ctx, fd))


@syscall({Errno.EBADF: "fd is not open, or none can have the new number", Errno.ENFILE: "max_open_fds is reached"})
def fd_dup2(ctx: CallContext, fd: Fd, to: Fd) -> None:
    """Make `to` another number of the same open file, closing what is there in the same step."""
    descriptor = _duplicate(ctx, fd)
    if fd != to:
        ctx.process.fds.open_at(to, descriptor)


@syscall(_FULL | {Errno.EINVAL: "no descriptor can have a number from the lowest one on"})
def fd_dup_min(ctx: CallContext, fd: Fd, lowest: Number) -> NewFd:
    """As `fd_dup`, with a number from `lowest` on: F_DUPFD."""
    return ctx.process.fds.open_from(lowest, _duplicate(ctx, fd))


@syscall()
def fd_getfd(ctx: CallContext, fd: Fd) -> Number:
    """Return FD_CLOEXEC (1), or 0."""
    return _CLOEXEC if _descriptor(ctx, fd).cloexec else 0


@syscall()
def fd_setfd(ctx: CallContext, fd: Fd, flags: Number) -> None:
    """Set or clear FD_CLOEXEC; other bits mean nothing, as on Linux."""
    _descriptor(ctx, fd).cloexec = bool(flags & _CLOEXEC)


@syscall()
def proc_closefrom(ctx: CallContext, lowest: Signed) -> None:
    """Close every descriptor from a number on."""
    ctx.process.fds.close_from(max(lowest, 0))


@syscall(
    {Errno.ENOTSUP: "there are no pseudo-terminals"}, support=Support.REFUSED, note="A VM has no pseudo-terminals yet."
)
def pty_open(ctx: CallContext) -> tuple[NewFd, NewFd]:
    """Make a pseudo-terminal, and return its two ends."""
    raise KernelError(Errno.ENOTSUP, "there are no pseudo-terminals")


def _duplicate(ctx: CallContext, fd: int) -> Descriptor:
    return _descriptor(ctx, fd).copy()


def _descriptor(ctx: CallContext, fd: int) -> Descriptor:
    """Return an open descriptor; EBADF also for -1, which calls on paths take for the working directory."""
    if fd in CWD_NUMBERS:
        raise KernelError(Errno.EBADF, f"fd {fd} is no descriptor")
    return ctx.descriptor(fd)
