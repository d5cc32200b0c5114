"""`wasi_snapshot_preview1`, one module for each part of the specification, and its alias `wasi_unstable`."""

from agentvm.abi.preview1 import (
    args,
    clock,
    directory,
    environ,
    fd_io,
    fd_metadata,
    fd_status,
    path,
    poll,
    proc,
    random,
    sched,
    sock,
)
from agentvm.abi.preview1.unstable import make_unstable
from agentvm.abi.syscall import CallTable, collect

__all__ = ["PREVIEW1", "UNSTABLE"]

_SOURCES = (args, clock, directory, environ, fd_io, fd_metadata, fd_status, path, poll, proc, random, sched, sock)
#: The calls of `wasi_snapshot_preview1`, by name.
PREVIEW1: CallTable = collect("wasi_snapshot_preview1", _SOURCES)

#: The calls of `wasi_unstable`, by name.
UNSTABLE: CallTable = make_unstable(PREVIEW1)
