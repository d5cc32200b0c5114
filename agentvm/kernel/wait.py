"""Waiting: readiness, wait queues, and the one function in the kernel that blocks.

Objects never block. They offer `*_nowait` operations, a readiness mask and a `WaitQueue`; `block_until` alone turns
"would block" into waiting, and it alone knows about kills and deadlines. Model: gVisor's `pkg/waiter`.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from agentvm.clock import Clock

__all__ = [
    "Event",
    "HostThread",
    "Lock",
    "NoScheduler",
    "Readiness",
    "Scheduler",
    "WaitQueue",
    "Waiter",
    "Waiting",
    "block_until",
]

#: The kernel's locks: with `Event` the only threads API that the rest of the kernel may use.
Lock = threading.Lock


class Event:
    """Something that happens once. Any thread may set it, or wait for it.

    Not a `threading.Event`: an exception out of a signal's handler, such as KeyboardInterrupt, in the wait for that one
    may release a lock which the thread that sets it holds, and then fails both.
    """

    __slots__ = ("_gates", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._gates: list[threading.Lock] = []  # one for each thread that waits

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True  # whoever comes from now on does not wait
        while True:
            try:
                gate = self._gates.pop()
            except IndexError:
                return
            gate.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        if not self._is_set:
            gate = threading.Lock()
            gate.acquire()
            self._gates.append(gate)
            try:
                if not self._is_set:
                    gate.acquire(timeout=-1 if timeout is None else max(timeout, 0))
            finally:
                self._forget(gate)
        return self._is_set

    def _forget(self, gate: threading.Lock) -> None:
        try:
            self._gates.remove(gate)
        except ValueError:
            pass  # `set` has just taken it


class Readiness:
    """What can be done on an object without blocking: bits of an int, as an IntFlag costs microseconds to combine."""

    NONE: Final = 0
    READ: Final = 1
    WRITE: Final = 2
    HANGUP: Final = 4
    ERROR: Final = 8


class Waiter:
    """One thread's place to sleep. `wake` may be called from any thread, with or without the kernel lock."""

    __slots__ = ("gate",)

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()

    def wake(self) -> None:
        try:
            self.gate.release()
        except RuntimeError:
            pass  # already open: the thread was woken and has not yet gone back to sleep

    def reset(self) -> None:
        """Close the gate again, forgetting wake-ups that came before."""
        self.gate.acquire(blocking=False)


class WaitQueue:
    """The threads that wait for one object. Guarded by the kernel lock; bounded by the number of running processes, and
    of the host's own threads that wait."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, waiter: Waiter) -> None:
        self._waiters.append(waiter)

    def discard(self, waiter: Waiter) -> None:
        if waiter in self._waiters:
            self._waiters.remove(waiter)

    def notify(self) -> None:
        """Wake every waiter; each tests its own condition again."""
        for waiter in self._waiters:
            waiter.wake()


class Scheduler(Protocol):
    """What the engine does around a wait: a blocked guest holds no run slot."""

    def pause(self) -> None:
        """Called without the kernel lock, right before the thread sleeps."""

    def resume(self) -> None:
        """Called without the kernel lock, right after it woke; may wait for a run slot."""

    def give_way(self) -> None:
        """Called without the kernel lock: let a process run first that waits for a run slot (sched_yield)."""


class Waiting(Protocol):
    """The part of a process that `block_until` needs."""

    waiter: Waiter
    scheduler: Scheduler

    def raise_if_killed(self) -> None:
        """Raise `GuestKilled` if the process must end."""


class NoScheduler:
    """For what no engine runs: waiting holds nothing that could be given up."""

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def give_way(self) -> None:
        pass


class HostThread:
    """A thread of the host, for one wait for an object of the kernel, such as a guest's output."""

    scheduler: Scheduler = NoScheduler()

    def __init__(self) -> None:
        self.waiter = Waiter()

    def raise_if_killed(self) -> None:
        """Host threads are not killed."""


def block_until(
    process: Waiting,
    lock: threading.Lock,
    clock: Clock,
    queues: Iterable[WaitQueue],
    condition: Callable[[], bool],
    deadline_ns: int | None = None,
) -> bool:
    """Sleep until `condition()` holds, and return True; return False at `deadline_ns` (monotonic).

    The caller holds `lock` (the kernel's); it is released while the thread sleeps. Raises `GuestKilled`.
    """
    waiter = process.waiter
    queues = list(queues)
    for queue in queues:
        queue.add(waiter)
    try:
        while True:
            waiter.reset()
            process.raise_if_killed()
            if condition():
                return True
            timeout_ns = None
            if deadline_ns is not None:
                timeout_ns = deadline_ns - clock.monotonic_ns()
                if timeout_ns <= 0:
                    return False
            _sleep(process, lock, clock, timeout_ns)
    finally:
        for queue in queues:
            queue.discard(waiter)


def _sleep(process: Waiting, lock: threading.Lock, clock: Clock, timeout_ns: int | None) -> None:
    lock.release()
    try:
        process.scheduler.pause()
        try:
            clock.wait(process.waiter.gate, timeout_ns)
        finally:
            process.scheduler.resume()
    finally:
        lock.acquire()
