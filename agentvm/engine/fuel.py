"""Fuel: instructions, leased from the VM's budget to each process, so that the VM never spends more than its cap.

What a store holds is only known exactly in host calls and after it stopped, so each process computes on a lease that
was taken out of the pool beforehand. What of a lease is known to be burnt counts as spent at once; the rest of all
leases and the pool are what is left of max_fuel. See docs/rationale.md, "Why fuel is leased".
"""

import threading
from dataclasses import dataclass

from agentvm.limits.gauge import Gauge
from agentvm.limits.spec import UNLIMITED, Cap

__all__ = ["FuelLease", "FuelPool", "FuelStatistics"]

#: What a store is given where nothing is capped: more than a machine burns in 50 years.
_PLENTY = 1 << 62


@dataclass(frozen=True, slots=True)
class FuelStatistics:
    """`spent` as far as is known, `leased` to processes now and not known to be burnt."""

    spent: Cap
    leased: int
    cap: Cap


class FuelPool:
    """The budget of one VM. Any thread."""

    def __init__(self, budget: Gauge) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        # guarded by _lock; bounded by the number of running processes
        self._leases: dict[FuelLease, None] = {}
        self._waiting: dict[FuelLease, None] = {}

    @property
    def is_shared(self) -> bool:
        """Whether the VM has a cap at all; without one nothing needs to be given back or split."""
        return self._budget.cap != UNLIMITED

    def statistics(self) -> FuelStatistics:
        """Return a snapshot."""
        with self._lock:
            return FuelStatistics(self._budget.used, self._leased(), self._budget.cap)

    def _leased(self) -> int:
        return sum(lease.amount - lease.noted for lease in self._leases)

    def _room(self) -> Cap:
        return max(0, self._budget.cap - self._budget.used - self._leased())

    def take(self, lease: "FuelLease") -> int | None:
        """Lease fuel to a process that has none: an equal share, or what there is. None: wait until some comes back.

        Siblings that hold more than their share are told to give it back at their next host call.
        """
        if not self.is_shared:  # and never will be: caps are only raised
            lease.amount = _floor(lease.budget.cap - lease.budget.used)
            return lease.amount
        with self._lock:
            return self._take(lease)

    def _take(self, lease: "FuelLease") -> int | None:
        self._waiting.pop(lease, None)
        own = _floor(lease.budget.cap - lease.budget.used)
        room = _floor(self._room())
        active = len(self._leases) + len(self._waiting) + 1
        wanted = min(own, -(-(room + self._leased()) // active))
        if room < wanted:
            self._ask_back()
            # A crumb would end the process although the VM has fuel; all leases come back sooner or later.
            if self._leases and room <= wanted // 8:
                self._waiting[lease] = None
                return None
        return self._grant(lease, min(room, wanted))

    def _ask_back(self) -> None:
        for lease in self._leases:
            lease.ask_back()

    def _grant(self, lease: "FuelLease", amount: int) -> int:
        lease.amount = amount
        if amount:
            self._leases[lease] = None
        return amount

    def note(self, lease: "FuelLease", burnt: int) -> None:
        """So much of a lease is known to be burnt, at least: warn in time, and let usage show it."""
        if burnt > lease.noted:
            with self._lock:
                self._spend(lease, burnt - lease.noted)
                lease.noted = burnt

    def _spend(self, lease: "FuelLease", amount: int) -> None:
        for budget in (self._budget, lease.budget):
            budget.used += amount
            if budget.used > budget.top:
                budget.rise()

    def settle(self, lease: "FuelLease", spent: int) -> None:
        """A lease comes back with `spent` of it burnt; the rest returns to the pool, for others to take."""
        with self._lock:
            self._settle(lease, spent)
            if not self._waiting and not self._leases:
                return
            woken = list(self._waiting)
            self._ask_back()
        for waiting in woken:
            waiting.wake()

    def _settle(self, lease: "FuelLease", spent: int) -> None:
        self._leases.pop(lease, None)
        self._waiting.pop(lease, None)
        spent = max(lease.noted, min(spent, lease.amount)) - lease.noted
        lease.amount = lease.noted = 0
        self._spend(lease, spent)

    def exchange(self, lease: "FuelLease", spent: int, *, child: "FuelLease | None" = None) -> int:
        """Settle, and take an equal share at once. `child` is about to take its own, and counts already."""
        with self._lock:
            held = lease.amount
            if child is not None:
                self._waiting[child] = None
            self._settle(lease, spent)
            amount = self._take(lease)
            if amount is None:  # a crumb, then: who computes already cannot wait here
                self._waiting.pop(lease, None)
                amount = self._grant(lease, min(_floor(self._room()), held))
            woken = list(self._waiting)
        for waiting in woken:
            waiting.wake()
        return amount

    def refuse(self, lease: "FuelLease") -> tuple[str, Cap, Cap]:
        """Say which budget ran out: the limit's name, what was used, the cap."""
        own = lease.budget
        with self._lock:
            budget = own if own.cap - own.used < self._budget.cap - self._budget.used else self._budget
            budget.refuse(budget.used)
            return budget.spec.name, budget.used, budget.cap


class FuelLease:
    """What one process may burn before it comes back to the pool."""

    __slots__ = ("amount", "budget", "noted")

    def __init__(self, budget: Gauge) -> None:
        self.budget = budget
        # guarded by the pool's lock
        self.amount = 0
        #: What of `amount` counts as spent already.
        self.noted = 0

    def ask_back(self) -> None:
        """The pool wants the lease back at the next host call. Any thread, with the pool's lock; must not block."""
        raise NotImplementedError

    def wake(self) -> None:
        """There may be fuel now. Any thread; must not block."""
        raise NotImplementedError


def _floor(amount: Cap) -> int:
    return _PLENTY if amount >= _PLENTY else max(0, int(amount))
