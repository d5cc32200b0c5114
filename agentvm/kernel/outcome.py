"""How a process ended: its wait status as Linux has it, and one typed record of the cause."""

from dataclasses import dataclass
from enum import Enum, IntEnum

from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["MAX_SIGNAL", "Cause", "CauseKind", "ExitStatus", "Signal"]


#: The highest signal number.
MAX_SIGNAL = 64


class Signal(IntEnum):
    """Signal numbers of Linux. Real-time signals have no names: `Signal(40)` is SIGRT40."""

    SIGHUP = 1
    SIGINT = 2
    SIGQUIT = 3
    SIGILL = 4
    SIGTRAP = 5
    SIGABRT = 6
    SIGBUS = 7
    SIGFPE = 8
    SIGKILL = 9
    SIGUSR1 = 10
    SIGSEGV = 11
    SIGUSR2 = 12
    SIGPIPE = 13
    SIGALRM = 14
    SIGTERM = 15
    SIGSTKFLT = 16
    SIGCHLD = 17
    SIGCONT = 18
    SIGSTOP = 19
    SIGTSTP = 20
    SIGTTIN = 21
    SIGTTOU = 22
    SIGURG = 23
    SIGXCPU = 24
    SIGXFSZ = 25
    SIGVTALRM = 26
    SIGPROF = 27
    SIGWINCH = 28
    SIGPOLL = 29
    SIGPWR = 30
    SIGSYS = 31

    @classmethod
    def _missing_(cls, value: object) -> "Signal | None":
        if not isinstance(value, int) or not 32 <= value <= MAX_SIGNAL:
            return None
        member = int.__new__(cls, value)
        member._name_, member._value_ = f"SIGRT{value}", value
        return cls._value2member_map_.setdefault(value, member)  # type: ignore[return-value]


class CauseKind(Enum):
    """The ways in which a process can end."""

    EXIT = "exit"  # it returned, or called proc_exit
    SIGNAL = "signal"  # somebody killed it: vm.kill, Ctrl-C, close
    LIMIT = "limit"  # it hit a cap that ends a process
    TRAP = "trap"  # it did what WebAssembly forbids
    STALL = "stalled"  # every process of the VM waited for ever for the others (on_stall="kill")
    HOST_BUG = "host_bug"  # agentvm itself failed; the host's log has the traceback


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a process ended. `limit`, `observed` and `cap` are set for LIMIT; `setting` says how to raise it;
    `backtrace` holds the wasm frames of a TRAP, innermost first."""

    kind: CauseKind
    message: str = ""
    limit: str | None = None
    observed: Cap | None = None
    cap: Cap | None = None
    setting: str | None = None
    backtrace: tuple[str, ...] = ()

    @classmethod
    def of_limit(cls, name: str, observed: Cap, cap: Cap) -> "Cause":
        """Describe a death by a limit, with the setting that doubles it."""
        return cls.of_spec(SPECS[name], observed, cap)

    @classmethod
    def of_spec(cls, spec: LimitSpec, observed: Cap, cap: Cap) -> "Cause":
        """As `of_limit`, for any limit, those of the whole process too."""
        message = f"{spec.name}: {format_amount(spec.unit, observed)} used, {format_amount(spec.unit, cap)} allowed"
        return cls(CauseKind.LIMIT, message, spec.name, observed, cap, spec.raised(cap, observed))


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """What waitpid(2) reports: an exit code, or the signal that ended the process."""

    code: int | None
    signal: Signal | None

    @classmethod
    def exited(cls, code: int) -> "ExitStatus":
        return cls(code, None)

    @classmethod
    def signalled(cls, signal: Signal) -> "ExitStatus":
        return cls(None, signal)

    @property
    def shell_code(self) -> int:
        """The status as a shell shows it: 128 + signal for a killed process; else the low 8 bits of the code."""
        if self.signal is not None:
            return 128 + int(self.signal)
        assert self.code is not None
        return self.code & 0xFF
