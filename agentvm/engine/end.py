"""The end of an execution, and those who wait for it."""

import threading
from time import monotonic

from agentvm.kernel.process import Ending

__all__ = ["End"]

#: How often a waiter looks by itself; it is woken otherwise.
_WAIT_SECONDS = 1.0


class End:
    """Comes once. Any thread may wait for it."""

    __slots__ = ("_gate", "ending")

    def __init__(self) -> None:
        self._gate = threading.Lock()  # held until the end
        self._gate.acquire()
        self.ending: Ending | None = None

    def come(self, ending: Ending) -> None:
        """Let those go who wait."""
        self.ending = ending
        self._gate.release()

    def wait(self, timeout_seconds: float | None = None) -> Ending | None:
        """Wait for the end, and return it; None if it has not come in time."""
        deadline = float("inf") if timeout_seconds is None else monotonic() + timeout_seconds
        while self.ending is None:
            left = deadline - monotonic()
            # A waiter that Ctrl-C interrupts may keep the lock from the others; so all look by themselves as well.
            if self._gate.acquire(timeout=max(0.0, min(left, _WAIT_SECONDS))):
                self._gate.release()
            elif left <= 0:
                break
        return self.ending
