"""host_process: signals. Source: kill(2), sigaction(2), sigprocmask(2), setitimer(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, Signed
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel import signalling
from agentvm.kernel.signals import Disposition, Reaction
from agentvm.kernel.wait import block_until

__all__ = ["proc_kill", "proc_sigaction", "proc_signal_mask_v2", "sleep_ms"]

_BLOCK, _UNBLOCK, _SET, _QUERY = 0, 1, 2, 3
_LOW = 0xFFFF_FFFF
_MILLISECOND_NS = 1_000_000


@syscall(
    {
        Errno.EINVAL: "there is no such signal",
        Errno.ESRCH: "there is no such process or group",
        Errno.EPERM: "the caller's ids do not let it",
    },
    signals=True,
)
def proc_kill(ctx: CallContext, pid: Signed, sig: Signed) -> None:
    """Send a signal to a process, or to a group (0: the caller's, negative: that one); signal 0 only asks."""
    signalling.kill(ctx.kernel.processes, ctx.process, pid, sig)
    ctx.process.raise_if_killed()


@syscall(
    {
        Errno.EINVAL: "there is no such signal, it is SIGKILL or SIGSTOP, or the action is unknown",
        Errno.ENOTSUP: "a handler, and the module exports no __wasi_signal_trampoline (i32) -> ()",
    },
    signals=True,
)
def proc_sigaction(
    ctx: CallContext, sig: Signed, action: Number, mask_lo: Number, mask_hi: Number, flags: Number
) -> None:
    """Say what a signal does: its default (0), nothing (1), or run the program's handler (2)."""
    if action > Reaction.HANDLER.value:
        raise KernelError(Errno.EINVAL, f"action {action}")
    if action == Reaction.HANDLER.value and not ctx.process.has_trampoline:
        raise KernelError(Errno.ENOTSUP, "the module exports no __wasi_signal_trampoline (i32) -> ()")
    disposition = Disposition(Reaction(action), mask_lo | mask_hi << 32, flags) if action or flags else Disposition()
    signalling.set_disposition(ctx.process, sig, disposition)


@syscall({Errno.EINVAL: "how is unknown"}, signals=True)
def proc_signal_mask_v2(ctx: CallContext, how: Number, lo: Number, hi: Number) -> tuple[Number, Number]:
    """Block (0) or unblock (1) signals, set the mask (2), or only tell (3); return what the mask was."""
    process, mask = ctx.process, lo | hi << 32
    before = process.signals.blocked
    if how > _QUERY:
        raise KernelError(Errno.EINVAL, f"how {how}")
    if how != _QUERY:
        changed = {_BLOCK: before | mask, _UNBLOCK: before & ~mask, _SET: mask}[how]
        signalling.change_mask(process, changed)
    return before & _LOW, before >> 32


@syscall({Errno.EINTR: "a signal came"})
def sleep_ms(ctx: CallContext, milliseconds: Number) -> None:
    """Sleep; a signal that is handled ends it."""
    deadline = ctx.clock.monotonic_ns() + milliseconds * _MILLISECOND_NS
    block_until(ctx.process, ctx.lock, ctx.clock, (), lambda: False, deadline)
