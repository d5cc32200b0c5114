"""Directories of the in-memory filesystem: names, links and renames, and listings that survive changes."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, Filetype
from agentvm.kernel.vfs.fifo import FifoInode
from agentvm.kernel.vfs.inode import INODE_SLOTS, FileInode, Inode, SymlinkInode
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenDirectory

if TYPE_CHECKING:
    from agentvm.kernel.vfs.tree import MemoryFilesystem

__all__ = ["DirInode"]

#: Cookies of "." and ".."; names count on from there.
_SELF, _PARENT = 1, 2
#: Up to this many names a listing is resumed by looking at all of them.
_SMALL = 32


class _Index:
    """The names of a directory by cookie, while it is listed in pieces. Removed names stay as gaps, up to a quarter."""

    __slots__ = ("cookies", "gaps", "names")

    def __init__(self, children: dict[bytes, tuple[int, Inode]]) -> None:
        # Names are kept in the order of their cookies: a dict keeps insertion order, and cookies only grow.
        self.cookies = [cookie for cookie, _ in children.values()]
        self.names = list(children)
        self.gaps = 0


class OpenDirInode(OpenDirectory):
    """An open directory of the in-memory filesystem; it counts as an opener."""

    __slots__ = ()

    node: "DirInode"

    def on_last_close(self) -> None:
        self.node.index = None
        self.node.closed()


class DirInode(Inode):
    """A directory. `children` maps each name to its cookie and inode; a removed directory has no links left.

    Size as reported: 0, like a directory without blocks of its own.
    """

    __slots__ = (*INODE_SLOTS, "children", "index", "next_cookie", "parent")

    filetype = Filetype.DIRECTORY

    def __init__(self, filesystem: "MemoryFilesystem", ino: int, mode: int, parent: "DirInode | None") -> None:
        self._start(filesystem, ino, mode)
        self.nlink = 2
        #: The directory that holds this one; itself at the root. For rename's loop check and for listing "..".
        self.parent = self if parent is None else parent
        self.children: dict[bytes, tuple[int, Inode]] = {}
        self.next_cookie = _PARENT + 1
        self.index: _Index | None = None

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if write or truncate:
            raise KernelError(Errno.EISDIR)
        self.opens += 1
        return OpenDirInode(self, flags)

    # -- finding ------------------------------------------------------------------------------------------------------
    def lookup(self, name: bytes) -> Node:
        entry = self.children.get(name)
        if entry is None:
            raise KernelError(Errno.ENOENT, f"no entry {name!r}")
        return entry[1]

    def find(self, name: bytes) -> Node | None:
        entry = self.children.get(name)
        return None if entry is None else entry[1]

    def entries(self, cookie: int) -> Iterator[DirEntry]:
        if cookie < _SELF:
            yield DirEntry(_SELF, self.ino, Filetype.DIRECTORY, b".")
        if cookie < _PARENT:
            yield DirEntry(_PARENT, self.parent.ino, Filetype.DIRECTORY, b"..")
        if cookie <= _PARENT or len(self.children) <= _SMALL:
            for name, (number, node) in self.children.items():
                if number > cookie:
                    yield DirEntry(number, node.ino, node.filetype, name)
            return
        index = self.index
        if index is None:
            index = self.index = _Index(self.children)
        for position in range(bisect_right(index.cookies, cookie), len(index.cookies)):
            name = index.names[position]
            entry = self.children.get(name)
            if entry is not None and entry[0] == index.cookies[position]:
                yield DirEntry(entry[0], entry[1].ino, entry[1].filetype, name)

    # -- making -------------------------------------------------------------------------------------------------------
    def create(self, name: bytes, mode: int) -> Node:
        self._check_free(name)
        node = FileInode(self.filesystem, self.filesystem.charge_inode(name), mode)
        self.enter(name, node)
        return node

    def mkdir(self, name: bytes, mode: int) -> None:
        self._check_free(name)
        node = DirInode(self.filesystem, self.filesystem.charge_directory(name), mode, self)
        self.enter(name, node)
        self.nlink += 1

    def mkfifo(self, name: bytes, mode: int) -> None:
        self._check_free(name)
        self.enter(name, FifoInode(self.filesystem, self.filesystem.charge_inode(name), mode))

    def symlink(self, name: bytes, target: bytes) -> None:
        self._check_free(name)
        self.enter(name, SymlinkInode(self.filesystem, self.filesystem.charge_inode(name, len(target)), target))

    def link(self, name: bytes, node: Node) -> None:
        self._check_free(name)
        if not isinstance(node, Inode) or node.filesystem is not self.filesystem:
            raise KernelError(Errno.EXDEV)
        if isinstance(node, DirInode):
            raise KernelError(Errno.EPERM, "a directory has one name")
        if node.nlink == 0:
            raise KernelError(Errno.ENOENT, "the file was removed")
        self.filesystem.account.acquire(self.filesystem.name_cost(name, node))
        node.nlink += 1
        node.ctime_ns = self.filesystem.now()
        self.enter(name, node)

    # -- removing -----------------------------------------------------------------------------------------------------
    def unlink(self, name: bytes) -> None:
        node = self._child(name)
        if isinstance(node, DirInode):
            raise KernelError(Errno.EISDIR)
        self.leave(name)
        self.filesystem.account.release(self.filesystem.name_cost(name, node))
        self.lose_link(node)

    def rmdir(self, name: bytes) -> None:
        node = self._child(name)
        if not isinstance(node, DirInode):
            raise KernelError(Errno.ENOTDIR)
        if node.children:
            raise KernelError(Errno.ENOTEMPTY)
        self.leave(name)
        self.filesystem.account.release(self.filesystem.name_cost(name, node))
        self.lose_directory(node)

    def rename(self, name: bytes, target: Node, target_name: bytes) -> None:
        if not isinstance(target, DirInode) or target.filesystem is not self.filesystem:
            raise KernelError(Errno.EXDEV)
        node = self._child(name)
        replaced = target.children.get(target_name)
        old = None if replaced is None else replaced[1]
        _check_rename(self, node, target, old)
        if old is node:
            return
        filesystem = self.filesystem
        growth = filesystem.name_cost(target_name, node) - filesystem.name_cost(name, node)
        if old is not None:
            growth -= filesystem.name_cost(target_name, old)
        if growth > 0:
            filesystem.account.acquire(growth)
        else:
            filesystem.account.release(-growth)
        self.leave(name)
        if old is None:
            target.enter(target_name, node)
        else:
            assert replaced is not None
            # The name stays where it is in a listing that goes on meanwhile: it is there exactly once.
            target.children[target_name] = (replaced[0], node)
            target.touch()
        if isinstance(node, DirInode):
            node.parent = target
            self.nlink -= 1
            target.nlink += 1
        node.ctime_ns = self.mtime_ns
        if isinstance(old, DirInode):
            target.lose_directory(old)
        elif old is not None:
            target.lose_link(old)

    # -- steps --------------------------------------------------------------------------------------------------------
    def _child(self, name: bytes) -> Inode:
        entry = self.children.get(name)
        if entry is None:
            raise KernelError(Errno.ENOENT, f"no entry {name!r}")
        return entry[1]

    def _check_free(self, name: bytes) -> None:
        if name in self.children:
            raise KernelError(Errno.EEXIST, f"entry {name!r} exists")
        if self.nlink == 0:
            raise KernelError(Errno.ENOENT, "the directory was removed")

    def touch(self) -> None:
        self.mtime_ns = self.ctime_ns = self.filesystem.now()

    def enter(self, name: bytes, node: Inode) -> None:
        cookie = self.next_cookie
        self.next_cookie = cookie + 1
        self.children[name] = (cookie, node)
        if self.index is not None:
            self.index.cookies.append(cookie)
            self.index.names.append(name)
        self.touch()

    def leave(self, name: bytes) -> None:
        del self.children[name]
        index = self.index
        if index is not None:
            index.gaps += 1
            if index.gaps > _SMALL + len(self.children) // 4:
                self.index = None
        self.touch()

    def lose_link(self, node: Inode) -> None:
        node.nlink -= 1
        node.ctime_ns = self.ctime_ns
        if node.nlink == 0:
            self.filesystem.unlinked(node)

    def lose_directory(self, node: "DirInode") -> None:
        self.nlink -= 1
        node.nlink = 0
        node.parent = node
        self.filesystem.unlinked(node)


def _is_above(upper: Inode | None, lower: DirInode) -> bool:
    """Tell whether `upper` is `lower`, or holds it at any depth."""
    directory = lower
    while directory is not upper and directory is not directory.parent:
        directory = directory.parent
    return directory is upper


def _check_rename(source: DirInode, node: Inode, target: DirInode, old: Inode | None) -> None:
    """Refuse what rename(2) refuses, in its order."""
    if isinstance(node, DirInode) and _is_above(node, target):
        raise KernelError(Errno.EINVAL, "a directory cannot move into itself")
    if isinstance(old, DirInode) and old is not node and _is_above(old, source):
        raise KernelError(Errno.ENOTEMPTY)
    if target.nlink == 0:
        raise KernelError(Errno.ENOENT, "the directory was removed")
    if old is None or old is node:
        return
    if isinstance(node, DirInode):
        if not isinstance(old, DirInode):
            raise KernelError(Errno.ENOTDIR)
        if old.children:
            raise KernelError(Errno.ENOTEMPTY)
    elif isinstance(old, DirInode):
        raise KernelError(Errno.EISDIR)
