"""The time of one process: what it has used of the CPU and of the clock, and the caps on both."""

import threading
import time
from time import monotonic, thread_time_ns

from agentvm.engine.cpu_rate import LEAST_SECONDS, CpuRate
from agentvm.kernel.outcome import Cause, Signal
from agentvm.kernel.process import Process

__all__ = ["ProcessTime"]

_SECOND_NS = 1_000_000_000
_LEAST_NS = int(LEAST_SECONDS * _SECOND_NS)
_NEVER = float("inf")


class ProcessTime:
    """`open`, `check`, `pay` and `close` are called on the runner thread, the rest on any."""

    __slots__ = ("_base", "_clock", "_cpu", "_ended_at", "_given_ns", "_is_over", "_lock", "_paid_ns", "_process",
                 "_rate", "_started_at", "_total", "_wall", "deadline")  # fmt: skip

    def __init__(self, process: Process, timeout_seconds: float | None, given_ns: int, rate: CpuRate) -> None:
        """The wall time counts from now; `timeout_seconds` is a cap of this process alone. `given_ns` of CPU time were
        spent for the process before it ran (compiling): they count as its own, and cost `rate` nothing."""
        if timeout_seconds is not None:
            process.gauges.tighten("max_wall_time_seconds", timeout_seconds)
        self._process = process
        self._cpu = process.gauges.gauge("max_cpu_time_seconds")
        self._wall = process.gauges.gauge("max_wall_time_seconds")
        self._rate = rate
        self._given_ns = self._paid_ns = given_ns
        self._started_at = monotonic()
        self._ended_at: float | None = None
        # guarded by _lock, with what `_wall` counts: the runner and the ticker look at it
        self._lock = threading.Lock()
        self._is_over = False
        #: In monotonic seconds.
        self.deadline = self._started_at + self._wall.cap
        # The runner's CPU clock; the total once it has ended, when the clock is no more.
        self._clock: int | None = None
        self._base = 0
        self._total: int | None = None

    def open(self) -> None:
        """The calling thread runs the process from now on."""
        self._base = thread_time_ns() - self._given_ns
        self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def close(self) -> None:
        """The process is over."""
        self._total = spent = thread_time_ns() - self._base
        self._ended_at = monotonic()
        self._cpu.set(spent / _SECOND_NS)
        self._note_wall(self._ended_at)
        self._rate.close(self._process, (spent - self._paid_ns) / _SECOND_NS)

    def check(self) -> bool:
        """Kill the process if its time is over. Returns whether it has to wait for its turn: see `CpuRate`."""
        now = monotonic()
        self._note_wall(now)
        if now >= self.deadline:
            self._end_for_wall_time()
        spent = thread_time_ns() - self._base
        seconds = spent / _SECOND_NS
        self._cpu.set(seconds)
        cap = self._cpu.cap
        if seconds >= cap and self._process.ending is None:
            self._cpu.refuse(seconds)
            self._process.kill(Signal.SIGXCPU, Cause.of_limit("max_cpu_time_seconds", round(seconds, 3), cap))
        return spent - self._paid_ns >= _LEAST_NS and self._pay(spent)

    def pay(self) -> None:
        """Pay all CPU time that was used: the process is about to sleep, and others wait for their turn."""
        self._pay(thread_time_ns() - self._base)

    def _pay(self, spent: int) -> bool:
        used, self._paid_ns = spent - self._paid_ns, spent
        return self._rate.charge(self._process, used / _SECOND_NS)

    def _note_wall(self, now: float) -> None:
        with self._lock:
            self._wall.set(now - self._started_at)

    def _end_for_wall_time(self) -> None:
        with self._lock:
            if self._is_over or self._process.ending is not None:
                return
            self._is_over = True
            spent, cap = round(monotonic() - self._started_at, 3), self._wall.cap
            self._wall.refuse(spent)
        self._process.kill(Signal.SIGKILL, Cause.of_limit("max_wall_time_seconds", spent, cap))

    def look(self) -> float:
        """The ticker's turn to look, wherever the process is: warn, or kill it. Returns when to look again."""
        if self._process.ending is not None:
            return _NEVER
        now = monotonic()
        self._note_wall(now)
        if now >= self.deadline:
            self._end_for_wall_time()
            return _NEVER
        return self.next_look

    @property
    def next_look(self) -> float:
        """When the ticker must look: at the warning, then at the deadline. In monotonic seconds; infinity for never."""
        wall = self._wall
        return self.deadline if wall.warned else min(self.deadline, self._started_at + wall.warn_at)

    def refresh(self) -> None:
        """Caps were raised: a timeout of the process's own stays."""
        self.deadline = self._started_at + self._wall.cap

    def cpu_seconds_here(self) -> float:
        """Return the CPU time used so far. The runner thread only."""
        return (thread_time_ns() - self._base) / _SECOND_NS

    def cpu_time_ns(self) -> int:
        """Return the CPU time of the process in ns, host calls included."""
        spent = 0
        if self._clock is not None and self._total is None:
            try:
                spent = time.clock_gettime_ns(self._clock) - self._base
            except OSError:
                pass  # the runner has ended meanwhile, and left the total
        return spent if self._total is None else self._total

    def wall_time_ns(self) -> int:
        """Return the time since the start, or from start to end, in ns."""
        return int(((self._ended_at or monotonic()) - self._started_at) * _SECOND_NS)
