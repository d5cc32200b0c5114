"""max_cpu_percent: processes that used more CPU time than their VM may have leave their run slots and take turns.

The time is paid for after it was used, at ticks and in host calls: nobody can tell beforehand for how long a guest will
compute. See docs/rationale.md, "Why a VM past its share of the processor takes turns".
"""

import threading
from time import monotonic

from agentvm.engine.slots import SLICE_SECONDS
from agentvm.kernel.process import Process
from agentvm.limits.rate import Bucket
from agentvm.limits.spec import UNLIMITED

__all__ = ["LEAST_SECONDS", "CpuRate"]

#: A process that still computes pays once it owes so much: half of what it may compute in one turn.
LEAST_SECONDS = SLICE_SECONDS / 2


class CpuRate:
    """The CPU time that the processes of one VM may use together. Any thread."""

    __slots__ = ("_admitted", "_bucket", "_lock", "_queue")

    def __init__(self, bucket: Bucket) -> None:
        """`bucket` counts seconds of CPU time."""
        self._lock = threading.Lock()
        # guarded by _lock; all bounded by max_processes
        self._bucket = bucket
        #: Who waits, first come, first served.
        self._queue: dict[Process, None] = {}
        #: Whose turn it was, and who has not paid for it yet.
        self._admitted: set[Process] = set()

    @property
    def is_contended(self) -> bool:
        """Whether anybody waits."""
        return bool(self._queue)

    @property
    def takes_turns(self) -> bool:
        """Whether anybody waits, or was admitted and has not paid for it yet."""
        return bool(self._queue or self._admitted)

    def charge(self, process: Process, seconds: float) -> bool:
        """Pay for CPU time that was used; return whether the process must wait for its next turn."""
        if self._bucket.cap == UNLIMITED and not self._admitted:
            return False
        with self._lock:
            debt = self._bucket.charge(seconds, monotonic())
            self._end_turn(process)
            return debt > 0 or bool(self._queue)

    def must_wait(self) -> bool:
        """Whether a process that starts now must wait for its turn."""
        if not self._bucket.is_overdrawn:
            return bool(self._queue)
        with self._lock:
            return bool(self._queue) or self._bucket.debt(monotonic()) > 0

    def wait_turn(self, process: Process) -> None:
        """Sleep until it is the turn of `process`, or it must end. Its own thread, without run slot and locks."""
        waiter = process.waiter
        with self._lock:
            self._bucket.throttled()
            self._bucket.is_wanted = True
            self._queue[process] = None
        while True:
            waiter.reset()
            pause = self._pause(process)
            if pause <= 0:
                return
            waiter.gate.acquire(timeout=min(pause, threading.TIMEOUT_MAX))

    def _pause(self, process: Process) -> float:
        """Return for how long to sleep before the next look; with 0 the process is out of the queue."""
        with self._lock:
            if process.ending is None:
                if next(iter(self._queue)) is not process:
                    return threading.TIMEOUT_MAX  # whoever is first wakes the next
                # Those at their turn are about to use a slice each.
                pause = self._bucket.until(len(self._admitted) * SLICE_SECONDS, monotonic())
                if pause > 0:
                    return pause
                self._admitted.add(process)
            del self._queue[process]
            self._change_turn()
            return 0.0

    def _end_turn(self, process: Process) -> None:
        if process in self._admitted:
            self._admitted.discard(process)
            self._change_turn()

    def _change_turn(self) -> None:
        self._bucket.is_wanted = self.takes_turns
        self._wake_first()

    def _wake_first(self) -> None:
        for process in self._queue:
            process.waiter.wake()
            break

    def wake(self) -> None:
        """The cap was raised: have whoever is first look again."""
        with self._lock:
            self._wake_first()

    def close(self, process: Process, seconds: float) -> None:
        """Pay what a process that has ended still owes, and forget it."""
        with self._lock:
            self._bucket.charge(seconds, monotonic())
            if self._queue or self._admitted:
                self._queue.pop(process, None)
                self._admitted.discard(process)
                self._change_turn()
