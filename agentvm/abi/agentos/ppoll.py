"""host_process: poll with another signal mask meanwhile. Source: ppoll(2)."""

from agentvm.abi.agentos.net_polls import POLL_ERRORS, poll_descriptors
from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, Pointer, Signed64
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.signalling import swap_mask, unswap_mask
from agentvm.kernel.wait import Interrupted

__all__ = ["proc_ppoll_v1"]

_SECOND_NS = 1_000_000_000


@syscall(POLL_ERRORS, signals=True)
def proc_ppoll_v1(
    ctx: CallContext,
    pollfds: Pointer,
    count: Number,
    seconds: Signed64,
    nanoseconds: Signed64,
    mask_lo: Number,
    mask_hi: Number,
    has_mask: Number,
) -> Number:
    """As `net_poll`, with another signal mask meanwhile: ppoll(2). Two negative times wait for ever."""
    deadline = None
    if seconds >= 0 or nanoseconds >= 0:
        if seconds < 0 or not 0 <= nanoseconds < _SECOND_NS:
            raise KernelError(Errno.EINVAL, f"a time of {seconds} s and {nanoseconds} ns")
        deadline = ctx.clock.monotonic_ns() + seconds * _SECOND_NS + nanoseconds
    if not has_mask:
        return poll_descriptors(ctx, pollfds, count, deadline)
    swap_mask(ctx.process, mask_lo | mask_hi << 32)
    try:
        ready = poll_descriptors(ctx, pollfds, count, deadline)
    except Interrupted:
        raise  # the handlers run with this mask still; what they interrupt then has its own again
    except BaseException:
        unswap_mask(ctx.process)
        raise
    unswap_mask(ctx.process)
    return ready
