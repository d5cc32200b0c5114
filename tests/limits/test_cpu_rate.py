"""max_cpu_percent: a VM gets its share of one core, slower and never failed, and nobody else pays for it."""

from time import monotonic

import pytest

from agentvm import AgentVM, Limits, Signal
from tests.bench.rates import WORK, Measured, cpu
from tests.limits.crossing import until
from tests.limits.harness import assemble, beside_a_sibling, drives, opened
from tests.support.fixtures import guest

ATTEMPTS = 5
#: Loops long enough for some hundred milliseconds, and ends.
LONG = assemble("""(module (func (export "_start") (local $i i32)
  (loop $l (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000000))))))""")


def keeps_its_share(percent: int, work: str, guests: int, seconds: float = 4.0) -> None:
    """Fail if the VM got more or less than its share in each of a few measurements; less is no fault where guests
    without a cap got no more right after."""
    seen: list[Measured] = []
    while len(seen) < ATTEMPTS:
        measured = cpu(percent, work, guests=guests, seconds=seconds)
        seen.append(measured)
        assert measured.got - measured.cap <= 2 * measured.allowed, f"far more than allowed: {measured}"
        if measured.is_close:
            return
        free = cpu("none", work, guests=guests, seconds=seconds)
        if measured.got < measured.cap and measured.got >= min(free.got, measured.cap) - measured.allowed:
            return
    pytest.fail("\n".join(map(str, seen)))


@drives("max_cpu_percent")
def test_vm_gets_its_share() -> None:
    keeps_its_share(25, "computes", 2, seconds=2.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("percent", [10, 50, 100])
@pytest.mark.parametrize(("guests", "work"), [(guests, work) for guests in (1, 4) for work in WORK if work != "naps"])
def test_vm_gets_its_share_whatever_its_guests_do(work: str, percent: int, guests: int) -> None:
    keeps_its_share(percent, work, guests)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("percent", [10, 50])
def test_guests_that_nap_between_their_turns_get_their_share_together(percent: int) -> None:
    """One alone asks for less than half a core, four for more than one."""
    keeps_its_share(percent, "naps", 4)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_share_may_be_more_than_a_core() -> None:
    keeps_its_share(150, "computes", 4)


def test_throttled_program_is_slower_and_does_not_fail() -> None:
    with opened(max_cpu_percent=20) as vm:
        result = vm.run(LONG).check()
        assert result.usage["max_cpu_percent"].refused > 0, "it was made to wait"
        assert result.usage["max_cpu_percent"].warnings == 1
        assert result.usage.wall_seconds > 2 * result.usage.cpu_seconds


def test_program_alone_in_a_vm_of_the_default_never_waits() -> None:
    with opened() as vm:
        assert vm.run(LONG).check().usage["max_cpu_percent"].refused == 0


def test_throttled_guest_ends_at_its_deadline_and_is_nobody_elses_business() -> None:
    with AgentVM() as vm:
        vm.run(guest("spin"), args=["no such mode"])  # compiled and cached
    result = beside_a_sibling(lambda vm: vm.run(guest("spin"), args=["busy"], timeout=0.2), max_cpu_percent=5)
    assert (result.signal, result.cause.limit) == (Signal.SIGKILL, "max_wall_time_seconds")


def test_vm_closes_at_once_though_its_guests_wait() -> None:
    """At 1 % a turn of 10 ms comes once a second: forty guests that had to wait for theirs would take forty."""
    with AgentVM(Limits(max_cpu_percent=1)) as vm:
        processes = [vm.spawn(guest("spin"), args=["busy"], stdin=b"", capture=True) for _ in range(40)]
        until(lambda: vm.usage()["max_cpu_percent"].refused > 10, "throttling")
        started = monotonic()
    assert monotonic() - started < 10
    assert all(process.wait().signal is Signal.SIGKILL for process in processes)


@pytest.mark.parametrize("percent", [400, "none"])
def test_raised_share_is_in_force_for_a_guest_that_waits(percent: int | str) -> None:
    """At 1 % the program would take more than ten seconds for each of its CPU time's tenths."""
    with opened(max_cpu_percent=1) as vm:
        process = vm.spawn(LONG, stdin=b"", capture=True)
        until(lambda: vm.usage()["max_cpu_percent"].refused > 0, "throttling")
        vm.raise_limit(max_cpu_percent=percent)
        usage = process.wait(60).check().usage
        assert usage.wall_seconds < 20 * usage.cpu_seconds
