"""Which filesystem is seen at which directory: the part of the virtual filesystem that mounts and unmounts."""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.base_files import BASE_DIRECTORIES
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.path import Place
from agentvm.kernel.vfs.path_attributes import VfsAttributes
from agentvm.kernel.vfs.tree import MemoryFilesystem
from agentvm.limits.registry import Registry

__all__ = ["VfsMounts"]


class VfsMounts(VfsAttributes):
    """The root and the mounts; see `Vfs`. `memory` is what "/" shows as long as nothing is mounted there."""

    def __init__(self, registry: Registry, memory: MemoryFilesystem) -> None:
        super().__init__(registry)
        self.memory = memory
        self.root: Node = memory.root
        self._mounted: dict[bytes, Node] = {}

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
