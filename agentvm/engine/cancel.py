"""A cancellation: set once by any thread, seen at once by whoever waits."""

import threading
from collections.abc import Callable

from agentvm.errors import CompileLimit

__all__ = ["Cancel", "interrupted"]


class Cancel:
    """Interrupts one load or compile. Any thread may call any method."""

    __slots__ = ("_lock", "_wakers", "cancelled")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wakers: dict[int, Callable[[], None]] = {}  # one for each thread that waits; guarded by the lock
        self.cancelled = False

    def cancel(self) -> None:
        """Wake every waiter. Idempotent, and never blocks."""
        with self._lock:
            self.cancelled = True
            for wake in self._wakers.values():
                wake()
            self._wakers.clear()

    def subscribe(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called once by `cancel`, or now if it was called already. Returns what takes that back.

        `wake` must neither block nor raise, nor call this object. Once taken back it is not running and never will be.
        """
        with self._lock:
            if self.cancelled:
                wake()
                return _nothing
            key = id(wake)
            self._wakers[key] = wake

        def take_back() -> None:
            with self._lock:
                self._wakers.pop(key, None)

        return take_back


def interrupted(cpu_seconds: float = 0.0) -> CompileLimit:
    """Make the error of a load that was cancelled."""
    return CompileLimit("compiling was interrupted", limit=None, interrupted=True, cpu_seconds=cpu_seconds)


def _nothing() -> None:
    return None
