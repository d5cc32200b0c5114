"""preview1: reading, writing and seeking through descriptors. Source: readv(2), preadv(2), lseek(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.file_size import clip, tell_too_big
from agentvm.abi.params import Fd, FileDelta, FileSize, ReadBuffers, Size, WhenceNumber, WriteBuffers
from agentvm.abi.rights import FD_READ, FD_WRITE, Rights
from agentvm.abi.syscall import Disk, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import Filetype, Whence

__all__ = ["fd_pread", "fd_pwrite", "fd_read", "fd_seek", "fd_tell", "fd_write"]

_SEEK = int(Rights.FD_SEEK)
_TELL = int(Rights.FD_TELL | Rights.FD_SEEK)  # either will do
_SET, _CUR, _END = Whence.SET, Whence.CUR, Whence.END

_READ_ERRORS = {
    Errno.EBADF: "fd is not open, not open for reading, or a directory",
    Errno.EIO: "the host's disk failed",
}
_WRITE_ERRORS = {
    Errno.EBADF: "fd is not open, not open for writing, or a directory",
    Errno.ENOSPC: "max_filesystem_bytes, max_temp_storage_bytes, max_host_write_bytes or max_log_bytes is reached",
    Errno.EFBIG: "max_file_bytes or RLIMIT_FSIZE is reached",
    Errno.EDQUOT: "the host's disk quota is reached",
    Errno.EIO: "the host's disk failed",
}
_NO_OFFSET = {Errno.ESPIPE: "fd is a stream", Errno.ENOTCAPABLE: "no FD_SEEK"}
_POSITIONED = _NO_OFFSET | {Errno.EINVAL: "the offset is negative"}


@syscall(
    _READ_ERRORS
    | {
        Errno.EAGAIN: "fd is non-blocking and has no data",
        Errno.ENOTCONN: "fd is a socket that listens, or is not connected",
        Errno.EINVAL: "fd is a socket of the Unix domain that is not connected",
        Errno.ECONNRESET: "the other end of the connection was closed before it had received everything",
        Errno.ECONNREFUSED: "nobody has the address that the socket is connected to",
        Errno.EINTR: "a signal came",
    },
    disk=Disk.READ,
    restarts=True,
)
def fd_read(ctx: CallContext, fd: Fd, iovs: ReadBuffers) -> Size:
    """Read from a descriptor at its offset; 0 is the end."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & FD_READ:
        raise ctx.refusal(fd, FD_READ)
    file = descriptor.file
    if file.seekable:
        return file.read_nowait(iovs)
    return ctx.read(file, iovs)


@syscall(
    _WRITE_ERRORS
    | {
        Errno.EAGAIN: "fd is non-blocking and has no room",
        Errno.EPIPE: "no reader is left",
        Errno.ENOTCONN: "fd is a socket that is not connected",
        Errno.EDESTADDRREQ: "fd is a socket of datagrams that is not connected",
        Errno.EMSGSIZE: "the datagram is longer than the other socket ever takes",
        Errno.ECONNRESET: "the other end of the connection was closed before it had received everything",
        Errno.ECONNREFUSED: "nobody has the address that the socket is connected to",
        Errno.EINTR: "a signal came",
    },
    disk=Disk.WRITE,
    restarts=True,
)
def fd_write(ctx: CallContext, fd: Fd, iovs: WriteBuffers) -> Size:
    """Write to a descriptor at its offset, or at the end of the file if it appends."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & FD_WRITE:
        raise ctx.refusal(fd, FD_WRITE)
    file = descriptor.file
    if file.is_stream:
        return ctx.write(file, iovs)
    try:
        return file.write_nowait(iovs if ctx.process.rlimits is None else clip(ctx, file, iovs))
    except KernelError as error:
        tell_too_big(ctx, error)
        raise


@syscall(_READ_ERRORS | _POSITIONED, disk=Disk.READ)
def fd_pread(ctx: CallContext, fd: Fd, iovs: ReadBuffers, offset: FileSize) -> Size:
    """Read from a file at `offset`; the descriptor's own offset stays."""
    return _positioned(ctx, fd, FD_READ).pread(iovs, _checked(offset))


@syscall(_WRITE_ERRORS | _POSITIONED, disk=Disk.WRITE)
def fd_pwrite(ctx: CallContext, fd: Fd, iovs: WriteBuffers, offset: FileSize) -> Size:
    """Write to a file at `offset`; the descriptor's own offset stays."""
    file, offset = _positioned(ctx, fd, FD_WRITE), _checked(offset)
    try:
        return file.pwrite(iovs if ctx.process.rlimits is None else clip(ctx, file, iovs, offset), offset)
    except KernelError as error:
        tell_too_big(ctx, error)
        raise


@syscall(_NO_OFFSET | {Errno.EINVAL: "whence is unknown, or the new offset is negative"})
def fd_seek(ctx: CallContext, fd: Fd, offset: FileDelta, whence: WhenceNumber) -> FileSize:
    """Move the offset of a descriptor, and return the new one."""
    rights = _TELL if whence == _CUR and offset == 0 else _SEEK
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & rights:
        raise _seek_refusal(ctx, fd, rights)
    if whence == _SET:
        return descriptor.file.seek(offset, _SET)
    if whence == _CUR:
        return descriptor.file.seek(offset, _CUR)
    if whence == _END:
        return descriptor.file.seek(offset, _END)
    raise KernelError(Errno.EINVAL, f"whence {whence} is none of 0, 1, 2")


@syscall({Errno.ESPIPE: "fd is a stream", Errno.ENOTCAPABLE: "no FD_TELL, and no FD_SEEK"})
def fd_tell(ctx: CallContext, fd: Fd) -> FileSize:
    """Return the offset of a descriptor."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & _TELL:
        raise _seek_refusal(ctx, fd, _TELL)
    return descriptor.file.seek(0, _CUR)


def _positioned(ctx: CallContext, fd: int, right: int) -> OpenFile:
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or not descriptor.rights & right:
        raise ctx.refusal(fd, right)
    file = descriptor.file
    if file.seekable and not descriptor.rights & _SEEK:
        raise ctx.refusal(fd, _SEEK)
    return file


def _seek_refusal(ctx: CallContext, fd: int, rights: int) -> KernelError:
    """A stream says ESPIPE, as lseek(2) does, whatever its rights; isatty(3) in wasi-libc relies on their absence."""
    descriptor = ctx.descriptors.get(fd)
    if descriptor is not None and not descriptor.file.seekable and descriptor.file.filetype is not Filetype.DIRECTORY:
        return KernelError(Errno.ESPIPE, f"fd {fd} is a stream")
    return ctx.refusal(fd, rights)


def _checked(offset: int) -> int:
    if offset >= 1 << 63:
        raise KernelError(Errno.EINVAL, f"offset {offset} is negative as a signed number")
    return offset
