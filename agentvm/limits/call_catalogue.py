"""The limits of single calls: what one of them may name, carry or move."""

from dataclasses import dataclass

from agentvm.errno import Errno
from agentvm.limits.amount import Amount
from agentvm.limits.declare import GIB, MIB, limit
from agentvm.limits.spec import Kind, Past, Scope, Unit

__all__ = ["CallLimits"]


# `Limits` has the methods that a dataclass gets; making them here too would take as long as starting a VM.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class CallLimits:
    """The part of `Limits` that is about single calls."""

    max_argv_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 1 * MIB, Errno.E2BIG, "E2BIG",
        "Arguments of a process, with their terminating NULs.", aliases=("max_process_argv_bytes",),
    )  # fmt: skip
    max_env_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 1 * MIB, Errno.E2BIG, "E2BIG",
        "Environment of a process, with its terminating NULs.", aliases=("max_process_env_bytes",),
    )  # fmt: skip
    max_path_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 4096, Errno.ENAMETOOLONG, "ENAMETOOLONG",
        "Length of a path, or of a symlink's target, with a terminating NUL.", minimum=1, maximum=1 * MIB,
    )  # fmt: skip
    max_name_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 255, Errno.ENAMETOOLONG, "ENAMETOOLONG",
        "Length of one name in a path.", minimum=1, maximum=65_535,
    )  # fmt: skip
    max_symlinks: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 40, Errno.ELOOP, "ELOOP",
        "Symlinks followed in resolving one path.", maximum=1000,
    )  # fmt: skip
    max_iovecs: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 1024, Errno.EINVAL, "EINVAL",
        "Buffers of one read or write.", minimum=1, maximum=65_536,
    )  # fmt: skip
    max_poll_subscriptions: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 1024, Errno.EINVAL, "EINVAL",
        "Subscriptions of one poll_oneoff.", minimum=1, maximum=65_536,
    )  # fmt: skip
    max_io_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 16 * MIB, None, "short count",
        "Bytes moved by one call on a stream or a host file.", past=Past.WAITS, minimum=1, maximum=1 * GIB,
    )  # fmt: skip
    max_spawn_actions: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 4096, Errno.E2BIG, "E2BIG",
        "File actions of one spawn.", aliases=("max_spawn_file_actions",), minimum=1, maximum=1 << 20,
    )  # fmt: skip
    max_spawn_action_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 1 * MIB, Errno.E2BIG, "E2BIG",
        "File actions of one spawn, with their paths.", aliases=("max_spawn_file_action_bytes",), minimum=24,
        maximum=1 * GIB,
    )  # fmt: skip
