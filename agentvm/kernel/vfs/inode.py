"""Inodes of the in-memory filesystem: what all have in common, regular files, and symlinks. Directories: `tree.py`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.content import Content
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenInode
from agentvm.kernel.vfs.space import Space

if TYPE_CHECKING:
    from agentvm.kernel.vfs.tree import MemoryFilesystem

__all__ = ["FileInode", "Inode", "SymlinkInode"]

_REGULAR_FILE = Filetype.REGULAR_FILE  # an attribute of an enum costs far more than a global name
#: Slots that each kind of inode declares: slots in `Inode` would collide with those of `Content`.
INODE_SLOTS = ("atime_ns", "attributes", "ctime_ns", "filesystem", "ino", "mtime_ns", "nlink", "opens")
#: The permission bits are the lower ones of `Inode.attributes`; who owns the file is above them.
_PERMISSIONS, _OWNER_SHIFT = 0o7777, 12


class Inode(Node):
    """What all inodes have. `opens` counts open files; an inode lives while it has names or is open.

    `attributes` are the permission bits and, above them, where the filesystem's list of owners has the owner: a place
    of its own in each inode would cost more than nearly all files, whose owner is the default one, can use.

    Times: a change of data sets mtime and ctime, a change of the inode ctime; a read sets atime only if it is not
    later than mtime or ctime, as Linux does with relatime.
    """

    if not TYPE_CHECKING:
        __slots__ = ()  # the kinds declare INODE_SLOTS, which mypy cannot know

    on_disk = True
    filesystem: "MemoryFilesystem"
    ino: int
    attributes: int
    nlink: int
    opens: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int

    def _start(self, filesystem: "MemoryFilesystem", ino: int, mode: int) -> None:
        self.filesystem = filesystem
        self.ino = ino
        self.attributes = mode & _PERMISSIONS
        self.nlink = 1
        self.opens = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = filesystem.now()

    @property
    def key(self) -> tuple[int, int]:
        return (self.filesystem.dev, self.ino)

    @property
    def size_bytes(self) -> int:
        """The size that `stat` reports."""
        return 0

    @property
    def mode(self) -> int:
        """The permission bits."""
        return self.attributes & _PERMISSIONS

    def stat(self) -> FileStat:
        attributes = self.attributes
        status = FileStat(
            self.filesystem.dev,
            self.ino,
            self.filetype,
            self.nlink,
            self.size_bytes,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            attributes & _PERMISSIONS,
        )
        if attributes > _PERMISSIONS:
            status.uid, status.gid = self.filesystem.owners[attributes >> _OWNER_SHIFT]
        return status

    def set_mode(self, mode: int) -> None:
        self.attributes = self.attributes & ~_PERMISSIONS | mode & _PERMISSIONS
        self.ctime_ns = self.filesystem.now()

    def set_owner(self, uid: int, gid: int) -> None:
        self.attributes = self.mode | self.filesystem.owner_number(uid, gid) << _OWNER_SHIFT
        self.ctime_ns = self.filesystem.now()

    @property
    def space(self) -> Space:
        return self.filesystem.space

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        if atime_ns is not None:
            self.atime_ns = atime_ns
        if mtime_ns is not None:
            self.mtime_ns = mtime_ns
        self.ctime_ns = self.filesystem.now()

    def free(self) -> None:
        """Give back what the inode holds beyond itself. Called once, when it has neither names nor openers."""

    def closed(self) -> None:
        """One opener is gone."""
        self.opens -= 1
        if self.opens == 0 and self.nlink == 0:
            self.filesystem.drop(self)


class FileInode(Content, Inode):
    """A regular file."""

    __slots__ = (*INODE_SLOTS, "now")

    filetype = Filetype.REGULAR_FILE
    now: Callable[[], int]

    def __init__(self, filesystem: "MemoryFilesystem", ino: int, mode: int) -> None:
        Content.__init__(self, filesystem.account)
        self._start(filesystem, ino, mode)
        self.now = filesystem.now

    @property
    def size_bytes(self) -> int:
        return self.size

    @property
    def stored_bytes(self) -> int:
        return self.held_bytes()

    def stat(self) -> FileStat:
        attributes = self.attributes
        if attributes > _PERMISSIONS:
            return Inode.stat(self)
        return FileStat(
            self.filesystem.dev,
            self.ino,
            _REGULAR_FILE,
            self.nlink,
            self.size,
            self.atime_ns,
            self.mtime_ns,
            self.ctime_ns,
            attributes,
        )

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if truncate:
            self.resize(0)
        self.opens += 1
        return OpenInode(self, flags, read, write)

    def start_as(self, text: bytes, *, owner: int) -> None:
        """Be a file that every VM starts with; `owner` is a place in the filesystem's list of owners."""
        self.hold_shared(text)
        self.attributes |= owner << _OWNER_SHIFT

    def resize(self, size: int) -> None:
        """Set the size, as ftruncate(2) does; EINVAL, EFBIG."""
        self.truncate(size)
        self.touch()

    def touch(self) -> None:
        """Note that the data changed."""
        self.mtime_ns = self.ctime_ns = self.now()

    def free(self) -> None:
        self.discard()

    def closed(self) -> None:
        self.opens -= 1
        if self.opens == 0:
            self.close_window()
            if self.nlink == 0:
                self.filesystem.drop(self)


class SymlinkInode(Inode):
    """A symbolic link. Its target is charged as data."""

    __slots__ = (*INODE_SLOTS, "target")

    filetype = Filetype.SYMBOLIC_LINK

    def __init__(self, filesystem: "MemoryFilesystem", ino: int, target: bytes) -> None:
        self._start(filesystem, ino, 0o777)
        self.target = target

    @property
    def size_bytes(self) -> int:
        return len(self.target)

    def readlink(self) -> bytes:
        return self.target

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        raise KernelError(Errno.ELOOP, "a symbolic link is not followed here")

    def free(self) -> None:
        self.filesystem.account.release(len(self.target))
