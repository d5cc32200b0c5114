"""Time, handed to everything that needs it: the real clock, and one that only moves when told.

Nothing else under `agentvm` that serves a guest reads the time; see docs/rationale.md, "Why the clock is an argument".
"""

import threading
import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "SystemClock"]

NANOSECONDS = 1_000_000_000


class Clock(Protocol):
    """What a VM asks of time. All values are integers in nanoseconds."""

    #: Resolution reported to guests, in nanoseconds.
    resolution_ns: int
    #: True if time only passes as the VM looks at it: then CPU time is the same time, or it would tell of the host.
    is_virtual: bool

    def monotonic_ns(self) -> int:
        """Return a time that never goes back."""

    def realtime_ns(self) -> int:
        """Return the time since 1970-01-01T00:00:00Z."""

    def wait(self, gate: threading.Lock, timeout_ns: int | None) -> None:
        """Block until `gate` can be acquired, or `timeout_ns` is over (None: for ever)."""


class SystemClock:
    """The host's clocks. `resolution_ns` above 1 makes them coarser, against timing attacks."""

    def __init__(self, resolution_ns: int = 1) -> None:
        self.resolution_ns = max(1, resolution_ns)
        self.is_virtual = False
        if self.resolution_ns == 1:
            # The plain functions save a Python frame on every call that stamps a time.
            self.monotonic_ns = time.monotonic_ns  # type: ignore[method-assign]
            self.realtime_ns = time.time_ns  # type: ignore[method-assign]

    def monotonic_ns(self) -> int:
        now = time.monotonic_ns()
        return now - now % self.resolution_ns

    def realtime_ns(self) -> int:
        now = time.time_ns()
        return now - now % self.resolution_ns

    def wait(self, gate: threading.Lock, timeout_ns: int | None) -> None:
        if timeout_ns is None:
            gate.acquire()
        elif timeout_ns > 0:
            gate.acquire(timeout=min(timeout_ns / NANOSECONDS, threading.TIMEOUT_MAX))


class ManualClock:
    """A virtual clock. A sleep with a deadline takes no real time: it moves the clock to the deadline.

    Each reading advances by `step_ns`, so that guests which wait for time to pass get on.
    """

    resolution_ns = 1
    is_virtual = True

    def __init__(self, *, realtime_ns: int = 0, step_ns: int = 0) -> None:
        self._lock = threading.Lock()
        self._monotonic_ns = 0
        self._offset_ns = realtime_ns
        self._step_ns = step_ns

    def monotonic_ns(self) -> int:
        with self._lock:
            self._monotonic_ns += self._step_ns
            return self._monotonic_ns

    def realtime_ns(self) -> int:
        return self.monotonic_ns() + self._offset_ns

    def advance(self, duration_ns: int) -> None:
        """Move the clock forward."""
        with self._lock:
            self._monotonic_ns += duration_ns

    def wait(self, gate: threading.Lock, timeout_ns: int | None) -> None:
        if timeout_ns is None:
            gate.acquire()
        elif not gate.acquire(blocking=False):
            self.advance(timeout_ns)
