"""`wasi_unstable`, the snapshot before preview1: the same calls, another order of whence, three other layouts."""

import functools
from collections.abc import Mapping

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, FileDelta, FileSize, Pointer, Record, Size, WhenceNumber
from agentvm.abi.preview1.fd_io import fd_seek
from agentvm.abi.preview1.poll import POLL_ERRORS, poll
from agentvm.abi.syscall import CallTable, SyscallSpec, syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Whence

__all__ = ["fd_seek_unstable", "make_unstable", "poll_oneoff_unstable"]

#: `$whence` of wasi_unstable: cur, end, set.
_WHENCE = (Whence.CUR, Whence.END, Whence.SET)
_FILESTAT = Record(56, "pack_filestat_unstable")


@syscall({Errno.EINVAL: "whence is unknown, or the new offset is negative"})
def fd_seek_unstable(ctx: CallContext, fd: Fd, offset: FileDelta, whence: WhenceNumber) -> FileSize:
    """As `fd_seek`, with the whence numbers of `wasi_unstable`."""
    if whence >= len(_WHENCE):
        raise KernelError(Errno.EINVAL, f"whence {whence} is none of 0, 1, 2")
    return fd_seek(ctx, fd, offset, _WHENCE[whence])


@syscall(POLL_ERRORS)
def poll_oneoff_unstable(ctx: CallContext, subscriptions: Pointer, events: Pointer, nsubscriptions: Size) -> Size:
    """As `poll_oneoff`, with the longer subscriptions of `wasi_unstable`."""
    return poll(ctx, subscriptions, events, nsubscriptions, unstable=True)


def make_unstable(calls: CallTable) -> CallTable:
    """Return the calls of preview1 as `wasi_unstable` has them."""

    def describe(name: str) -> SyscallSpec:
        return calls[name].for_module("wasi_unstable", **_CHANGES.get(name, {}))

    return CallTable({name: functools.partial(describe, name) for name in calls if name != "sock_accept"})


_CHANGES: Mapping[str, Mapping[str, object]] = {
    "fd_filestat_get": {"results": (_FILESTAT,)},
    "fd_seek": {"handler": fd_seek_unstable},
    "path_filestat_get": {"results": (_FILESTAT,)},
    "poll_oneoff": {"handler": poll_oneoff_unstable},
}
