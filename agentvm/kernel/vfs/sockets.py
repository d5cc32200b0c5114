"""Sockets that have a path: a file of their own kind, which names the socket that was bound there. Source: unix(7)."""

from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import INODE_SLOTS, Inode
from agentvm.kernel.vfs.node import Node

if TYPE_CHECKING:
    from agentvm.kernel.net.socket import Socket
    from agentvm.kernel.vfs.tree import MemoryFilesystem
    from agentvm.kernel.vfs.vfs import Vfs

__all__ = ["SocketInode", "bind_socket", "find_socket"]


class SocketInode(Inode):
    """The file of a socket. It outlives the socket, and leads nowhere then. It cannot be opened: ENXIO."""

    __slots__ = (*INODE_SLOTS, "_filetype", "bound")

    def __init__(self, filesystem: "MemoryFilesystem", ino: int, mode: int, socket: "Socket") -> None:
        self._start(filesystem, ino, mode)
        self._filetype = socket.filetype
        #: The socket; None once it is gone.
        self.bound: Socket | None = socket

    @property
    def filetype(self) -> Filetype:  # type: ignore[override]
        return self._filetype


def bind_socket(vfs: "Vfs", path: bytes, root: Node | None, socket: "Socket", mode: int) -> SocketInode:
    """Make the file of a socket. EADDRINUSE: the name is taken; EINVAL: the socket has another; EPERM: the filesystem
    has no sockets; ENOSPC, ..."""
    place = vfs.walk(vfs.root, path, root=root, confined=False, follow=False, follow_slash=False)
    try:
        if place.node is not None or place.is_dot or place.slash:
            raise KernelError(Errno.EADDRINUSE, f"{path!r} exists")
        if socket.is_bound:
            raise KernelError(Errno.EINVAL, f"the socket is bound to {socket.local}")
        directory = place.directory
        if not isinstance(directory, DirInode):
            errno = Errno.EPERM if directory.on_disk and not directory.read_only else Errno.EROFS
            raise KernelError(errno, f"{path!r}: no sockets can be made in a {directory.fs_type}")
        if directory.nlink == 0:
            raise KernelError(Errno.ENOENT, "the directory was removed")
        filesystem = directory.filesystem
        inode = SocketInode(filesystem, filesystem.charge_inode(place.name), mode, socket)
        directory.enter(place.name, inode)
        return inode
    finally:
        place.release()


def find_socket(vfs: "Vfs", path: bytes, root: Node | None) -> "Socket | None":
    """Return the socket that is bound to a file; None if it is gone, or the file is no socket. ENOENT, ELOOP, ..."""
    place = vfs.walk(vfs.root, path, root=root, confined=False, follow=True)
    try:
        node = place.require()
        return node.bound if isinstance(node, SocketInode) else None
    finally:
        place.release()
