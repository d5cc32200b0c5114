"""preview1: ending, and signalling oneself."""

from typing import NoReturn

from agentvm.abi.context import CallContext
from agentvm.abi.params import ExitCode, SignalNumber
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.outcome import Signal
from agentvm.kernel.process import GuestExit, GuestKilled

__all__ = ["proc_exit", "proc_raise"]

#: Preview1 `$signal` by number: it has no 0-based gap, and 29 and 30 are SIGPWR and SIGSYS.
_SIGNALS = [
    "none",
    "hup",
    "int",
    "quit",
    "ill",
    "trap",
    "abrt",
    "bus",
    "fpe",
    "kill",
    "usr1",
    "segv",
    "usr2",
    "pipe",
    "alrm",
    "term",
    "chld",
    "cont",
    "stop",
    "tstp",
    "ttin",
    "ttou",
    "urg",
    "xcpu",
    "xfsz",
    "vtalrm",
    "prof",
    "winch",
    "poll",
    "pwr",
    "sys",
]

#: Signals whose default is to do nothing, or to stop: preview1 guests cannot be continued, so none of them acts.
_HARMLESS = frozenset({"none", "chld", "cont", "stop", "tstp", "ttin", "ttou", "urg", "winch"})


@syscall(locked=False)
def proc_exit(ctx: CallContext, rval: ExitCode) -> NoReturn:
    """End the program with an exit code."""
    raise GuestExit(rval)


@syscall({Errno.EINVAL: "there is no such signal"}, locked=False)
def proc_raise(ctx: CallContext, sig: SignalNumber) -> None:
    """Send oneself a signal; its default action is taken."""
    if sig >= len(_SIGNALS):
        raise KernelError(Errno.EINVAL, f"there is no signal {sig}")
    name = _SIGNALS[sig]
    if name in _HARMLESS:
        return
    ctx.process.kill(_BY_NAME.get(name, Signal.SIGTERM))
    raise GuestKilled


_BY_NAME = {signal.name.removeprefix("SIG").lower(): signal for signal in Signal}
