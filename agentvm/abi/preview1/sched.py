"""preview1: giving way to others."""

from agentvm.abi.context import CallContext
from agentvm.abi.syscall import syscall

__all__ = ["sched_yield"]


@syscall(locked=False)
def sched_yield(ctx: CallContext) -> None:
    """Let other processes run first, if any wait for a core."""
    ctx.process.scheduler.give_way()
