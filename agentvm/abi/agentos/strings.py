"""Lists of strings as the host ABI has them: one after the other, each with a NUL."""

from agentvm.abi.context import CallContext
from agentvm.errno import Errno, KernelError

__all__ = ["read_strings"]


def read_strings(ctx: CallContext, block: memoryview, limit: str) -> tuple[bytes, ...]:
    """Return the strings of a block. E2BIG past the ceiling `limit`, EINVAL where the last one has no NUL."""
    ctx.kernel.registry.ceiling(limit).check(len(block))
    if not block:
        return ()
    if block[-1]:
        raise KernelError(Errno.EINVAL, "the last string has no NUL")
    return tuple(bytes(block[:-1]).split(b"\0"))
