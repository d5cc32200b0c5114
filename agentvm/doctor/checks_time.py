"""Checks of what is spent, and of what is refilled as time passes."""

from collections.abc import Callable
from time import monotonic

from agentvm.clock import ManualClock
from agentvm.doctor.check import Trial, check
from agentvm.doctor.modules import START
from agentvm.doctor.probe import Probe
from agentvm.doctor.seen import Seen, ended, refused
from agentvm.errors import RateLimited
from agentvm.kernel.outcome import Signal

__all__ = ()

#: Work for hours.
_BURN = "burn 1000000000000"
_SECOND_NS = 1_000_000_000


@check("max_fuel", by="fuel")
def fuel_of_the_vm(trial: Trial) -> Seen:
    with trial.vm(10_000_000) as vm, Probe(vm) as probe:
        return ended(probe, "burn 100000000", Signal.SIGXCPU, trial.spec.name)


@check("max_fuel_per_process", by="fuel")
def fuel_of_a_process(trial: Trial) -> Seen:
    with trial.vm(10_000_000) as vm, Probe(vm) as probe:
        return ended(probe, "burn 100000000", Signal.SIGXCPU, trial.spec.name)


@check("max_cpu_time_seconds", by="epoch callback")
def cpu_time(trial: Trial) -> Seen:
    with trial.vm(0.03) as vm, Probe(vm) as probe:
        seen = ended(probe, "burn 400000000", Signal.SIGXCPU, trial.spec.name)
        return _in_time(seen, lambda: probe.process.wait().usage.cpu_seconds, 0.25)


@check("max_wall_time_seconds", by="ticker")
def wall_time(trial: Trial) -> Seen:
    with trial.vm(0.03) as vm, Probe(vm) as probe:
        seen = ended(probe, "nap 2500", Signal.SIGKILL, trial.spec.name)
        return _in_time(seen, lambda: probe.process.wait().usage.wall_seconds, 2)


def _in_time(seen: Seen, taken: Callable[[], float], most: float) -> Seen:
    """A guest that has 0.03 s is ended long before it has had what it asked for, however busy the machine is."""
    if not seen.is_kept:
        return seen
    seconds = taken()
    return Seen(f"{seen.reported} after {seconds:.3f} s", seconds < most)


@check("max_cpu_percent", by="epoch callback")
def cpu_percent(trial: Trial) -> Seen:
    """Some slices of time must take far longer than that, for which a tick that comes late must not be all that is
    seen. So low a share is too high on the busiest machine."""
    with trial.vm(4) as vm, Probe(vm) as probe:
        probe.done("burn 1")
        used, begun = probe.process.usage().cpu_seconds, monotonic()
        probe.tell(_BURN)
        trial.until(lambda: probe.process.usage().cpu_seconds - used >= 0.015 and monotonic() - begun >= 0.3)
        share = 100 * (probe.process.usage().cpu_seconds - used) / (monotonic() - begun)
        slowed = vm.usage()[trial.spec.name].refused > 0
        return Seen(f"{share:.0f} % of one core" + ("" if slowed else ", never slowed"), slowed and share < 20)


def _disk(trial: Trial, rate: int | str, line: str, least_seconds: float) -> Seen:
    """On a clock that moves only as guests wait, so that nobody does."""
    clock = ManualClock()
    with trial.vm(rate, clock=clock) as vm:
        vm.fs.write("/filled", bytes(100_000))
        with Probe(vm) as probe:
            begun = clock.monotonic_ns()
            errno, done = probe.do(line)
            seconds = (clock.monotonic_ns() - begun) / _SECOND_NS
        return Seen(f"{errno}, {done:,} in {seconds:.1f} s", errno == "OK" and seconds >= least_seconds)


@check("max_disk_read_bytes_per_second", by="host call")
def disk_reads(trial: Trial) -> Seen:
    return _disk(trial, 10_000, "read 50000", 4.0)


@check("max_disk_write_bytes_per_second", by="host call")
def disk_writes(trial: Trial) -> Seen:
    return _disk(trial, 10_000, "fill 50000 /other", 4.0)


@check("max_disk_read_operations_per_second", by="host call")
def disk_read_calls(trial: Trial) -> Seen:
    return _disk(trial, "5/s,size=1", "read 50000", 2.0)


@check("max_disk_write_operations_per_second", by="host call")
def disk_write_calls(trial: Trial) -> Seen:
    return _disk(trial, "5/s,size=1", "fill 50000 /other", 2.0)


@check("max_actions_per_hour", by="host API")
def actions(trial: Trial) -> Seen:
    with trial.vm(1, clock=ManualClock()) as vm:
        vm.run(START).check()
        return refused(lambda: vm.run(START), RateLimited, trial.spec)
