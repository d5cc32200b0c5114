"""Waiting: readiness, wait queues, and the one function in the kernel that blocks.

Objects never block. They offer `*_nowait` operations, a readiness mask and a `WaitQueue`; `block_until` alone turns
"would block" into waiting, and it alone knows about kills, signals and deadlines. Model: gVisor's `pkg/waiter`.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError

__all__ = [
    "Alarm",
    "Event",
    "HostThread",
    "Interrupted",
    "Lock",
    "NoScheduler",
    "Readiness",
    "Scheduler",
    "WaitQueue",
    "Waiter",
    "Waiting",
    "Watch",
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
    """What can be done on an object without blocking: bits of an int, as an IntFlag costs microseconds to combine.

    They are those of poll(2): a pipe that is at its end has HANGUP and not READ, one that nobody reads has ERROR.
    """

    NONE: Final = 0
    READ: Final = 1
    WRITE: Final = 2
    HANGUP: Final = 4
    ERROR: Final = 8
    #: With any of these bits a read, or a write, would not block: as in select(2).
    READABLE: Final = READ | HANGUP | ERROR
    WRITABLE: Final = WRITE | ERROR


class Interrupted(KernelError):
    """A signal came whose handler is to run: EINTR, or the call is made again once it has (SA_RESTART)."""

    def __init__(self) -> None:
        super().__init__(Errno.EINTR, "a signal came")


class Waiter:
    """One thread's place to sleep. `wake` may be called from any thread, with or without the kernel lock."""

    __slots__ = ("gate", "is_woken")

    def __init__(self) -> None:
        self.gate = threading.Lock()
        self.gate.acquire()
        #: Whether it was woken since it last went to look.
        self.is_woken = False

    def wake(self) -> None:
        self.is_woken = True
        try:
            self.gate.release()
        except RuntimeError:
            pass  # already open: the thread was woken and has not yet gone back to sleep

    def reset(self) -> None:
        """Close the gate again, forgetting wake-ups that came before."""
        self.gate.acquire(blocking=False)
        self.is_woken = False


class WaitQueue:
    """The threads that wait for one object. Guarded by the kernel lock; bounded by the number of running processes, and
    of the host's own threads that wait."""

    __slots__ = ("_waiters", "host_ends", "what")

    def __init__(self, what: str = "an object", *, host_ends: int = 0) -> None:
        """`what` says to what it belongs; `host_ends` in how many ways the host could notify it: see `Stall`."""
        self._waiters: list[Waiter] = []
        self.what = what
        self.host_ends = host_ends

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


class Watch(Protocol):
    """Who hears of sleeps without a deadline: `agentvm.kernel.stalls.StallWatch`. All with the kernel lock."""

    def sleep(self, process: Any, queues: Sequence[WaitQueue]) -> None: ...
    def wake(self, process: Any) -> None: ...
    def move(self) -> None: ...


class Alarm(Protocol):
    """A timer that ends waits: `agentvm.kernel.itimer.IntervalTimer`. All with the kernel lock."""

    @property
    def at_ns(self) -> int | None:
        """When something will come of it (monotonic); None for never."""

    def ring(self, now_ns: int) -> bool:
        """Send its signal if it is due; returns whether it was."""


class Waiting(Protocol):
    """The part of a process that `block_until` needs."""

    waiter: Waiter
    scheduler: Scheduler
    #: None for what nobody watches: threads of the host.
    watch: Watch | None

    @property
    def alarm(self) -> Alarm | None:
        """Its timer, if it has one."""

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal: it gets nothing before it is continued."""

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal came whose handler is to run."""

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
    is_stopped = is_interrupted = False
    watch: Watch | None = None
    alarm: Alarm | None = None

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
    *,
    is_interruptible: bool = True,
) -> bool:
    """Sleep until `condition()` holds, and return True; return False at `deadline_ns` (monotonic).

    The caller holds `lock` (the kernel's); it is released while the thread sleeps. Raises `GuestKilled`, and
    `Interrupted` when a signal came that the program handles.
    """
    waiter, watch, has_slept = process.waiter, process.watch, False
    queues = list(queues)
    for queue in queues:
        queue.add(waiter)
    try:
        while True:
            waiter.reset()
            process.raise_if_killed()
            timeout_ns = None
            if not process.is_stopped:
                if condition():
                    return True
                if is_interruptible and process.is_interrupted:
                    raise Interrupted
                if process.alarm is not None and _rings(process.alarm, clock):
                    continue
                timeout_ns = _time_left(process.alarm, clock, deadline_ns)
                if timeout_ns is not None and timeout_ns <= 0:
                    return False
            has_slept = True
            if watch is None or timeout_ns is not None:
                _sleep(process, lock, clock, timeout_ns)
                continue
            watch.sleep(process, queues)
            try:
                _sleep(process, lock, clock, None)
            finally:
                watch.wake(process)
    finally:
        for queue in queues:
            queue.discard(waiter)
        if has_slept and watch is not None:
            watch.move()


def _rings(alarm: Alarm, clock: Clock) -> bool:
    return alarm.at_ns is not None and alarm.ring(clock.monotonic_ns())


def _time_left(alarm: Alarm | None, clock: Clock, deadline_ns: int | None) -> int | None:
    """Return for how long to sleep: not at all (0 or less) past the deadline, None: until woken."""
    at_ns = None if alarm is None else alarm.at_ns
    left_ns = None if deadline_ns is None else deadline_ns - clock.monotonic_ns()
    if at_ns is None or (left_ns is not None and left_ns <= 0):
        return left_ns
    rings_ns = max(1, at_ns - clock.monotonic_ns())
    return rings_ns if left_ns is None else min(left_ns, rings_ns)


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
