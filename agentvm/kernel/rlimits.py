"""The resource limits that a program sees, and may lower for itself and what it starts. Source: getrlimit(2).

The hard ones start as the operator's caps, and no call raises them, not root's either.
"""

import math
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from agentvm.errno import Errno, KernelError
from agentvm.limits.registry import ProcessGauges
from agentvm.limits.spec import UNLIMITED

if TYPE_CHECKING:
    from agentvm.kernel.process import Process

__all__ = ["INFINITY", "Resource", "ResourceLimits", "enforce", "limits_of", "set_limit"]

#: No limit: RLIM_INFINITY.
INFINITY: Final = (1 << 64) - 1
_MEMORY = "max_memory_per_process_bytes"


class Resource(IntEnum):
    """The resources, with Linux's numbers."""

    CPU = 0
    FSIZE = 1
    DATA = 2
    STACK = 3
    CORE = 4
    RSS = 5
    NPROC = 6
    NOFILE = 7
    MEMLOCK = 8
    AS = 9
    LOCKS = 10
    SIGPENDING = 11
    MSGQUEUE = 12
    NICE = 13
    RTPRIO = 14
    RTTIME = 15


#: The limit of the catalogue that says how much there is.
_CATALOGUE: Final = {
    Resource.CPU: "max_cpu_time_seconds",
    Resource.FSIZE: "max_file_bytes",
    Resource.DATA: _MEMORY,
    Resource.STACK: "max_wasm_stack_bytes",
    Resource.NPROC: "max_processes",
    Resource.NOFILE: "max_open_fds_per_process",
    Resource.AS: _MEMORY,
}
#: What there is of the others, where that is not without end: nothing dumps core, there are no message queues and no
#: priorities, and each signal waits at most once.
_FIXED: Final = {
    Resource.CORE: 0,
    Resource.SIGPENDING: 64,
    Resource.MSGQUEUE: 0,
    Resource.NICE: 0,
    Resource.RTPRIO: 0,
}


class ResourceLimits:
    """What one program has lowered. Guarded by the kernel lock; bounded by the number of resources."""

    __slots__ = ("_own", "next_cpu_signal_seconds")

    def __init__(self, own: dict[Resource, tuple[int, int]] | None = None) -> None:
        #: Soft and hard limit; INFINITY: as the operator's.
        self._own = own or {}
        #: With how much CPU time used SIGXCPU is due.
        self.next_cpu_signal_seconds = self.soft(Resource.CPU)

    def soft(self, resource: Resource) -> int:
        """Return what a program has lowered a soft limit to; INFINITY if it has not."""
        return self._own.get(resource, (INFINITY, INFINITY))[0]

    def hard(self, resource: Resource) -> int:
        """As `soft`, for the hard limit."""
        return self._own.get(resource, (INFINITY, INFINITY))[1]

    def put(self, resource: Resource, soft: int, hard: int) -> None:
        """Note what a program wants; the checks are `set_limit`'s."""
        self._own[resource] = (soft, hard)
        if resource is Resource.CPU:
            self.next_cpu_signal_seconds = soft

    def copy(self) -> "ResourceLimits":
        """Return these for a program that is started."""
        return ResourceLimits(dict(self._own))


def limits_of(process: "Process", resource: Resource) -> tuple[int, int]:
    """Return the soft and the hard limit of a process: getrlimit(2)."""
    top, own = _top(process.gauges, resource), process.rlimits
    if own is None:
        return top, top
    hard = min(top, own.hard(resource))
    return min(hard, own.soft(resource)), hard


def _top(gauges: ProcessGauges, resource: Resource) -> int:
    name = _CATALOGUE.get(resource)
    if name is None:
        return _FIXED.get(resource, INFINITY)
    cap = gauges.cap(name)
    return INFINITY if cap == UNLIMITED else math.ceil(cap)


def set_limit(process: "Process", resource: Resource, soft: int, hard: int) -> None:
    """Change both limits of a process: setrlimit(2). EINVAL: soft above hard; EPERM: hard above what it is."""
    if soft > hard:
        raise KernelError(Errno.EINVAL, f"{resource.name}: soft limit {soft} above the hard one, {hard}")
    _, before = limits_of(process, resource)
    if hard > before:
        raise KernelError(Errno.EPERM, f"{resource.name}: hard limit {hard} above {before}")
    top = _top(process.gauges, resource)
    if process.rlimits is None:
        process.rlimits = ResourceLimits()
    # What is not lower follows the operator's cap, should that be raised.
    process.rlimits.put(resource, soft if soft < top else INFINITY, hard if hard < top else INFINITY)
    enforce(process)


def enforce(process: "Process") -> None:
    """Hand what a process has lowered to those who count; the rest is looked up when it matters."""
    own = process.rlimits
    if own is None:
        return
    process.fds.limit_numbers(own.soft(Resource.NOFILE))
    memory = min(own.soft(Resource.AS), own.soft(Resource.DATA))
    process.gauges.soften(_MEMORY, UNLIMITED if memory == INFINITY else memory)
