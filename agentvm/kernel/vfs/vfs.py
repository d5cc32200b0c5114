"""The virtual filesystem of a VM: its root, its mounts, and the operations on paths that system calls are made of.

All operations need the kernel lock and raise `KernelError` with Linux's errno. `base` is the directory that a relative
path starts from; `root` is where absolute paths and absolute symlinks start: None means the caller may use neither
(EPERM). `confined` is preview1's rule: no absolute path, and no way out of `base`: EPERM. Not confined, relative paths
may go up with ".." only from the root itself, or as far as they came down.
"""

from collections.abc import Callable

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.guest_pipe import Pipes
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.base_files import BASE_DIRECTORIES, BASE_FILES
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import FileInode, Inode, SymlinkInode
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenInode
from agentvm.kernel.vfs.path import MountTable, Place, Resolver
from agentvm.kernel.vfs.space import SpaceAccount
from agentvm.kernel.vfs.tree import MemoryFilesystem
from agentvm.limits.registry import Registry

__all__ = ["Vfs"]

_NO_FLAGS = FdFlags(0)
_MEMORY_DEV, _TEMPORARY_DEV = 1, 2


def _go_on() -> None:
    pass


class Vfs:
    """The files of one VM. `memory` holds the root at first, `temporary` is mounted at /tmp with a cap of its own.

    Charged: max_filesystem_bytes and max_inodes for both, max_temp_storage_bytes for /tmp. `between` is called about
    once a MiB in long transfers and may raise to stop them.
    """

    def __init__(self, registry: Registry, clock: Clock, *, between: Callable[[], None] = _go_on) -> None:
        space, ceiling = registry.gauge("max_filesystem_bytes"), registry.ceiling("max_file_bytes")
        inodes = registry.gauge("max_inodes")
        self.memory = MemoryFilesystem(
            dev=_MEMORY_DEV,
            account=SpaceAccount(space, ceiling, between=between),
            inodes=inodes,
            clock=clock,
            base=BASE_DIRECTORIES,
            files=BASE_FILES,
        )
        self.temporary = MemoryFilesystem(
            dev=_TEMPORARY_DEV,
            account=SpaceAccount(space, ceiling, extra=registry.gauge("max_temp_storage_bytes"), between=between),
            inodes=inodes,
            clock=clock,
        )
        self.temporary.root.mode = 0o1777
        self.pipes = Pipes(registry)
        self.root: Node = self.memory.root
        self._table = MountTable()
        self._mounted: dict[bytes, Node] = {b"/tmp": self.temporary.root}
        self._table.add(self.root, b"tmp", self.temporary.root)
        self._resolver = Resolver(
            self._table,
            paths=registry.ceiling("max_path_bytes"),
            names=registry.ceiling("max_name_bytes"),
            symlinks=registry.ceiling("max_symlinks"),
        )
        self._quick = self._resolver.quick
        #: Resolves a path for those who need its place: see `Resolver.walk`.
        self.walk = self._resolver.walk

    def close(self) -> None:
        """Drop all files in memory. Idempotent."""
        self.memory.close()
        self.temporary.close()

    # -- mounts -------------------------------------------------------------------------------------------------------
    def mounts(self) -> list[tuple[bytes, Node]]:
        """Return the mount points and what is mounted there, the root first."""
        return [(b"/", self.root), *((path, node) for path, node in sorted(self._mounted.items()) if path != b"/")]

    def mount(self, path: bytes, node: Node) -> None:
        """Show `node` at the absolute `path`, hiding what is there; "/" replaces the root.

        Missing directories on the way are made where the filesystem lets one; a missing mount point is no error: it can
        be reached, but is not listed. Mounts below `path` stay reachable. EINVAL for a relative path, ENOENT, ENOTDIR.
        """
        if not path.startswith(b"/"):
            raise KernelError(Errno.EINVAL, f"mount point {path!r} is not absolute")
        path = b"/" + b"/".join(part for part in path.split(b"/") if part)
        before = self._mounted.get(path)
        self._mounted[path] = node
        try:
            self._rebuild()
        except KernelError:
            if before is None:
                del self._mounted[path]
            else:
                self._mounted[path] = before
            self._rebuild()
            raise

    def mount_base(self, name: bytes, node: Node) -> None:
        """Show `node` at one of the base directories of a new VM: what `mount` does, without looking for anything."""
        assert name in BASE_DIRECTORIES, f"{name!r} is not there from the start"
        self._mounted[b"/" + name] = node
        self._table.add(self.root, name, node)

    def unmount(self, path: bytes) -> None:
        """Take away what is mounted at `path`; EINVAL if nothing is. Files that are open there stay usable."""
        path = b"/" + b"/".join(part for part in path.split(b"/") if part)
        if path not in self._mounted:
            raise KernelError(Errno.EINVAL, f"nothing is mounted at {path!r}")
        del self._mounted[path]
        self._rebuild()

    def is_mount_point(self, directory: Node, name: bytes) -> bool:
        return self._table.get(directory, name) is not None

    def _rebuild(self) -> None:
        self._table.clear()
        self.root = self._mounted.get(b"/", self.memory.root)
        for path in sorted(self._mounted, key=lambda path: path.count(b"/")):
            if path == b"/":
                continue
            above, _, name = path.rpartition(b"/")
            place = self._mount_directory(above or b"/")
            try:
                directory = place.require()
                if directory.filetype is not Filetype.DIRECTORY:
                    raise KernelError(Errno.ENOTDIR, f"{above!r} is not a directory")
                node = self._mounted[path]
                if isinstance(directory, DirInode) and node.filetype is Filetype.DIRECTORY:
                    self._make_visible(directory, name)
                self._table.add(directory, name, node)
            finally:
                place.release()

    def _mount_directory(self, path: bytes) -> Place:
        made = b""
        for part in [part for part in path.split(b"/") if part]:
            made += b"/" + part
            place = self._walk(self.root, made, self.root, confined=False, follow=True)
            missing, directory, name = place.node is None, place.directory, place.name
            try:
                if missing:
                    directory.mkdir(name, 0o755)
            finally:
                place.release()
        return self._walk(self.root, path, self.root, confined=False, follow=True)

    def _make_visible(self, directory: DirInode, name: bytes) -> None:
        if directory.find(name) is None:
            try:
                directory.mkdir(name, 0o755)
            except KernelError:
                pass  # no space left: it is reached all the same

    def leads_to_disk(self, base: Node, path: bytes, *, root: Node | None) -> bool:
        """Return whether a path touches what lies in memory or on the host, and not /dev and /proc alone."""
        return self._resolver.leads_to_disk(base, path, root=root)

    def _known(self, base: Node, path: bytes) -> Inode | None:
        """Return what a path of plain names in memory leads to; None where it takes a walk, and where nothing is."""
        if type(base) is DirInode and path not in self._table.names:
            entry = base.children.get(path)  # no special name, and none with a slash, is there
            if entry is not None:
                return entry[1]
        found = self._quick(base, path)
        return None if found is None else found[2]

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
    ) -> OpenFile:
        """Open a file or directory; the caller owns it: it is closed with its last descriptor, or `on_last_close`.

        `mode`: permission bits of a created file, umask applied. A symlink that is not followed: ELOOP.
        """
        if not exclusive and not directory:
            inode = self._known(base, path)
            if type(inode) is FileInode:
                if truncate:
                    inode.resize(0)
                inode.opens += 1
                return OpenInode(inode, flags, read, write)
        if create and directory:
            raise KernelError(Errno.EINVAL, "a directory is not made by opening it")
        follow = follow and not (create and exclusive)
        place = self._walk(base, path, root, confined=confined, follow=follow, follow_slash=not create)
        try:
            node = self._create(place, exclusive=exclusive, mode=mode) if create else place.require()
            if directory and node.filetype is not Filetype.DIRECTORY:
                raise KernelError(Errno.ENOTDIR, f"{place.name!r} is not a directory")
            return node.open(read=read, write=write, flags=flags, truncate=truncate)
        finally:
            place.release()

    def _create(self, place: Place, *, exclusive: bool, mode: int) -> Node:
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
            if node.transient:
                place.owned = [*(place.owned or ()), node]
        elif exclusive:
            raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
        elif node.filetype is Filetype.DIRECTORY:
            raise KernelError(Errno.EISDIR, f"{place.name!r} is a directory")
        return node

    def stat_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool, follow: bool = True) -> FileStat:
        """Return the attributes of a file, of a symlink itself if it is not followed."""
        inode = self._known(base, path)
        if inode is not None and type(inode) is not SymlinkInode:
            return inode.stat()
        place = self._walk(base, path, root, confined=confined, follow=follow)
        try:
            return place.require().stat()
        finally:
            place.release()

    def set_times_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        follow: bool,
        atime_ns: int | None,
        mtime_ns: int | None,
    ) -> None:
        """Set the times that are given; None leaves one as it is."""
        place = self._walk(base, path, root, confined=confined, follow=follow)
        try:
            place.require().set_times(atime_ns, mtime_ns)
        finally:
            place.release()

    def mkdir_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool, mode: int = 0o777) -> None:
        """Make a directory; EEXIST if the name is taken. `mode`: permission bits, umask applied."""
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            if place.node is not None:
                raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
            place.directory.mkdir(place.name, mode)
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

    def symlink_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool, target: bytes) -> None:
        """Make `path` a symbolic link to `target`. Confined, an absolute target is EPERM, as in wasmtime."""
        self._resolver.check(target)
        if confined and target.startswith(b"/"):
            raise KernelError(Errno.EPERM, f"symbolic link to the absolute path {target!r}")
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            _check_new(place)
            place.directory.symlink(place.name, target)
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
                _check_new(new)
                new.directory.link(new.name, node)
            finally:
                new.release()
        finally:
            place.release()

    def rename_at(
        self, base: Node, path: bytes, new_base: Node, new_path: bytes, *, root: Node | None, confined: bool
    ) -> None:
        """Move a name, replacing what rename(2) replaces. EBUSY for "." and mount points, EXDEV between filesystems."""
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            new = self._walk(new_base, new_path, root, confined=confined, follow=False, follow_slash=False)
            try:
                _check_rename(place, new)
                place.directory.rename(place.name, new.directory, new.name)
            finally:
                new.release()
        finally:
            place.release()

    def _walk(
        self,
        base: Node,
        path: bytes,
        root: Node | None,
        *,
        confined: bool,
        follow: bool,
        follow_slash: bool = True,
    ) -> Place:
        return self._resolver.walk(base, path, root=root, confined=confined, follow=follow, follow_slash=follow_slash)


_RMDIR_DOT = {b".": Errno.EINVAL, b"..": Errno.ENOTEMPTY, b"/": Errno.EBUSY}


def _check_new(place: Place) -> None:
    """Refuse a place where no link can be made."""
    if place.node is not None:
        raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
    if place.slash:
        raise KernelError(Errno.ENOENT, "a slash follows the name of a link to make")


def _check_rename(old: Place, new: Place) -> None:
    if old.is_dot or new.is_dot:
        raise KernelError(Errno.EBUSY, "'.', '..' and '/' cannot be renamed")
    if old.require_name().filetype is not Filetype.DIRECTORY and (old.slash or new.slash):
        raise KernelError(Errno.ENOTDIR, "a slash follows the name of a file")
    if old.is_mount or new.is_mount:
        raise KernelError(Errno.EBUSY, "a mount point cannot be renamed or replaced")
