"""Path resolution: from a directory and a path to a name in a directory, across symlinks, mounts and "..".

".." goes back along the nodes that were walked, and in memory to what holds the one it started from. In confined mode,
which preview1 uses, nothing outside the starting directory can be reached: EPERM, as in wasmtime. Source:
path_resolution(7).
"""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import Inode
from agentvm.kernel.vfs.node import Node
from agentvm.limits.gauge import Ceiling

__all__ = ["MountTable", "Place", "Resolver"]

# An attribute of an enum costs far more than a global name.
_SYMLINK, _DIRECTORY = Filetype.SYMBOLIC_LINK, Filetype.DIRECTORY
_SPECIAL = frozenset({b"", b".", b".."})
#: So many nodes that hold a host descriptor are kept during one walk; ".." finds the others again by name.
_HELD_NODES = 32


class MountTable:
    """Which filesystem is entered at which name of which directory. Bounded by the operator's mounts."""

    __slots__ = ("_roots", "names")

    def __init__(self) -> None:
        self._roots: dict[tuple[tuple[int, int], bytes], Node] = {}
        #: All names that are a mount point anywhere: a cheap test before the real one.
        self.names: set[bytes] = set()

    def add(self, directory: Node, name: bytes, root: Node) -> None:
        self._roots[directory.key, name] = root
        self.names.add(name)

    def clear(self) -> None:
        self._roots.clear()
        self.names.clear()

    def get(self, directory: Node, name: bytes) -> Node | None:
        return self._roots.get((directory.key, name)) if name in self.names else None


class Place:
    """Where a path leads: `name` in `directory`, and the `node` there, None if there is none yet.

    For a path that ends in ".", ".." or is the root, `name` is that and `directory` is the node itself. Must be
    released after use.
    """

    __slots__ = ("directory", "is_dot", "is_mount", "name", "node", "owned", "slash")

    def __init__(self, directory: Node, name: bytes, node: Node | None, *, slash: bool, is_dot: bool) -> None:
        self.directory = directory
        self.name = name
        self.node = node
        #: The path ended in a slash.
        self.slash = slash
        self.is_dot = is_dot
        self.is_mount = False
        self.owned: list[Node] | None = None

    def require_name(self) -> Node:
        """Return the node; ENOENT if there is none."""
        if self.node is None:
            raise KernelError(Errno.ENOENT, f"no entry {self.name!r}")
        return self.node

    def require(self) -> Node:
        """Return the node; ENOENT if there is none, ENOTDIR if a slash follows what is no directory."""
        node = self.require_name()
        if self.slash and node.filetype is not _DIRECTORY:
            raise KernelError(Errno.ENOTDIR, f"{self.name!r} is not a directory")
        return node

    def release(self) -> None:
        """Release the nodes that the walk took and the caller did not."""
        if self.owned is not None:
            for node in self.owned:
                node.release()
            self.owned = None


class _Step:
    """One directory on the way: its node, whether this walk must release it, and the name that led to it."""

    __slots__ = ("name", "node", "owned")

    def __init__(self, node: Node | None, name: bytes, *, owned: bool) -> None:
        self.node = node
        self.name = name
        self.owned = owned


class Resolver:
    """Walks paths, under the ceilings on paths, names and symlinks."""

    __slots__ = ("_mounts", "_names", "_paths", "_symlinks")

    def __init__(self, mounts: MountTable, *, paths: Ceiling, names: Ceiling, symlinks: Ceiling) -> None:
        self._mounts = mounts
        self._paths = paths
        self._names = names
        self._symlinks = symlinks

    def quick(self, base: Node, path: bytes) -> tuple[DirInode, bytes, Inode | None] | None:
        """Resolve a relative path of plain names through directories in memory; None where it takes a walk.

        Returns the last directory, the name in it, and what has that name. No special name is in any directory.
        """
        if type(base) is not DirInode or len(path) > self._paths.top:
            return None
        mount_points = self._mounts.names
        directory = base
        *above, name = path.split(b"/")
        for part in above:
            entry = directory.children.get(part)
            if entry is None:
                return None
            node: Node = entry[1]
            if part in mount_points:
                node = self._mounts.get(directory, part) or node
            if type(node) is not DirInode:
                return None
            directory = node
        if name in mount_points:
            return None
        entry = directory.children.get(name)
        if entry is not None:
            return directory, name, entry[1]
        if name in _SPECIAL or len(name) > self._names.top or b"\0" in name:
            return None
        return directory, name, None

    def check(self, path: bytes) -> None:
        """Raise ENOENT for an empty path, ENAMETOOLONG for a long one, EINVAL for one with a NUL."""
        if not path:
            raise KernelError(Errno.ENOENT, "an empty path")
        if len(path) >= self._paths.top:
            self._paths.check(len(path) + 1)  # the NUL counts: path_resolution(7)
        if b"\0" in path:
            raise KernelError(Errno.EINVAL, f"path {path!r} holds a NUL byte")

    def walk(
        self, base: Node, path: bytes, *, root: Node | None, confined: bool, follow: bool, follow_slash: bool = True
    ) -> Place:
        """Resolve all of `path`; its last name may be missing. `follow`: a symlink there is followed too.

        `follow_slash`: it also is if slashes come after it. Confined: EPERM for what leaves `base`; an absolute
        symlink then starts at `root` if that is given. ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, EINVAL.
        """
        found = self.quick(base, path)
        if found is not None and (not follow or found[2] is None or found[2].filetype is not _SYMLINK):
            return Place(found[0], found[1], found[2], slash=False, is_dot=False)
        self.check(path)
        absolute = path.startswith(b"/")
        if absolute and (confined or root is None):
            raise KernelError(Errno.EPERM, f"absolute path {path!r}")
        walk = _Walk(self, root if absolute and root is not None else base, root, confined=confined)
        try:
            place = walk.run(path, follow=follow, follow_slash=follow_slash)
        except BaseException:
            walk.release()
            raise
        self._note(walk)
        return place

    def leads_to_disk(self, base: Node, path: bytes, *, root: Node | None) -> bool:
        """Return whether resolving a path touches what lies in memory or on the host: nearly all do, at once.

        Only one that starts in /dev or /proc takes a walk: links there lead anywhere.
        """
        if len(path) >= self._paths.cap:
            return base.on_disk
        first = path.partition(b"/")[0]
        if first in _SPECIAL:
            first = next((part for part in path.split(b"/") if part not in (b"", b".")), b"")
        if (self._mounts.get(base, first) or base).on_disk:
            return True
        try:
            place = self.walk(base, path, root=root, confined=True, follow=True)
        except KernelError:
            return True  # how far it came is not known
        try:
            return (place.node or place.directory).on_disk
        finally:
            place.release()

    def enter(self, directory: Node, name: bytes) -> tuple[Node | None, bool]:
        """Return what `name` leads to, the root of a mount for a mount point, and whether it is one."""
        if len(name) > self._names.cap:
            self._names.check(len(name))
        if name in self._mounts.names:
            mounted = self._mounts.get(directory, name)
            if mounted is not None:
                return mounted, True
        return directory.find(name), False

    def count_symlink(self, followed: int) -> None:
        """Raise ELOOP if a walk follows so many."""
        if followed > self._symlinks.cap:
            self._symlinks.check(followed)

    def _note(self, walk: "_Walk") -> None:
        """One walk is one call, however many names and symlinks it went through."""
        if walk.longest > self._names.top:
            self._names.observe(walk.longest)
        if walk.followed > self._symlinks.top:
            self._symlinks.observe(walk.followed)


class _Walk:
    """One walk: the directories gone through, and the names still to come, last first."""

    __slots__ = ("_confined", "_held", "_pending", "_resolver", "_root", "_slash", "_steps", "followed", "longest")

    def __init__(self, resolver: Resolver, start: Node, root: Node | None, *, confined: bool) -> None:
        self._resolver = resolver
        self._root = root
        self._confined = confined
        self._steps = [_Step(start, b"", owned=False)]
        self._held = 0
        self._pending: list[bytes] = []
        self._slash = False
        #: How many symlinks it has followed, and the length of the longest name on its way.
        self.followed = 0
        self.longest = 0

    def run(self, path: bytes, *, follow: bool, follow_slash: bool) -> Place:
        self._push(path)
        last = b"/" if not self._pending else b"."
        while self._pending:
            name = self._pending.pop()
            last = name
            if name == b".":
                continue
            if name == b"..":
                self._up()
                continue
            directory = self._top()
            node, is_mount = self._resolver.enter(directory, name)
            if len(name) > self.longest:
                self.longest = len(name)
            is_last = not self._pending
            is_followed = not is_last or follow or (self._slash and follow_slash)
            if is_followed and node is not None and node.filetype is _SYMLINK:
                self.followed += 1
                jumped = node.jump()
                if jumped is None:
                    self._follow(node)
                    last = b"/"  # if the target is nothing else
                    continue
                node = jumped
            if is_last:
                return self._place(directory, name, node, is_mount=is_mount)
            if node is None:
                raise KernelError(Errno.ENOENT, f"no entry {name!r}")
            self._down(node, name, is_mount=is_mount)
        return self._place(self._top(), last, self._top(), is_dot=True)

    def _push(self, path: bytes) -> None:
        parts = [part for part in path.split(b"/") if part]
        parts.reverse()
        if not self._pending:
            self._slash = self._slash or path.endswith(b"/")
        self._pending += parts

    def _top(self) -> Node:
        step = self._steps[-1]
        if step.node is None:
            self._walk_again()
        assert step.node is not None
        return step.node

    def _down(self, node: Node, name: bytes, *, is_mount: bool) -> None:
        if node.filetype is not _DIRECTORY:
            _release(node, owned=node.transient and not is_mount)
            raise KernelError(Errno.ENOTDIR, f"{name!r} is not a directory")
        owned = node.transient and not is_mount
        self._steps.append(_Step(node, name, owned=owned))
        if owned:
            self._held += 1
            if self._held > _HELD_NODES:
                self._shed()

    def _up(self) -> None:
        if len(self._steps) > 1:
            step = self._steps.pop()
            if step.owned and step.node is not None:
                step.node.release()
                self._held -= 1
            return
        start = self._steps[0].node
        if not self._confined and isinstance(start, DirInode) and start.parent is not start:
            self._steps[0] = _Step(start.parent, b"", owned=False)
            return
        if self._confined or self._root is None or start is None or start.key != self._root.key:
            raise KernelError(Errno.EPERM, "'..' above the directory that the path starts from")

    def _follow(self, link: Node) -> None:
        """Put a symlink's target before what is still to come."""
        try:
            self._resolver.count_symlink(self.followed)
            target = link.readlink()
        finally:
            _release(link, owned=link.transient)
        if not target:
            raise KernelError(Errno.ENOENT, "an empty symbolic link")
        if target.startswith(b"/"):
            if self._root is None:
                raise KernelError(Errno.EPERM, f"symbolic link to the absolute path {target!r}")
            self.release()
            self._steps = [_Step(self._root, b"", owned=False)]
            self._confined = False  # whoever holds the root may go anywhere
        self._push(target)

    # -- nodes that must be released ----------------------------------------------------------------------------------
    def _place(
        self, directory: Node, name: bytes, node: Node | None, *, is_mount: bool = False, is_dot: bool = False
    ) -> Place:
        place = Place(directory, name, node, slash=self._slash, is_dot=is_dot)
        place.is_mount = is_mount
        owned = [step.node for step in self._steps if step.owned and step.node is not None]
        if node is not None and node.transient and not is_mount and not is_dot:
            owned.append(node)
        if owned:
            place.owned = owned
        return place

    def _shed(self) -> None:
        """Release the lower half of the held nodes: a path may have thousands of names, the host few descriptors."""
        to_shed = _HELD_NODES // 2
        for step in self._steps:
            if to_shed and step.owned and step.node is not None:
                step.node.release()
                step.node = None
                self._held -= 1
                to_shed -= 1

    def _walk_again(self) -> None:
        """Find the node of the last step again, from the last one that is still held."""
        position = len(self._steps) - 1
        while self._steps[position].node is None:
            position -= 1
        for step in self._steps[position + 1 :]:
            above = self._steps[position].node
            assert above is not None
            node = above.lookup(step.name)
            if node.filetype is not _DIRECTORY:
                node.release()
                raise KernelError(Errno.ENOENT, f"{step.name!r} was replaced meanwhile")
            step.node = node
            self._held += 1
            previous = self._steps[position]
            if previous.owned and self._held > _HELD_NODES:
                above.release()
                previous.node = None
                self._held -= 1
            position += 1

    def release(self) -> None:
        """Release every node that the walk holds."""
        for step in self._steps:
            if step.owned and step.node is not None:
                step.node.release()
                step.node = None
        self._held = 0


def _release(node: Node, *, owned: bool) -> None:
    if owned:
        node.release()
