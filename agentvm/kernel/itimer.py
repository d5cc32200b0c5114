"""The alarm of a process: SIGALRM after a time, and then at each interval. Source: setitimer(2), ITIMER_REAL.

Time is that of the VM's clock. An alarm knows no threads: who runs or waits for the process asks when it is due.
"""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.outcome import Signal
from agentvm.kernel.process import Process
from agentvm.kernel.signalling import post
from agentvm.kernel.signals import bit_of

__all__ = ["IntervalTimer"]

_MICROSECOND_NS = 1000


class IntervalTimer:
    """Guarded by the kernel lock. A process gets one when it first asks, and keeps it as it becomes another program."""

    __slots__ = ("_at_ns", "_interval_ns", "_process")

    def __init__(self, process: Process) -> None:
        self._process = process
        self._at_ns: int | None = None
        self._interval_ns = 0

    @property
    def armed_ns(self) -> int | None:
        """When it rings next, on the VM's monotonic clock; None if it does not."""
        return self._at_ns

    @property
    def at_ns(self) -> int | None:
        """As `armed_ns`, but None too where nothing would come of it: the signal is ignored, or waits already."""
        signals = self._process.signals
        if self._at_ns is None or signals.pending & bit_of(Signal.SIGALRM):
            return None
        is_blocked = signals.blocked & bit_of(Signal.SIGALRM)
        return None if signals.is_ignored(Signal.SIGALRM) and not is_blocked else self._at_ns

    def get(self, now_ns: int) -> tuple[int, int]:
        """Return in how many microseconds it rings (0: not at all), and the interval."""
        self.ring(now_ns)
        left_ns = 0 if self._at_ns is None else self._at_ns - now_ns
        return -(-left_ns // _MICROSECOND_NS), self._interval_ns // _MICROSECOND_NS

    def set(self, now_ns: int, value_us: int, interval_us: int) -> tuple[int, int]:
        """Have it ring in `value_us` (0: not at all) and then at each interval; return what `get` did. EINVAL."""
        if value_us < 0 or interval_us < 0:
            raise KernelError(Errno.EINVAL, f"a timer of {value_us} and {interval_us} us")
        before = self.get(now_ns)
        self._at_ns = now_ns + value_us * _MICROSECOND_NS if value_us else None
        self._interval_ns = interval_us * _MICROSECOND_NS if value_us else 0
        return before

    def ring(self, now_ns: int) -> bool:
        """Send the signal if it is due; rings that were missed count as one. Returns whether it was due."""
        at_ns, interval_ns = self._at_ns, self._interval_ns
        if at_ns is None or at_ns > now_ns:
            return False
        self._at_ns = at_ns + ((now_ns - at_ns) // interval_ns + 1) * interval_ns if interval_ns else None
        post(self._process, Signal.SIGALRM)
        return True
