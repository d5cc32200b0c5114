"""The in-memory filesystem: its root and base directories, its numbers, and what it charges for inodes and names."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agentvm.clock import Clock
from agentvm.errno import KernelError
from agentvm.kernel.vfs.directory import DirInode
from agentvm.kernel.vfs.inode import FileInode, Inode, SymlinkInode
from agentvm.kernel.vfs.space import DIRECTORY_COST, INODE_COST, NAME_COST, SpaceAccount
from agentvm.limits.gauge import Gauge

__all__ = ["FilesystemUsage", "MemoryFilesystem"]

#: Lower inode numbers belong to the directories that every VM starts with; they are not charged to it.
FIRST_CHARGED_INO = 16


@dataclass(frozen=True, slots=True)
class FilesystemUsage:
    """What a filesystem holds, as counted by walking over it."""

    charged_bytes: int
    inodes: int


class MemoryFilesystem:
    """A tree of inodes in memory. Everything in it, and what was removed but is still open, is charged.

    `base` names the directories that it starts with, below the root. Guarded by the kernel lock.
    """

    __slots__ = ("_next_ino", "_orphans", "account", "dev", "inodes", "now", "root")

    def __init__(self, *, dev: int, account: SpaceAccount, inodes: Gauge, clock: Clock, base: Iterable[bytes] = ()):
        self.dev = dev
        self.account = account
        self.inodes = inodes
        self.now: Callable[[], int] = clock.realtime_ns
        self._orphans: dict[int, Inode] = {}  # removed but open: as many as there are open files at most
        self.root = DirInode(self, 1, 0o755, None)
        self._next_ino = 2
        for name in base:
            node = DirInode(self, self._next_ino, 0o755, self.root)
            self._next_ino += 1
            self.root.children[name] = (self.root.next_cookie, node)
            self.root.next_cookie += 1
            self.root.nlink += 1
        assert self._next_ino <= FIRST_CHARGED_INO
        self._next_ino = FIRST_CHARGED_INO

    # -- charging -----------------------------------------------------------------------------------------------------
    def name_cost(self, name: bytes, node: Inode) -> int:
        """Return the charge for one name of `node`."""
        return NAME_COST + len(name) if node.ino >= FIRST_CHARGED_INO else 0

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
        if self._next_ino > FIRST_CHARGED_INO:  # something was charged once
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
