"""max_cpu_percent: who pays, who waits, and whose turn it is."""

import threading
from time import monotonic

import pytest

from agentvm.engine.cpu_rate import CpuRate
from agentvm.engine.execution import Execution
from agentvm.kernel.outcome import Signal
from agentvm.kernel.process import Process
from agentvm.limits.catalogue import Limits
from agentvm.limits.rate import Bucket
from tests.support.engine_rig import BUSY, HELLO, SPIN, START, WAIT, Rig, ended, until

#: So much CPU time that at 1 % its debt outlasts every test.
PLENTY_SECONDS = 1000.0


def bucket_of(rig: Rig) -> Bucket:
    return rig.registry.bucket("max_cpu_percent", scale=0.01)


class Waiter:
    """A thread that waits for the turn of a process."""

    def __init__(self, rate: CpuRate, process: Process, order: list[int]) -> None:
        self.process = process
        self._thread = threading.Thread(target=lambda: (rate.wait_turn(process), order.append(process.pid)))
        self._thread.daemon = True
        before = len(rate._queue)
        self._thread.start()
        until(lambda: len(rate._queue) > before)

    def goes_on(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()


def raise_cap(rig: Rig, rate: CpuRate, percent: int | str) -> None:
    rig.registry.raise_to(Limits(max_cpu_percent=percent))
    rate.wake()


# ---- the rate by itself ----


def test_vm_within_its_rate_owes_nothing() -> None:
    with Rig(max_cpu_percent=50) as rig:
        rate, process = CpuRate(bucket_of(rig)), rig.process()
        assert not rate.must_wait()
        assert not rate.charge(process, 0.01)
        assert (bucket_of(rig).warnings, bucket_of(rig).refused) == (0, 0)


def test_vm_past_its_rate_makes_its_processes_wait_and_says_so_once_for_each_wait() -> None:
    with Rig(max_cpu_percent=1) as rig:
        rate, bucket = CpuRate(bucket_of(rig)), bucket_of(rig)
        process = rig.process()
        assert rate.charge(process, PLENTY_SECONDS)
        assert rate.must_wait()
        assert (bucket.warnings, bucket.refused) == (1, 0)
        waiter = Waiter(rate, process, [])
        assert bucket.refused == 1
        process.kill(Signal.SIGTERM)
        waiter.goes_on()
        assert (bucket.warnings, bucket.refused) == (1, 1)


def test_bucket_that_fills_while_somebody_waits_does_not_warn_again() -> None:
    with Rig(max_cpu_percent=50) as rig:
        rate, bucket = CpuRate(bucket_of(rig)), bucket_of(rig)
        process = rig.process()
        rate.charge(process, 0.1)
        Waiter(rate, process, []).goes_on()
        bucket.refill(monotonic() + 10)  # admitted, and not yet run: the host is busy
        rate.charge(process, 0.1)
        assert bucket.warnings == 1
        bucket.refill(monotonic() + 20)
        rate.charge(process, 30.0)
        assert bucket.warnings == 2


def test_process_that_computed_all_along_is_not_charged_twice_for_late_ticks() -> None:
    """One process at 100 % uses what comes in; a tick that is late by more than the bucket holds changes nothing."""
    with Rig() as rig:
        bucket = bucket_of(rig)
        now = monotonic()
        for late in (0.01, 0.5, 3.0, 0.01):
            now += late
            assert bucket.charge(late, now) == 0
        assert bucket.warnings == 0


def test_turns_come_in_the_order_of_waiting() -> None:
    with Rig(max_cpu_percent=1) as rig:
        rate, order = CpuRate(bucket_of(rig)), list[int]()
        rate.charge(rig.process(), PLENTY_SECONDS)
        waiters = [Waiter(rate, rig.process(), order) for _ in range(5)]
        assert rate.charge(rig.process(), 0.0), "who comes later waits behind them"
        raise_cap(rig, rate, "none")
        for waiter in waiters:
            waiter.goes_on()
        assert order == sorted(order)
        assert not rate.is_contended


def test_next_turn_begins_when_the_last_one_was_paid_for() -> None:
    """At 10 % a turn of 10 ms is paid for in 100; it counts from the start, whether it was charged yet or not."""
    with Rig(max_cpu_percent=10) as rig:
        rate, order = CpuRate(bucket_of(rig)), list[int]()
        started = monotonic()
        rate.charge(rig.process(), 0.03)  # 10 ms of them were in the bucket
        first, second = (Waiter(rate, rig.process(), order) for _ in range(2))
        first.goes_on()
        assert monotonic() - started > 0.15
        rate.charge(first.process, 0.01)
        second.goes_on()
        assert monotonic() - started > 0.25


@pytest.mark.parametrize("percent", [1, 5, 10, 50])
def test_turn_that_is_never_used_holds_up_the_others_for_a_moment_only(percent: int) -> None:
    """The bucket of 1 % never holds a whole slice."""
    with Rig(max_cpu_percent=percent) as rig:
        rate, order = CpuRate(bucket_of(rig)), list[int]()
        rate.charge(rig.process(), percent * 0.002)
        waiters = [Waiter(rate, rig.process(), order) for _ in range(4)]
        for waiter in waiters:
            waiter.goes_on()


def test_killed_process_leaves_the_queue_and_holds_nobody_up() -> None:
    with Rig(max_cpu_percent=1) as rig:
        rate, order = CpuRate(bucket_of(rig)), list[int]()
        rate.charge(rig.process(), PLENTY_SECONDS)
        waiters = [Waiter(rate, rig.process(), order) for _ in range(3)]
        for victim in (waiters[1], waiters[0]):
            victim.process.kill(Signal.SIGKILL)
            victim.goes_on()
        assert waiters[2].waits
        raise_cap(rig, rate, "none")
        waiters[2].goes_on()


@pytest.mark.parametrize("percent", [100, "none"])
def test_raised_rate_is_noticed_by_who_waits(percent: int | str) -> None:
    """At 1 % the debt would take 20 s, at 100 % 0.2."""
    with Rig(max_cpu_percent=1) as rig:
        rate = CpuRate(bucket_of(rig))
        started = monotonic()
        rate.charge(rig.process(), 0.2)
        waiter = Waiter(rate, rig.process(), [])
        raise_cap(rig, rate, percent)
        waiter.goes_on()
        assert monotonic() - started < 10


def test_no_rate_charges_nothing() -> None:
    with Rig(max_cpu_percent="none") as rig:
        rate = CpuRate(bucket_of(rig))
        assert not rate.charge(rig.process(), PLENTY_SECONDS)
        assert not rate.must_wait()


# ---- on real guests ----


def throttled(rig: Rig, body: str) -> Execution:
    """Start a guest, and wait until it waits for its turn."""
    execution = rig.start(body)
    waits = rig.machine.cpu_rate._queue
    until(lambda: execution.process in waits and not execution.statistics().is_computing, "throttling")
    return execution


@pytest.mark.parametrize("body", [SPIN, BUSY], ids=["computes", "calls"])
def test_throttled_guest_holds_no_slot_and_can_be_killed(body: str) -> None:
    with Rig(max_cpu_percent=1) as rig:
        execution = throttled(rig, body)
        execution.kill(Signal.SIGTERM)
        assert ended(execution).status.signal is Signal.SIGTERM
        assert bucket_of(rig).refused >= 1


@pytest.mark.parametrize("body", [SPIN, BUSY], ids=["computes", "calls"])
def test_deadline_of_a_throttled_guest_holds(body: str) -> None:
    with Rig(max_cpu_percent=1) as rig:
        assert rig.run(body, timeout_seconds=0.2).cause.limit == "max_wall_time_seconds"


def test_guest_of_a_default_vm_is_never_throttled_alone() -> None:
    with Rig() as rig:
        execution = rig.start(SPIN)
        until(lambda: execution.time.cpu_time_ns() > 300 * 10**6, "some ticks")
        bucket = bucket_of(rig)
        assert (bucket.refused, bucket.warnings) == (0, 0)


@pytest.mark.parametrize("bodies", [(SPIN, SPIN), (SPIN, BUSY), (BUSY, BUSY)], ids=["computing", "mixed", "calling"])
def test_siblings_get_equal_shares(bodies: tuple[str, str]) -> None:
    with Rig(max_cpu_percent=20) as rig:
        one, other = (rig.start(body) for body in bodies)
        until(lambda: min(one.time.cpu_time_ns(), other.time.cpu_time_ns()) > 150 * 10**6, "fifteen turns of each")
        shares = sorted([one.time.cpu_time_ns(), other.time.cpu_time_ns()])
        assert shares[1] < 2 * shares[0], shares


def test_sleeper_leaves_its_turn_to_the_others() -> None:
    with Rig(max_cpu_percent=10) as rig:
        naps = START.format("(loop $l (call $sleep (i32.const 1)) (br $l))")
        sleepers = [rig.start(naps) for _ in range(3)]
        spinner = rig.start(SPIN)
        until(lambda: spinner.time.cpu_time_ns() > 60 * 10**6, "the guest that computes")
        assert all(execution.time.cpu_time_ns() for execution in sleepers)


def test_time_spent_compiling_is_not_charged() -> None:
    with Rig(max_cpu_percent=1) as rig:
        rig.run(HELLO, cpu_time_ns=50 * 10**9)
        assert not rig.machine.cpu_rate.must_wait()
        assert rig.run(HELLO).status.code == 0


def test_programs_too_short_for_a_tick_are_charged_at_their_end() -> None:
    count = START.format(
        "(local $i i32) "
        "(loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000))))"
    )
    with Rig(max_cpu_percent=5) as rig:
        for _ in range(50):
            rig.run(count)
            if bucket_of(rig).refused:
                break
        assert bucket_of(rig).refused


def test_calls_of_a_reactor_are_charged() -> None:
    body = """(func (export "work") (local $i i32)
      (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000000)))))"""
    with Rig(max_cpu_percent=5) as rig:
        execution = rig.start(body, entry="_initialize")
        for _ in range(50):
            execution.call("work")
            if bucket_of(rig).refused:
                break
        assert bucket_of(rig).refused


def test_throttled_guest_does_not_keep_its_siblings_from_ending() -> None:
    with Rig(max_cpu_percent=1) as rig:
        waiting = rig.start(WAIT)
        until(lambda: rig.waiting == 1)
        throttled(rig, SPIN)
        waiting.kill()
        assert ended(waiting).status.signal is Signal.SIGKILL
