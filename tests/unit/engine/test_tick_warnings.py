"""Budgets of time and fuel warn while the guest runs, at 80 %, before they end it; and once."""

import pytest

from agentvm.kernel.outcome import Signal
from agentvm.limits.catalogue import Limits
from agentvm.limits.events import EventKind, LimitEvent
from agentvm.limits.gauge import Gauge
from agentvm.limits.outlet import Outlet
from tests.support.engine_rig import BUSY, SPIN, START, WAIT, Rig, ended, until

#: Spins, and calls a function in each round: there compiled code writes down how much fuel is left.
CALLER = "(func $f (param i32))" + START.format("(loop $l (call $f (i32.const 1)) (br $l))")
SLEEPER = START.format("(call $sleep (i32.const 60000))")


class Heard:
    """What a listener is told of one VM, in order."""

    def __init__(self, rig: Rig) -> None:
        self._events: list[LimitEvent] = []
        self._outlet = Outlet(self._events.append, interval_seconds=0.0)
        rig.registry.outlets = (self._outlet,)

    def of(self, limit: str) -> list[LimitEvent]:
        assert self._outlet.flush(30)
        return [event for event in self._events if event.limit == limit]

    def kinds(self, limit: str) -> list[tuple[EventKind, int]]:
        return [(event.kind, event.count) for event in self.of(limit)]


WARNED_AND_REFUSED = [(EventKind.WARNING, 1), (EventKind.REFUSED, 1)]


@pytest.mark.parametrize(
    ("body", "limits"),
    [
        (SPIN, {"max_cpu_time_seconds": 0.1}),
        (BUSY, {"max_cpu_time_seconds": 0.1}),
        (SPIN, {"max_cpu_time_seconds": 0.001}),  # over before the first look
        (SPIN, {"max_wall_time_seconds": 0.1}),
        (BUSY, {"max_wall_time_seconds": 0.1}),
        (WAIT, {"max_wall_time_seconds": 0.1}),
        (SLEEPER, {"max_wall_time_seconds": 0.1}),
        (SLEEPER, {"max_wall_time_seconds": 0.001}),
        (SPIN, {"max_fuel": 1_000_000}),
        (BUSY, {"max_fuel": 1_000_000}),
        (CALLER, {"max_fuel": 1_000_000}),
        (SPIN, {"max_fuel_per_process": 1_000_000}),
        (BUSY, {"max_fuel_per_process": 1_000_000}),
        (CALLER, {"max_fuel_per_process": 1_000_000}),
    ],
)
def test_death_by_a_budget_is_warned_of_once_and_first(body: str, limits: dict[str, float]) -> None:
    (limit,) = limits
    with Rig(**limits) as rig:
        heard = Heard(rig)
        assert rig.run(body).cause.limit == limit
        assert heard.kinds(limit) == WARNED_AND_REFUSED


@pytest.mark.parametrize("body", [SPIN, BUSY, WAIT], ids=["computes", "calls", "waits"])
def test_timeout_of_one_process_warns_with_its_own_cap(body: str) -> None:
    with Rig(max_wall_time_seconds=100) as rig:
        heard = Heard(rig)
        execution = rig.start(body, timeout_seconds=0.2)
        ended(execution)
        assert heard.kinds("max_wall_time_seconds") == WARNED_AND_REFUSED
        warning, refusal = heard.of("max_wall_time_seconds")
        assert (warning.capacity, refusal.capacity) == (0.2, 0.2)
        assert warning.observed >= 0.16
        assert warning.pid == execution.process.pid


def gauge(execution: object, limit: str) -> Gauge:
    return execution.process.gauges.gauge(limit)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("body", [WAIT, SLEEPER], ids=["waits", "sleeps"])
def test_wall_time_warns_while_the_guest_does_nothing(body: str) -> None:
    with Rig(max_wall_time_seconds=1) as rig:
        execution = rig.start(body)
        until(lambda: gauge(execution, "max_wall_time_seconds").warnings == 1, "the warning")
        observed = Heard(rig)
        ending = ended(execution)
        assert ending.cause.limit == "max_wall_time_seconds"
        assert observed.kinds("max_wall_time_seconds") == [(EventKind.REFUSED, 1)]


def test_seconds_warn_at_four_fifths_of_a_whole_second_too() -> None:
    with Rig(max_cpu_time_seconds=1) as rig:
        heard = Heard(rig)
        ended(rig.start(SPIN))
        warning = heard.of("max_cpu_time_seconds")[0]
        assert warning.observed < 1


def test_raised_wall_time_warns_again() -> None:
    with Rig(max_wall_time_seconds=0.4) as rig:
        execution = rig.start(WAIT)
        wall = gauge(execution, "max_wall_time_seconds")
        until(lambda: wall.warnings == 1, "the first warning")
        rig.registry.raise_to(Limits(max_wall_time_seconds=1))
        rig.machine.refresh_limits()
        if execution.ending is None:  # else the machine was too slow
            until(lambda: wall.warnings == 2, "the second warning")
        assert ended(execution).cause.limit == "max_wall_time_seconds"


@pytest.mark.parametrize(("own", "deadline"), [(None, 60), (10, 10), (3, 3), (100, 60)])
def test_own_timeout_stays_when_the_cap_of_the_vm_is_raised(own: float | None, deadline: float) -> None:
    with Rig(max_wall_time_seconds=5) as rig:
        execution = rig.start(WAIT, timeout_seconds=own)
        before = execution.time.deadline
        rig.registry.raise_to(Limits(max_wall_time_seconds=60))
        rig.machine.refresh_limits()
        assert execution.time.deadline - before == pytest.approx(deadline - min(5, own or 5))


def test_cap_of_one_process_is_in_force_for_it_alone() -> None:
    """What `vm.run(..., limits=...)` does before the start."""
    with Rig() as rig:
        make = rig.process

        def tightened() -> object:
            process = make()
            for name, cap in (("max_wall_time_seconds", 50), ("max_cpu_time_seconds", 0.05)):
                process.gauges.tighten(name, cap)
            return process

        free = rig.start(SPIN)
        rig.process = tightened  # type: ignore[assignment, method-assign]
        execution = rig.start(SPIN)
        assert execution.time.deadline < free.time.deadline == float("inf")
        ending = ended(execution)
        assert (ending.cause.limit, ending.cause.cap) == ("max_cpu_time_seconds", 0.05)
        assert free.ending is None


@pytest.mark.parametrize("limit", ["max_fuel", "max_fuel_per_process"])
def test_fuel_of_a_guest_that_calls_functions_warns_on_a_tick(limit: str) -> None:
    cap = 400_000_000  # some ticks
    with Rig(**{limit: cap}) as rig:
        heard = Heard(rig)
        assert rig.run(CALLER).cause.limit == limit
        warning, refusal = heard.of(limit)
        assert cap * 0.8 <= warning.observed < cap, "before it ran out"
        assert refusal.observed == cap


def test_fuel_of_the_vm_counts_what_all_leases_have_burnt_and_nothing_twice() -> None:
    with Rig(max_fuel=600_000_000) as rig:
        heard = Heard(rig)
        executions = [rig.start(CALLER) for _ in range(3)]
        for execution in executions:
            assert ended(execution).status.signal is Signal.SIGXCPU
        used = rig.registry.gauge("max_fuel").used
        assert used == sum(execution.statistics().fuel_used for execution in executions) <= 600_000_000
        assert heard.kinds("max_fuel")[0] == (EventKind.WARNING, 1)
