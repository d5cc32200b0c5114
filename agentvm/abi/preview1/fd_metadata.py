"""preview1: attributes of open files. Source: fstat(2), ftruncate(2), futimens(3), posix_fallocate(3), fsync(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.file_size import check_size, tell_too_big
from agentvm.abi.params import Advice, Fd, FileSize, FstFlags, Stat, Timestamp
from agentvm.abi.rights import Rights
from agentvm.abi.syscall import Disk, syscall
from agentvm.errno import Errno, KernelError

__all__ = [
    "fd_advise",
    "fd_allocate",
    "fd_datasync",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_sync",
    "times_to_set",
]

_FD_ADVISE = int(Rights.FD_ADVISE)
_FD_ALLOCATE = int(Rights.FD_ALLOCATE)
_FD_DATASYNC = int(Rights.FD_DATASYNC)
_FD_FILESTAT_SET_SIZE = int(Rights.FD_FILESTAT_SET_SIZE)
_FD_FILESTAT_SET_TIMES = int(Rights.FD_FILESTAT_SET_TIMES)
_FD_SYNC = int(Rights.FD_SYNC)
_STAT = int(Rights.FD_FILESTAT_GET)
_ANY_SYNC = int(Rights.FD_SYNC | Rights.FD_DATASYNC)
_ATIM, _ATIM_NOW, _MTIM, _MTIM_NOW = 1, 2, 4, 8
_HIGHEST_ADVICE = 5
_LARGEST_SIZE = (1 << 63) - 1

_GROW_ERRORS = {
    Errno.EBADF: "fd is not open, not open for writing, or a directory",
    Errno.EFBIG: "max_file_bytes, or 2^63-1, is passed",
    Errno.ENOSPC: "max_filesystem_bytes, max_temp_storage_bytes or max_host_write_bytes is reached",
    Errno.EDQUOT: "the host's disk quota is reached",
    Errno.EIO: "the host's disk failed",
    Errno.EROFS: "the file lies on a read-only mount",
}


@syscall({Errno.ENOTCAPABLE: "no FD_FILESTAT_GET"}, disk=Disk.READ)
def fd_filestat_get(ctx: CallContext, fd: Fd) -> Stat:
    """Return the attributes of an open file."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & _STAT:
        raise ctx.refusal(fd, _STAT)
    return descriptor.file.stat()


@syscall(
    _GROW_ERRORS
    | {
        Errno.ENOTCAPABLE: "no FD_FILESTAT_SET_SIZE",
        Errno.EINVAL: "fd is a stream or open for reading only, or size is negative",
    },
    disk=Disk.WRITE,
)
def fd_filestat_set_size(ctx: CallContext, fd: Fd, size: FileSize) -> None:
    """Set the size of a file; what is added reads as zeros."""
    file = ctx.file(fd, _FD_FILESTAT_SET_SIZE)
    if size > _LARGEST_SIZE:
        raise KernelError(Errno.EINVAL, f"size {size} is negative as a signed number")
    try:
        check_size(ctx, file, size)
        file.truncate(size)
    except KernelError as error:
        tell_too_big(ctx, error)
        raise


@syscall(
    {Errno.ENOTCAPABLE: "no FD_FILESTAT_SET_TIMES", Errno.EINVAL: "contradictory flags", Errno.EROFS: "read-only"},
    disk=Disk.WRITE,
)
def fd_filestat_set_times(ctx: CallContext, fd: Fd, atim: Timestamp, mtim: Timestamp, fst_flags: FstFlags) -> None:
    """Set the access and modification times of an open file."""
    times = times_to_set(ctx, atim, mtim, fst_flags)
    ctx.descriptor(fd, _FD_FILESTAT_SET_TIMES).file.set_times(*times)


def times_to_set(ctx: CallContext, atim: int, mtim: int, flags: int) -> tuple[int | None, int | None]:
    """Decode `$fstflags`: a time, now, or None to leave it; EINVAL if a flag and its NOW twin are both set."""
    if flags & ~0xF or flags & 3 == 3 or flags & 12 == 12:
        raise KernelError(Errno.EINVAL, f"fst_flags {flags:#x}")
    now = ctx.clock.realtime_ns() if flags & (_ATIM_NOW | _MTIM_NOW) else 0
    atime = atim if flags & _ATIM else now if flags & _ATIM_NOW else None
    mtime = mtim if flags & _MTIM else now if flags & _MTIM_NOW else None
    return atime, mtime


@syscall({Errno.ENOTCAPABLE: "no FD_ADVISE", Errno.EINVAL: "unknown advice", Errno.ESPIPE: "fd is a stream"})
def fd_advise(ctx: CallContext, fd: Fd, offset: FileSize, length: FileSize, advice: Advice) -> None:
    """Announce how a file will be used; the VM checks and ignores it."""
    file = ctx.file(fd, _FD_ADVISE)
    if advice > _HIGHEST_ADVICE or length > _LARGEST_SIZE:
        raise KernelError(Errno.EINVAL, f"advice {advice} for {length} bytes at {offset}")
    file.advise(min(offset, _LARGEST_SIZE), length, advice)


@syscall(
    _GROW_ERRORS
    | {
        Errno.ENOTCAPABLE: "no FD_ALLOCATE",
        Errno.EINVAL: "the length is zero, or a number is negative",
        Errno.ESPIPE: "fd is a stream",
    },
    disk=Disk.WRITE,
)
def fd_allocate(ctx: CallContext, fd: Fd, offset: FileSize, length: FileSize) -> None:
    """Make room for a range of a file; the file grows to the end of the range if it is shorter."""
    file = ctx.file(fd, _FD_ALLOCATE)
    if length == 0 or offset > _LARGEST_SIZE or length > _LARGEST_SIZE:
        raise KernelError(Errno.EINVAL, f"{length} bytes at {offset}")
    if offset + length > _LARGEST_SIZE:
        raise KernelError(Errno.EFBIG, f"{length} bytes at {offset}")
    try:
        check_size(ctx, file, offset + length)
        file.allocate(offset, length)
    except KernelError as error:
        tell_too_big(ctx, error)
        raise


@syscall(
    {Errno.ENOTCAPABLE: "no FD_SYNC", Errno.EINVAL: "fd is a stream", Errno.EIO: "the host's disk failed"},
    disk=Disk.WRITE,
)
def fd_sync(ctx: CallContext, fd: Fd) -> None:
    """Bring data and attributes of a file to the disk."""
    ctx.descriptor(fd, _FD_SYNC).file.sync(data_only=False)


@syscall(
    {
        Errno.ENOTCAPABLE: "no FD_DATASYNC, no FD_SYNC",
        Errno.EINVAL: "fd is a stream",
        Errno.EIO: "the host's disk failed",
    },
    disk=Disk.WRITE,
)
def fd_datasync(ctx: CallContext, fd: Fd) -> None:
    """Bring the data of a file to the disk. FD_SYNC is enough: libc asks for FD_DATASYNC only where it writes."""
    descriptor = ctx.descriptor(fd)
    if not descriptor.rights & _ANY_SYNC:
        raise ctx.refusal(fd, _FD_DATASYNC)
    descriptor.file.sync(data_only=True)
