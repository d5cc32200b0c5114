"""Counters: exact use, peaks and refusals; and the registry that holds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Errno, Limits
from agentvm.errors import InvalidLimit
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Ceiling, Gauge, LimitExceeded
from agentvm.limits.registry import Registry

FDS = SPECS["max_open_fds"]


# -- gauges -----------------------------------------------------------------------------------------------------------
def test_a_gauge_takes_up_to_its_cap() -> None:
    gauge = Gauge(FDS, 3)
    gauge.acquire()
    gauge.acquire(2)
    with pytest.raises(LimitExceeded) as caught:
        gauge.acquire()
    error = caught.value
    assert (error.errno, error.limit, error.observed, error.capacity) == (Errno.ENFILE, "max_open_fds", 4, 3)
    assert str(error) == "ENFILE: max_open_fds: 4 asked, 3 allowed"
    gauge.release(3)
    assert (gauge.used, gauge.peak, gauge.refused) == (0, 3, 1)


def test_a_gauge_takes_nothing_if_not_all_fits() -> None:
    gauge = Gauge(FDS, 3)
    gauge.acquire(2)
    with pytest.raises(LimitExceeded):
        gauge.acquire(2)
    assert not gauge.try_acquire(2)
    assert gauge.try_acquire(1)
    assert (gauge.used, gauge.peak, gauge.refused) == (3, 3, 2)


def test_a_gauge_takes_what_fits_if_asked_so() -> None:
    gauge = Gauge(SPECS["max_log_bytes"], 10)
    assert [gauge.acquire_up_to(6), gauge.acquire_up_to(6)] == [6, 4]
    with pytest.raises(LimitExceeded, match="ENOSPC"):
        gauge.acquire_up_to(1)
    assert gauge.acquire_up_to(0) == 0
    assert (gauge.used, gauge.peak, gauge.refused) == (10, 10, 2)


def test_a_gauge_without_a_cap_takes_all() -> None:
    gauge = Gauge(FDS, float("inf"))
    gauge.acquire(1 << 60)
    assert gauge.acquire_up_to(1 << 60) == 1 << 60


def test_giving_back_more_than_was_taken_is_a_bug() -> None:
    gauge = Gauge(FDS, 3)
    gauge.acquire()
    with pytest.raises(AssertionError, match="max_open_fds: more released than held"):
        gauge.release(2)


@given(st.integers(0, 20), st.lists(st.tuples(st.sampled_from(["all", "try", "some", "back"]), st.integers(0, 12))))
def test_a_gauge_counts_exactly(cap: int, steps: list[tuple[str, int]]) -> None:
    gauge = Gauge(FDS, cap)
    held = peak = refused = 0
    for kind, amount in steps:
        room = cap - held
        if kind == "back":
            gauge.release(min(amount, held))
            held -= min(amount, held)
        elif amount <= room:
            found = {"all": gauge.acquire, "try": gauge.try_acquire, "some": gauge.acquire_up_to}[kind](amount)
            assert found == {"all": None, "try": True, "some": amount}[kind]
            held += amount
        elif kind == "try":
            assert not gauge.try_acquire(amount)
        elif kind == "some" and room:
            assert gauge.acquire_up_to(amount) == room
            held = cap
        else:
            with pytest.raises(LimitExceeded):
                (gauge.acquire if kind == "all" else gauge.acquire_up_to)(amount)
        refused += kind != "back" and amount > room
        peak = max(peak, held)
        assert (gauge.used, gauge.peak, gauge.refused) == (held, peak, refused)


def test_a_ceiling_looks_at_each_call_alone() -> None:
    ceiling = Ceiling(SPECS["max_iovecs"], 5)
    ceiling.check(3)
    ceiling.check(5)
    with pytest.raises(LimitExceeded) as caught:
        ceiling.check(6)
    assert (caught.value.errno, caught.value.observed) == (Errno.EINVAL, 6)
    ceiling.check(1)
    assert (ceiling.peak, ceiling.refused) == (5, 1)


# -- the registry -----------------------------------------------------------------------------------------------------
def test_the_registry_makes_each_counter_once() -> None:
    registry = Registry(Limits(max_open_fds=7))
    assert registry.gauge("max_open_fds") is registry.gauge("max_open_fds")
    assert registry.gauge("max_open_fds").cap == 7
    assert registry.ceiling("max_iovecs") is registry.ceiling("max_iovecs")
    first, second = registry.open_process(), registry.open_process()
    assert first.gauge("max_log_bytes") is not second.gauge("max_log_bytes")
    with pytest.raises(KeyError):
        registry.gauge("max_nonsense")


def test_usage_lists_every_limit_in_the_order_of_the_catalogue() -> None:
    assert [usage.name for usage in Registry(Limits()).usage()] == list(SPECS)


def test_usage_of_a_process_limit_is_that_of_the_fullest_process() -> None:
    registry = Registry(Limits(max_log_bytes=100))
    first, second = registry.open_process(), registry.open_process()
    first.gauge("max_log_bytes").acquire(30)
    second.gauge("max_log_bytes").acquire(50)
    second.gauge("max_log_bytes").try_acquire(60)
    usage = registry.snapshot()["max_log_bytes"]
    assert (usage.used, usage.peak, usage.refused, usage.percent) == (50, 50, 1, 50.0)


def test_usage_keeps_the_peaks_of_processes_that_ended() -> None:
    registry = Registry(Limits(max_log_bytes=100))
    for amount in (70, 20):
        process = registry.open_process()
        process.gauge("max_log_bytes").acquire(amount)
        process.gauge("max_log_bytes").try_acquire(100)
        registry.close_process(process)
    usage = registry.snapshot()["max_log_bytes"]
    assert (usage.used, usage.peak, usage.refused) == (0, 70, 2)


def test_a_snapshot_stays_as_it_was() -> None:
    registry = Registry(Limits(max_open_fds=10))
    registry.gauge("max_open_fds").acquire(4)
    before = registry.snapshot()
    registry.gauge("max_open_fds").acquire(4)
    registry.raise_to(Limits(max_open_fds=20))
    assert (before["max_open_fds"].used, before["max_open_fds"].cap) == (4, 10)
    assert (registry.snapshot()["max_open_fds"].used, registry.snapshot()["max_open_fds"].cap) == (8, 20)
    with pytest.raises(KeyError):
        before["max_nonsense"]


def test_percent_of_no_cap_and_of_a_cap_of_nothing() -> None:
    unlimited = Registry(Limits(max_open_fds="none"))
    unlimited.gauge("max_open_fds").acquire(5)
    assert unlimited.snapshot()["max_open_fds"].percent == 0
    nothing = Registry(Limits(max_inodes=0))
    assert nothing.snapshot()["max_inodes"].percent == 0


def test_raising_a_cap_reaches_counters_that_are_in_use() -> None:
    registry = Registry(Limits(max_open_fds=2, max_log_bytes=2, max_iovecs=2))
    process = registry.open_process()
    gauges = registry.gauge("max_open_fds"), process.gauge("max_log_bytes")
    for gauge in gauges:
        gauge.acquire(2)
    registry.raise_to(Limits(max_open_fds=3, max_log_bytes=3, max_iovecs=3))
    for gauge in gauges:
        gauge.acquire()
    registry.ceiling("max_iovecs").check(3)
    assert registry.open_process().gauge("max_log_bytes").cap == 3


def test_raising_refuses_a_cap_that_would_fall_and_changes_nothing() -> None:
    registry = Registry(Limits(max_open_fds=5, max_sockets=5))
    gauge = registry.gauge("max_sockets")
    with pytest.raises(InvalidLimit, match="can only be raised"):
        registry.raise_to(Limits(max_sockets=6, max_open_fds=4))
    assert (gauge.cap, registry.caps["max_open_fds"]) == (5, 5)


def test_a_process_can_be_held_tighter_than_the_vm() -> None:
    registry = Registry(Limits(max_output_bytes=100))
    process, other = registry.open_process(), registry.open_process()
    process.tighten("max_output_bytes", 10)
    process.tighten("max_output_bytes", 50)
    assert (process.gauge("max_output_bytes").cap, other.gauge("max_output_bytes").cap) == (10, 100)


def test_raising_a_cap_leaves_a_process_that_is_held_tighter() -> None:
    registry = Registry(Limits(max_output_bytes=100))
    process = registry.open_process()
    process.tighten("max_output_bytes", 10)
    registry.raise_to(Limits(max_output_bytes=200))
    assert process.gauge("max_output_bytes").cap == 10


def test_raising_a_cap_above_the_wider_one_is_refused() -> None:
    registry = Registry(Limits(max_open_fds=10))
    with pytest.raises(InvalidLimit, match="above max_open_fds"):
        registry.raise_to(Limits(max_open_fds_per_process=11))


def test_raising_a_cap_raises_what_follows_it() -> None:
    registry = Registry(Limits(max_filesystem_bytes=10))
    registry.raise_to(Limits(max_filesystem_bytes=20))
    assert registry.gauge("max_temp_storage_bytes").cap == 20
