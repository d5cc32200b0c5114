"""host_process: locks on files. Source: flock(2), fcntl(2); numbers of wasi-libc."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, FileSize, Number, Signed64
from agentvm.abi.rights import FD_READ, FD_WRITE
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.ranges import LAST_BYTE, LockKind, Range

__all__ = ["fd_flock", "fd_record_lock"]

_SHARED, _EXCLUSIVE, _NO_WAIT, _UNLOCK = 1, 2, 4, 8
#: What makes an unsigned number of a signed one.
_BITS = 0xFFFF_FFFF_FFFF_FFFF
_GETLK, _SETLK, _SETLKW = 12, 13, 14

_LOCK_ERRORS = {
    Errno.EAGAIN: "another has locked it, and the call may not wait",
    Errno.ENOLCK: "max_file_locks is reached",
    Errno.EINTR: "a signal came",
}


@syscall(_LOCK_ERRORS | {Errno.EINVAL: "it is not one of SH, EX and UN"}, restarts=True)
def fd_flock(ctx: CallContext, fd: Fd, operation: Number) -> None:
    """Lock an open file, shared (1) or exclusive (2), or unlock it (8); with 4 without waiting."""
    file, wanted = ctx.descriptor(fd).file, operation & ~_NO_WAIT
    if wanted not in (_SHARED, _EXCLUSIVE, _UNLOCK):
        raise KernelError(Errno.EINVAL, f"operation {operation:#x}")
    locks = ctx.kernel.locks
    if wanted == _UNLOCK:
        locks.unlock(file)
        return
    locks.flock(
        ctx.process,
        file,
        ctx.lock,
        ctx.clock,
        exclusive=wanted == _EXCLUSIVE,
        waits=not operation & _NO_WAIT,
    )


@syscall(
    _LOCK_ERRORS
    | {
        Errno.EBADF: "fd is not open, or not for reading (to read-lock) or writing (to write-lock)",
        Errno.EINVAL: "the command or the type is unknown, or the range starts before the file",
        Errno.EOVERFLOW: "the range ends past 2^63-1",
        Errno.EDEADLK: "the call would wait for ever",
    },
    restarts=True,
)
def fd_record_lock(
    ctx: CallContext, fd: Fd, command: Number, kind: Number, start: Signed64, length: Signed64
) -> tuple[Number, Number, FileSize, FileSize]:
    """Lock a range of a file for the process (13, or 14 to wait), unlock it (type 2), or tell who has it (12)."""
    if not _GETLK <= command <= _SETLKW or kind > LockKind.UNLOCK:
        raise KernelError(Errno.EINVAL, f"command {command}, type {kind}")
    descriptor = ctx.descriptor(fd)
    first, last = _bounds(start, length)
    wanted, locks = Range(ctx.process, LockKind(kind), first, last), ctx.kernel.locks
    if command == _GETLK:
        if wanted.kind is LockKind.UNLOCK:
            raise KernelError(Errno.EINVAL, "nobody is kept from unlocking")
        found = locks.conflict(descriptor.file, wanted)
        if found is None:
            return LockKind.UNLOCK, 0, start & _BITS, length & _BITS
        size = 0 if found.last == LAST_BYTE else found.last - found.first + 1
        return found.kind, found.owner.pid, found.first, size
    if wanted.kind is not LockKind.UNLOCK:
        needed = FD_READ if wanted.kind is LockKind.READ else FD_WRITE
        if not descriptor.rights & needed:
            raise ctx.refusal(fd, needed)
    locks.lock_range(descriptor.file, wanted, ctx.lock, ctx.clock, waits=command == _SETLKW)
    return kind, 0, start & _BITS, length & _BITS


def _bounds(start: int, length: int) -> tuple[int, int]:
    """Return the first and the last byte of a range; a length of 0 is to the end, a negative one before the start."""
    if length < 0:
        start, length = start + length, -length
    if start < 0:
        raise KernelError(Errno.EINVAL, f"the range starts at {start}")
    last = LAST_BYTE if length == 0 else start + length - 1
    if last > LAST_BYTE:
        raise KernelError(Errno.EOVERFLOW, f"the range ends at {last}")
    return start, last
