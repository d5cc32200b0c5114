"""preview1: listing directories."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Cookie, Fd, OutBuffer, Size
from agentvm.abi.records import pack_dirent
from agentvm.abi.rights import Rights
from agentvm.abi.syscall import Disk, syscall
from agentvm.errno import Errno

__all__ = ["fd_readdir"]

_READDIR = int(Rights.FD_READDIR)


@syscall(
    {
        Errno.EBADF: "fd is not open, or lacks FD_READDIR",
        Errno.ENOTDIR: "fd is not a directory",
        Errno.ENOTCAPABLE: "no FD_READDIR",
        Errno.EIO: "the host's disk failed",
    },
    disk=Disk.READ,
)
def fd_readdir(ctx: CallContext, fd: Fd, buf: OutBuffer, cookie: Cookie) -> Size:
    """List a directory from `cookie` on; an entry that does not fit is cut, and a full buffer says there is more."""
    ctx.directory(fd, _READDIR)
    room, start = len(buf), 0
    for entry in ctx.descriptors[fd].file.entries(cookie):
        record = pack_dirent(entry)
        end = start + len(record)
        if end >= room:
            buf[start:] = record[: room - start]
            return room
        buf[start:end] = record
        start = end
    return start
