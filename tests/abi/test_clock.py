"""preview1 clocks, over a clock that only the test moves."""

import pytest

from agentvm import Errno, ManualClock, SystemClock
from tests.abi.rig import Boot, Rig

REALTIME, MONOTONIC, PROCESS, THREAD = range(4)


def _time(rig: Rig, clock: int) -> int:
    rig.ok("clock_time_get", clock, 0, 64, writes=[(64, 8)])
    return rig.number(64, 8)


def test_clock_time_get_reads_the_clock_of_the_vm(boot: Boot) -> None:
    clock = ManualClock(realtime_ns=1_700_000_000_000_000_000)
    rig = boot(vm={"clock": clock})
    assert _time(rig, REALTIME) == 1_700_000_000_000_000_000 + _time(rig, MONOTONIC)
    before = _time(rig, MONOTONIC)
    clock.advance(123)
    assert _time(rig, MONOTONIC) == before + 123
    assert rig.trace[-1] == "clock_time_get(clock_id=1, precision=0, result=64) -> OK"


@pytest.mark.parametrize("clock", [PROCESS, THREAD])
def test_clock_time_get_of_cpu_time_never_goes_back(rig: Rig, clock: int) -> None:
    first = _time(rig, clock)
    assert 0 < first <= _time(rig, clock)


@pytest.mark.parametrize("clock", [4, 5, 0xFFFF_FFFF])
def test_clock_time_get_of_an_unknown_clock_is_einval(rig: Rig, clock: int) -> None:
    assert rig.call("clock_time_get", clock, 0, 64) is Errno.EINVAL
    assert rig.call("clock_res_get", clock, 64) is Errno.EINVAL


@pytest.mark.parametrize("clock", [REALTIME, MONOTONIC, PROCESS, THREAD])
def test_clock_res_get_tells_how_coarse_the_clock_is(boot: Boot, clock: int) -> None:
    rig = boot(vm={"deterministic": False, "clock": SystemClock(resolution_ns=1_000_000)})
    rig.ok("clock_res_get", clock, 64, writes=[(64, 8)])
    assert rig.number(64, 8) == 1_000_000


def test_clock_time_get_twice_in_a_row_gets_on(rig: Rig) -> None:
    """A deterministic VM's clock moves as it is looked at: a guest that waits for time to pass gets on."""
    assert _time(rig, MONOTONIC) < _time(rig, MONOTONIC)
