"""Courtesy: a guest that spends its time in host calls lets the guests of other VMs at the interpreter.

Python's own rule fails them: it asks a thread to let go once another has waited for the switch interval undisturbed,
and one that lets go for an instant after each host call disturbs the wait every time. Measured beside a guest in a
tight loop of refused calls, another VM's guest got 5 to 30 % of its rate, whatever the interval; with this, 40 to 80 %.
See docs/rationale.md, "Why guests take turns".
"""

import time
from time import monotonic

__all__ = ["COURTESY_SECONDS", "Courtesy"]

#: How long a guest may keep the interpreter to itself while guests of other VMs compute.
COURTESY_SECONDS = 0.0003
#: Long enough for a waiting thread to wake up: the host's timers add about 50 us to it.
_PAUSE_SECONDS = 0.00001
#: Fuel per second below which a guest that looks in all the time is one that hardly computes.
_LITTLE_FUEL = 200_000_000
#: A guest that did not look in for so long was computing, or asleep.
_ABSENT_SECONDS = 5 * COURTESY_SECONDS


class Courtesy:
    """What one guest owes the others. Owned by its runner thread."""

    __slots__ = ("_fuel", "_looked_at")

    def __init__(self) -> None:
        self._fuel = 0
        self._looked_at = 0.0

    def pay(self, fuel_used: int) -> None:
        """In a host call, without any lock: pause for an instant if the guest did little else than host calls."""
        now = monotonic()
        elapsed, burnt = now - self._looked_at, fuel_used - self._fuel
        if elapsed < _ABSENT_SECONDS and burnt < elapsed * _LITTLE_FUEL:
            time.sleep(_PAUSE_SECONDS)
            now = monotonic()
        self._looked_at, self._fuel = now, fuel_used
