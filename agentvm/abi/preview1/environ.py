"""preview1: the program's environment."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Pointer, Size
from agentvm.abi.preview1.args import sizes_of, write_strings
from agentvm.abi.syscall import syscall

__all__ = ["environ_get", "environ_sizes_get"]


@syscall()
def environ_get(ctx: CallContext, environ: Pointer, environ_buf: Pointer) -> None:
    """Write the environment as `NAME=value` strings, and pointers to them."""
    write_strings(ctx, ctx.process.image.environ, environ, environ_buf)


@syscall()
def environ_sizes_get(ctx: CallContext) -> tuple[Size, Size]:
    """Return the number of environment variables and the bytes that they take, NULs included."""
    return sizes_of(ctx.process.image.environ)
