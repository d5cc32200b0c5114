"""The signals of one process: what each does, which are blocked, which wait. Source: signal(7), sigaction(2).

This is state alone; `kernel/signalling.py` sends signals, and the engine runs the handlers.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from agentvm.kernel.outcome import Signal

__all__ = [
    "DEFAULT_ACTIONS",
    "JOB_STOPS",
    "SA_NOCLDSTOP",
    "SA_NOCLDWAIT",
    "SA_NODEFER",
    "SA_RESETHAND",
    "SA_RESTART",
    "UNBLOCKABLE",
    "DefaultAction",
    "Delivery",
    "Disposition",
    "Reaction",
    "SignalState",
    "bit_of",
]

SA_NOCLDSTOP: Final = 1
SA_NOCLDWAIT: Final = 2
SA_RESTART: Final = 0x1000_0000
SA_NODEFER: Final = 0x4000_0000
SA_RESETHAND: Final = 0x8000_0000


class Reaction(Enum):
    """What a program has asked for."""

    DEFAULT = 0
    IGNORE = 1
    HANDLER = 2


class DefaultAction(Enum):
    """What happens where it has asked for nothing."""

    TERMINATE = "terminate"
    IGNORE = "ignore"
    STOP = "stop"
    CONTINUE = "continue"


#: The default actions that do not end the process.
DEFAULT_ACTIONS: Final = {
    Signal.SIGCHLD: DefaultAction.IGNORE,
    Signal.SIGURG: DefaultAction.IGNORE,
    Signal.SIGWINCH: DefaultAction.IGNORE,
    Signal.SIGCONT: DefaultAction.CONTINUE,
    Signal.SIGSTOP: DefaultAction.STOP,
    Signal.SIGTSTP: DefaultAction.STOP,
    Signal.SIGTTIN: DefaultAction.STOP,
    Signal.SIGTTOU: DefaultAction.STOP,
}
#: Stops that a process may ignore or handle, and that an orphaned process group does not heed.
JOB_STOPS: Final = frozenset({Signal.SIGTSTP, Signal.SIGTTIN, Signal.SIGTTOU})


def bit_of(signal: int) -> int:
    """Return the bit that stands for a signal in a mask."""
    return 1 << (signal - 1)


#: SIGKILL and SIGSTOP can be neither blocked, ignored nor handled.
UNBLOCKABLE: Final = bit_of(Signal.SIGKILL) | bit_of(Signal.SIGSTOP)


@dataclass(frozen=True, slots=True)
class Disposition:
    """What a program asked for: `mask` is blocked too while its handler runs, `flags` are SA_* bits."""

    reaction: Reaction = Reaction.DEFAULT
    mask: int = 0
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Delivery:
    """A handler that is to run now, and the mask that comes back after it."""

    signal: int
    restarts: bool
    mask_after: int


_DEFAULT = Disposition()
_IGNORE = Disposition(Reaction.IGNORE)


class SignalState:
    """Guarded by the kernel lock, save `is_due`, which any thread may read. Sixty-four signals bound all of it."""

    __slots__ = ("blocked", "dispositions", "pending", "saved")

    def __init__(self) -> None:
        self.blocked = 0
        self.pending = 0
        #: What differs from the default.
        self.dispositions: dict[int, Disposition] = {}
        #: The mask to come back once the signals were handled that a temporary one let through (sigsuspend, ppoll).
        self.saved: int | None = None

    @property
    def is_due(self) -> bool:
        """Whether a handler is to run. A signal that waits unblocked has one: any other has had its effect already,
        save where it ends a process that is stopped."""
        return bool(self.pending & ~self.blocked)

    def disposition(self, signal: int) -> Disposition:
        return self.dispositions.get(signal, _DEFAULT)

    def is_ignored(self, signal: int) -> bool:
        """Whether the signal would do nothing, by choice or by default."""
        reaction = self.disposition(signal).reaction
        if reaction is Reaction.DEFAULT:
            return DEFAULT_ACTIONS.get(Signal(signal)) is DefaultAction.IGNORE
        return reaction is Reaction.IGNORE

    def set_disposition(self, signal: int, disposition: Disposition) -> None:
        """Change what a signal does; one that waits and would now be ignored is dropped (sigaction(2))."""
        if disposition == _DEFAULT:
            self.dispositions.pop(signal, None)
        else:
            self.dispositions[signal] = disposition
        if self.is_ignored(signal):
            self.pending &= ~bit_of(signal)

    def masks(self) -> tuple[int, int, int, int]:
        """Return what waits, is blocked, ignored by choice, and handled: a bit for each signal."""
        ignored = handled = 0
        for signal, disposition in self.dispositions.items():
            if disposition.reaction is Reaction.IGNORE:
                ignored |= bit_of(signal)
            elif disposition.reaction is Reaction.HANDLER:
                handled |= bit_of(signal)
        return self.pending, self.blocked, ignored, handled

    def take(self) -> Delivery | None:
        """Take the lowest signal whose handler is to run, blocking what it blocks. None if there is none."""
        due = self.pending & ~self.blocked
        while due and self.disposition((due & -due).bit_length()).reaction is not Reaction.HANDLER:
            due &= due - 1  # it ends a process that is stopped, once that goes on
        if not due:
            return None
        signal = (due & -due).bit_length()
        self.pending &= ~bit_of(signal)
        disposition, before = self.disposition(signal), self.blocked
        self.blocked |= disposition.mask & ~UNBLOCKABLE
        if not disposition.flags & SA_NODEFER:
            self.blocked |= bit_of(signal)
        if disposition.flags & SA_RESETHAND:
            self.dispositions.pop(signal, None)
        return Delivery(signal, bool(disposition.flags & SA_RESTART), before)

    def inherited(self) -> "SignalState":
        """Return what a new program starts with: the mask, and what is ignored (execve(2), posix_spawn(3))."""
        state = SignalState()
        state.blocked = self.blocked
        for signal, disposition in self.dispositions.items():
            if disposition.reaction is Reaction.IGNORE:
                state.dispositions[signal] = _IGNORE
        return state

    def reset_handlers(self) -> None:
        """As `inherited`, in place: signals that wait stay."""
        self.dispositions = self.inherited().dispositions
        self.saved = None
