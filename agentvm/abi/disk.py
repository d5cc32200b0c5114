"""What counts against the disk rates: the calls that are declared with `disk=`, on what lies in memory or on the host.

A VM without such rates never comes here: its callbacks run the handlers as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any, get_args

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, Path
from agentvm.abi.syscall import Disk, SyscallSpec
from agentvm.errno import KernelError
from agentvm.kernel.disk import DiskRates, Throttle
from agentvm.kernel.fd_table import CWD_NUMBERS, FIRST_TAGGED

__all__ = ["metered"]

_FD, _PATH = get_args(Fd)[1], get_args(Path)[1]
#: `$oflags` with which a file is made or emptied: CREAT, TRUNC.
_CHANGES = 1 | 8


def metered(spec: SyscallSpec) -> Callable[..., Any]:
    """Return the handler of a call that counts, so that it takes what it uses and waits for it.

    An operation each time that the call comes to a file or directory, whether it succeeds or not; and as many bytes as
    its result says, where that is a size. Raises what the handler raises, and `GuestKilled` while it waits.
    """
    assert spec.locked, f"{spec.name} would wait without the lock"
    handler = spec.handler
    counts_bytes = len(spec.results) == 1 and spec.results[0].is_count
    comes_to_disk, throttle_of = _subject(spec), _direction(spec)

    def call(ctx: CallContext, *arguments: Any) -> Any:
        if not comes_to_disk(ctx, arguments):
            return handler(ctx, *arguments)
        throttle = throttle_of(ctx, arguments)
        throttle.hold_back(ctx.process)
        try:
            found = handler(ctx, *arguments)
        except KernelError:
            throttle.charge(ctx.process, 0)
            raise
        throttle.charge(ctx.process, found if counts_bytes else 0)
        return found

    return call


def _direction(spec: SyscallSpec) -> Callable[[CallContext, Sequence[Any]], Throttle]:
    if spec.disk is Disk.READ:
        return lambda ctx, _: _rates(ctx).read
    if spec.disk is Disk.WRITE:
        return lambda ctx, _: _rates(ctx).write
    assert spec.disk is Disk.OPEN
    oflags = [name for name, _ in spec.params].index("oflags")
    return lambda ctx, arguments: _rates(ctx).write if arguments[oflags] & _CHANGES else _rates(ctx).read


def _rates(ctx: CallContext) -> DiskRates:
    assert ctx.disk is not None, "a VM without disk rates has the callbacks of one that has them"
    return ctx.disk


def _subject(spec: SyscallSpec) -> Callable[[CallContext, Sequence[Any]], bool]:
    """Return what tells whether a call comes to a disk: by its descriptor, or by each path with the one before it."""
    kinds = [kind for _, kind in spec.params]
    paths = [(i, kinds.index(_PATH, i)) for i, kind in enumerate(kinds) if kind is _FD and _PATH in kinds[i:]]
    if not paths:
        fd = kinds.index(_FD)
        return lambda ctx, arguments: _is_on_disk(ctx, arguments[fd])
    if len(paths) == 1:
        ((base, path),) = paths
        return lambda ctx, arguments: _leads_to_disk(ctx, arguments[base], arguments[path])
    return lambda ctx, arguments: any(_leads_to_disk(ctx, arguments[base], arguments[path]) for base, path in paths)


def _is_on_disk(ctx: CallContext, fd: int) -> bool:
    descriptor = ctx.descriptors.get(fd)
    return descriptor is not None and descriptor.file.on_disk


def _leads_to_disk(ctx: CallContext, fd: int, path: bytes) -> bool:
    if fd in CWD_NUMBERS and ctx.process.has_host_abi:
        fd = FIRST_TAGGED
    descriptor = ctx.descriptors.get(fd)
    if descriptor is None or descriptor.file.node is None:
        return False
    return ctx.vfs.leads_to_disk(descriptor.file.node, path, root=ctx.process.root)
