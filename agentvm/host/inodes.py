"""The host files that VMs hold open, by inode: growth is decided one at a time, and freed bytes are counted once."""

import os
import stat
import threading

__all__ = ["InodeKey", "OpenInode", "OpenInodes"]

#: (st_dev, st_ino) as the host numbers them.
InodeKey = tuple[int, int]


class OpenInode:
    """A host file that at least one VM holds, under one or more descriptors."""

    __slots__ = ("_holders", "key", "lock", "lost_name", "size")

    def __init__(self, key: InodeKey) -> None:
        self.key = key
        #: Held over a look at the size and the call that changes it; taken after the kernel lock of a VM.
        self.lock = threading.Lock()
        #: The size up to which writing is known not to make the file grow; guarded by `lock`.
        self.size = 0
        #: Set by a holder that removed one of the file's names.
        self.lost_name = False
        self._holders = 0


class OpenInodes:
    """Shared by all VMs. Bounded by the descriptors that they hold: each is one holder of one inode."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_key: dict[InodeKey, OpenInode] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def hold(self, key: InodeKey) -> OpenInode:
        """Become a holder. To be counted rightly, hold an inode before it is opened, or before its name goes."""
        with self._lock:
            inode = self._by_key.get(key)
            if inode is None:
                inode = self._by_key[key] = OpenInode(key)
            inode._holders += 1  # noqa: SLF001 - the table and its rows are one thing
            return inode

    def let_go(self, inode: OpenInode, fd: int) -> int:
        """Stop being a holder; return the bytes that this frees on the host's disk.

        They are a file's size if a VM removed its last name and this was the last holder, else 0. `fd` is open on the
        inode, and must be closed right after; -1 if it was never opened.
        """
        with self._lock:
            inode._holders -= 1  # noqa: SLF001
            if inode._holders:  # noqa: SLF001
                return 0
            del self._by_key[inode.key]
        if fd < 0 or not inode.lost_name:
            return 0
        status = os.fstat(fd)
        return status.st_size if status.st_nlink == 0 and stat.S_ISREG(status.st_mode) else 0
