"""How long a program lets its files become: RLIMIT_FSIZE, and who hears of it. Source: getrlimit(2), write(2)."""

from agentvm.abi.context import CallContext
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.outcome import Signal
from agentvm.kernel.rlimits import INFINITY, Resource
from agentvm.kernel.signalling import post
from agentvm.kernel.signals import Reaction
from agentvm.kernel.stat import FdFlags, Filetype, Whence

__all__ = ["check_size", "clip", "tell_too_big"]


def tell_too_big(ctx: CallContext, error: KernelError) -> None:
    """A write to a file has failed: send SIGXFSZ for EFBIG to a program that handles it. Kernel lock.

    By default it would end the program, which max_file_bytes does not; see docs/rationale.md, "Why SIGXFSZ comes only
    to a handler".
    """
    signals = ctx.process.signals
    if error.errno is Errno.EFBIG and signals.disposition(Signal.SIGXFSZ).reaction is Reaction.HANDLER:
        post(ctx.process, Signal.SIGXFSZ)


def check_size(ctx: CallContext, file: OpenFile, size: int) -> None:
    """Raise EFBIG if the program may not make a file so long, and it is not yet."""
    limit = _limit(ctx, file)
    if limit is not None and size > limit and size > file.stat().size:
        raise KernelError(Errno.EFBIG, f"size {size}, and RLIMIT_FSIZE is {limit}")


def clip(ctx: CallContext, file: OpenFile, buffers: Buffers, offset: int | None = None) -> Buffers:
    """Return what of a write lies within the limit; EFBIG if nothing does. `offset` is the file's own if None."""
    limit = _limit(ctx, file)
    if limit is None:
        return buffers
    if file.flags & FdFlags.APPEND:
        offset = file.stat().size
    elif offset is None:
        offset = file.seek(0, Whence.CUR)
    room = limit - offset
    if room <= 0 and any(map(len, buffers)):
        raise KernelError(Errno.EFBIG, f"a write at {offset}, and RLIMIT_FSIZE is {limit}")
    clipped = []
    for buffer in buffers:
        clipped.append(buffer[: max(0, room)])
        room -= len(clipped[-1])
    return clipped


def _limit(ctx: CallContext, file: OpenFile) -> int | None:
    own = ctx.process.rlimits
    soft = INFINITY if own is None else own.soft(Resource.FSIZE)
    return None if soft == INFINITY or file.filetype is not Filetype.REGULAR_FILE else soft
