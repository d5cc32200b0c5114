"""Sending signals, and what they do to who gets them. All of it needs the kernel lock. Source: kill(2), signal(7)."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.outcome import MAX_SIGNAL, Cause, Signal
from agentvm.kernel.process import INIT_PID, Process, ProcessState
from agentvm.kernel.signals import (
    DEFAULT_ACTIONS,
    JOB_STOPS,
    SA_NOCLDSTOP,
    UNBLOCKABLE,
    DefaultAction,
    Disposition,
    Reaction,
    bit_of,
)

if TYPE_CHECKING:
    from agentvm.kernel.process_table import ProcessTable

__all__ = ["change_mask", "is_orphaned", "kill", "may_signal", "post", "set_disposition", "swap_mask", "unswap_mask"]

_STOPS = bit_of(Signal.SIGSTOP) | sum(map(bit_of, JOB_STOPS))
_CONTINUE = bit_of(Signal.SIGCONT)
#: waitpid(2) and kill(2) take pids as signed numbers; this one has no opposite.
_LEAST_PID = -(1 << 31)


def post(process: Process, number: int, cause: Cause | None = None) -> None:
    """Send a signal to one process. `cause` is what its result says if this ends it. A zombie gets none."""
    if process.state is not ProcessState.RUNNING:
        return
    signal, state = Signal(number), process.signals
    if signal is Signal.SIGKILL:
        process.kill(signal, cause)
        return
    if signal is Signal.SIGCONT:
        state.pending &= ~_STOPS
        _resume(process)
    elif bit_of(signal) & _STOPS:
        state.pending &= ~_CONTINUE
    if state.blocked & bit_of(signal):
        state.pending |= bit_of(signal)
    elif state.is_ignored(signal):
        return
    elif state.disposition(signal).reaction is Reaction.HANDLER:
        state.pending |= bit_of(signal)
        process.notice()
    else:
        _take_default(process, signal, cause)


def _take_default(process: Process, signal: Signal, cause: Cause | None = None) -> None:
    action = DEFAULT_ACTIONS.get(signal, DefaultAction.TERMINATE)
    if action is DefaultAction.TERMINATE and process.is_stopped:
        process.signals.pending |= bit_of(signal)  # it ends when it goes on
    elif action is DefaultAction.TERMINATE:
        process.kill(signal, cause)
    elif action is DefaultAction.STOP and not (signal in JOB_STOPS and is_orphaned(process.neighbours, process.pgid)):
        _stop(process, signal)


def is_orphaned(processes: Iterable[Process], pgid: int) -> bool:
    """Whether nobody could continue a group: no member has a parent in another group of its session (POSIX 3.264).

    What the host started has a parent, the host.
    """
    return not any(
        member.is_hosts if member.parent is None else member.parent.pgid != pgid and member.parent.sid == member.sid
        for member in processes
        if member.pgid == pgid and member.state is ProcessState.RUNNING
    )


def _stop(process: Process, signal: Signal) -> None:
    if process.stopped_by is not None:
        return
    process.stopped_by = signal
    process.has_stop_to_report, process.has_continue_to_report = True, False
    process.notice()
    _tell_of_stop(process)


def _resume(process: Process) -> None:
    if process.stopped_by is None:
        return
    process.stopped_by = None
    process.has_stop_to_report, process.has_continue_to_report = False, True
    process.notice()
    _tell_of_stop(process)
    _act_on_pending(process)


def _tell_of_stop(process: Process) -> None:
    parent = process.parent
    if parent is not None:
        if not parent.signals.disposition(Signal.SIGCHLD).flags & SA_NOCLDSTOP:
            post(parent, Signal.SIGCHLD)
        parent.child_events.notify()


# -- what a program does about its own --------------------------------------------------------------------------------
def set_disposition(process: Process, number: int, disposition: Disposition) -> None:
    """Say what a signal is to do; EINVAL for SIGKILL, SIGSTOP and what is no signal. Source: sigaction(2)."""
    if not 1 <= number <= MAX_SIGNAL or bit_of(number) & UNBLOCKABLE:
        raise KernelError(Errno.EINVAL, f"signal {number} cannot be handled or ignored")
    process.signals.set_disposition(number, disposition)
    _act_on_pending(process)


def change_mask(process: Process, blocked: int) -> None:
    """Block exactly these signals; those that waited and are let through have their effect now."""
    process.signals.blocked = blocked & ~UNBLOCKABLE
    _act_on_pending(process)


def swap_mask(process: Process, blocked: int) -> None:
    """Block exactly these signals for the length of one call: sigsuspend(2), ppoll(2)."""
    process.signals.saved = process.signals.blocked
    change_mask(process, blocked)


def unswap_mask(process: Process) -> None:
    """Take back what `swap_mask` did, once handlers have run."""
    saved, process.signals.saved = process.signals.saved, None
    if saved is not None:
        change_mask(process, saved)


def _act_on_pending(process: Process) -> None:
    """Have signals that wait unblocked take effect; those with a handler have the process look up."""
    state = process.signals
    due = state.pending & ~state.blocked
    for number in range(1, MAX_SIGNAL + 1) if due else ():
        if due & bit_of(number) and state.disposition(number).reaction is not Reaction.HANDLER:
            state.pending &= ~bit_of(number)
            post(process, number)
    if state.is_due:
        process.notice()


# -- kill(2) ----------------------------------------------------------------------------------------------------------
def may_signal(sender: Process, target: Process, number: int) -> bool:
    """Whether the ids of a process let it signal another one."""
    own, other = sender.credentials, target.credentials
    if own.euid == 0 or {own.uid, own.euid} & {other.uid, other.suid}:
        return True
    return number == Signal.SIGCONT and sender.sid == target.sid


def kill(table: "ProcessTable", sender: Process, pid: int, number: int) -> None:
    """Send a signal to a process, or for 0 and negative pids to a group, or (-1) to all others.

    0 as the signal only asks. EINVAL: no such signal; ESRCH: nobody is meant; EPERM: nobody of them may be signalled.
    """
    if not 0 <= number <= MAX_SIGNAL:
        raise KernelError(Errno.EINVAL, f"there is no signal {number}")
    targets = _targets(table, sender, pid)
    if not targets:
        raise KernelError(Errno.ESRCH, f"no process answers to {pid}")
    allowed = [target for target in targets if may_signal(sender, target, number)]
    if not allowed:
        raise KernelError(Errno.EPERM, f"signal {number} to {pid}")
    if number:
        for target in allowed:
            post(target, number)


def _targets(table: "ProcessTable", sender: Process, pid: int) -> Iterable[Process]:
    if pid == INIT_PID:
        raise KernelError(Errno.EPERM, "process 1 is the VM's own")
    if pid > 0:
        found = table.find(pid)
        return [found] if found is not None else []
    if pid == 0:
        return table.group(sender.pgid)
    if pid == -1:
        return [process for process in table if process is not sender]
    if pid == _LEAST_PID:
        return []
    return table.group(-pid)
