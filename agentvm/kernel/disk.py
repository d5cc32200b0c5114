"""The disk rates of one VM: what the calls of all its processes on files take, and who waits for it.

A call does its work, takes what it used, and waits until that has come in: nobody knows before a read how much there
is to read. Whoever finds a debt of somebody else waits for that first, in turn. See docs/rationale.md, "Why the disk
is paid for afterwards".
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from agentvm.clock import Clock
from agentvm.kernel.process import Process
from agentvm.kernel.wait import Lock, WaitQueue, block_until
from agentvm.limits.rate import Bucket
from agentvm.limits.registry import Registry
from agentvm.limits.spec import UNLIMITED

__all__ = ["DiskRates", "Throttle"]

_SECOND_NS = 1_000_000_000
_READ = ("max_disk_read_operations_per_second", "max_disk_read_bytes_per_second")
_WRITE = ("max_disk_write_operations_per_second", "max_disk_write_bytes_per_second")


class Throttle:
    """One direction: its operations and its bytes. Guarded by the kernel lock, which is released while one waits."""

    def __init__(self, operations: Bucket, size_bytes: Bucket, lock: Lock, clock: Clock) -> None:
        self._operations = operations
        self._bytes = size_bytes
        self._buckets = (operations, size_bytes)
        self._lock = lock
        self._clock = clock
        #: Calls that have not begun, first come first served. One for each running process at most, as in `_sleepers`.
        self._queue: deque[Process] = deque()
        self._sleepers = WaitQueue()
        self._changes = 0
        #: False if nobody can owe anything: most calls ask no more.
        self._is_owed = False

    def hold_back(self, process: Process) -> None:
        """Before a call: wait until nobody owes anything. Raises `GuestKilled`."""
        if not self._is_owed:
            return
        if self._owed(()) is None:
            self._is_owed = False
            return
        queue = self._queue
        queue.append(process)
        try:
            block_until(process, self._lock, self._clock, (), lambda: queue[0] is process, is_interruptible=False)
            self._pay(process, ())
        finally:
            queue.remove(process)
            if queue:
                queue[0].waiter.wake()

    def charge(self, process: Process, size_bytes: int) -> None:
        """After a call that moved so many bytes: take them, and wait until they have come in. Raises `GuestKilled`."""
        now = self._now()
        waits = self._operations.spend(1, now) > 0
        waits |= self._bytes.spend(size_bytes, now) > 0
        if waits:
            self._is_owed = True
            self._pay(process, [bucket.taken for bucket in self._buckets])

    def _pay(self, process: Process, marks: Sequence[float]) -> None:
        """Wait until all has come in that was taken up to `marks`; without marks, all that was taken at all."""
        is_told = False
        while (owed := self._owed(marks)) is not None:
            seconds, bucket = owed
            if not is_told:
                is_told = True
                bucket.throttled()
            deadline = self._clock.monotonic_ns() + math.ceil(seconds * _SECOND_NS)
            block_until(
                process,
                self._lock,
                self._clock,
                (self._sleepers,),
                self._change(),
                deadline,
                is_interruptible=False,  # a process in a disk's queue is not: signal(7)
            )

    def _change(self) -> Callable[[], bool]:
        """Return what tells whether the rates have changed since now."""
        before = self._changes
        return lambda: self._changes != before

    def _owed(self, marks: Sequence[float]) -> tuple[float, Bucket] | None:
        """Return for how many seconds to wait, and for which rate; None if nothing is owed."""
        now = self._now()
        since: Iterable[float | None] = marks or (None, None)
        debts = [(bucket.debt(now, mark), bucket) for bucket, mark in zip(self._buckets, since, strict=True)]
        worst = max(debts, key=lambda debt: debt[0])
        return worst if worst[0] > 0 else None

    def _now(self) -> float:
        return self._clock.monotonic_ns() / _SECOND_NS

    # -- the operator's changes ---------------------------------------------------------------------------------------
    def settle(self) -> None:
        """The rates are about to change: what came in so far came at the old ones."""
        now = self._now()
        for bucket in self._buckets:
            bucket.refill(now)

    def refresh(self) -> None:
        """The rates have changed: whoever waits reckons anew."""
        self._changes += 1
        self._sleepers.notify()


class DiskRates:
    """The disk rates of one VM, in both directions."""

    def __init__(self, registry: Registry, lock: Lock, clock: Clock) -> None:
        now = clock.monotonic_ns() / _SECOND_NS

        def throttle(operations: str, size_bytes: str) -> Throttle:
            return Throttle(registry.bucket(operations, now=now), registry.bucket(size_bytes, now=now), lock, clock)

        self.read, self.write = throttle(*_READ), throttle(*_WRITE)

    @staticmethod
    def are_set(registry: Registry) -> bool:
        """Whether the VM has any such rate; one that has none gets none later, for caps are only raised."""
        caps = registry.caps.now
        return {caps[_READ[0]], caps[_READ[1]], caps[_WRITE[0]], caps[_WRITE[1]]} != {UNLIMITED}

    def settle(self) -> None:
        """The rates are about to change."""
        self.read.settle()
        self.write.settle()

    def refresh(self) -> None:
        """The rates have changed."""
        self.read.refresh()
        self.write.refresh()
