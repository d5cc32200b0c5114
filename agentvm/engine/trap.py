"""From the ways in which wasmtime reports an end to how Linux would report it: signal, cause, backtrace."""

from collections.abc import Sequence

from agentvm.engine import bind
from agentvm.kernel.outcome import Cause, CauseKind, ExitStatus, Signal
from agentvm.kernel.process import Ending

__all__ = ["OUT_OF_FUEL", "STACK_OVERFLOW", "STOPPED_EXACTLY", "ending_of_error", "ending_of_trap"]

#: A backtrace has at most this many frames, and a function's name at most so many bytes: both are the guest's.
_MAX_FRAMES = 20
_MAX_NAME_BYTES = 256

STACK_OVERFLOW = 0
OUT_OF_FUEL = 11
_UNREACHABLE = 9
#: An exception that leaves the guest comes as a trap with no code at all (and with this one in later versions).
_UNCAUGHT = 49

#: wasmtime's trap codes that a core module can meet: the signal by which Linux would end it, and what happened.
_TRAPS: dict[int, tuple[Signal, str]] = {
    STACK_OVERFLOW: (Signal.SIGSEGV, "the call stack overflowed (max_wasm_stack_bytes)"),
    1: (Signal.SIGSEGV, "a memory access was out of bounds"),
    2: (Signal.SIGBUS, "an atomic access was not aligned"),
    3: (Signal.SIGSEGV, "a table access was out of bounds"),
    4: (Signal.SIGILL, "an indirect call met an empty table entry"),
    5: (Signal.SIGILL, "an indirect call met a function of another type"),
    6: (Signal.SIGFPE, "an integer operation overflowed"),
    7: (Signal.SIGFPE, "an integer was divided by zero"),
    8: (Signal.SIGFPE, "a number that no integer can hold was converted to one"),
    _UNREACHABLE: (Signal.SIGILL, "an unreachable instruction was reached"),
    13: (Signal.SIGILL, "a null reference was used"),
    14: (Signal.SIGSEGV, "an array access was out of bounds"),
    15: (Signal.SIGSEGV, "an allocation was too large"),
    16: (Signal.SIGILL, "a reference was cast to a type that it does not have"),
    _UNCAUGHT: (Signal.SIGABRT, "an exception was thrown and never caught"),
}
#: After these the fuel that is left is exact; other traps lose what was burnt since the last host call.
STOPPED_EXACTLY = frozenset({OUT_OF_FUEL, _UNREACHABLE})


def _line(frame: bind.Frame) -> str:
    index, name, offset = frame
    # The name is the guest's: no control character of it reaches a terminal.
    shown = name.decode(errors="replace").encode("unicode_escape").decode() if name else f"function {index}"
    return f"{shown} at {offset:#x}"


def _backtrace(frames: Sequence[bind.Frame]) -> tuple[str, ...]:
    return tuple(_line(frame) for frame in frames)


def ending_of_trap(trap: int) -> tuple[Ending, int | None]:
    """Read and free a trap. Returns the ending it means, and its code (None for an exception)."""
    code, frames = bind.read_trap(trap, _MAX_FRAMES, _MAX_NAME_BYTES)
    signal, text = _TRAPS.get(_UNCAUGHT if code is None else code, (Signal.SIGILL, f"the guest trapped (code {code})"))
    cause = Cause(CauseKind.TRAP, f"{text}: killed by {signal.name}", backtrace=_backtrace(frames))
    return Ending(ExitStatus.signalled(signal), cause), code


def ending_of_error(error: int) -> Ending:
    """Read and free an error that nothing of ours explains. It is our own failure, so the text is for the host."""
    text, frames = bind.read_error(error, _MAX_FRAMES, _MAX_NAME_BYTES)
    cause = Cause(CauseKind.HOST_BUG, f"the engine failed: {text}", backtrace=_backtrace(frames))
    return Ending(ExitStatus.signalled(Signal.SIGKILL), cause)
