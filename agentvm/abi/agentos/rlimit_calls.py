"""host_process: resource limits. Source: getrlimit(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, Number64
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.rlimits import Resource, limits_of, set_limit

__all__ = ["proc_getrlimit", "proc_setrlimit"]

_UNKNOWN = "there is no such resource"


@syscall({Errno.EINVAL: _UNKNOWN})
def proc_getrlimit(ctx: CallContext, resource: Number) -> tuple[Number64, Number64]:
    """Return the soft and the hard limit of a resource, with Linux's number; 2^64 - 1 is none."""
    return limits_of(ctx.process, _resource(resource))


@syscall(
    {
        Errno.EINVAL: f"{_UNKNOWN}, or the soft limit lies above the hard one",
        Errno.EPERM: "the hard limit would rise",
    }
)
def proc_setrlimit(ctx: CallContext, resource: Number, soft: Number64, hard: Number64) -> None:
    """Set both limits of a resource, for the caller and what it starts: the hard one only falls."""
    set_limit(ctx.process, _resource(resource), soft, hard)


def _resource(number: int) -> Resource:
    try:
        return Resource(number)
    except ValueError:
        raise KernelError(Errno.EINVAL, f"resource {number}") from None
