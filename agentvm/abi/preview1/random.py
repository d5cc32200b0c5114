"""preview1: randomness."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import OutBuffer
from agentvm.abi.syscall import syscall

__all__ = ["random_get"]

#: Larger requests are filled piece by piece, so that a kill gets through.
_PIECE = 1 << 20


@syscall(locked=False)
def random_get(ctx: CallContext, buf: OutBuffer) -> None:
    """Fill a buffer with random bytes."""
    size = len(buf)
    if size <= _PIECE:
        buf[:] = ctx.kernel.random_bytes(size)
        return
    for start in range(0, size, _PIECE):
        ctx.process.raise_if_killed()
        piece = buf[start : start + _PIECE]
        piece[:] = ctx.kernel.random_bytes(len(piece))
