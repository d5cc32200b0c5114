"""host_fs: what preview1 does not tell of files: modes, owners, sizes on disk, and files that are no regular ones.

Source: stat(2), chmod(2), chown(2), access(2), mknod(2), ftruncate(2), statfs(2), renameat2(2), open(2).
"""

from typing import Annotated

from agentvm.abi.agentos.file_flags import RDONLY, WRONLY
from agentvm.abi.context import CallContext
from agentvm.abi.file_size import check_size, tell_too_big
from agentvm.abi.params import Direct, Fd, FileSize, NewFd, Number, Path, Signed64
from agentvm.abi.rights import DIRECTORY_INHERITING, FD_READ, FD_WRITE, Rights, applicable
from agentvm.abi.syscall import Disk, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.access import check_access, check_owner, new_owner
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.stat import FileStat

__all__ = [
    "chmod",
    "chown",
    "fchmod",
    "fchown",
    "fd_blocks",
    "fd_chown",
    "fd_mode",
    "fd_owner",
    "fd_size",
    "ftruncate",
    "open_tmpfile",
    "path_access",
    "path_blocks",
    "path_chown",
    "path_mknod",
    "path_mode",
    "path_owner",
    "path_rdev",
    "path_renameat2",
    "path_size",
    "path_statfs",
    "set_open_direct",
    "set_open_mode",
]

#: What path_mode, path_rdev and fd_mode return, where 0 is a failure; and the sizes, where -1 is.
Mode = Annotated[int, Direct("i32", 0)]
Device = Annotated[int, Direct("i64", 0)]
Length = Annotated[int, Direct("i64", -1)]

_STAT = int(Rights.PATH_FILESTAT_GET)
_PERMISSIONS = 0o7777
_BLOCK_BYTES = 512
_LARGEST_SIZE = (1 << 63) - 1
_NOREPLACE = 1

_LOOKUP = {
    Errno.EBADF: "fd is not open",
    Errno.ENOTDIR: "fd, or a part of the path, is not a directory",
    Errno.ENOTCAPABLE: "the directory lacks the right",
    Errno.EPERM: "the path leads out of what the program was given",
    Errno.ENOENT: "there is no such file, or the path is empty",
    Errno.ELOOP: "max_symlinks is passed",
    Errno.ENAMETOOLONG: "max_path_bytes or max_name_bytes is passed",
    Errno.EINVAL: "the path holds a NUL",
    Errno.EACCES: "the host refuses access",
    Errno.EIO: "the host's disk failed",
    Errno.ENFILE: "max_host_fds is reached",
}
_CHANGE = _LOOKUP | {
    Errno.EROFS: "the file is on a read-only mount, or made by the kernel",
    Errno.EPERM: "the file is another user's",
    Errno.ENOSPC: "files have too many owners",
}
_MAKE = _CHANGE | {
    Errno.ENOSPC: "max_filesystem_bytes, max_inodes or max_host_inodes is reached",
    Errno.EEXIST: "the name is taken",
    Errno.EDQUOT: "the host's disk quota is reached",
}


# -- for the next path_open -------------------------------------------------------------------------------------------
@syscall()
def set_open_mode(ctx: CallContext, mode: Number) -> None:
    """Say with which permission bits the next path_open makes a file; 0 means 0666."""
    ctx.open_mode = mode & _PERMISSIONS


@syscall(note="accepted: nothing is cached in the VM that a direct read could go past")
def set_open_direct(ctx: CallContext, direct: Number) -> None:
    """Say whether the next path_open has O_DIRECT."""


# -- what stat(2) tells -----------------------------------------------------------------------------------------------
def _stat(ctx: CallContext, fd: int, path: bytes, follow: int) -> FileStat:
    base, path, confined = ctx.at(fd, path, _STAT)
    return ctx.vfs.stat_at(base, path, root=ctx.process.root, confined=confined, follow=bool(follow))


@syscall(_LOOKUP, disk=Disk.READ)
def path_mode(ctx: CallContext, fd: Fd, path: Path, follow: Number) -> Mode:
    """Return a file's type and permission bits; 0 where that fails."""
    return _stat(ctx, fd, path, follow).st_mode


@syscall(_LOOKUP, disk=Disk.READ)
def path_size(ctx: CallContext, fd: Fd, path: Path, follow: Number) -> Length:
    """Return a file's size in bytes; -1 where that fails."""
    return _stat(ctx, fd, path, follow).size


@syscall(_LOOKUP, disk=Disk.READ)
def path_blocks(ctx: CallContext, fd: Fd, path: Path, follow: Number) -> Length:
    """Return how many blocks of 512 bytes a file takes; -1 where that fails."""
    base, path, confined = ctx.at(fd, path, _STAT)
    root = ctx.process.root
    return _blocks(ctx.vfs.stored_bytes_at(base, path, root=root, confined=confined, follow=bool(follow)))


@syscall(_LOOKUP, disk=Disk.READ)
def path_rdev(ctx: CallContext, fd: Fd, path: Path, follow: Number) -> Device:
    """Return which device a device file stands for; 0 for any other file, and where that fails."""
    return _stat(ctx, fd, path, follow).rdev


@syscall(_LOOKUP, disk=Disk.READ)
def path_owner(ctx: CallContext, fd: Fd, path: Path, follow: Number) -> tuple[Number, Number]:
    """Return a file's user and group."""
    status = _stat(ctx, fd, path, follow)
    return status.uid, status.gid


@syscall({Errno.EBADF: "fd is not open"}, disk=Disk.READ)
def fd_mode(ctx: CallContext, fd: Fd) -> Mode:
    """Return an open file's type and permission bits; 0 where that fails."""
    return ctx.descriptor(fd).file.stat().st_mode


@syscall({Errno.EBADF: "fd is not open"}, disk=Disk.READ)
def fd_size(ctx: CallContext, fd: Fd) -> Length:
    """Return an open file's size in bytes; -1 where that fails."""
    return ctx.descriptor(fd).file.stat().size


@syscall({Errno.EBADF: "fd is not open"}, disk=Disk.READ)
def fd_blocks(ctx: CallContext, fd: Fd) -> Length:
    """Return how many blocks of 512 bytes an open file takes; -1 where that fails."""
    return _blocks(ctx.descriptor(fd).file.stored_bytes)


@syscall({Errno.EBADF: "fd is not open"}, disk=Disk.READ)
def fd_owner(ctx: CallContext, fd: Fd) -> tuple[Number, Number]:
    """Return an open file's user and group."""
    status = ctx.descriptor(fd).file.stat()
    return status.uid, status.gid


def _blocks(size: int) -> int:
    return -(-size // _BLOCK_BYTES)


# -- permissions and owners -------------------------------------------------------------------------------------------
@syscall(_CHANGE, disk=Disk.WRITE)
def chmod(ctx: CallContext, fd: Fd, path: Path, mode: Number) -> None:
    """Set a file's permission bits."""
    base, path, confined = ctx.at(fd, path, _STAT)
    process = ctx.process
    ctx.vfs.set_mode_at(base, path, root=process.root, confined=confined, mode=mode, caller=process.credentials)


@syscall(_CHANGE | {Errno.EINVAL: "fd is a pipe or a socket"}, disk=Disk.WRITE)
def fchmod(ctx: CallContext, fd: Fd, mode: Number) -> None:
    """Set an open file's permission bits."""
    file = ctx.descriptor(fd).file
    check_owner(ctx.process.credentials, file.stat())
    file.set_mode(mode & _PERMISSIONS)


@syscall(_CHANGE, disk=Disk.WRITE)
def path_chown(ctx: CallContext, fd: Fd, path: Path, uid: Number, gid: Number, follow: Number) -> None:
    """Set a file's user and group; 0xffffffff leaves one as it is."""
    base, path, confined = ctx.at(fd, path, _STAT)
    process = ctx.process
    status = ctx.vfs.stat_at(base, path, root=process.root, confined=confined, follow=bool(follow))
    owner = new_owner(process.credentials, status, uid, gid)
    if owner != (status.uid, status.gid):
        ctx.vfs.set_owner_at(base, path, root=process.root, confined=confined, follow=bool(follow), owner=owner)


@syscall(_CHANGE, disk=Disk.WRITE)
def chown(ctx: CallContext, fd: Fd, path: Path, uid: Number, gid: Number, follow: Number) -> None:
    """As `path_chown`."""
    path_chown(ctx, fd, path, uid, gid, follow)


@syscall(_CHANGE | {Errno.EINVAL: "fd is a pipe or a socket"}, disk=Disk.WRITE)
def fd_chown(ctx: CallContext, fd: Fd, uid: Number, gid: Number) -> None:
    """Set an open file's user and group; 0xffffffff leaves one as it is."""
    file = ctx.descriptor(fd).file
    status = file.stat()
    owner = new_owner(ctx.process.credentials, status, uid, gid)
    if owner != (status.uid, status.gid):
        file.set_owner(*owner)


@syscall(_CHANGE | {Errno.EINVAL: "fd is a pipe or a socket"}, disk=Disk.WRITE)
def fchown(ctx: CallContext, fd: Fd, uid: Number, gid: Number) -> None:
    """As `fd_chown`."""
    fd_chown(ctx, fd, uid, gid)


@syscall(
    _LOOKUP
    | {
        Errno.EACCES: "the file's permission bits do not let the user do that",
        Errno.EROFS: "writing, and the file is on a read-only mount",
        Errno.EINVAL: "the mode has an unknown bit",
    },
    disk=Disk.READ,
)
def path_access(ctx: CallContext, fd: Fd, path: Path, mode: Number, effective: Number) -> None:
    """Say whether a user may read (4), write (2) and execute (1) a file, by the real ids or the effective ones."""
    if mode > 7:
        raise KernelError(Errno.EINVAL, f"mode {mode:#o}")
    base, path, confined = ctx.at(fd, path, _STAT)
    process = ctx.process
    status = ctx.vfs.stat_for_access(base, path, root=process.root, confined=confined, writes=bool(mode & 2))
    check_access(process.credentials, status, mode, effective=bool(effective))


# -- making and moving ------------------------------------------------------------------------------------------------
@syscall(_MAKE | {Errno.EPERM: "a device, a socket or a directory", Errno.EINVAL: "the type is none"}, disk=Disk.WRITE)
def path_mknod(ctx: CallContext, fd: Fd, path: Path, mode: Number, rdev: Signed64) -> None:
    """Make a FIFO or a regular file."""
    base, path, confined = ctx.at(fd, path, int(Rights.PATH_CREATE_FILE))
    process = ctx.process
    ctx.vfs.mknod_at(
        base,
        path,
        root=process.root,
        confined=confined,
        mode=mode & ~process.umask,
        maker=process.credentials,
    )


@syscall(
    {
        Errno.EBADF: "fd is not open, or a directory",
        Errno.EINVAL: "fd is a stream or open for reading only, or the size is negative",
        Errno.EFBIG: "max_file_bytes or RLIMIT_FSIZE is passed",
        Errno.ENOSPC: "max_filesystem_bytes, max_temp_storage_bytes or max_host_write_bytes is reached",
        Errno.EDQUOT: "the host's disk quota is reached",
        Errno.EIO: "the host's disk failed",
        Errno.EROFS: "the file lies on a read-only mount",
    },
    disk=Disk.WRITE,
)
def ftruncate(ctx: CallContext, fd: Fd, size: Signed64) -> None:
    """Set the size of a file; what is added reads as zeros."""
    file = ctx.file(fd)
    if size < 0:
        raise KernelError(Errno.EINVAL, f"size {size}")
    if not ctx.descriptors[fd].rights & FD_WRITE:
        raise KernelError(Errno.EINVAL, f"fd {fd} is not open for writing")
    try:
        check_size(ctx, file, size)
        file.truncate(size)
    except KernelError as error:
        tell_too_big(ctx, error)
        raise


@syscall(
    _MAKE
    | {
        Errno.EEXIST: "the new name is taken, and it may not be replaced",
        Errno.ENOTEMPTY: "the new name is a directory that is not empty",
        Errno.EISDIR: "the new name is a directory and the old one is not",
        Errno.EXDEV: "the names lie on different mounts",
        Errno.EBUSY: "it is a mount point",
        Errno.EMLINK: "too many links",
        Errno.EINVAL: "a flag other than NOREPLACE, or a directory into itself",
    },
    disk=Disk.WRITE,
)
def path_renameat2(ctx: CallContext, fd: Fd, old_path: Path, new_fd: Fd, new_path: Path, flags: Number) -> None:
    """Rename a file or directory; with NOREPLACE (1) not onto what there is."""
    if flags & ~_NOREPLACE:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    source, old_path, confined = ctx.at(fd, old_path, int(Rights.PATH_RENAME_SOURCE))
    target, new_path, _ = ctx.at(new_fd, new_path, int(Rights.PATH_RENAME_TARGET))
    ctx.vfs.rename_at(
        source,
        old_path,
        target,
        new_path,
        root=ctx.process.root,
        confined=confined,
        replaces=not flags & _NOREPLACE,
    )


@syscall(
    _MAKE
    | {
        Errno.EMFILE: "max_open_fds_per_process is reached",
        Errno.ENFILE: "max_open_fds is reached",
        Errno.ENOTSUP: "the directory is not in memory",
        Errno.EINVAL: "it would not be open for writing",
    },
    disk=Disk.WRITE,
)
def open_tmpfile(ctx: CallContext, fd: Fd, path: Path, flags: Number, mode: Number) -> NewFd:
    """Make a file that has no name, and open it; it is gone with its last descriptor."""
    if not flags & WRONLY:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}: a file without a name is written, or of no use")
    base, path, confined = ctx.at(fd, path, int(Rights.PATH_CREATE_FILE))
    process = ctx.process
    process.fds.reserve()
    file = ctx.vfs.open_nameless(
        base,
        path,
        root=process.root,
        confined=confined,
        read=bool(flags & RDONLY),
        mode=mode & _PERMISSIONS & ~process.umask,
        maker=process.credentials,
    )
    rights = DIRECTORY_INHERITING & ~(0 if flags & RDONLY else FD_READ)
    return process.fds.open(Descriptor(file, rights & applicable(file), 0))


@syscall(_LOOKUP, disk=Disk.READ)
def path_statfs(ctx: CallContext, fd: Fd, path: Path) -> tuple[FileSize, FileSize, FileSize, FileSize, FileSize]:
    """Return how many bytes a filesystem may hold, holds, and has left; how many inodes it may hold, and has left."""
    base, path, confined = ctx.at(fd, path, _STAT)
    space = ctx.vfs.space_at(base, path, root=ctx.process.root, confined=confined)
    return space.total_bytes, space.used_bytes, space.left_bytes, space.total_inodes, space.left_inodes
