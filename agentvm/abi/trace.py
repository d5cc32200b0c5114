"""Traces: who is told of calls, and how a trace writes one: `random_get(buf=1, buf_len=5) -> OK`."""

from collections.abc import Callable, Sequence

from agentvm.abi.syscall import SyscallSpec
from agentvm.errno import Errno

__all__ = ["CallTrace", "format_call"]

#: Told after each call that returns, and before one that never does: the call, its raw arguments (unsigned), the errno.
CallTrace = Callable[[SyscallSpec, Sequence[int], int], None]


def format_call(spec: SyscallSpec, raw: Sequence[int], errno: int) -> str:
    """Return the line of one call, from what a `CallTrace` is told. Numbers are as the guest passed them, and signed
    where the specification says so; `result` is where the call writes to. A call that never returns has no errno."""
    pairs = zip(spec.raw_params, spec.raw_signs, raw, strict=True)
    values = (f"{name}={_signed(value, kind) if signed else value}" for (name, kind), signed, value in pairs)
    call = f"{spec.name}({', '.join(values)})"
    if not spec.returns:
        return call
    return f"{call} -> {Errno(errno).name if errno else 'OK'}"


def _signed(value: int, kind: str) -> int:
    half = 1 << (63 if kind == "i64" else 31)
    return (value ^ half) - half
