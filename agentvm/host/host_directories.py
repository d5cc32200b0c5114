"""Directories of a host mount: finding, making, moving and removing names through a held descriptor."""

import os
import stat
from collections.abc import Iterator

from agentvm.errno import Errno, KernelError
from agentvm.host.beneath import DIRECTORY_FLAGS, FILE_FLAGS, NAME_FLAGS, Resolver, set_times_at
from agentvm.host.descriptors import HostFd, HostFds
from agentvm.host.host_errno import from_host
from agentvm.host.host_listing import HostListing
from agentvm.host.host_nodes import HostCreatedNode, HostFileNode, HostNode, HostSpecialNode, HostSymlinkNode
from agentvm.host.inodes import OpenInode
from agentvm.host.mount import PERMISSIONS, HostMount, filetype_of, status_at, status_of
from agentvm.host.quota import HostQuota
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenDirectory

__all__ = ["HostDirectoryNode", "HostOpenDirectory", "open_root"]

_NEW_FILE = FILE_FLAGS | os.O_CREAT | os.O_EXCL | os.O_RDWR


class HostOpenDirectory(OpenDirectory):
    """An open directory; what it holds is its node's."""

    __slots__ = ()

    node: "HostDirectoryNode"

    def sync(self, *, data_only: bool) -> None:
        self.node.sync()


class HostDirectoryNode(HostNode):
    """A directory. Its own descriptor is opened when it is first needed, and then stands for it whatever its name is.

    The root of a mount has its descriptor from the start, ignores `release`, and is closed with `close`.
    """

    __slots__ = ("_fd", "_is_root", "_listing")

    filetype = Filetype.DIRECTORY

    def __init__(
        self,
        mount: HostMount,
        parent: HostFd | None,
        name: bytes,
        status: os.stat_result,
        *,
        fd: HostFd | None = None,
        is_root: bool = False,
    ) -> None:
        super().__init__(mount, parent, name, status)
        self._fd = fd
        self._is_root = is_root
        self._listing: HostListing | None = None

    @property
    def fd(self) -> HostFd:
        """The descriptor; ENOTDIR if the host put something else in its place, ENFILE at the cap."""
        fd = self._fd
        if fd is None:
            fd = self._fd = self._mount.open_name(self._held_parent(), self._name, DIRECTORY_FLAGS)
            self._parent = None
        return fd

    def stat(self) -> FileStat:
        if self._fd is None:
            return self._mount.file_stat(status_at(self._held_parent(), self._name))
        return self._mount.file_stat(status_of(self._fd))

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self._mount.require_writable("setting times")
        try:
            set_times_at(self.fd.number, b".", atime_ns, mtime_ns)
        except OSError as error:
            raise from_host(error, f"set times of {self._name!r}") from None

    def set_mode(self, mode: int) -> None:
        self._mount.set_mode(self.fd, mode)

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if write or truncate:
            raise KernelError(Errno.EISDIR, f"{self._name!r} is a directory")
        # A node of its own: it lists for itself, and outlives the walk's.
        return HostOpenDirectory(HostDirectoryNode(self._mount, None, self._name, self._status, fd=self.fd), flags)

    def release(self) -> None:
        if not self._is_root:
            self._let_go_of_listing()
            self._parent = self._fd = None

    def close(self) -> None:
        """Unmount: close the descriptor, also for those who share it. Every later call is EBADF. Idempotent."""
        self._let_go_of_listing()
        if self._fd is not None:
            self._fd.close()

    def _let_go_of_listing(self) -> None:
        if self._listing is not None:
            self._listing.close()
            self._listing = None

    def sync(self) -> None:
        """fsync(2) of the directory."""
        fd = self._mount.open_file(self.fd, b".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd.number)
        except OSError as error:
            raise from_host(error, "sync of a directory") from None
        finally:
            fd.close()

    # -- finding ------------------------------------------------------------------------------------------------------
    def lookup(self, name: bytes) -> Node:
        node = self.find(name)
        if node is None:
            raise KernelError(Errno.ENOENT, f"no entry {name!r}")
        return node

    def find(self, name: bytes) -> Node | None:
        fd = self._fd or self.fd
        try:
            status = os.stat(_component(name), dir_fd=fd.number, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_host(error, f"stat of {name!r}") from None
        mode = status.st_mode
        if stat.S_ISREG(mode):
            return HostFileNode(self._mount, fd, name, status)
        if stat.S_ISDIR(mode):
            return HostDirectoryNode(self._mount, fd, name, status)
        if stat.S_ISLNK(mode):
            return HostSymlinkNode(self._mount, fd, name, status)
        return HostSpecialNode(self._mount, fd, name, status, filetype_of(mode))

    def entries(self, cookie: int) -> Iterator[DirEntry]:
        if self._listing is None:
            self._listing = HostListing(self._mount, self.fd)
        return self._listing.entries(cookie, self._status.st_ino)

    # -- making -------------------------------------------------------------------------------------------------------
    def create(self, name: bytes, mode: int) -> HostFileNode:
        """Create a regular file; EEXIST, also for a symlink that dangles. ENOSPC at `max_host_inodes`."""
        self._start_change(name)
        mount = self._mount
        mount.quota.add_name()
        try:
            fd = mount.open_name(self.fd, name, _NEW_FILE, mode & PERMISSIONS)
        except KernelError:
            mount.quota.remove_name()
            raise
        status = status_of(fd)
        inode = mount.fds.inodes.hold((status.st_dev, status.st_ino))
        return HostCreatedNode(mount, self.fd, name, status, (fd, inode))

    def mkdir(self, name: bytes, mode: int) -> None:
        self._start_change(name)
        self._mount.quota.add_name()
        try:
            os.mkdir(name, mode & PERMISSIONS, dir_fd=self.fd.number)
        except OSError as error:
            self._mount.quota.remove_name()
            raise from_host(error, f"mkdir of {name!r}") from None

    def mkfifo(self, name: bytes, mode: int) -> None:
        """EPERM: a FIFO on the host would let guests wait for programs outside the VM."""
        self._start_change(name)
        raise KernelError(Errno.EPERM, "a host directory holds files, directories and symbolic links alone")

    def symlink(self, name: bytes, target: bytes) -> None:
        """Make a symlink. EPERM for an absolute target: on the host, it would mean another file than in the VM."""
        self._start_change(name)
        if target.startswith(b"/"):
            raise KernelError(Errno.EPERM, f"symbolic link to the absolute path {target!r} in a host directory")
        if b"\0" in target:
            raise KernelError(Errno.EINVAL, f"target {target!r} holds a NUL byte")
        self._mount.quota.add_name()
        try:
            os.symlink(target, name, dir_fd=self.fd.number)
        except OSError as error:
            self._mount.quota.remove_name()
            raise from_host(error, f"symlink of {name!r}") from None

    def link(self, name: bytes, node: Node) -> None:
        self._start_change(name)
        if not isinstance(node, HostNode) or node.mount is not self._mount:
            raise KernelError(Errno.EXDEV, "a hard link to another mount")
        if node.filetype is Filetype.DIRECTORY:
            raise KernelError(Errno.EPERM, "a hard link to a directory")
        self._mount.quota.add_name()
        try:
            node.link_into(self.fd, name)
        except KernelError:
            self._mount.quota.remove_name()
            raise

    # -- removing and moving ------------------------------------------------------------------------------------------
    def unlink(self, name: bytes) -> None:
        self._start_change(name)
        held = self._mount.open_held(self.fd, name, NAME_FLAGS, for_real=False)
        try:
            os.unlink(name, dir_fd=self.fd.number)
            held[1].lost_name = True
        except OSError as error:
            raise from_host(error, f"unlink of {name!r}") from None
        finally:
            self._let_go(held)
        self._mount.quota.remove_name()

    def rmdir(self, name: bytes) -> None:
        self._start_change(name)
        try:
            os.rmdir(name, dir_fd=self.fd.number)
        except OSError as error:
            raise from_host(error, f"rmdir of {name!r}") from None
        self._mount.quota.remove_name()

    def rename(self, name: bytes, target: Node, target_name: bytes) -> None:
        self._start_change(name)
        _component(target_name)
        if not isinstance(target, HostDirectoryNode) or target.mount is not self._mount:
            raise KernelError(Errno.EXDEV, "a rename to another mount")
        source = status_at(self.fd, name)
        replaced = target.hold_name(target_name)
        try:
            os.rename(name, target_name, src_dir_fd=self.fd.number, dst_dir_fd=target.fd.number)
            if replaced is not None:
                replaced[1].lost_name = True
        except OSError as error:
            raise from_host(error, f"rename of {name!r} to {target_name!r}") from None
        finally:
            if replaced is not None:
                self._let_go(replaced)
        if replaced is not None and replaced[1].key != (source.st_dev, source.st_ino):
            self._mount.quota.remove_name()

    def hold_name(self, name: bytes) -> tuple[HostFd, OpenInode] | None:
        """Hold what `name` stands for, to see what its removal frees; None if there is no such name."""
        try:
            return self._mount.open_held(self.fd, name, NAME_FLAGS, for_real=False)
        except KernelError as error:
            if error.errno is not Errno.ENOENT:
                raise
            return None

    def _let_go(self, held: tuple[HostFd, OpenInode]) -> None:
        fd, inode = held
        try:
            self._mount.quota.shrink(self._mount.fds.inodes.let_go(inode, fd.number))
        finally:
            fd.close()

    def _start_change(self, name: bytes) -> None:
        self._mount.require_writable(f"changing {name!r}")
        _component(name)


def _component(name: bytes) -> bytes:
    """Return `name`; EINVAL if it is not one plain component. The walker never passes such: a second wall."""
    if b"/" in name or b"\0" in name or name in (b"", b".", b".."):
        raise KernelError(Errno.EINVAL, f"{name!r} is not a name")
    return name


def open_root(
    path: bytes, dev: int, fds: HostFds, quota: HostQuota, *, read_only: bool, use_openat2: bool | None
) -> HostDirectoryNode:
    """Open the directory `path` and return the root of a mount of it. Raises `OSError`, and ENFILE at the cap."""
    fds.acquire()
    number = -1
    try:
        # The one place where the host may follow symlinks: the operator's own path.
        number = os.open(path, os.O_CLOEXEC | os.O_PATH | os.O_DIRECTORY)
    finally:
        if number < 0:
            fds.release()
    fd = HostFd(number, fds)
    resolver = Resolver.probe(number) if use_openat2 is None else Resolver(use_openat2=use_openat2)
    mount = HostMount(dev, fds, quota, resolver, read_only=read_only)
    return HostDirectoryNode(mount, None, b"/", os.fstat(number), fd=fd, is_root=True)
