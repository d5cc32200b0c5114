"""What a filesystem offers: nodes. The in-memory tree, /dev, /proc and host directories all speak this.

A node is one file, directory or symlink of one filesystem. Names are single path components, as bytes, never empty,
never "." or "..", never with "/" or NUL: `kernel/vfs/path.py` resolves all that. Every method needs the kernel lock and
raises `KernelError`. A method that a kind does not support keeps the refusal below.
"""

from collections.abc import Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.space import Space

__all__ = ["Node"]


class Node:
    """One file of one filesystem."""

    __slots__ = ()

    filetype: Filetype = Filetype.UNKNOWN
    #: What /proc/mounts calls the filesystem, and whether nothing in it can be changed.
    fs_type: str = "tmpfs"
    read_only: bool = False
    #: True where each `lookup` makes a node that must be released, as for host directories.
    transient: bool = False
    #: True for what lies in memory or on the host, False for what the kernel makes up: /dev and /proc.
    on_disk: bool = False

    # -- every node ---------------------------------------------------------------------------------------------------
    @property
    def key(self) -> tuple[int, int]:
        """(dev, ino): equal for two nodes exactly if they are the same file."""
        raise NotImplementedError

    def stat(self) -> FileStat:
        raise NotImplementedError

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        raise KernelError(Errno.EPERM)

    def set_mode(self, mode: int) -> None:
        """Set the permission bits: chmod(2)."""
        raise KernelError(Errno.EPERM)

    def set_owner(self, uid: int, gid: int) -> None:
        """Set the owner and the group: chown(2), once it was asked who may."""
        raise KernelError(Errno.EPERM)

    @property
    def stored_bytes(self) -> int:
        """How many bytes of data the filesystem keeps for this file; holes are none."""
        return self.stat().size

    @property
    def space(self) -> Space:
        """How much its filesystem may hold and has left; nothing where the kernel makes it up."""
        return Space()

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        """Open this very node (a symlink: ELOOP). EISDIR if a directory is opened for writing, EROFS, EACCES."""
        raise KernelError(Errno.ENXIO)

    def release(self) -> None:
        """The walker is done with this node: host nodes close their descriptor. In-memory nodes do nothing."""

    # -- symlinks -----------------------------------------------------------------------------------------------------
    def readlink(self) -> bytes:
        raise KernelError(Errno.EINVAL, "not a symbolic link")

    def jump(self) -> "Node | None":
        """Return where a link leads that no path describes (/proc/self/fd/0); None for every other link."""
        return None

    # -- directories --------------------------------------------------------------------------------------------------
    def lookup(self, name: bytes) -> "Node":
        """Return the entry `name`, symlinks not followed. ENOENT if there is none."""
        raise KernelError(Errno.ENOTDIR)

    def find(self, name: bytes) -> "Node | None":
        """Return the entry `name`, or None if there is none."""
        try:
            return self.lookup(name)
        except KernelError as error:
            if error.errno is not Errno.ENOENT:
                raise
            return None

    def entries(self, cookie: int) -> Iterator[DirEntry]:
        """Iterate over the entries after `cookie`, "." (cookie 1) and ".." (cookie 2) first.

        Cookies grow and are never used again, so that a listing in pieces returns each name that stays exactly once.
        The iterator is used up, or dropped, before the kernel lock is released.
        """
        raise KernelError(Errno.ENOTDIR)

    def create(self, name: bytes, mode: int) -> "Node":
        """Create an empty regular file. EEXIST if the name is taken."""
        raise KernelError(Errno.ENOTDIR)

    def mkdir(self, name: bytes, mode: int) -> None:
        raise KernelError(Errno.ENOTDIR)

    def mkfifo(self, name: bytes, mode: int) -> None:
        """Make a FIFO. EPERM where the filesystem has none."""
        raise KernelError(Errno.ENOTDIR)

    def symlink(self, name: bytes, target: bytes) -> None:
        raise KernelError(Errno.ENOTDIR)

    def link(self, name: bytes, node: "Node") -> None:
        """Give `node`, of the same filesystem, another name. EXDEV if it is of another, EPERM for a directory."""
        raise KernelError(Errno.ENOTDIR)

    def unlink(self, name: bytes) -> None:
        """Remove a name that is not a directory. EISDIR if it is one."""
        raise KernelError(Errno.ENOTDIR)

    def rmdir(self, name: bytes) -> None:
        """Remove an empty directory. ENOTEMPTY, ENOTDIR."""
        raise KernelError(Errno.ENOTDIR)

    def rename(self, name: bytes, target: "Node", target_name: bytes) -> None:
        """Move an entry to directory `target`, replacing what rename(2) replaces. EXDEV across filesystems."""
        raise KernelError(Errno.ENOTDIR)
