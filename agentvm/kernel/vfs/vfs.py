"""The virtual filesystem of a VM: its root, its mounts, and the operations on paths that system calls are made of.

All operations need the kernel lock and raise `KernelError` with Linux's errno. `base` is the directory that a relative
path starts from; `root` is where absolute paths and absolute symlinks start: None means the caller may use neither
(EPERM). `confined` is preview1's rule: no absolute path, and no way out of `base`: EPERM. Not confined, relative paths
may go up with ".." from the root itself, which stays, from a directory in memory, and as far as they came down.
"""

from collections.abc import Callable

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.access import check_access
from agentvm.kernel.credentials import DEFAULT_UID, Credentials
from agentvm.kernel.guest_pipe import Pipes
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.vfs.base_files import BASE_DIRECTORIES, BASE_FILES
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.fifo import FifoInode
from agentvm.kernel.vfs.inode import FileInode, Inode
from agentvm.kernel.vfs.mounting import VfsMounts
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenInode
from agentvm.kernel.vfs.path import Place
from agentvm.kernel.vfs.path_attributes import check_new, give_made, give_to
from agentvm.kernel.vfs.space import SpaceAccount
from agentvm.kernel.vfs.tree import MemoryFilesystem
from agentvm.limits.registry import Registry

__all__ = ["Vfs"]

_NO_FLAGS = FdFlags(0)
#: What must be set in `Inode.attributes`, and what not, so that the default owner may read and write.
_OWNERS_DATA, _ALL_DATA = ~0o7177, 0o600
_MEMORY_DEV, _TEMPORARY_DEV = 1, 2


def _go_on() -> None:
    pass


class Vfs(VfsMounts):
    """The files of one VM. `memory` holds the root at first, `temporary` is mounted at /tmp with a cap of its own.

    Charged: max_filesystem_bytes and max_inodes for both, max_temp_storage_bytes for /tmp. `between` is called about
    once a MiB in long transfers and may raise to stop them.
    """

    def __init__(self, registry: Registry, clock: Clock, *, between: Callable[[], None] = _go_on) -> None:
        space, ceiling = registry.gauge("max_filesystem_bytes"), registry.ceiling("max_file_bytes")
        inodes = registry.gauge("max_inodes")
        self.pipes = Pipes(registry)
        memory = MemoryFilesystem(
            dev=_MEMORY_DEV,
            account=SpaceAccount(space, ceiling, between=between),
            inodes=inodes,
            clock=clock,
            base=BASE_DIRECTORIES,
            files=BASE_FILES,
            pipes=self.pipes,
        )
        super().__init__(registry, memory)
        self.temporary = MemoryFilesystem(
            dev=_TEMPORARY_DEV,
            account=SpaceAccount(space, ceiling, extra=registry.gauge("max_temp_storage_bytes"), between=between),
            inodes=inodes,
            clock=clock,
            pipes=self.pipes,
        )
        self.temporary.root.attributes = 0o1777
        self.mount_base(b"tmp", self.temporary.root)

    def close(self) -> None:
        """Drop all files in memory. Idempotent."""
        self.memory.close()
        self.temporary.close()

    # -- operations on one path ---------------------------------------------------------------------------------------
    def open_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        read: bool = True,
        write: bool = False,
        create: bool = False,
        exclusive: bool = False,
        directory: bool = False,
        truncate: bool = False,
        follow: bool = True,
        mode: int = 0o666,
        flags: FdFlags = _NO_FLAGS,
        maker: Credentials | None = None,
        waits: bool = False,
    ) -> OpenFile:
        """Open a file or directory; the caller owns it: it is closed with its last descriptor, or `on_last_close`.

        `mode`: permission bits of a created file, umask applied; `maker`: who makes it, None for the host. A symlink
        that is not followed: ELOOP. `waits`: the file may be a FIFO that is still `is_opening`; else that is ENXIO.
        """
        if not exclusive and not directory:
            inode = self._known(base, path)
            if type(inode) is FileInode:
                if maker is not None and (maker.euid != DEFAULT_UID or inode.attributes & _OWNERS_DATA != _ALL_DATA):
                    check_access(maker, inode.stat(), 4 * read | 2 * write, effective=True)
                if truncate:
                    inode.resize(0)
                inode.opens += 1
                return OpenInode(inode, flags, read, write)
        if create and directory:
            raise KernelError(Errno.EINVAL, "a directory is not made by opening it")
        follow = follow and not (create and (exclusive or path.endswith(b"/")))
        place = self._walk(base, path, root, confined=confined, follow=follow, follow_slash=not create)
        try:
            node = self._create(place, exclusive=exclusive, mode=mode, maker=maker) if create else place.require()
            if maker is not None and place.node is not None and isinstance(node, Inode):
                check_access(maker, node.stat(), 4 * read | 2 * write, effective=True)
            if type(node) is FifoInode and not waits:
                raise KernelError(Errno.ENXIO, f"{place.name!r} is a FIFO")
            if directory and node.filetype is not Filetype.DIRECTORY:
                raise KernelError(Errno.ENOTDIR, f"{place.name!r} is not a directory")
            return node.open(read=read, write=write, flags=flags, truncate=truncate)
        finally:
            place.release()

    def open_nameless(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        read: bool,
        mode: int,
        maker: Credentials | None,
    ) -> OpenFile:
        """Open a new file without a name, for writing, where a directory is (O_TMPFILE). ENOTSUP: not in memory."""
        place = self._walk(base, path, root, confined=confined, follow=True)
        try:
            directory = place.require()
            if directory.filetype is not Filetype.DIRECTORY:
                raise KernelError(Errno.ENOTDIR, f"{place.name!r} is not a directory")
            if not isinstance(directory, DirInode):
                raise KernelError(Errno.ENOTSUP, f"a {directory.fs_type} has no files without names")
            node = directory.filesystem.make_nameless(mode)
            give_to(node, maker)
            return node.open(read=read, write=True, flags=_NO_FLAGS)
        finally:
            place.release()

    def _create(self, place: Place, *, exclusive: bool, mode: int, maker: Credentials | None) -> Node:
        node = place.node
        if place.slash and not place.is_dot:
            raise KernelError(Errno.EISDIR, "a slash follows the name of a file to create")
        if node is None:
            try:
                node = place.directory.create(place.name, mode)
            except KernelError as error:
                if exclusive or error.errno is not Errno.EEXIST:
                    raise
                node = place.directory.lookup(place.name)  # made on the host since we looked
            else:
                give_to(node, maker)
            if node.transient:
                place.owned = [*(place.owned or ()), node]
        elif exclusive:
            raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
        elif node.filetype is Filetype.DIRECTORY:
            raise KernelError(Errno.EISDIR, f"{place.name!r} is a directory")
        return node

    def mkdir_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        mode: int = 0o777,
        maker: Credentials | None = None,
    ) -> None:
        """Make a directory; EEXIST if the name is taken. `mode`: permission bits, umask applied."""
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            if place.node is not None:
                raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
            place.directory.mkdir(place.name, mode)
            give_made(place, maker)
        finally:
            place.release()

    def unlink_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool) -> None:
        """Remove a name that is not a directory; EISDIR if it is one."""
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            if place.is_dot:
                raise KernelError(Errno.EISDIR, f"{place.name!r} is a directory")
            node = place.require_name()
            if node.filetype is Filetype.DIRECTORY:
                raise KernelError(Errno.EISDIR, f"{place.name!r} is a directory")
            if place.slash:
                raise KernelError(Errno.ENOTDIR, f"{place.name!r} is not a directory")
            if place.is_mount:
                raise KernelError(Errno.EBUSY, f"{place.name!r} is a mount point")
            place.directory.unlink(place.name)
        finally:
            place.release()

    def rmdir_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool) -> None:
        """Remove an empty directory. ENOTDIR, ENOTEMPTY, EBUSY for a mount point, EINVAL for "."."""
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            if place.is_dot:
                raise KernelError(_RMDIR_DOT[place.name], f"{place.name!r} cannot be removed")
            if place.require_name().filetype is not Filetype.DIRECTORY:
                raise KernelError(Errno.ENOTDIR, f"{place.name!r} is not a directory")
            if place.is_mount:
                raise KernelError(Errno.EBUSY, f"{place.name!r} is a mount point")
            place.directory.rmdir(place.name)
        finally:
            place.release()

    def symlink_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        target: bytes,
        maker: Credentials | None = None,
    ) -> None:
        """Make `path` a symbolic link to `target`. Confined, an absolute target is EPERM, as in wasmtime."""
        self._resolver.check(target)
        if confined and target.startswith(b"/"):
            raise KernelError(Errno.EPERM, f"symbolic link to the absolute path {target!r}")
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            check_new(place)
            place.directory.symlink(place.name, target)
            give_made(place, maker)
        finally:
            place.release()

    def readlink_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool) -> bytes:
        """Return the target of a symbolic link; EINVAL for anything else."""
        place = self._walk(base, path, root, confined=confined, follow=False)
        try:
            return place.require().readlink()
        finally:
            place.release()

    # -- operations on two paths --------------------------------------------------------------------------------------
    def link_at(
        self,
        base: Node,
        path: bytes,
        new_base: Node,
        new_path: bytes,
        *,
        root: Node | None,
        confined: bool,
        follow: bool = False,
    ) -> None:
        """Give a file another name. EEXIST, EXDEV, EPERM for a directory."""
        place = self._walk(base, path, root, confined=confined, follow=follow)
        try:
            node = place.require()
            new = self._walk(new_base, new_path, root, confined=confined, follow=False, follow_slash=False)
            try:
                check_new(new)
                new.directory.link(new.name, node)
            finally:
                new.release()
        finally:
            place.release()

    def rename_at(
        self,
        base: Node,
        path: bytes,
        new_base: Node,
        new_path: bytes,
        *,
        root: Node | None,
        confined: bool,
        replaces: bool = True,
    ) -> None:
        """Move a name. EBUSY for "." and mount points, EXDEV between filesystems.

        It `replaces` what rename(2) does, else EEXIST.
        """
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            new = self._walk(new_base, new_path, root, confined=confined, follow=False, follow_slash=False)
            try:
                _check_rename(place, new)
                if not replaces and new.node is not None:
                    raise KernelError(Errno.EEXIST, f"{new.name!r} exists")
                place.directory.rename(place.name, new.directory, new.name)
            finally:
                new.release()
        finally:
            place.release()


_RMDIR_DOT = {b".": Errno.EINVAL, b"..": Errno.ENOTEMPTY, b"/": Errno.EBUSY}


def _check_rename(old: Place, new: Place) -> None:
    if old.is_dot or new.is_dot:
        raise KernelError(Errno.EBUSY, "'.', '..' and '/' cannot be renamed")
    if old.require_name().filetype is not Filetype.DIRECTORY and (old.slash or new.slash):
        raise KernelError(Errno.ENOTDIR, "a slash follows the name of a file")
    if old.is_mount or new.is_mount:
        raise KernelError(Errno.EBUSY, "a mount point cannot be renamed or replaced")
