"""Checks of the settings of what happens at a cap, and of when its use is a warning."""

from agentvm.api.vm import AgentVM
from agentvm.doctor.check import Trial, check
from agentvm.doctor.probe import PROBE, Probe
from agentvm.doctor.seen import Seen, ended, errno_name
from agentvm.kernel.outcome import Signal

__all__ = ()


@check("max_log_bytes", by="kernel", setting="on_output_full", promised='"discard": head and tail are kept')
def output_full(trial: Trial) -> Seen:
    with trial.vm(5000, on_output_full="discard") as vm:
        result = vm.run(PROBE, stdin=b"print 9000\nexit\n")
        kept, errno = len(result.stdout) + len(result.stderr), errno_name(result.exit_code)
        mark = "truncated" if result.truncated else "whole"
        return Seen(f"{errno}, {kept:,} kept; {mark}", errno == "OK" and kept <= 5000 and result.truncated)


@check("max_memory_bytes", by="memory creator", setting="on_memory_full", promised='"kill": SIGKILL')
def memory_full(trial: Trial) -> Seen:
    with trial.vm("4MiB", on_memory_full="kill") as vm, Probe(vm) as probe:
        return ended(probe, "grow 64", Signal.SIGKILL, trial.spec.name)


def _opened(trial: Trial, vm: AgentVM, probe: Probe, wanted: int) -> int:
    """Have as many descriptors open as `wanted`, and return how often the limit has warned."""
    more = wanted - trial.used(vm)
    probe.done(f"open {more}" if more > 0 else f"close {-more}")
    return vm.usage()[trial.spec.name].warnings


@check("max_open_fds_per_process", by="registry", setting="warn_percent", promised="one warning from there on")
def warning(trial: Trial) -> Seen:
    with trial.vm(20, warn_percent=60) as vm, Probe(vm) as probe:
        warnings = [_opened(trial, vm, probe, wanted) for wanted in (11, 12, 20)]
        probe.do("open 1")
        return Seen(f"{warnings[1]} at 60 %, {warnings[2]} at 100 %", warnings == [0, 1, 1])


@check("max_open_fds_per_process", by="registry", setting="rearm_percent", promised="another warning after that")
def rearming(trial: Trial) -> Seen:
    with trial.vm(20, rearm_percent=30) as vm, Probe(vm) as probe:
        warnings = [_opened(trial, vm, probe, wanted) for wanted in (16, 7, 16, 6, 16)]
        probe.do("open 5")
        return Seen(f"{warnings[2]} above 30 %, {warnings[4]} after it", warnings == [1, 1, 1, 1, 2])
