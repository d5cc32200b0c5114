"""Waiting for children: which one a caller means, and what it is told. Source: waitpid(2)."""

from dataclasses import dataclass
from typing import Final

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.outcome import ExitStatus, Signal
from agentvm.kernel.process import Process, ProcessState
from agentvm.kernel.process_table import ProcessTable
from agentvm.kernel.wait import Lock, block_until

__all__ = ["CONTINUED", "NO_HANG", "UNTRACED", "ChildReport", "wait_for_child"]

#: Options of waitpid(2), with Linux's numbers.
NO_HANG: Final = 1
UNTRACED: Final = 2
CONTINUED: Final = 8
_ALL_OPTIONS: Final = NO_HANG | UNTRACED | CONTINUED


@dataclass(frozen=True, slots=True)
class ChildReport:
    """What a wait returns: a child that has ended (`status`), stopped (`stopped_by`), or goes on (neither)."""

    pid: int
    status: ExitStatus | None = None
    stopped_by: Signal | None = None

    @property
    def raw_status(self) -> int:
        """The status as waitpid(2) packs it."""
        if self.status is None:
            return 0xFFFF if self.stopped_by is None else self.stopped_by << 8 | 0x7F
        if self.status.signal is not None:
            return int(self.status.signal)
        assert self.status.code is not None
        return (self.status.code & 0xFF) << 8


def wait_for_child(
    table: ProcessTable, process: Process, lock: Lock, clock: Clock, pid: int, options: int
) -> ChildReport | None:
    """Wait until a child that `pid` means has ended, and reap it; None with NO_HANG if none has.

    `pid`: a child's; -1 any; 0 any of the caller's group; below -1 any of that group. UNTRACED and CONTINUED report
    children that stopped or go on, too. ECHILD: there is no such child; EINVAL; EINTR. Kernel lock.
    """
    if options & ~_ALL_OPTIONS:
        raise KernelError(Errno.EINVAL, f"options {options:#x}")
    found: list[ChildReport] = []

    def look() -> bool:
        candidates = _candidates(process, pid)
        if not candidates:
            raise KernelError(Errno.ECHILD, f"process {process.pid} has no child that {pid} means")
        report = next(filter(None, (_report(table, child, options) for child in candidates)), None)
        if report is not None:
            found.append(report)
        return report is not None

    if not look():
        if options & NO_HANG:
            return None
        block_until(process, lock, clock, [process.child_events], look)
    return found[0]


def _candidates(process: Process, pid: int) -> list[Process]:
    children = process.children
    if pid > 0:
        return [children[pid]] if pid in children else []
    if pid == -1:
        return list(children.values())
    pgid = process.pgid if pid == 0 else -pid
    return [child for child in children.values() if child.pgid == pgid]


def _report(table: ProcessTable, child: Process, options: int) -> ChildReport | None:
    """Return what there is to say of a child, and note that it was said."""
    if child.state is ProcessState.ZOMBIE:
        assert child.ending is not None
        table.reap(child)
        return ChildReport(child.pid, child.ending.status)
    if options & UNTRACED and child.has_stop_to_report:
        child.has_stop_to_report = False
        return ChildReport(child.pid, stopped_by=child.stopped_by)
    if options & CONTINUED and child.has_continue_to_report:
        child.has_continue_to_report = False
        return ChildReport(child.pid)
    return None
