"""Drivers for what single calls ask for, and for what is spent or refilled as time passes."""

from collections.abc import Callable

import pytest

from agentvm import AgentVM, AgentVMError, ManualClock
from agentvm.errors import InvalidArgument
from agentvm.kernel.outcome import Signal
from tests.limits.crossing import Stage, crosses, until
from tests.limits.probe import Probe
from tests.support.fixtures import guest

__all__ = ()


# -- single calls -----------------------------------------------------------------------------------------------------


def _starts(stage: Stage, vm: AgentVM, start: Callable[[AgentVM, int], object]) -> None:
    """A cap of 1,000 bytes on what a program is started with; its own name takes a few."""
    start(vm, 700)
    stage.quiet()
    start(vm, 850)
    start(vm, 860)
    stage.warned()
    start(vm, 400)
    stage.recovered()
    start(vm, 850)
    stage.warned()
    with pytest.raises(InvalidArgument, match="E2BIG"):
        start(vm, 1100)
    stage.refused()


@crosses("max_argv_bytes")
def arguments(stage: Stage) -> None:
    with stage.open(max_argv_bytes=1000) as vm:
        _starts(stage, vm, lambda vm, size: vm.run(guest("hello"), args=["x" * size]))


@crosses("max_env_bytes")
def environment(stage: Stage) -> None:
    with stage.open(max_env_bytes=1000) as vm:
        _starts(stage, vm, lambda vm, size: vm.run(guest("hello"), env={"A": "x" * size}))


def _calls(stage: Stage, line: str, cap: int, errno: str, **limits: object) -> None:
    with stage.open(**limits) as vm, Probe(vm) as probe:
        probe.done(line.format(cap * 7 // 10))
        stage.quiet()
        probe.done(line.format(cap * 9 // 10))
        probe.done(line.format(cap))
        stage.warned()
        probe.done(line.format(cap * 3 // 10))
        stage.recovered()
        probe.done(line.format(cap * 9 // 10))
        stage.warned()
        assert probe.do(line.format(cap + 1))[0] == errno
        stage.refused()


@crosses("max_name_bytes")
def names(stage: Stage) -> None:
    _calls(stage, "name {}", 200, "ENAMETOOLONG", max_name_bytes=200)


@crosses("max_path_bytes")
def paths(stage: Stage) -> None:
    _calls(stage, "path {}", 999, "ENAMETOOLONG", max_path_bytes=1000)


@crosses("max_symlinks")
def symlinks(stage: Stage) -> None:
    _calls(stage, "links {}", 20, "ELOOP", max_symlinks=20)


@crosses("max_iovecs")
def iovecs(stage: Stage) -> None:
    _calls(stage, "iov {}", 100, "EINVAL", max_iovecs=100)


@crosses("max_poll_subscriptions")
def subscriptions(stage: Stage) -> None:
    _calls(stage, "poll {}", 100, "EINVAL", max_poll_subscriptions=100)


@crosses("max_io_bytes")
def bytes_of_a_call(stage: Stage) -> None:
    with stage.open(max_io_bytes=10_000) as vm, Probe(vm) as probe:
        probe.done("send 7000 2")
        stage.quiet()
        probe.done("send 9000 2")
        stage.warned()
        probe.done("send 3000 2")
        stage.recovered()
        probe.done("send 9000 2")
        stage.warned()
        assert probe.do("send 12000 2") == ("OK", 10_000), "a short count"
        stage.refused()


# -- budgets ----------------------------------------------------------------------------------------------------------


#: A fifth of it is more than a guest burns between two ticks, on any machine: what a tick finds is what is warned of.
_FUEL = 400_000_000


def _spends(stage: Stage, vm: AgentVM, line: str, signal: Signal) -> None:
    """Spend a budget in small steps until it warns; then all of it."""
    with Probe(vm) as probe:
        while not stage.use.warnings:
            assert stage.use.percent < 80
            probe.done(line)
        stage.warned()
        probe.tell("burn 1000000000000")
        result = probe.process.wait(60)
        assert (result.signal, result.cause.limit) == (signal, stage.limit)
    stage.refused()


@crosses("max_fuel")
def fuel_of_the_vm(stage: Stage) -> None:
    with stage.open(max_fuel=_FUEL) as vm:
        _spends(stage, vm, "calls 200000", Signal.SIGXCPU)


@crosses("max_fuel_per_process")
def fuel_of_a_process(stage: Stage) -> None:
    with stage.open(max_fuel_per_process=_FUEL) as vm:
        _spends(stage, vm, "calls 200000", Signal.SIGXCPU)


@crosses("max_cpu_time_seconds")
def cpu_time(stage: Stage) -> None:
    with stage.open(max_cpu_time_seconds=0.5) as vm:
        _spends(stage, vm, "burn 2000000", Signal.SIGXCPU)


@crosses("max_wall_time_seconds")
def wall_time(stage: Stage) -> None:
    """It warns while the guest sleeps, long before it is over."""
    with stage.open(max_wall_time_seconds=2) as vm, Probe(vm) as probe:
        stage.quiet()
        probe.tell("nap 60000")
        until(lambda: stage.use.warnings > 0, "the warning")
        stage.warned()
        result = probe.process.wait(60)
        assert (result.signal, result.cause.limit) == (Signal.SIGKILL, stage.limit)
        stage.refused()


# -- rates ------------------------------------------------------------------------------------------------------------


@crosses("max_cpu_percent")
def cpu_percent(stage: Stage) -> None:
    """It is refilled by real time: the guest sleeps for as long as a full refill takes."""
    with stage.open(max_cpu_percent=20) as vm, Probe(vm) as probe:
        for _ in range(2):
            probe.done("burn 100000000")
            until(lambda: stage.use.refused > stage.refusals, "a throttled guest")
            stage.refused()
            assert stage.use.warnings == stage.warnings + 1
            stage.warnings += 1
            probe.done("nap 500")
            stage.recovered()


def _disk(stage: Stage, line: str, **rate: str) -> None:
    """On a virtual clock, so that it takes no time to wait."""
    clock = ManualClock()
    with stage.open(clock=clock, **rate) as vm:
        vm.fs.write("/filled", bytes(100_000))
        with Probe(vm) as probe:
            for _ in range(2):
                probe.done(line)
                stage.refused()
                assert stage.use.warnings == stage.warnings + 1
                stage.warnings += 1
                clock.advance(3_600_000_000_000)
            stage.has_recovered = True


@crosses("max_disk_read_bytes_per_second")
def disk_reads(stage: Stage) -> None:
    _disk(stage, "read 100000", max_disk_read_bytes_per_second="10KiB/s")


@crosses("max_disk_write_bytes_per_second")
def disk_writes(stage: Stage) -> None:
    _disk(stage, "fill 100000 /other", max_disk_write_bytes_per_second="10KiB/s")


@crosses("max_disk_read_operations_per_second")
def disk_read_calls(stage: Stage) -> None:
    _disk(stage, "read 100000", max_disk_read_operations_per_second="5/s,size=1")


@crosses("max_disk_write_operations_per_second")
def disk_write_calls(stage: Stage) -> None:
    _disk(stage, "fill 100000 /other", max_disk_write_operations_per_second="5/s,size=1")


@crosses("max_actions_per_hour")
def actions(stage: Stage) -> None:
    clock = ManualClock()
    with stage.open(clock=clock, max_actions_per_hour=3) as vm:
        for _ in range(2):
            for _ in range(2):
                vm.run(guest("hello"))
            vm.run(guest("hello"))
            assert stage.use.warnings == stage.warnings + 1
            stage.warnings += 1
            with pytest.raises(AgentVMError) as refused:
                vm.run(guest("hello"))
            assert refused.value.code == "RateLimited"
            stage.refused()
            clock.advance(3_600_000_000_000)
        stage.has_recovered = True
