"""What a process has set for itself, looked at while it runs: its alarm, and its limit on CPU time.

A process that sleeps in the kernel finds its alarm by itself; one that computes looks at each tick and each host call
that looks at the time. The ticker does for one that waits elsewhere: for a run slot, or to be continued.
"""

from time import monotonic
from typing import TYPE_CHECKING

from agentvm.engine.process_time import ProcessTime
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import Process
from agentvm.kernel.rlimits import INFINITY, Resource
from agentvm.kernel.signalling import post

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.engine.execution import Execution

__all__ = ["is_due_always", "look", "look_at_alarm", "look_in_tick", "watch"]

_FOREVER = float("inf")
_SECOND_NS = 1_000_000_000
#: How soon the ticker looks again, whatever a program asks for, and where the kernel was busy.
_LEAST_SECONDS = 0.002


def is_due_always(process: Process, context: "CallContext") -> bool:
    """Whether each host call must look: a virtual clock moves with them alone, and at the same one in each run."""
    return process.alarm is not None and process.alarm.armed_ns is not None and context.clock.is_virtual


def look(process: Process, context: "CallContext", time: ProcessTime) -> None:
    """In a host call, without locks: send the signals that are due."""
    alarm = process.alarm
    if alarm is not None and alarm.armed_ns is not None:
        with context.lock:
            alarm.ring(context.clock.monotonic_ns())
    if process.rlimits is not None:
        _look_at_cpu(process, context, time)


def look_in_tick(process: Process, context: "CallContext", time: ProcessTime) -> None:
    """As `look`, at a moment that no guest decides: a virtual clock stays as it is."""
    if process.alarm is None or not context.clock.is_virtual:
        look(process, context, time)
    elif process.rlimits is not None:
        _look_at_cpu(process, context, time)


def _look_at_cpu(process: Process, context: "CallContext", time: ProcessTime) -> None:
    """SIGXCPU at the soft limit and each second after it, SIGKILL at the hard one: getrlimit(2)."""
    limits = process.rlimits
    if limits is None or limits.next_cpu_signal_seconds == limits.hard(Resource.CPU) == INFINITY:
        return
    used, hard = time.cpu_seconds_here(), limits.hard(Resource.CPU)
    if used >= hard:
        process.kill(Signal.SIGKILL, Cause(CauseKind.SIGNAL, f"{hard} s of CPU time used (RLIMIT_CPU, hard)"))
    elif used >= limits.next_cpu_signal_seconds:
        text = f"{limits.next_cpu_signal_seconds} s of CPU time used (RLIMIT_CPU)"
        limits.next_cpu_signal_seconds += 1
        with context.lock:
            post(process, Signal.SIGXCPU, Cause(CauseKind.SIGNAL, text))


def watch(execution: "Execution") -> None:
    """Have the ticker look at an execution when its time is nearly over, or its alarm due."""
    moment = min(execution.time.next_look, _next_ring(execution.process, execution.context))
    execution.machine.ticker.watch(execution, moment)


def _next_ring(process: Process, context: "CallContext") -> float:
    """Return when the ticker must look at an alarm, in monotonic seconds; infinity for never."""
    alarm = process.alarm
    if alarm is None or alarm.armed_ns is None or context.clock.is_virtual:
        return _FOREVER
    return monotonic() + (alarm.armed_ns - context.clock.monotonic_ns()) / _SECOND_NS


def look_at_alarm(process: Process, context: "CallContext") -> float:
    """On the ticker's thread, which waits for no VM: ring if it is due. Returns when to look again."""
    moment = _next_ring(process, context)
    soonest = monotonic() + _LEAST_SECONDS
    if moment > soonest:
        return moment
    if not context.lock.acquire(blocking=False):
        return soonest
    try:
        alarm = process.alarm
        if alarm is not None:
            alarm.ring(context.clock.monotonic_ns())
    finally:
        context.lock.release()
    return max(_next_ring(process, context), soonest)
