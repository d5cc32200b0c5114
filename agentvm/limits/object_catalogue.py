"""The limits of what programs make for themselves: pipes and locks."""

from dataclasses import dataclass

from agentvm.errno import Errno
from agentvm.limits.amount import Amount
from agentvm.limits.declare import limit
from agentvm.limits.spec import Kind, Scope, Unit

__all__ = ["ObjectLimits"]


# `Limits` has the methods that a dataclass gets; making them here too would take as long as starting a VM.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ObjectLimits:
    """The part of `Limits` that is about objects which programs make."""

    max_pipes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 128, Errno.ENFILE, "pipe, open of a FIFO: ENFILE",
        "Pipes that programs made, and FIFOs that are open.",
    )  # fmt: skip
    max_file_locks: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 1024, Errno.ENOLCK, "flock, fcntl: ENOLCK",
        "Locks on files: one for each open file that is locked, and for each range that a process has locked.",
    )  # fmt: skip
