"""The nodes of a host mount that are no directories. Each is one name in a held directory, never a path."""

import errno
import os
import stat

from agentvm.errno import Errno, KernelError
from agentvm.host.beneath import NAME_FLAGS, set_times_at
from agentvm.host.descriptors import HostFd
from agentvm.host.host_errno import from_host
from agentvm.host.host_files import SYNC, HostFile, host_flags
from agentvm.host.inodes import OpenInode
from agentvm.host.mount import HostMount, not_a_file, status_at, status_of
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.space import Space

__all__ = ["HostCreatedNode", "HostFileNode", "HostNode", "HostSpecialNode", "HostSymlinkNode"]


class HostNode(Node):
    """One name in a held directory. Each call looks at it anew, as calls on a path do.

    A node shares its parent's descriptor. `release` lets go of it; the node then refuses with EBADF.
    """

    __slots__ = ("_is_seen", "_mount", "_name", "_parent", "_status")

    transient = True
    on_disk = True

    def __init__(self, mount: HostMount, parent: HostFd | None, name: bytes, status: os.stat_result) -> None:
        self._mount = mount
        self._parent = parent
        self._name = name
        #: What the lookup saw: which file this is. Its attributes serve the first `stat`, which follows at once.
        self._status = status
        self._is_seen = True

    @property
    def key(self) -> tuple[int, int]:
        return self._mount.key_of(self._status)

    @property
    def mount(self) -> HostMount:
        """The mount that this node belongs to."""
        return self._mount

    def stat(self) -> FileStat:
        if self._is_seen:
            self._is_seen = False
            return self._mount.file_stat(self._status)
        return self._mount.file_stat(status_at(self._held_parent(), self._name))

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self._mount.require_writable("setting times")
        try:
            set_times_at(self._held_parent().number, self._name, atime_ns, mtime_ns)
        except OSError as error:
            raise from_host(error, f"set times of {self._name!r}") from None

    @property
    def read_only(self) -> bool:  # type: ignore[override]
        return self._mount.read_only

    @property
    def space(self) -> Space:
        return self._mount.quota.space

    def set_mode(self, mode: int) -> None:
        held = self._mount.open_name(self._held_parent(), self._name, NAME_FLAGS)
        try:
            status = status_of(held)
            if not stat.S_ISREG(status.st_mode):
                raise not_a_file(self._name, status.st_mode)
            self._mount.set_mode(held, mode)
        finally:
            held.close()

    def release(self) -> None:
        self._parent = None

    def link_into(self, directory: HostFd, name: bytes) -> None:
        """Make `name` in `directory`, of the same mount, a hard link to this. Host errors only, no limits."""
        parent = self._held_parent().number
        try:
            os.link(self._name, name, src_dir_fd=parent, dst_dir_fd=directory.number, follow_symlinks=False)
        except OSError as error:
            raise from_host(error, f"link of {self._name!r} to {name!r}") from None

    def _held_parent(self) -> HostFd:
        if self._parent is None:
            raise KernelError(Errno.EBADF, f"the node of {self._name!r} was released")
        return self._parent


class HostSymlinkNode(HostNode):
    """A symlink. Its target is the operator's text, interpreted inside the VM by the walker, never by the host."""

    __slots__ = ()

    filetype = Filetype.SYMBOLIC_LINK

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        raise not_a_file(self._name, self._status.st_mode)

    def readlink(self) -> bytes:
        try:
            return os.readlink(self._name, dir_fd=self._held_parent().number)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise KernelError(Errno.ENOENT, f"the link {self._name!r} was replaced meanwhile") from None
            raise from_host(error, f"readlink of {self._name!r}") from None


class HostSpecialNode(HostNode):
    """A FIFO, socket or device: it can be seen, renamed and removed, never opened. ENXIO for a socket, else EACCES."""

    __slots__ = ("filetype",)

    def __init__(
        self, mount: HostMount, parent: HostFd, name: bytes, status: os.stat_result, filetype: Filetype
    ) -> None:
        super().__init__(mount, parent, name, status)
        self.filetype = filetype

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        raise not_a_file(self._name, self._status.st_mode)


class HostFileNode(HostNode):
    """A regular file."""

    __slots__ = ()

    filetype = Filetype.REGULAR_FILE

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> HostFile:
        """Open it. EROFS for writing on a read-only mount; ELOOP, EACCES if it was swapped for something else."""
        if write or truncate:
            self._mount.require_writable(f"opening {self._name!r} for writing")
            mode = (os.O_RDWR if read else os.O_WRONLY) | host_flags(flags)
        else:
            mode = os.O_RDONLY | host_flags(flags)
        status = self._status
        fd, inode = self._mount.open_held(
            self._held_parent(), self._name, mode, expected=(status.st_dev, status.st_ino), for_real=True
        )
        file = HostFile(self._mount, fd, inode, flags, readable=read, writable=write)
        if truncate:
            try:
                file.resize(0)
            except KernelError:
                file.on_last_close()
                raise
        return file


class HostCreatedNode(HostFileNode):
    """A regular file that was just made. It keeps the descriptor that made it for its first open.

    So a file can be created for writing with a mode that forbids to open it a second time, as POSIX asks.
    """

    __slots__ = ("_created",)

    def __init__(
        self,
        mount: HostMount,
        parent: HostFd,
        name: bytes,
        status: os.stat_result,
        created: tuple[HostFd, OpenInode],
    ) -> None:
        super().__init__(mount, parent, name, status)
        self._created: tuple[HostFd, OpenInode] | None = created

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> HostFile:
        if self._created is None or int(flags) & SYNC:
            return super().open(read=read, write=write, flags=flags, truncate=truncate)
        (fd, inode), self._created = self._created, None
        file = HostFile(self._mount, fd, inode, FdFlags(0), readable=read, writable=write)
        file.set_flags(flags)
        return file

    def release(self) -> None:
        super().release()
        if self._created is not None:
            (fd, inode), self._created = self._created, None
            self._mount.quota.shrink(self._mount.fds.inodes.let_go(inode, fd.number))
            fd.close()
