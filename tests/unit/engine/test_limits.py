"""Memory, tables, fuel and time: each cap exact, and what the guest gets at it."""

import threading

import pytest

from agentvm.engine.capacity import configure_host, host_capacity
from agentvm.engine.linked import plan_tables
from agentvm.engine.memory import live_memories
from agentvm.engine.module_info import TableType
from agentvm.errors import HostLimit, ModuleLimit
from agentvm.kernel.outcome import Signal
from agentvm.limits.gauge import LimitExceeded
from tests.support.engine_rig import BUSY, HELLO, SPIN, START, WAIT, Rig, ended, run, until

PAGE = 65_536
MIB = 1 << 20

#: Grows page by page until refused, then exits with the pages it has (below 256).
GROW_ALL = START.format(
    """(block $full (loop $more (br_if $full (i32.eq (memory.grow (i32.const 1)) (i32.const -1))) (br $more)))
    (call $exit (memory.size))"""
)


@pytest.mark.parametrize("pages", [1, 2, 16, 40])
def test_memory_grows_to_the_cap_exactly(pages: int) -> None:
    with Rig(max_memory_bytes=pages * PAGE) as rig:
        assert rig.run("(memory 1)" + GROW_ALL).status.code == pages
        gauge = rig.registry.gauge("max_memory_bytes")
        assert (gauge.peak, gauge.refused) == (pages * PAGE, 1)


def test_smaller_cap_of_the_process_holds_first() -> None:
    with Rig(max_memory_bytes=64 * PAGE, max_memory_per_process_bytes=5 * PAGE) as rig:
        assert rig.run("(memory 1)" + GROW_ALL).status.code == 5


def test_memory_cap_counts_all_memories_of_a_process() -> None:
    with Rig(max_memory_bytes=10 * PAGE) as rig:
        assert rig.run("(memory 1) (memory 4)" + GROW_ALL).status.code == 6


def test_memory_past_4_gib_is_refused_although_the_cap_is_higher() -> None:
    body = START.format("(call $exit (i32.add (i32.const 1) (memory.grow (i32.const 65536))))")
    with Rig(max_memory_bytes="16GiB", max_memory_per_process_bytes="16GiB") as rig:
        assert rig.run('(memory (export "memory") 1)' + body).status.code == 0


def test_growing_to_the_whole_reservation_works_and_the_guard_still_holds() -> None:
    configure_host(max_resident_memory_bytes="64GiB")
    body = START.format(
        """(drop (memory.grow (i32.const 65535)))
        (i32.store8 (i32.const 0xFFFFFFFF) (i32.const 7))
        (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
        (drop (i32.load8_u offset=0xFFFFFFFF (i32.const 1)))"""
    )
    with Rig(max_memory_bytes="16GiB", max_memory_per_process_bytes="16GiB") as rig:
        assert rig.run('(memory (export "memory") 1)' + body).status.signal is Signal.SIGSEGV


def test_start_that_does_not_fit_is_refused_and_takes_nothing() -> None:
    with Rig(max_memory_bytes=4 * PAGE) as rig:
        with pytest.raises(LimitExceeded, match="max_memory_bytes"):
            rig.start("(memory 5)" + START.format(""))
        assert rig.run("(memory 4)" + START.format("")).status.code == 0


def test_second_process_is_refused_what_the_first_holds() -> None:
    with Rig(max_memory_bytes=8 * PAGE) as rig:
        first = rig.start("(memory 6)" + WAIT)
        with pytest.raises(LimitExceeded, match="max_memory_bytes"):
            rig.start("(memory 3)" + WAIT)
        rig.release()
        assert ended(first).status.code == 0
        assert rig.run("(memory 8)" + START.format("")).status.code == 0


def test_exceptions_are_charged_to_memory() -> None:
    """Each exception lives on the GC heap, which is a memory like any other."""
    throw = """(tag $t (param i64))
    (func $one (block $caught (result i64) (try_table (catch $t $caught) (throw $t (i64.const 1)))
      (i64.const 0)) drop)"""
    with Rig() as rig:
        assert rig.run(throw + START.format("(call $one)")).status.code == 0
        assert rig.registry.gauge("max_memory_bytes").peak >= PAGE


def test_exceptions_past_the_cap_end_the_process_only() -> None:
    keep = """(tag $t) (table $kept 5000 exnref)
    (func $one (param $i i32) (block $caught (result exnref) (try_table (catch_all_ref $caught) (throw $t)) unreachable)
      (local.set $e) (table.set $kept (local.get $i) (local.get $e)))"""
    body = keep.replace("(param $i i32)", "(param $i i32) (local $e exnref)") + START.format(
        """(local $i i32) (loop $l (call $one (i32.rem_u (local.get $i) (i32.const 5000)))
        (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))"""
    )
    with Rig(max_memory_bytes=PAGE + 5000 * 16) as rig:
        ending = rig.run(body)
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGKILL, "max_memory_bytes")
        assert rig.registry.gauge("max_memory_bytes").peak <= PAGE + 5000 * 16
    with Rig(max_memory_bytes="1MiB") as rig:
        assert rig.run(body).status.code == 0


def test_several_threads_that_grow_at_once_stay_within_the_cap_to_the_page() -> None:
    pages, guests = 37, 6
    grow = START.format(
        """(block $full (loop $more (br_if $full (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
        (call $yield) (br $more)))
        (call $wait) (call $exit (memory.size))"""
    )
    with Rig(max_memory_bytes=pages * PAGE) as rig:
        executions = [rig.start("(memory 0)" + grow) for _ in range(guests)]
        until(lambda: rig.waiting == guests, "all guests hit the cap")
        assert rig.registry.gauge("max_memory_bytes").used == pages * PAGE
        rig.release()
        codes = [ended(execution).status.code for execution in executions]
        assert sum(code or 0 for code in codes) == pages


def test_memory_of_the_host_is_a_cap_over_all_vms() -> None:
    capacity = host_capacity()
    gauge = capacity.gauge("max_resident_memory_bytes")
    before, used = gauge.cap, gauge.used
    gauge.cap = used + 3 * PAGE
    try:
        with Rig() as one, Rig() as other:
            first = one.start("(memory 2)" + WAIT)
            assert other.run("(memory 1)" + GROW_ALL).status.code == 1
            one.release()
            ended(first)
            assert other.run("(memory 1)" + GROW_ALL).status.code == 3
    finally:
        gauge.cap = before
    assert gauge.used == used


def test_memories_are_unmapped_at_the_end() -> None:
    before = live_memories()
    with Rig() as rig:
        execution = rig.start("(memory 1) (memory 2)" + WAIT)
        until(lambda: rig.waiting == 1)
        assert live_memories() == before + 2
        rig.release()
        ended(execution)
        assert live_memories() == before


# ---- tables ----

GROW_TABLE = START.format(
    """(block $full (loop $more
      (br_if $full (i32.eq (table.grow $a (ref.null func) (i32.const 1)) (i32.const -1))) (br $more)))
    (call $exit (table.size $a))"""
)


@pytest.mark.parametrize(("maximum", "reached"), [("", 100), ("60", 60), ("500", 100)])
def test_table_grows_to_the_cap_exactly(maximum: str, reached: int) -> None:
    with Rig(max_table_elements=100) as rig:
        assert rig.run(f"(table $a 1 {maximum} funcref)" + GROW_TABLE).status.code == reached


def test_hundred_tables_share_one_cap_and_are_charged() -> None:
    tables = "".join(f"(table $t{i} 0 funcref)" for i in range(100))
    grow = "".join(
        f"(drop (table.grow $t{i} (ref.null func) (i32.const 10000)))"
        f"(local.set $n (i32.add (local.get $n) (table.size $t{i})))"
        for i in range(100)
    )
    body = tables + START.format(
        f"(local $n i32) {grow} (if (i32.gt_u (local.get $n) (i32.const 1000000)) (then unreachable))"
    )
    with Rig(max_tables=100) as rig:
        assert rig.run(body).status.code == 0
        assert 100 * 10_000 * 8 <= rig.registry.gauge("max_memory_bytes").peak <= 17 * MIB


def test_tables_that_start_above_the_cap_are_refused() -> None:
    with Rig(max_table_elements=100) as rig, pytest.raises(ModuleLimit, match="max_table_elements"):
        rig.start("(table 60 funcref) (table 60 funcref)" + START.format(""))


def test_fixed_table_is_charged_exactly() -> None:
    with Rig() as rig:
        rig.run("(table 1000 1000 funcref)" + START.format(""))
        assert rig.registry.gauge("max_memory_bytes").peak == 8000


@pytest.mark.parametrize(
    "tables",
    [
        ((0, None),),
        ((5, 10), (0, None)),
        ((900, 900), (0, None)),
        ((100, None), (100, 100), (0, 50)),
        tuple((i, None) for i in range(20)),
    ],
)
def test_plan_keeps_the_sum_within_the_cap(tables: tuple[tuple[int, int | None], ...]) -> None:
    types = tuple(TableType(*table) for table in tables)
    plan = plan_tables(types, 2000, 1 << 40)
    reach = sum(max(t.minimum, min(plan.elements_each, t.maximum or plan.elements_each)) for t in types)
    assert reach <= 2000
    assert all(t.minimum <= plan.elements_each for t in types)
    assert plan.size_bytes >= 8 * reach


def test_small_process_gets_small_tables() -> None:
    assert plan_tables((TableType(1, None),), 1_000_000, MIB).size_bytes <= MIB // 8


# ---- fuel ----


def test_fuel_is_exact_for_a_single_process() -> None:
    count = START.format(
        "(local $i i32) "
        "(loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))"
    )
    with Rig() as rig:
        execution = rig.start(count)
        ended(execution)
        needed = execution.statistics().fuel_used
    assert needed > 5000
    with Rig(max_fuel=needed) as rig:
        assert rig.run(count).status.code == 0
        assert rig.registry.gauge("max_fuel").used == needed
    with Rig(max_fuel=needed // 2) as rig:
        ending = rig.run(count)
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGXCPU, "max_fuel")
        assert rig.registry.gauge("max_fuel").used == needed // 2


@pytest.mark.parametrize("limit", ["max_fuel", "max_fuel_per_process"])
def test_endless_loop_ends_when_the_fuel_does(limit: str) -> None:
    ending = run(SPIN, **{limit: 100_000})
    assert (ending.status.signal, ending.cause.limit, ending.cause.cap) == (Signal.SIGXCPU, limit, 100_000)


def test_many_processes_never_spend_more_than_the_cap_together() -> None:
    with Rig(max_fuel=5_000_000) as rig:
        executions = [rig.start(BUSY) for _ in range(5)]
        for execution in executions:
            assert ended(execution).cause.limit == "max_fuel"
        gauge = rig.registry.gauge("max_fuel")
        assert gauge.cap * 0.99 <= gauge.used <= gauge.cap


def test_sleeping_process_leaves_its_fuel_to_the_others() -> None:
    with Rig(max_fuel=1_000_000) as rig:
        sleeper = rig.start(WAIT)
        until(lambda: rig.waiting == 1)
        assert rig.machine.statistics().fuel.leased == 0
        assert ended(rig.start(SPIN)).cause.limit == "max_fuel"
        sleeper.kill()


def test_new_process_waits_for_fuel_that_a_sibling_holds() -> None:
    """The sibling computes on all of it, without a host call; then none is left, and both end by it."""
    with Rig(max_fuel=300_000_000) as rig:
        first = rig.start(SPIN)
        until(lambda: rig.machine.statistics().fuel.leased > 0)
        second = rig.start(BUSY)
        assert ended(first).cause.limit == "max_fuel"
        assert ended(second).cause.limit == "max_fuel"
        assert rig.registry.gauge("max_fuel").used <= 300_000_000


def test_process_that_waits_for_fuel_can_be_killed() -> None:
    with Rig(max_fuel=10**15, max_fuel_per_process=10**15) as rig:
        first = rig.start(SPIN)
        until(lambda: rig.machine.statistics().fuel.leased > 0)
        second = rig.start(SPIN)
        second.kill(Signal.SIGINT)
        assert ended(second).status.signal is Signal.SIGINT
        first.kill()


def test_spawn_in_a_host_call_splits_the_lease_of_the_parent() -> None:
    with Rig(max_fuel=10**9) as rig:
        children = []
        rig.on_spawn = lambda: children.append(rig.start(WAIT))
        parent = rig.start(START.format("(call $spawn) (loop $l (br $l))"))
        until(lambda: rig.waiting == 1, "the child ran beside its parent")
        parent.kill()


def test_refuel_lets_a_running_process_go_on() -> None:
    from agentvm.limits.catalogue import Limits

    count = "(loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))"
    with Rig(max_fuel=1000) as rig:
        execution = rig.start(START.format("(local $i i32) (call $wait) " + count))
        until(lambda: rig.waiting == 1)
        rig.registry.raise_to(Limits(max_fuel=10**9, max_fuel_per_process=10**9))
        rig.machine.refresh_limits()
        rig.release()
        assert ended(execution).status.code == 0


def test_killed_process_is_charged_for_what_it_burnt() -> None:
    with Rig(max_fuel=10**12) as rig:
        execution = rig.start(SPIN)
        until(lambda: execution.cpu_time_ns() > 20 * 10**6)
        execution.kill()
        ended(execution)
        assert 10**6 < rig.registry.gauge("max_fuel").used < 10**12


# ---- time ----


@pytest.mark.parametrize("body", [SPIN, BUSY], ids=["computes", "calls"])
def test_cpu_time_is_capped(body: str) -> None:
    with Rig(max_cpu_time_seconds=0.05) as rig:
        ending = rig.run(body)
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGXCPU, "max_cpu_time_seconds")


def test_cpu_time_spent_before_the_start_counts() -> None:
    with Rig(max_cpu_time_seconds=5) as rig:
        ending = rig.run(SPIN, cpu_time_ns=5 * 10**9)
        assert ending.cause.limit == "max_cpu_time_seconds"


def test_sleep_costs_no_cpu_time() -> None:
    with Rig(max_cpu_time_seconds=0.2) as rig:
        assert rig.run(START.format("(call $sleep (i32.const 400))")).status.code == 0


@pytest.mark.parametrize("body", [SPIN, BUSY, WAIT], ids=["computes", "calls", "waits"])
@pytest.mark.parametrize("by", ["timeout", "limit"])
def test_wall_time_is_capped(body: str, by: str) -> None:
    limits, options = ({}, {"timeout_seconds": 0.05}) if by == "timeout" else ({"max_wall_time_seconds": 0.05}, {})
    with Rig(**limits) as rig:
        ending = rig.run(body, **options)
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGKILL, "max_wall_time_seconds")
        assert ending.cause.cap == 0.05


def test_raised_wall_time_moves_the_deadline_of_a_running_process() -> None:
    from agentvm.limits.catalogue import Limits

    with Rig(max_wall_time_seconds=0.3) as rig:
        execution = rig.start(START.format("(call $sleep (i32.const 600))"))
        rig.registry.raise_to(Limits(max_wall_time_seconds=60))
        rig.machine.refresh_limits()
        assert ended(execution).status.code == 0


# ---- the host ----


def test_place_among_running_processes_is_refused_and_given_back() -> None:
    gauge = host_capacity().gauge("max_running_processes")
    before = gauge.cap
    assert gauge.used == 0
    configure_host(max_running_processes=2)
    try:
        with Rig() as rig:
            two = [rig.start(WAIT), rig.start(WAIT)]
            with pytest.raises(HostLimit, match="max_running_processes"):
                rig.start(WAIT)
            rig.release()
            for execution in two:
                ended(execution)
            assert rig.run(HELLO).status.code == 0
    finally:
        gauge.cap = before
    assert gauge.used == 0


def test_start_from_many_threads_at_once() -> None:
    with Rig() as rig:
        codes: list[int | None] = []

        def go() -> None:
            codes.extend(rig.run(HELLO).status.code for _ in range(20))

        threads = [threading.Thread(target=go) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert codes == [0] * 120
