"""Locks on files: those of open files, flock(2), and those of processes on ranges of bytes, fcntl(2).

They keep each other off in one VM, whatever a file lies on; each kind knows nothing of the other, as on Linux. A file
is here while anybody has a lock on it or waits for one. All of it needs the kernel lock.
"""

from collections.abc import Hashable

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.process import Process
from agentvm.kernel.ranges import LockKind, Range, blocking, changed
from agentvm.kernel.wait import Lock, WaitQueue, block_until
from agentvm.limits.registry import Registry

__all__ = ["LockTable"]


class _FileLocks:
    """The locks on one file."""

    __slots__ = ("flocks", "ranges", "waiters")

    def __init__(self) -> None:
        #: The open files that have it, each exclusive or not.
        self.flocks: dict[OpenFile, bool] = {}
        self.ranges: list[Range] = []
        self.waiters = WaitQueue("a lock on a file")

    @property
    def is_idle(self) -> bool:
        return not (self.flocks or self.ranges or len(self.waiters))


class LockTable:
    """The locks of one VM, at most max_file_locks."""

    __slots__ = ("_by_file", "_registry", "_waiting")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._by_file: dict[Hashable, _FileLocks] = {}
        #: Whom each process waits for that waits for a range.
        self._waiting: dict[Process, Process] = {}

    def __len__(self) -> int:
        """How many locks there are: what max_file_locks counts."""
        return sum(len(locks.flocks) + len(locks.ranges) for locks in self._by_file.values())

    # -- flock(2) -----------------------------------------------------------------------------------------------------
    def flock(
        self, process: Process, file: OpenFile, lock: Lock, clock: Clock, *, exclusive: bool, waits: bool
    ) -> None:
        """Lock an open file. A lock that it has already is given up first, even if the new one is then refused.

        EAGAIN: it would have to wait; ENOLCK: max_file_locks is reached. Raises what `block_until` raises.
        """
        key = _key(file)
        locks = self._by_file.setdefault(key, _FileLocks())
        try:
            if locks.flocks.get(file) is exclusive:
                return
            self._let_go(locks, file)
            if not _may_flock(locks, exclusive=exclusive):
                if not waits:
                    raise KernelError(Errno.EAGAIN, "another open file has locked it")
                block_until(process, lock, clock, [locks.waiters], lambda: _may_flock(locks, exclusive=exclusive))
            self._registry.gauge("max_file_locks").acquire()
            locks.flocks[file] = exclusive
            file.on_release = lambda: self.unlock(file)
        finally:
            self._forget_if_idle(key, locks)

    def unlock(self, file: OpenFile) -> None:
        """Give up what an open file has locked, if anything."""
        key = _key(file)
        locks = self._by_file.get(key)
        if locks is not None:
            self._let_go(locks, file)
            self._forget_if_idle(key, locks)

    def _let_go(self, locks: _FileLocks, file: OpenFile) -> None:
        if locks.flocks.pop(file, None) is not None:
            file.on_release = None
            self._registry.gauge("max_file_locks").release()
            locks.waiters.notify()

    # -- fcntl(2) -----------------------------------------------------------------------------------------------------
    def conflict(self, file: OpenFile, wanted: Range) -> Range | None:
        """Return the lowest range of another process that does not let `wanted` be (F_GETLK)."""
        locks = self._by_file.get(_key(file))
        return None if locks is None else blocking(locks.ranges, wanted)

    def lock_range(self, file: OpenFile, wanted: Range, lock: Lock, clock: Clock, *, waits: bool) -> None:
        """Lock or unlock a range for its owner (F_SETLK, and F_SETLKW if it `waits`).

        EAGAIN: it would have to wait; EDEADLK: for ever; ENOLCK: max_file_locks is reached, also by an unlocking that
        leaves two ranges of one. Raises what `block_until` raises.
        """
        key = _key(file)
        locks = self._by_file.setdefault(key, _FileLocks())
        try:
            while wanted.kind is not LockKind.UNLOCK and (blocker := blocking(locks.ranges, wanted)) is not None:
                if not waits:
                    raise KernelError(Errno.EAGAIN, f"process {blocker.owner.pid} has locked a part of the range")
                self._wait(locks, wanted, blocker, lock, clock)
            self._set_ranges(locks, changed(locks.ranges, wanted))
            wanted.owner.fds.on_close = lambda closed: self._closed(wanted.owner, closed)
        finally:
            self._forget_if_idle(key, locks)

    def _wait(self, locks: _FileLocks, wanted: Range, blocker: Range, lock: Lock, clock: Clock) -> None:
        owner, holder = wanted.owner, blocker.owner
        while holder in self._waiting:
            holder = self._waiting[holder]
            if holder is owner:
                raise KernelError(Errno.EDEADLK, f"process {blocker.owner.pid} waits for process {owner.pid}")
        self._waiting[owner] = blocker.owner
        try:
            block_until(owner, lock, clock, [locks.waiters], lambda: blocker not in locks.ranges)
        finally:
            del self._waiting[owner]

    def _set_ranges(self, locks: _FileLocks, ranges: list[Range]) -> None:
        growth = len(ranges) - len(locks.ranges)
        gauge = self._registry.gauge("max_file_locks")
        if growth > 0:
            gauge.acquire(growth)
        else:
            gauge.release(-growth)
        locks.ranges = ranges
        locks.waiters.notify()

    def _closed(self, process: Process, file: OpenFile) -> None:
        """A process has closed a descriptor of a file: all that it has locked there is free, as POSIX has it."""
        key = _key(file)
        locks = self._by_file.get(key)
        if locks is not None and any(held.owner is process for held in locks.ranges):
            self._set_ranges(locks, [held for held in locks.ranges if held.owner is not process])
            self._forget_if_idle(key, locks)

    def _forget_if_idle(self, key: Hashable, locks: _FileLocks) -> None:
        if locks.is_idle and self._by_file.get(key) is locks:
            del self._by_file[key]


def _may_flock(locks: _FileLocks, *, exclusive: bool) -> bool:
    return not locks.flocks if exclusive else True not in locks.flocks.values()


def _key(file: OpenFile) -> Hashable:
    """Return what stands for the file that is open; streams without a number stand for themselves."""
    status = file.stat()
    return (status.dev, status.ino) if status.ino else file
