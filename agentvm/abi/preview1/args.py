"""preview1: the program's arguments."""

from collections.abc import Sequence

from agentvm.abi.context import CallContext
from agentvm.abi.params import Pointer, Size
from agentvm.abi.records import pack_u32
from agentvm.abi.syscall import syscall

__all__ = ["args_get", "args_sizes_get", "sizes_of", "write_strings"]


@syscall()
def args_get(ctx: CallContext, argv: Pointer, argv_buf: Pointer) -> None:
    """Write the program's arguments, and pointers to them."""
    write_strings(ctx, ctx.process.image.argv, argv, argv_buf)


@syscall()
def args_sizes_get(ctx: CallContext) -> tuple[Size, Size]:
    """Return the number of arguments and the bytes that they take, NULs included."""
    return sizes_of(ctx.process.image.argv)


def sizes_of(strings: Sequence[bytes]) -> tuple[int, int]:
    """Return how many strings there are, and their bytes with a NUL each."""
    return len(strings), sum(map(len, strings)) + len(strings)


def write_strings(ctx: CallContext, strings: Sequence[bytes], pointers: int, data: int) -> None:
    """Write NUL-terminated strings at `data` and their addresses at `pointers`; EFAULT before anything is written."""
    count, size = sizes_of(strings)
    pointer_span = ctx.memory.span(pointers, 4 * count)
    data_span = ctx.memory.span(data, size)
    data_span[:] = b"".join(string + b"\0" for string in strings)
    for index, string in enumerate(strings):
        pack_u32(pointer_span, 4 * index, data)
        data += len(string) + 1
