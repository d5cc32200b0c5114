"""The fuel of one store: what it was lent, what it burnt, and when that is known for sure.

Compiled code keeps fuel in a register: reading it in an epoch callback finds an old value, and writing it is lost. It
is exact in host calls, after a return, and after the traps in `trap.STOPPED_EXACTLY`.
"""

import threading
from collections.abc import Callable
from time import thread_time_ns
from typing import TYPE_CHECKING

from agentvm.engine import bind
from agentvm.engine.calibration import fuel_per_second, likely_fuel_per_second
from agentvm.engine.fuel import FuelLease, FuelPool
from agentvm.kernel.process import Process
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    import wasmtime

__all__ = ["FuelMeter"]

_NOW = float("-inf")
_SECOND_NS = 1_000_000_000


class FuelMeter(FuelLease):
    """The lease of one process. Owned by the runner thread, save `ask_back` and `wake`."""

    __slots__ = ("_context", "_gate", "_pool", "_process", "_seen", "_seen_at", "due", "is_exact")

    def __init__(self, pool: FuelPool, process: Process) -> None:
        super().__init__(process.gauges.gauge("max_fuel_per_process"))
        self._pool = pool
        self._process = process
        self._gate = threading.Lock()
        self._gate.acquire()
        self._context = 0
        # the last time that the fuel was known for sure: what was burnt of the lease, and the CPU time
        self._seen = 0
        self._seen_at = 0
        #: Whether a read of the fuel now would be exact.
        self.is_exact = False
        #: Whether the pool wants the lease back at the next host call.
        self.due = False

    # ---- any thread ----

    def ask_back(self) -> None:
        """The pool wants the lease back."""
        self.due = True
        self._process.check_at = _NOW

    def wake(self) -> None:
        """Look again whether there is fuel, or an end."""
        if self._gate.locked():
            try:
                self._gate.release()
            except RuntimeError:
                pass  # opened by two threads at once

    @property
    def used(self) -> int:
        """Fuel spent, as of the last host call that looked at the clock, or as a tick found it later."""
        return int(self.budget.used)

    # ---- the runner thread ----

    def open(self, context: int, leave: Callable[[], None], enter: Callable[[], None]) -> None:
        """Fill a new store."""
        self._context = context
        bind.set_fuel(context, self._wait(leave, enter))

    def _wait(self, leave: Callable[[], None], enter: Callable[[], None]) -> int:
        """Lease fuel; while there is none but may be, wait without a run slot. 0 if the process must end."""
        while self._process.ending is None:
            amount = self._pool.take(self)
            if amount is not None:
                self._note(0)
                return amount
            leave()
            self._gate.acquire()
            enter()
        return 0

    def _note(self, burnt: int) -> None:
        self._seen = burnt
        self._seen_at = thread_time_ns()
        self._pool.note(self, burnt)

    def _burnt(self) -> int:
        return self.amount - bind.get_fuel(self._context)

    def look(self) -> None:
        """In a host call: note what was burnt; if the pool wants the lease back, take a new one."""
        if self.due:
            self.share()
        self._note(self._burnt())

    def glance(self) -> None:
        """In a tick: note what is known to be burnt, which is what the guest wrote down at its last call."""
        self._pool.note(self, self._burnt())

    def share(self, child: FuelLease | None = None) -> None:
        """In a host call: come back to the pool and take an equal share, leaving one for a child about to start."""
        self.due = False
        amount = self._pool.exchange(self, self._burnt(), child=child)
        self._note(0)
        bind.set_fuel(self._context, amount)

    def pause(self) -> None:
        """In a host call that is about to sleep: give the lease back, if anybody else could use it."""
        if self._pool.is_shared and self.amount:
            self._pool.settle(self, self._burnt())
            self._note(0)

    def resume(self, leave: Callable[[], None], enter: Callable[[], None]) -> None:
        """Awake again: lease anew, if the lease was given back, or a cap was raised meanwhile."""
        if self._pool.is_shared or not self.amount:
            bind.set_fuel(self._context, self._wait(leave, enter))
        elif self.due:
            self.share()

    def run_out(self) -> tuple[str, Cap, Cap]:
        """The fuel ran out: settle, and say which budget it was (the limit's name, what was used, the cap)."""
        self.is_exact = True
        self._pool.settle(self, self.amount)
        self._note(0)
        return self._pool.refuse(self)

    def close(self, engine: "wasmtime.Engine") -> None:
        """Settle for good, before the store is gone. What a kill or a trap lost is charged by the CPU time."""
        if self.amount:
            spent = self._burnt()
            if not self.is_exact:
                since_ns = thread_time_ns() - self._seen_at
                # Only a VM with a budget is worth the few ms that measuring takes, once.
                rate = fuel_per_second(engine) if self._pool.is_shared else likely_fuel_per_second()
                spent = max(spent, self._seen + int(since_ns * rate / _SECOND_NS))
            self._pool.settle(self, spent)
        self._note(0)
        self._context = 0
