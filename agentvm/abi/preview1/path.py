"""preview1: calls on paths below an open directory. Source: openat(2), renameat(2), linkat(2), symlinkat(2) ...

No path of a plain preview1 program leads out of the directory that it starts from: see docs/rationale.md, "Why paths
are confined", and `CallContext.at` for programs of the host ABI.
"""

from agentvm.abi.context import CallContext
from agentvm.abi.params import (
    Fd,
    FdFlagsBits,
    FstFlags,
    LookupFlags,
    NewFd,
    OFlags,
    OutBuffer,
    Path,
    RightsBits,
    Size,
    Stat,
    Timestamp,
)
from agentvm.abi.preview1.fd_metadata import times_to_set
from agentvm.abi.rights import DIRECTORY_INHERITING, FD_READ, FD_WRITE, Rights, applicable
from agentvm.abi.syscall import Disk, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags

__all__ = [
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
]

_PATH_CREATE_DIRECTORY = int(Rights.PATH_CREATE_DIRECTORY)
_PATH_FILESTAT_SET_TIMES = int(Rights.PATH_FILESTAT_SET_TIMES)
_PATH_LINK_SOURCE = int(Rights.PATH_LINK_SOURCE)
_PATH_LINK_TARGET = int(Rights.PATH_LINK_TARGET)
_PATH_READLINK = int(Rights.PATH_READLINK)
_PATH_REMOVE_DIRECTORY = int(Rights.PATH_REMOVE_DIRECTORY)
_PATH_RENAME_SOURCE = int(Rights.PATH_RENAME_SOURCE)
_PATH_RENAME_TARGET = int(Rights.PATH_RENAME_TARGET)
_PATH_SYMLINK = int(Rights.PATH_SYMLINK)
_PATH_UNLINK_FILE = int(Rights.PATH_UNLINK_FILE)
_CREAT, _DIRECTORY, _EXCL, _TRUNC = 1, 2, 4, 8
_DATA = FD_READ | FD_WRITE
_FOLLOW = 1
_ALL_FDFLAGS = 0x1F
#: What the host ABI adds to `$fdflags`: O_DIRECT, which changes nothing here.
_DIRECT = 0x20
_FLAGS = [FdFlags(bits) for bits in range(_ALL_FDFLAGS + 1)]  # making one from a number costs a microsecond
_OPEN = int(Rights.PATH_OPEN)
_CREATE_FILE = int(Rights.PATH_CREATE_FILE)
_SET_SIZE = int(Rights.PATH_FILESTAT_SET_SIZE)
_STAT = int(Rights.PATH_FILESTAT_GET)

_LOOKUP_ERRORS = {
    Errno.EBADF: "fd is not open",
    Errno.ENOTDIR: "fd, or a part of the path, is not a directory",
    Errno.ENOTCAPABLE: "the directory lacks the right",
    Errno.EPERM: "the path is absolute, or leads out of the directory",
    Errno.ENOENT: "there is no such file, or the path is empty",
    Errno.ELOOP: "max_symlinks is passed, or the last part is a symlink that is not followed",
    Errno.ENAMETOOLONG: "max_path_bytes or max_name_bytes is passed",
    Errno.EINVAL: "the path holds a NUL, or a flag is unknown",
    Errno.EACCES: "the host refuses access",
    Errno.EIO: "the host's disk failed",
    Errno.ENFILE: "max_host_fds is reached",
}
_CHANGE_ERRORS = _LOOKUP_ERRORS | {
    Errno.EROFS: "the directory is read-only",
    Errno.ENOSPC: "max_filesystem_bytes, max_inodes or max_host_inodes is reached",
    Errno.EDQUOT: "the host's disk quota is reached",
    Errno.EBUSY: "it is a mount point",
}


@syscall(
    _CHANGE_ERRORS
    | {
        Errno.EEXIST: "O_EXCL, and the file exists",
        Errno.EISDIR: "a directory cannot be opened for writing",
        Errno.EMFILE: "max_open_fds_per_process is reached",
        Errno.ENFILE: "max_open_fds or max_host_fds is reached",
        Errno.ENXIO: "a FIFO that nobody reads, without waiting; a socket; a FIFO or device of the host",
        Errno.EINTR: "a signal came while a FIFO had no other end",
        Errno.ETXTBSY: "the host is running it",
        Errno.EFBIG: "max_file_bytes is passed",
    },
    disk=Disk.OPEN,
    restarts=True,
)
def path_open(
    ctx: CallContext,
    fd: Fd,
    dirflags: LookupFlags,
    path: Path,
    oflags: OFlags,
    fs_rights_base: RightsBits,
    fs_rights_inheriting: RightsBits,
    fdflags: FdFlagsBits,
) -> NewFd:
    """Open, and with O_CREAT make, a file or directory."""
    process, confined, mode, maker = ctx.process, True, 0o666, None
    needed = _needed(oflags) if oflags & (_CREAT | _TRUNC) else _OPEN
    if process.has_host_abi:  # it knows no rights but to read and to write
        base, path, confined = ctx.at(fd, path, needed)
        fdflags &= ~_DIRECT
        fs_rights_base |= ~_DATA
        fs_rights_inheriting = granted = DIRECTORY_INHERITING
        mode, maker = ctx.take_open_mode(), process.credentials
    else:
        base, granted = ctx.directory(fd, needed), ctx.descriptors[fd].inheriting
    if fdflags > _ALL_FDFLAGS or oflags > 0xF or dirflags > _FOLLOW:
        raise KernelError(Errno.EINVAL, f"dirflags {dirflags:#x}, oflags {oflags:#x}, fdflags {fdflags:#x}")
    # Rights that no file or directory can use are not granted, and asking for them is no error.
    rights, inheriting = fs_rights_base & DIRECTORY_INHERITING, fs_rights_inheriting & DIRECTORY_INHERITING
    if (rights | inheriting) & ~granted:
        missing = Rights((rights | inheriting) & ~granted)
        raise KernelError(Errno.ENOTCAPABLE, f"the directory does not pass on {missing}")
    process.fds.reserve()
    file = ctx.vfs.open_at(
        base,
        path,
        root=process.root,
        confined=confined,
        read=not rights & FD_WRITE or bool(rights & FD_READ),
        write=bool(rights & FD_WRITE),
        create=bool(oflags & _CREAT),
        exclusive=bool(oflags & _EXCL),
        directory=bool(oflags & _DIRECTORY),
        truncate=bool(oflags & _TRUNC),
        follow=bool(dirflags & _FOLLOW),
        mode=mode & ~process.umask,
        flags=_FLAGS[fdflags],
        maker=maker,
        waits=True,
    )
    if file.is_opening:
        _await_opening(ctx, file)
    return process.fds.open(Descriptor(file, rights & applicable(file), inheriting))


def _needed(oflags: int) -> int:
    """Return the rights of a directory that it takes to make or empty a file through it."""
    return _OPEN | (_CREATE_FILE if oflags & _CREAT else 0) | (_SET_SIZE if oflags & _TRUNC else 0)


def _await_opening(ctx: CallContext, file: OpenFile) -> None:
    """Wait for the other end of a FIFO; the file is closed where that fails."""
    ctx.await_opening(file)
    try:
        ctx.process.fds.reserve()  # others of the VM may have taken the last one
    except BaseException:
        file.on_last_close()
        raise


@syscall(_LOOKUP_ERRORS, disk=Disk.READ)
def path_filestat_get(ctx: CallContext, fd: Fd, flags: LookupFlags, path: Path) -> Stat:
    """Return the attributes of a file."""
    if flags > _FOLLOW:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    process, confined = ctx.process, True
    if process.has_host_abi:
        base, path, confined = ctx.at(fd, path, _STAT)
    else:
        base = ctx.directory(fd, _STAT)
    return ctx.vfs.stat_at(base, path, root=process.root, confined=confined, follow=bool(flags & _FOLLOW))


@syscall(_CHANGE_ERRORS, disk=Disk.WRITE)
def path_filestat_set_times(
    ctx: CallContext, fd: Fd, flags: LookupFlags, path: Path, atim: Timestamp, mtim: Timestamp, fst_flags: FstFlags
) -> None:
    """Set the access and modification times of a file."""
    if flags > _FOLLOW:
        raise KernelError(Errno.EINVAL, f"flags {flags:#x}")
    base, path, confined = ctx.at(fd, path, _PATH_FILESTAT_SET_TIMES)
    atime_ns, mtime_ns = times_to_set(ctx, atim, mtim, fst_flags)
    ctx.vfs.set_times_at(
        base,
        path,
        root=ctx.process.root,
        confined=confined,
        follow=bool(flags & _FOLLOW),
        atime_ns=atime_ns,
        mtime_ns=mtime_ns,
    )


@syscall(_CHANGE_ERRORS | {Errno.EEXIST: "the name is taken", Errno.EMLINK: "too many links"}, disk=Disk.WRITE)
def path_create_directory(ctx: CallContext, fd: Fd, path: Path) -> None:
    """Make a directory."""
    base, path, confined = ctx.at(fd, path, _PATH_CREATE_DIRECTORY)
    process = ctx.process
    mode = 0o777 & ~process.umask
    ctx.vfs.mkdir_at(base, path, root=process.root, confined=confined, mode=mode, maker=ctx.maker)


@syscall(_CHANGE_ERRORS | {Errno.ENOTEMPTY: "the directory is not empty"}, disk=Disk.WRITE)
def path_remove_directory(ctx: CallContext, fd: Fd, path: Path) -> None:
    """Remove an empty directory."""
    base, path, confined = ctx.at(fd, path, _PATH_REMOVE_DIRECTORY)
    ctx.vfs.rmdir_at(base, path, root=ctx.process.root, confined=confined)


@syscall(_CHANGE_ERRORS | {Errno.EISDIR: "it is a directory"}, disk=Disk.WRITE)
def path_unlink_file(ctx: CallContext, fd: Fd, path: Path) -> None:
    """Remove a file or symlink."""
    base, path, confined = ctx.at(fd, path, _PATH_UNLINK_FILE)
    ctx.vfs.unlink_at(base, path, root=ctx.process.root, confined=confined)


@syscall(_CHANGE_ERRORS | {Errno.EEXIST: "the name is taken"}, disk=Disk.WRITE)
def path_symlink(ctx: CallContext, old_path: Path, fd: Fd, new_path: Path) -> None:
    """Make a symlink that holds `old_path`."""
    base, path, confined = ctx.at(fd, new_path, _PATH_SYMLINK)
    process = ctx.process
    ctx.vfs.symlink_at(base, path, root=process.root, confined=confined, target=old_path, maker=ctx.maker)


@syscall(_LOOKUP_ERRORS, disk=Disk.READ)
def path_readlink(ctx: CallContext, fd: Fd, path: Path, buf: OutBuffer) -> Size:
    """Read what a symlink holds; what does not fit is cut."""
    base, path, confined = ctx.at(fd, path, _PATH_READLINK)
    target = ctx.vfs.readlink_at(base, path, root=ctx.process.root, confined=confined)
    target = target[: len(buf)]
    buf[: len(target)] = target
    return len(target)


@syscall(
    _CHANGE_ERRORS | {Errno.EEXIST: "the name is taken", Errno.EXDEV: "another mount", Errno.EMLINK: "too many"},
    disk=Disk.WRITE,
)
def path_link(ctx: CallContext, old_fd: Fd, old_flags: LookupFlags, old_path: Path, new_fd: Fd, new_path: Path) -> None:
    """Give a file another name."""
    if old_flags > _FOLLOW:
        raise KernelError(Errno.EINVAL, f"old_flags {old_flags:#x}")
    source, old_path, confined = ctx.at(old_fd, old_path, _PATH_LINK_SOURCE)
    target, new_path, _ = ctx.at(new_fd, new_path, _PATH_LINK_TARGET)
    follow = bool(old_flags & _FOLLOW)
    ctx.vfs.link_at(source, old_path, target, new_path, root=ctx.process.root, confined=confined, follow=follow)


@syscall(
    _CHANGE_ERRORS
    | {
        Errno.EEXIST: "the new name is a directory that is not empty",
        Errno.ENOTEMPTY: "the new name is a directory that is not empty",
        Errno.EISDIR: "the new name is a directory and the old one is not",
        Errno.EXDEV: "the names lie on different mounts",
        Errno.EMLINK: "too many links",
    },
    disk=Disk.WRITE,
)
def path_rename(ctx: CallContext, fd: Fd, old_path: Path, new_fd: Fd, new_path: Path) -> None:
    """Rename a file or directory, replacing what is there as rename(2) does."""
    source, old_path, confined = ctx.at(fd, old_path, _PATH_RENAME_SOURCE)
    target, new_path, _ = ctx.at(new_fd, new_path, _PATH_RENAME_TARGET)
    ctx.vfs.rename_at(source, old_path, target, new_path, root=ctx.process.root, confined=confined)
