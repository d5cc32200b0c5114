"""host_tty: the size of a terminal. Source: ioctl_tty(2)."""

from typing import Annotated

from agentvm.abi.agentos.user_calls import isatty
from agentvm.abi.context import CallContext
from agentvm.abi.params import Direct, Fd, Pointer
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError

__all__ = ["get_size"]

#: The numbers of Linux, by which the calls of this chapter report their errors.
_LINUX = {Errno.EBADF: 9, Errno.EFAULT: 14, Errno.ENOTTY: 25}
LinuxErrno = Annotated[int, Direct("i32", _LINUX[Errno.EBADF])]


@syscall({Errno.ENOTTY: "fd is no terminal"})
def get_size(ctx: CallContext, fd: Fd, columns: Pointer, rows: Pointer) -> LinuxErrno:
    """Tell the size of a terminal, two 16-bit numbers: 0, which is unknown. Returns an errno of Linux."""
    try:
        sizes = ctx.memory.span(columns, 2), ctx.memory.span(rows, 2)
        if not isatty(ctx, fd):
            return _LINUX[Errno.ENOTTY]
    except KernelError as error:
        return _LINUX[error.errno]
    for size in sizes:
        size[:] = bytes(2)
    return 0
