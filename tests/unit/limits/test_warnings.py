"""When a counter warns: once a crossing, again after it has recovered, and never by mistake."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Limits
from agentvm.errors import InvalidLimit
from agentvm.limits.catalogue import SPECS
from agentvm.limits.events import LimitEvent
from agentvm.limits.gauge import Ceiling, Gauge, LimitExceeded, Thresholds
from agentvm.limits.outlet import Outlet
from agentvm.limits.rate import Bucket, Rate, Window
from agentvm.limits.registry import Registry
from agentvm.limits.spec import Cap, LimitSpec

FDS, LOG, IOVECS = SPECS["max_open_fds"], SPECS["max_log_bytes"], SPECS["max_iovecs"]
WRITES, ACTIONS = SPECS["max_disk_write_bytes_per_second"], SPECS["max_actions_per_hour"]

DEFAULT = Thresholds()


class Ear:
    """Notes what it hears."""

    def __init__(self, thresholds: Thresholds = DEFAULT) -> None:
        self.thresholds = thresholds
        self.warned: list[Cap] = []
        self.refused: list[Cap] = []

    def warn(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        self.warned.append(observed)

    def refuse(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        self.refused.append(observed)


# -- gauges -----------------------------------------------------------------------------------------------------------
def test_a_gauge_warns_once_a_crossing() -> None:
    ear = Ear()
    gauge = Gauge(FDS, 10, ear)
    gauge.acquire(7)
    assert ear.warned == []
    gauge.acquire()
    gauge.acquire()
    assert ear.warned == [8]
    gauge.release(3)
    gauge.acquire(3)
    assert ear.warned == [8], "6 of 10 is no recovery"
    gauge.release(4)
    gauge.acquire(2)
    assert ear.warned == [8]
    gauge.acquire(2)
    assert ear.warned == [8, 9]
    assert (gauge.warnings, gauge.peak, gauge.refused) == (2, 9, 0)


def test_a_refusal_is_told_and_does_not_count_as_use() -> None:
    ear = Ear()
    gauge = Gauge(FDS, 10, ear)
    with pytest.raises(LimitExceeded):
        gauge.acquire(11)
    assert not gauge.try_acquire(12)
    assert gauge.acquire_up_to(13) == 10
    assert (ear.refused, ear.warned) == ([11, 12, 13], [10])


def test_thresholds_can_be_set() -> None:
    ear = Ear(Thresholds(90, 10))
    gauge = Gauge(FDS, 10, ear)
    gauge.acquire(8)
    assert ear.warned == []
    gauge.acquire()
    gauge.release(7)
    gauge.acquire(7)
    assert ear.warned == [9]
    gauge.release(8)
    gauge.acquire(8)
    assert ear.warned == [9, 9]


def test_a_small_cap_warns_at_the_first_whole_number_past_its_share() -> None:
    for cap, first in ((1, 1), (2, 2), (3, 3), (4, 4), (5, 4), (6, 5)):
        ear = Ear()
        gauge = Gauge(FDS, cap, ear)
        for _ in range(cap):
            gauge.acquire()
        assert ear.warned == [first]


def test_no_cap_and_a_cap_of_nothing_never_warn() -> None:
    ear = Ear()
    endless, nothing = Gauge(FDS, math.inf, ear), Gauge(FDS, 0, ear)
    endless.acquire(1 << 60)
    assert not nothing.try_acquire(1)
    assert ear.warned == []


def test_a_budget_warns_once_and_again_when_it_was_raised() -> None:
    ear = Ear()
    budget = Gauge(LOG, 100, ear)
    for _ in range(10):
        budget.acquire(10)
    assert ear.warned == [80]
    budget.set_cap(1000)
    budget.acquire(600)
    assert ear.warned == [80]
    budget.acquire(100)
    assert ear.warned == [80, 800]
    assert budget.peak == 800


def test_a_raised_cap_does_not_warn_again_for_the_same_use() -> None:
    ear = Ear()
    gauge = Gauge(FDS, 10, ear)
    gauge.acquire(9)
    gauge.set_cap(11)
    gauge.release()
    gauge.acquire()
    assert ear.warned == [9], "9 of 11 was never below a half in between"
    gauge.set_cap(1000)
    gauge.acquire(800)
    assert ear.warned == [9, 809]


@given(st.integers(1, 50), st.lists(st.integers(-50, 50)))
def test_warnings_are_those_of_the_rule(cap: int, steps: list[int]) -> None:
    """Compared with the rule as the documents tell it: at 80 % or more once, re-armed at 50 % or less."""
    ear = Ear()
    gauge = Gauge(FDS, cap, ear)
    used, peak, armed, expected = 0, 0, True, []
    for step in steps:
        if step < 0:
            gauge.release(min(-step, used))
        elif not gauge.try_acquire(step):
            continue
        used = max(0, used + step)
        peak = max(peak, used)
        if armed and used * 100 >= 80 * cap:
            armed = False
            expected.append(used)
        elif not armed and used * 100 <= 50 * cap:
            armed = True
    assert (ear.warned, gauge.used, gauge.peak) == (expected, used, peak)


# -- ceilings ---------------------------------------------------------------------------------------------------------
@given(st.integers(1, 50), st.lists(st.integers(0, 60)))
def test_a_ceiling_warns_by_the_same_rule_on_single_calls(cap: int, calls: list[int]) -> None:
    ear = Ear()
    ceiling = Ceiling(IOVECS, cap, ear)
    peak, armed, warned, refused = 0, True, [], []
    for amount in calls:
        if amount > cap:
            refused.append(amount)
            with pytest.raises(LimitExceeded):
                ceiling.check(amount)
            continue
        if amount > ceiling.top:  # as the hot paths do it
            ceiling.check(amount)
        peak = max(peak, amount)
        if armed and amount * 100 >= 80 * cap:
            armed = False
            warned.append(amount)
        elif not armed and amount * 100 <= 50 * cap:
            armed = True
    assert (ear.warned, ear.refused, ceiling.peak) == (warned, refused, peak)


# -- rates ------------------------------------------------------------------------------------------------------------
def test_a_bucket_lets_its_size_through_and_then_the_rate() -> None:
    bucket = Bucket(WRITES, Rate(100, size=50), now=0.0)
    assert bucket.spend(40, 0.0) == 0
    assert bucket.spend(60, 0.0) == pytest.approx(0.5), "50 owed at 100 a second"
    assert bucket.debt(0.2) == pytest.approx(0.3)
    assert bucket.debt(0.6) == 0
    assert bucket.spend(10, 0.6) == 0


def test_a_bucket_never_holds_more_than_its_size() -> None:
    bucket = Bucket(WRITES, Rate(100, size=50), now=0.0)
    assert bucket.spend(60, 1000.0) == pytest.approx(0.1)


def test_a_burst_passes_once_and_never_comes_back() -> None:
    bucket = Bucket(WRITES, Rate(100, size=50, burst=1000), now=0.0)
    assert bucket.spend(1040, 0.0) == 0
    assert bucket.spend(60, 1000.0) == pytest.approx(0.1)


def test_over_any_stretch_a_bucket_passes_the_rate_and_its_size() -> None:
    bucket = Bucket(WRITES, 1000, now=0.0)
    now, moved = 0.0, 0
    while now < 4.0:
        now += bucket.spend(64, now)
        moved += 64
    assert moved == pytest.approx(4000 + 100, abs=64)


def test_a_bucket_warns_when_it_first_runs_dry_and_after_a_full_refill() -> None:
    ear = Ear()
    bucket = Bucket(WRITES, Rate(100, size=50), now=0.0, watch=ear)
    bucket.spend(49, 0.0)
    assert ear.warned == []
    bucket.spend(1, 0.0)
    bucket.spend(50, 0.1)
    assert len(ear.warned) == 1
    bucket.spend(30, 0.9)  # at 20 of 50 again: dry once more, but it never was full in between
    bucket.spend(30, 0.9)
    assert len(ear.warned) == 1
    bucket.spend(60, 9.0)
    assert len(ear.warned) == 2
    assert bucket.refused == 0
    bucket.throttled()
    assert (bucket.refused, len(ear.refused)) == (1, 1)


def test_a_raised_rate_is_in_force_at_once() -> None:
    bucket = Bucket(WRITES, Rate(10, size=10), now=0.0)
    assert bucket.spend(110, 0.0) == pytest.approx(10)
    bucket.set_cap(1000)
    assert bucket.debt(0.05) == pytest.approx(0.05)
    bucket.set_cap(math.inf)
    assert bucket.spend(1 << 40, 0.2) == 0


def test_a_debt_is_told_from_those_that_came_after_it() -> None:
    bucket = Bucket(WRITES, Rate(100, size=50, burst=10), now=0.0)
    bucket.spend(160, 0.0)
    mine = bucket.taken
    bucket.spend(300, 0.0)
    assert (bucket.debt(0.5), bucket.debt(0.5, mine)) == (pytest.approx(3.5), pytest.approx(0.5))
    assert (bucket.debt(1.0), bucket.debt(1.0, mine)) == (pytest.approx(3.0), 0)


def test_a_bucket_takes_another_shape_at_the_same_rate() -> None:
    bucket = Bucket(WRITES, Rate(100, size=50), now=0.0)
    bucket.spend(25, 0.0)
    assert bucket.peak == 50
    bucket.set_cap(Rate(100, size=500))
    assert bucket.peak == pytest.approx(5)
    assert bucket.spend(450, 10.0) == 0
    assert bucket.peak == pytest.approx(90)


def test_a_scaled_bucket_counts_in_other_units() -> None:
    percent = Bucket(SPECS["max_cpu_percent"], 50, now=0.0, scale=0.01)
    assert percent.spend(1.0, 0.0) == pytest.approx((1.0 - 0.05) / 0.5)
    assert percent.used == 50, "all of its 50 %"


def test_a_window_refuses_and_says_when_to_come_back() -> None:
    ear = Ear()
    window = Window(ACTIONS, 2, ear)
    assert (window.take(0.0), window.take(100.0)) == (0, 0)
    assert ear.warned == [2]
    assert window.take(600.0) == 3000
    assert ear.refused == [3]
    assert window.take(3600.0) == 0
    assert window.take(3601.0) == 99
    assert len(ear.warned) == 1, "the window never was empty"
    assert window.take(10_000.0) == 0
    assert window.take(10_000.0) == 0
    assert len(ear.warned) == 2


# -- how rates and settings are written -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "rate"),
    [
        ("10MiB/s", Rate(10 << 20)),
        ("10MiB", Rate(10 << 20)),
        (1000, Rate(1000)),
        ("10MiB/s,size=1MiB,burst=64MiB", Rate(10 << 20, size=1 << 20, burst=64 << 20)),
        ({"size": "1MiB", "one_time_burst": "64MiB", "refill_time": 100}, Rate(10 << 20, size=1 << 20, burst=64 << 20)),
        ({"rate": "10MiB", "size": "1MiB"}, Rate(10 << 20, size=1 << 20)),
        (Rate(5, size=7), Rate(5, size=7)),
    ],
)
def test_rates_are_written_in_several_ways(value: object, rate: Rate) -> None:
    found = Limits(max_disk_write_bytes_per_second=value).max_disk_write_bytes_per_second  # type: ignore[arg-type]
    assert float(found) == float(rate)  # type: ignore[arg-type]
    if isinstance(found, Rate):
        assert (found.size, found.burst) == (rate.size, rate.burst)


@pytest.mark.parametrize(
    "value",
    ["fast", "10MiB/h", "10MiB,size", "10MiB,speed=3", "10MiB,size=1,size=2", {"size": 5}, {"refill_time": 5}, {}, 0],
)
def test_what_is_no_rate_is_refused(value: object) -> None:
    with pytest.raises(InvalidLimit, match="max_disk_write_bytes_per_second"):
        Limits(max_disk_write_bytes_per_second=value)  # type: ignore[arg-type]


def test_settings_are_checked_too() -> None:
    limits = Limits(on_output_full="Discard", warn_percent="90", rearm_percent=10)
    assert dict(limits.settings_given()) == {"on_output_full": "discard", "warn_percent": 90, "rearm_percent": 10}
    assert limits.setting("on_memory_full") == "enomem"
    for wrong in ({"on_output_full": "drop"}, {"warn_percent": 101}, {"warn_percent": 40}, {"rearm_percent": 80}):
        with pytest.raises(InvalidLimit, match=next(iter(wrong))):
            Limits(**wrong)  # type: ignore[arg-type]


def test_a_part_can_hold_more_than_the_default_of_the_whole() -> None:
    from agentvm.limits.caps import Caps

    caps = Caps(Limits(max_temp_storage_bytes="500MiB"))
    assert caps["max_filesystem_bytes"] == caps["max_temp_storage_bytes"] == 500 << 20
    with pytest.raises(InvalidLimit, match="above max_filesystem_bytes"):
        Caps(Limits(max_temp_storage_bytes="500MiB", max_filesystem_bytes="64MiB"))


def test_a_default_that_was_lowered_to_the_wider_cap_does_not_warn_beside_it() -> None:
    """Two lines for one thing would be one too many; a cap that somebody asked for still speaks for itself."""

    def heard(limits: Limits) -> list[str]:
        registry = Registry(limits)
        events: list[LimitEvent] = []
        outlet = Outlet(events.append)
        registry.outlets = (outlet,)
        process = registry.open_process()
        for _ in range(9):
            process.gauge("max_open_fds_per_process").acquire()
            registry.gauge("max_open_fds").acquire()
        assert not process.gauge("max_open_fds_per_process").try_acquire(2)
        assert outlet.flush(60)
        return sorted(f"{event.kind.value} {event.limit}" for event in events)

    refusal = "refused max_open_fds_per_process"
    assert heard(Limits(max_open_fds=10)) == [refusal, "warning max_open_fds"]
    assert heard(Limits(max_open_fds=10, max_open_fds_per_process=10)) == [
        refusal,
        "warning max_open_fds",
        "warning max_open_fds_per_process",
    ]
