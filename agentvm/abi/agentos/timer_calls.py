"""host_process: the alarm, and giving way. Source: setitimer(2), sched_yield(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, Number64, Signed64
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.itimer import IntervalTimer

__all__ = ["proc_itimer_real", "sched_yield"]

_GET, _SET = 0, 1


@syscall({Errno.EINVAL: "a time is negative, or the operation is unknown"}, signals=True)
def proc_itimer_real(
    ctx: CallContext, operation: Number, value_us: Signed64, interval_us: Signed64
) -> tuple[Number64, Number64]:
    """Return in how many microseconds SIGALRM comes (0: never), and at which interval then; 1 sets both, 0 does not."""
    process, now_ns = ctx.process, ctx.clock.monotonic_ns()
    if operation not in (_GET, _SET):
        raise KernelError(Errno.EINVAL, f"operation {operation}")
    timer = process.alarm
    if operation == _GET:
        return timer.get(now_ns) if timer is not None else (0, 0)
    if timer is None:
        timer = IntervalTimer(process)
    before = timer.set(now_ns, value_us, interval_us)
    process.set_alarm(timer)
    return before


@syscall(locked=False)
def sched_yield(ctx: CallContext) -> None:
    """Let a guest run that waits to compute."""
    ctx.process.scheduler.give_way()
