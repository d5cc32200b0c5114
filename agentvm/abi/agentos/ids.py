"""host_process: who is who. Source: getpid(2), setpgid(2), umask(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import NewPid, Number, Signed
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError

__all__ = ["proc_getpgid", "proc_getpid", "proc_getppid", "proc_setpgid", "proc_umask", "umask"]

_PERMISSIONS = 0o777


@syscall()
def proc_getpid(ctx: CallContext) -> NewPid:
    """Return the caller's process number."""
    return ctx.process.pid


@syscall()
def proc_getppid(ctx: CallContext) -> NewPid:
    """Return the number of the caller's parent: 1 if the host started it, or its parent has ended."""
    return ctx.process.ppid


@syscall({Errno.ESRCH: "no such process", Errno.EPERM: "it is of another session"})
def proc_getpgid(ctx: CallContext, pid: Signed) -> NewPid:
    """Return the group of a process; 0 means the caller."""
    return ctx.kernel.processes.get(pid).pgid if pid else ctx.process.pgid


@syscall(
    {
        Errno.ESRCH: "it is neither the caller nor a child of its",
        Errno.EPERM: "it leads a session, is of another session, or the group is not of its session",
        Errno.EACCES: "the child has become another program since",
        Errno.EINVAL: "the group is negative",
    }
)
def proc_setpgid(ctx: CallContext, pid: Signed, pgid: Signed) -> None:
    """Put the caller or a child into a group; 0 means the caller, and its own number."""
    if (pgid or pid) < 0:
        raise KernelError(Errno.EINVAL, f"group {pgid or pid}")
    processes = ctx.kernel.processes
    processes.set_group(ctx.process, processes.get(pid) if pid else ctx.process, pgid)


@syscall()
def proc_umask(ctx: CallContext, mask: Number) -> Number:
    """Set which permission bits files are made without, and return what it was before."""
    before, ctx.process.umask = ctx.process.umask, mask & _PERMISSIONS
    return before


@syscall()
def umask(ctx: CallContext, mask: Number, is_set: Number) -> Number:
    """As `proc_umask`; without `is_set` it only tells."""
    return proc_umask(ctx, mask) if is_set else ctx.process.umask
