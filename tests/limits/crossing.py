"""How a driver takes a guest past the warning point of a limit, back, up again, and past the cap.

A driver is a function marked with `crosses`; it opens its VM through `Stage.open`, and says after each step what must
have happened. `test_crossings.py` runs one for every limit of the catalogue.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from agentvm import AgentVM, LimitUsage
from agentvm.limits.events import EventKind, LimitEvent
from agentvm.limits.spec import Kind
from tests.limits.harness import TIGHT

__all__ = ["DRIVERS", "Stage", "crosses", "until"]

#: How long a step may take to be seen, on a slow machine.
PATIENCE_SECONDS = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds that another thread does."""
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline, f"{what} did not come"
        threading.Event().wait(0.001)


class Stage:
    """What one limit's driver has shown so far."""

    def __init__(self, limit: str) -> None:
        self.limit = limit
        self.events: list[LimitEvent] = []
        self.warnings = 0
        self.refusals = 0
        self.has_recovered = False
        self._usage: Callable[[], LimitUsage] = self._nothing

    @staticmethod
    def _nothing() -> LimitUsage:
        raise AssertionError("the driver has not opened a VM")

    @contextmanager
    def open(self, *, clock: Any = None, **limits: Any) -> Iterator[AgentVM]:
        """Open a VM with these limits, and listen to it."""
        with AgentVM(TIGHT.replace(**limits), clock=clock) as vm:
            self.listen(vm)
            yield vm

    def listen(self, vm: AgentVM) -> None:
        """Count what this VM says from now on."""
        self.events = []
        vm.on_limit(self.events.append)
        self._usage = lambda: vm.usage()[self.limit]
        self.warnings = self.refusals = 0

    def listen_to(self, usage: Callable[[], LimitUsage]) -> None:
        """Count what a registry says: for limits of the host process."""
        self._usage = usage
        self.warnings, self.refusals = usage().warnings, usage().refused

    @property
    def use(self) -> LimitUsage:
        """How far the limit is used now."""
        return self._usage()

    def warned(self) -> None:
        """Exactly one more warning has come, and nothing was refused."""
        use = self.use
        assert use.warnings == self.warnings + 1, f"{use.warnings - self.warnings} more warnings: {use}"
        assert use.refused == self.refusals, f"refused too early: {use}"
        self.warnings += 1

    def quiet(self) -> None:
        """Nothing has happened."""
        assert (self.use.warnings, self.use.refused) == (self.warnings, self.refusals), self.use

    def recovered(self) -> None:
        """The use has fallen far enough; no warning has come of it."""
        self.quiet()
        self.has_recovered = True

    def refused(self) -> None:
        """Something was refused, or made to wait."""
        use = self.use
        assert use.refused > self.refusals, f"nothing was refused: {use}"
        self.refusals = use.refused

    def check(self) -> None:
        """All was shown that the kind of the limit allows, and the listener heard the same."""
        kind = self._usage().kind
        assert self.refusals, "the driver never took it past the cap"
        wanted = 1 if kind is Kind.BUDGET else 2
        assert self.warnings >= wanted, f"{self.warnings} warnings, {wanted} wanted"
        assert self.has_recovered or kind is Kind.BUDGET, "the driver never let it recover"
        until(lambda: self._heard(EventKind.REFUSED) >= self.refusals, "the last refusal")
        # A guest may warn once more after the driver's last look, and the listener hears of it later than we see it.
        until(lambda: self._heard(EventKind.WARNING) == self._usage().warnings, "all warnings, and each once")
        for event in self.events:
            if event.limit == self.limit:
                assert event.fill_percent >= 80 or kind is Kind.RATE
                assert self.limit in event.setting

    def _heard(self, kind: EventKind) -> int:
        return sum(event.count for event in list(self.events) if (event.limit, event.kind) == (self.limit, kind))


Driver = Callable[[Stage], None]
#: Every driver by its limit.
DRIVERS: dict[str, Driver] = {}


def crosses(limit: str) -> Callable[[Driver], Driver]:
    """Mark a function as the driver of a limit."""

    def mark(driver: Driver) -> Driver:
        assert limit not in DRIVERS, f"{limit} has two drivers"
        DRIVERS[limit] = driver
        return driver

    return mark
