"""preview1: descriptors themselves: closing, renumbering, flags, rights, preopens. Source: fcntl(2), dup2(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, FdFlagsBits, OutBuffer, Prestat, RightsBits, StatFd
from agentvm.abi.records import FdStat
from agentvm.abi.rights import ALL, Rights
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import FdFlags, Filetype

__all__ = [
    "fd_close",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_renumber",
]

_SET_FLAGS = int(Rights.FD_FDSTAT_SET_FLAGS)
_SYNC_FLAGS = int(FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC)
_ALL_FLAGS = _SYNC_FLAGS | int(FdFlags.APPEND | FdFlags.NONBLOCK)


@syscall()
def fd_close(ctx: CallContext, fd: Fd) -> None:
    """Close a descriptor; preopened directories too."""
    ctx.process.fds.close(fd)


@syscall()
def fd_renumber(ctx: CallContext, fd: Fd, to: Fd) -> None:
    """Move a descriptor to another number that is open, which is closed in the same step."""
    ctx.process.fds.renumber(fd, to)


@syscall()
def fd_fdstat_get(ctx: CallContext, fd: Fd) -> StatFd:
    """Return the type, flags and rights of a descriptor."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None:
        raise KernelError(Errno.EBADF, f"fd {fd} is not open")
    file = descriptor.file
    return FdStat(file.filetype, file.flags, descriptor.rights, descriptor.inheriting)


@syscall(
    {
        Errno.EBADF: "fd is not open, or a directory",
        Errno.ENOTCAPABLE: "no FD_FDSTAT_SET_FLAGS",
        Errno.EINVAL: "DSYNC, RSYNC or SYNC would change, or a bit is unknown",
    }
)
def fd_fdstat_set_flags(ctx: CallContext, fd: Fd, flags: FdFlagsBits) -> None:
    """Set APPEND and NONBLOCK of an open file; the sync flags stay as they were opened (fcntl(2), F_SETFL)."""
    file = ctx.file(fd, _SET_FLAGS)
    if flags & ~_ALL_FLAGS or (flags ^ file.flags) & flags & _SYNC_FLAGS:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    file.set_flags(FdFlags(flags | (file.flags & _SYNC_FLAGS)))


@syscall({Errno.ENOTCAPABLE: "a right would be added"})
def fd_fdstat_set_rights(
    ctx: CallContext, fd: Fd, fs_rights_base: RightsBits, fs_rights_inheriting: RightsBits
) -> None:
    """Give up rights of a descriptor; they never come back."""
    descriptor = ctx.descriptor(fd)
    base, inheriting = fs_rights_base & ALL, fs_rights_inheriting & ALL
    if base & ~descriptor.rights or inheriting & ~descriptor.inheriting:
        raise KernelError(Errno.ENOTCAPABLE, f"fd {fd}: rights can only be given up")
    descriptor.rights, descriptor.inheriting = base, inheriting


@syscall({Errno.EBADF: "fd is not open, or not preopened"})
def fd_prestat_get(ctx: CallContext, fd: Fd) -> Prestat:
    """Return the length of a preopened directory's name."""
    name = _preopen_name(ctx, fd)
    if name is None:
        raise KernelError(Errno.EBADF, f"fd {fd} was not preopened")
    return len(name)


@syscall(
    {
        Errno.EBADF: "fd is not open",
        Errno.ENOTDIR: "fd was not preopened",
        Errno.ENAMETOOLONG: "the buffer is shorter than the name",
    }
)
def fd_prestat_dir_name(ctx: CallContext, fd: Fd, path: OutBuffer) -> None:
    """Write the name under which a directory was preopened; no NUL follows it."""
    name = _preopen_name(ctx, fd)
    if name is None:
        raise KernelError(Errno.ENOTDIR, f"fd {fd} was not preopened")
    if len(path) < len(name):
        raise KernelError(Errno.ENAMETOOLONG, f"{len(name)} bytes do not fit into {len(path)}")
    path[: len(name)] = name


def _preopen_name(ctx: CallContext, fd: int) -> bytes | None:
    """Return the name under which a directory was preopened, None for any other descriptor."""
    descriptor = ctx.descriptor(fd)
    return descriptor.preopen if descriptor.file.filetype is Filetype.DIRECTORY else None
