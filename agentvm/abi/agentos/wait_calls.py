"""host_process: waiting for children. Source: waitpid(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import NewPid, Number, Signed
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.wait_child import NO_HANG, ChildReport, wait_for_child

__all__ = ["proc_waitpid", "proc_waitpid_v2", "proc_waitpid_v3"]

_WAIT_ERRORS = {
    Errno.ECHILD: "there is no such child",
    Errno.EINVAL: "an option is unknown",
    Errno.EINTR: "a signal came",
}


def _wait(ctx: CallContext, pid: int, options: int) -> ChildReport | None:
    return wait_for_child(ctx.kernel.processes, ctx.process, ctx.lock, ctx.clock, pid, options)


@syscall(_WAIT_ERRORS, restarts=True)
def proc_waitpid_v3(ctx: CallContext, pid: Signed, options: Number) -> tuple[Number, NewPid]:
    """Wait for a child that ended, stopped or goes on; the status is as waitpid(2) packs it."""
    report = _wait(ctx, pid, options)
    return (0, 0) if report is None else (report.raw_status, report.pid)


@syscall(_WAIT_ERRORS, restarts=True)
def proc_waitpid_v2(ctx: CallContext, pid: Signed, options: Number) -> tuple[Number, Number, NewPid, Number]:
    """Wait for a child that ended: its exit code, its signal, its pid, and whether it dumped core (never)."""
    if options & ~NO_HANG:
        raise KernelError(Errno.EINVAL, f"options {options:#x}")
    report = _wait(ctx, pid, options)
    if report is None or report.status is None:
        return 0, 0, 0, 0
    return report.status.code or 0, report.status.signal or 0, report.pid, 0


@syscall(_WAIT_ERRORS, restarts=True)
def proc_waitpid(ctx: CallContext, pid: Signed, options: Number) -> tuple[Number, NewPid]:
    """Wait for a child that ended: the status as a shell shows it, and its pid."""
    if options & ~NO_HANG:
        raise KernelError(Errno.EINVAL, f"options {options:#x}")
    report = _wait(ctx, pid, options)
    return (0, 0) if report is None or report.status is None else (report.status.shell_code, report.pid)
