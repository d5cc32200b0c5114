"""What paths lead to, and what is known of it: the part of the virtual filesystem that opens and moves nothing."""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.access import check_owner
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, S_IFREG, S_IFSOCK, FileStat, Filetype
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import Inode, SymlinkInode
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.path import MountTable, Place, Resolver
from agentvm.kernel.vfs.space import Space
from agentvm.limits.registry import Registry

__all__ = ["VfsAttributes", "check_new", "give_made", "give_to"]

_PERMISSIONS = 0o7777
#: Types that mknod(2) knows and has only for root, or not at all: devices, directories, sockets.
_PRIVILEGED = frozenset({S_IFCHR, S_IFBLK, S_IFDIR, S_IFSOCK})


class VfsAttributes:
    """The operations on paths that tell or change attributes, and those that make special files; see `Vfs`."""

    def __init__(self, registry: Registry) -> None:
        self._table = MountTable()
        self._resolver = Resolver(
            self._table,
            paths=registry.ceiling("max_path_bytes"),
            names=registry.ceiling("max_name_bytes"),
            symlinks=registry.ceiling("max_symlinks"),
        )
        self._quick = self._resolver.quick
        #: Resolves a path for those who need its place: see `Resolver.walk`.
        self.walk = self._resolver.walk

    def _known(self, base: Node, path: bytes) -> Inode | None:
        """Return what a path of plain names in memory leads to; None where it takes a walk, and where nothing is."""
        if type(base) is DirInode and path not in self._table.names:
            entry = base.children.get(path)  # no special name, and none with a slash, is there
            if entry is not None:
                return entry[1]
        found = self._quick(base, path)
        return None if found is None else found[2]

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

    def stored_bytes_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool, follow: bool) -> int:
        """Return how many bytes of data a filesystem keeps for a file; holes are none."""
        place = self._walk(base, path, root, confined=confined, follow=follow)
        try:
            return place.require().stored_bytes
        finally:
            place.release()

    def stat_for_access(self, base: Node, path: bytes, *, root: Node | None, confined: bool, writes: bool) -> FileStat:
        """Return the attributes of a file; EROFS if it is to be written, and is a file or directory that cannot be."""
        place = self._walk(base, path, root, confined=confined, follow=True)
        try:
            node = place.require()
            if writes and node.read_only and node.filetype in (Filetype.DIRECTORY, Filetype.REGULAR_FILE):
                raise KernelError(Errno.EROFS, f"{place.name!r} is on a read-only mount")
            return node.stat()
        finally:
            place.release()

    def space_at(self, base: Node, path: bytes, *, root: Node | None, confined: bool) -> Space:
        """Return how much the filesystem of a file may hold and has left."""
        place = self._walk(base, path, root, confined=confined, follow=True)
        try:
            return place.require().space
        finally:
            place.release()

    def set_mode_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        mode: int,
        caller: Credentials | None = None,
    ) -> None:
        """Set the permission bits of a file. EPERM: `caller` neither owns it nor is root; None: the host asks."""
        place = self._walk(base, path, root, confined=confined, follow=True)
        try:
            node = place.require()
            if caller is not None:
                check_owner(caller, node.stat())
            node.set_mode(mode & _PERMISSIONS)
        finally:
            place.release()

    def set_owner_at(
        self, base: Node, path: bytes, *, root: Node | None, confined: bool, follow: bool, owner: tuple[int, int]
    ) -> None:
        """Set the owner and the group of a file. Who may is the caller's business."""
        place = self._walk(base, path, root, confined=confined, follow=follow)
        try:
            place.require().set_owner(*owner)
        finally:
            place.release()

    def mknod_at(
        self,
        base: Node,
        path: bytes,
        *,
        root: Node | None,
        confined: bool,
        mode: int,
        maker: Credentials | None = None,
    ) -> None:
        """Make a regular file or a FIFO, by the type in `mode`, whose permission bits have the umask applied.

        EEXIST; EPERM: a device, or a socket; EINVAL: no type.
        """
        kind = mode & S_IFMT
        place = self._walk(base, path, root, confined=confined, follow=False, follow_slash=False)
        try:
            check_new(place)
            if kind == S_IFIFO:
                place.directory.mkfifo(place.name, mode & _PERMISSIONS)
            elif kind in (0, S_IFREG):
                node = place.directory.create(place.name, mode & _PERMISSIONS)
                if node.transient:
                    node.release()
            else:
                errno = Errno.EPERM if kind in _PRIVILEGED else Errno.EINVAL
                raise KernelError(errno, f"no file of type {kind:#o} is made here")
            give_made(place, maker)
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


def give_to(node: Node, maker: Credentials | None) -> None:
    """Make whoever made a file its owner: a process; what the host makes is the default owner's."""
    if maker is not None and maker.owns_by_default is not None and isinstance(node, Inode):
        node.set_owner(*maker.owns_by_default)


def give_made(place: Place, maker: Credentials | None) -> None:
    """As `give_to`, for what was made at a place just now."""
    if maker is not None and maker.owns_by_default is not None:
        node = place.directory.find(place.name)
        if node is not None:
            give_to(node, maker)


def check_new(place: Place) -> None:
    """Refuse a place where no link can be made."""
    if place.node is not None:
        raise KernelError(Errno.EEXIST, f"{place.name!r} exists")
    if place.slash:
        raise KernelError(Errno.ENOENT, "a slash follows the name of a link to make")
