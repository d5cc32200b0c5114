"""The in-memory filesystem: its root and base directories, its numbers, and what it charges for inodes and names."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.credentials import DEFAULT_GID, DEFAULT_UID, ROOT
from agentvm.kernel.guest_pipe import Pipes
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import FileInode, Inode, SymlinkInode
from agentvm.kernel.vfs.space import DIRECTORY_COST, INODE_COST, NAME_COST, Space, SpaceAccount
from agentvm.limits.gauge import Gauge

__all__ = ["FilesystemUsage", "MemoryFilesystem"]

_NO_FILES: Mapping[bytes, bytes] = {}
_NO_NAMES: frozenset[bytes] = frozenset()
#: Lower inode numbers belong to what every VM starts with; it is not charged to it.
FIRST_CHARGED_INO = 16
#: A filesystem knows so many pairs of owner and group, and only root makes others than its own.
_MOST_OWNERS = 256
#: The default owner, and whose the files are that every VM starts with.
_FIRST_OWNERS = ((DEFAULT_UID, DEFAULT_GID), (ROOT, ROOT))


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What a filesystem holds, as counted by walking over it."""

    charged_bytes: int
    inodes: int


class MemoryFilesystem:
    """A tree of inodes in memory. Everything in it, and what was removed but is still open, is charged.

    It starts with the directories `base`, and with `files` in them, whose texts all VMs share; paths are relative to
    the root, each after the one above it. Guarded by the kernel lock.
    """

    __slots__ = ("_base_names", "_next_ino", "_orphans", "account", "dev", "inodes", "now", "owners", "pipes", "root")

    def __init__(
        self,
        *,
        dev: int,
        account: SpaceAccount,
        inodes: Gauge,
        clock: Clock,
        pipes: Pipes,
        base: Iterable[bytes] = (),
        files: Mapping[bytes, bytes] = _NO_FILES,
    ) -> None:
        self.dev = dev
        self.pipes = pipes
        #: Who owns files here; the default owner is not looked up.
        self.owners: tuple[tuple[int, int], ...] = _FIRST_OWNERS
        self.account = account
        self.inodes = inodes
        self.now: Callable[[], int] = clock.realtime_ns
        self._orphans: dict[int, Inode] = {}  # removed but open: as many as there are open files at most
        self.root = DirInode(self, 1, 0o755, None)
        self._next_ino = 2
        for path in base:
            parent, name = self._place(path)
            self._begin_with(parent, name, DirInode(self, self._next_ino, 0o755, parent))
            parent.nlink += 1
        for path, text in files.items():
            node = FileInode(self, self._next_ino, 0o644)
            node.start_as(text, owner=_FIRST_OWNERS.index((ROOT, ROOT)))
            self._begin_with(*self._place(path), node)
        self._base_names = frozenset(path.rpartition(b"/")[2] for path in files) if files else _NO_NAMES
        assert self._next_ino <= FIRST_CHARGED_INO
        self._next_ino = FIRST_CHARGED_INO

    def _place(self, path: bytes) -> tuple[DirInode, bytes]:
        above, _, name = path.rpartition(b"/")
        parent = self.root.children[above][1] if above else self.root
        assert isinstance(parent, DirInode)
        return parent, name

    def _begin_with(self, parent: DirInode, name: bytes, node: Inode) -> None:
        self._next_ino += 1
        parent.children[name] = (parent.next_cookie, node)
        parent.next_cookie += 1

    # -- charging -----------------------------------------------------------------------------------------------------
    def name_cost(self, name: bytes, node: Inode) -> int:
        """Return the charge for one name of `node`: none for a directory that was there from the start, which has one
        name, and for the first name of such a file, which may get others."""
        if node.ino >= FIRST_CHARGED_INO or (name not in self._base_names and isinstance(node, FileInode)):
            return NAME_COST + len(name)
        return 0

    def charge_inode(self, name: bytes, more: int = 0) -> int:
        """Charge a new inode with its first name, and return its number. ENOSPC."""
        self.inodes.acquire()
        try:
            self.account.acquire(INODE_COST + NAME_COST + len(name) + more)
        except KernelError:
            self.inodes.release()
            raise
        self._next_ino += 1
        return self._next_ino - 1

    def charge_directory(self, name: bytes) -> int:
        """Charge a new directory with its name, and return its number. ENOSPC."""
        return self.charge_inode(name, DIRECTORY_COST)

    def make_nameless(self, mode: int) -> FileInode:
        """Make a regular file that has no name, for who opens it at once: it is gone with its last opener. ENOSPC."""
        node = FileInode(self, self.charge_inode(b""), mode)
        self.account.release(NAME_COST)
        node.nlink = 0
        self._orphans[node.ino] = node
        return node

    @property
    def space(self) -> Space:
        """How much may be held and is left."""
        extra = (self.account.extra,) if self.account.extra is not None else ()
        return Space.under(self.inodes, self.account.gauge, *extra)

    def owner_number(self, uid: int, gid: int) -> int:
        """Return where `owners` has these; ENOSPC where it has _MOST_OWNERS already."""
        owner = uid, gid
        if owner not in self.owners:
            if len(self.owners) >= _MOST_OWNERS:
                raise KernelError(Errno.ENOSPC, f"files have more than {_MOST_OWNERS} owners")
            self.owners = (*self.owners, owner)
        return self.owners.index(owner)

    def unlinked(self, node: Inode) -> None:
        """The last name of `node` is gone: drop it, now or at its last close."""
        if node.opens == 0:
            self._free(node)
        else:
            self._orphans[node.ino] = node

    def drop(self, node: Inode) -> None:
        """The last opener of a removed inode is gone."""
        if self._orphans.pop(node.ino, None) is not None:
            self._free(node)

    def _free(self, node: Inode) -> None:
        node.free()
        if node.ino >= FIRST_CHARGED_INO:
            self.account.release(_inode_cost(node))
            self.inodes.release()

    # -- whole tree ---------------------------------------------------------------------------------------------------
    def recount(self) -> FilesystemUsage:
        """Count by walking what the gauges should hold for this filesystem."""
        seen: dict[int, Inode] = dict(self._orphans)
        names = 0
        pending = [self.root]
        while pending:
            for name, (_, node) in pending.pop().children.items():
                names += self.name_cost(name, node)
                if isinstance(node, DirInode):
                    pending.append(node)
                seen[node.ino] = node
        charged = [node for node in seen.values() if node.ino >= FIRST_CHARGED_INO]
        data = sum(map(_data_bytes, seen.values()))
        return FilesystemUsage(names + data + sum(map(_inode_cost, charged)), len(charged))

    def close(self) -> None:
        """Drop the whole tree, and give everything back. Idempotent."""
        if self.account.gauge.used:
            usage = self.recount()
            self.account.release(usage.charged_bytes)
            self.inodes.release(usage.inodes)
        pending = [self.root]
        while pending:
            directory = pending.pop()
            pending.extend(node for _, node in directory.children.values() if isinstance(node, DirInode))
            directory.children.clear()
            directory.parent = directory
            directory.nlink = 0
        self._orphans.clear()


def _inode_cost(node: Inode) -> int:
    return INODE_COST + DIRECTORY_COST if isinstance(node, DirInode) else INODE_COST


def _data_bytes(node: Inode) -> int:
    if isinstance(node, FileInode):
        return node.held_bytes()
    return len(node.target) if isinstance(node, SymlinkInode) else 0
