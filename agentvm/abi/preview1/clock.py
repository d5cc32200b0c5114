"""preview1: clocks. Source: `$clockid`; clock_gettime(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import ClockId, Timestamp
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError

__all__ = ["CLOCK_MONOTONIC", "CLOCK_REALTIME", "clock_res_get", "clock_time_get", "read_clock"]

CLOCK_REALTIME = 0
CLOCK_MONOTONIC = 1
_CLOCK_PROCESS_CPUTIME = 2
_CLOCK_THREAD_CPUTIME = 3

_UNKNOWN = {Errno.EINVAL: "there is no such clock"}


def read_clock(ctx: CallContext, clock_id: int) -> int:
    """Return the time of a clock in nanoseconds; EINVAL. CPU time is that of the process, host calls included."""
    if clock_id == CLOCK_MONOTONIC:
        return ctx.clock.monotonic_ns()
    if clock_id == CLOCK_REALTIME:
        return ctx.clock.realtime_ns()
    if clock_id in (_CLOCK_PROCESS_CPUTIME, _CLOCK_THREAD_CPUTIME):
        return ctx.clock.monotonic_ns() if ctx.clock.is_virtual else ctx.process.cpu_time_ns()
    raise KernelError(Errno.EINVAL, f"there is no clock {clock_id}")


@syscall(_UNKNOWN, locked=False)
def clock_res_get(ctx: CallContext, clock_id: ClockId) -> Timestamp:
    """Return the resolution of a clock in nanoseconds."""
    if clock_id > _CLOCK_THREAD_CPUTIME:
        raise KernelError(Errno.EINVAL, f"there is no clock {clock_id}")
    return ctx.clock.resolution_ns


@syscall(_UNKNOWN, locked=False)
def clock_time_get(ctx: CallContext, clock_id: ClockId, precision: Timestamp) -> Timestamp:
    """Return the time of a clock in nanoseconds; every reading is as precise as the clock is."""
    return read_clock(ctx, clock_id)
