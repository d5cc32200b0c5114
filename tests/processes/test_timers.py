"""Alarms with the host's clock: on time wherever the process is; and limits on CPU time and memory from real wasm."""

from contextlib import ExitStack
from time import monotonic

import pytest

from agentvm import AgentVM, CauseKind, Limits, Result, Signal
from tests.deadlines.measure import WakeUps, percentile
from tests.processes.programs import ALARM_US, program
from tests.support.engine_rig import until

LATE_SECONDS = 0.020
#: See tests/deadlines: the machine's own lateness counts that often.
WAKE_UPS = 5
TRIALS, ATTEMPTS = 5, 3


def _lateness(name: str) -> tuple[list[float], Result]:
    late = []
    with AgentVM() as vm, ExitStack() as others:
        vm.run(program(name), timeout=30)  # compiles it
        if "others" in name:
            other = others.enter_context(AgentVM(limits=Limits(max_cpu_percent="none")))
            for _ in range(6):
                others.enter_context(other.spawn(program("spins"), capture=True))
        for _ in range(TRIALS):
            start = monotonic()
            result = vm.run(program(name), timeout=30)
            late.append(monotonic() - start - ALARM_US / 1e6)
    return late, result


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("alarm while it computes", Signal.SIGALRM),
        ("alarm while it sleeps", Signal.SIGALRM),
        ("alarm while others compute", Signal.SIGALRM),
        ("alarm that is handled in calls", 0),
        ("alarm that ends a sleep", 27),  # EINTR
    ],
)
def test_an_alarm_comes_on_time(name: str, ending: int) -> None:
    for attempt in range(ATTEMPTS):
        with WakeUps() as machine:
            late, result = _lateness(name)
        assert (result.signal or result.exit_code) == ending, result.describe()
        assert min(late) > -0.001
        if percentile(late, 90) <= LATE_SECONDS + WAKE_UPS * percentile(machine.seconds, 99):
            return
        print(f"attempt {attempt}: {late}")
    pytest.fail(f"{late} s late, where the machine wakes {percentile(machine.seconds, 99)} s late")


def test_a_process_that_is_stopped_takes_its_alarm_when_it_goes_on() -> None:
    with AgentVM() as vm, vm.spawn(program("alarm while it is stopped"), capture=True) as process:
        until(lambda: vm.process(process.pid).info().state == "T", "the stop")
        with pytest.raises(TimeoutError):
            process.wait(4 * ALARM_US / 1e6)
        process.send_signal(Signal.SIGCONT)
        assert process.wait(30).signal is Signal.SIGALRM


def test_the_soft_limit_on_cpu_time_is_sigxcpu() -> None:
    with AgentVM() as vm:
        result = vm.run(program("cpu soft limit"), timeout=30)
        assert (result.signal, result.cause.kind) == (Signal.SIGXCPU, CauseKind.SIGNAL)
        assert "RLIMIT_CPU" in result.cause.message
        assert 1 <= result.usage.cpu_seconds < 1.5


def test_the_hard_limit_on_cpu_time_is_sigkill() -> None:
    with AgentVM() as vm:
        result = vm.run(program("cpu hard limit"), timeout=30)
        assert (result.signal, result.cause.kind) == (Signal.SIGKILL, CauseKind.SIGNAL)
        assert 1 <= result.usage.cpu_seconds < 1.5


def test_sigxcpu_can_be_handled() -> None:
    with AgentVM() as vm:
        assert vm.run(program("cpu signal that is handled"), timeout=30).exit_code == 5


def test_the_operators_cap_on_cpu_time_is_not_moved_by_a_handler() -> None:
    with AgentVM(limits=Limits(max_cpu_time_seconds=0.2)) as vm:
        result = vm.run(program("cpu signal that is handled"), timeout=30)
        assert (result.signal, result.cause.limit) == (Signal.SIGXCPU, "max_cpu_time_seconds")


def test_memory_grows_up_to_the_programs_own_limit() -> None:
    with AgentVM() as vm:
        assert vm.run(program("memory limit")).exit_code == 3
