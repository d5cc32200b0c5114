"""The time of one process: what it has used of the CPU and of the clock, and the caps on both."""

import threading
import time
from time import monotonic, thread_time_ns

from agentvm.kernel.outcome import Cause, Signal
from agentvm.kernel.process import Process

__all__ = ["ProcessTime"]

_SECOND_NS = 1_000_000_000


class ProcessTime:
    """`open`, `check` and `close` are called on the runner thread, the rest on any."""

    __slots__ = ("_base", "_clock", "_cpu", "_ended_at", "_given_ns", "_own_timeout", "_process", "_started_at",
                 "_total", "_wall", "_wall_seconds", "deadline")  # fmt: skip

    def __init__(self, process: Process, wall_seconds: float, timeout_seconds: float | None, given_ns: int) -> None:
        """The lower of max_wall_time_seconds and the start's own timeout counts from now. `given_ns` of CPU time were
        spent for the process before it ran (compiling)."""
        self._process = process
        self._cpu = process.gauges.gauge("max_cpu_time_seconds")
        self._wall = process.gauges.gauge("max_wall_time_seconds")
        self._given_ns = given_ns
        self._own_timeout = timeout_seconds is not None and timeout_seconds <= wall_seconds
        self._wall_seconds = timeout_seconds if timeout_seconds is not None and self._own_timeout else wall_seconds
        self._started_at = monotonic()
        self._ended_at: float | None = None
        #: In monotonic seconds.
        self.deadline = self._started_at + self._wall_seconds
        # The runner's CPU clock; the total once it has ended, when the clock is no more.
        self._clock: int | None = None
        self._base = 0
        self._total: int | None = None

    def open(self) -> None:
        """The calling thread runs the process from now on."""
        self._base = thread_time_ns() - self._given_ns
        self._clock = time.pthread_getcpuclockid(threading.get_ident())

    def close(self) -> int:
        """The process is over. Returns its CPU time in ns."""
        self._total = spent = thread_time_ns() - self._base
        self._note(spent / _SECOND_NS)
        self._ended_at = monotonic()
        return spent

    def _note(self, seconds: float) -> None:
        for gauge, spent in ((self._cpu, seconds), (self._wall, monotonic() - self._started_at)):
            gauge.used = spent
            gauge.peak = max(gauge.peak, spent)

    def check(self) -> None:
        """Kill the process if its time is over."""
        if monotonic() >= self.deadline:
            self.kill_for_wall_time()
        spent = (thread_time_ns() - self._base) / _SECOND_NS
        self._note(spent)
        cap = self._cpu.cap
        if spent >= cap:
            self._cpu.refused += 1
            self._process.kill(Signal.SIGXCPU, Cause.of_limit("max_cpu_time_seconds", round(spent, 3), cap))

    def kill_for_wall_time(self) -> None:
        """The deadline has passed: kill the process."""
        if self._process.ending is not None:
            return
        self._wall.refused += 1
        spent = round(monotonic() - self._started_at, 3)
        self._process.kill(Signal.SIGKILL, Cause.of_limit("max_wall_time_seconds", spent, self._wall_seconds))

    def extend(self, wall_seconds: float) -> bool:
        """max_wall_time_seconds was raised: whether that moves the deadline. A timeout of the start's own stays."""
        deadline = self._started_at + wall_seconds
        if self._own_timeout or deadline <= self.deadline:
            return False
        self._wall_seconds, self.deadline = wall_seconds, deadline
        return True

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
