"""The process record: who it is, what it holds, and how it is told to end."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.outcome import Cause, CauseKind, ExitStatus, Signal
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.wait import Event, Lock, NoScheduler, Scheduler, Waiter
from agentvm.limits.registry import ProcessGauges

__all__ = ["Ending", "GuestExit", "GuestKilled", "Image", "Process", "ProcessState"]

_NEVER = float("inf")
_NOW = float("-inf")


class GuestExit(Exception):
    """Raised by proc_exit to leave the guest. Only the host-call boundary catches it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class GuestKilled(Exception):
    """Raised where a process that must end is found: at a host call, or in a wait. `process.ending` says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a program is started with. `argv` and `environ` are bytes without NUL; `cwd` is an absolute path."""

    argv: tuple[bytes, ...]
    environ: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended, or must end."""

    status: ExitStatus
    cause: Cause


class ProcessState(Enum):
    """Life of a process. A zombie has ended but holds its place in the table until it is reaped."""

    RUNNING = "running"
    ZOMBIE = "zombie"
    REAPED = "reaped"


class Process:
    """One process of a VM."""

    def __init__(
        self, pid: int, ppid: int, image: Image, fds: FdTable, gauges: ProcessGauges, root: Node | None
    ) -> None:
        # immutable
        self.pid = pid
        self.ppid = ppid
        self.image = image
        self.gauges = gauges
        #: Where absolute symlinks start; None for a process that was not given the VM's root.
        self.root = root
        self.waiter = Waiter()
        # guarded by the kernel lock
        self.fds = fds
        self.umask = 0o022
        self.state = ProcessState.RUNNING
        self.ended = Event()
        # set by the engine before the process runs
        self.scheduler: Scheduler = NoScheduler()
        self.on_kill: Callable[[], None] = _nothing
        self.cpu_time_ns: Callable[[], int] = _no_time
        # written by any thread, read at every host call: guarded by _ending_lock
        self._ending_lock = Lock()
        self.ending: Ending | None = None
        #: Monotonic seconds from which on a host call looks whether something is due; -inf once the process must end.
        self.check_at = _NEVER

    def kill(self, signal: Signal, cause: Cause | None = None) -> bool:
        """Make the process end as if by `signal`; the first call decides. Any thread, with or without kernel lock.

        Returns False if it was ending already.
        """
        cause = cause or Cause(CauseKind.SIGNAL, f"killed by {signal.name}")
        if not self._decide(Ending(ExitStatus.signalled(signal), cause)):
            return False
        self.waiter.wake()
        self.on_kill()
        return True

    def exit(self, code: int) -> None:
        """Note that the program ended by itself, with `code`."""
        self._decide(Ending(ExitStatus.exited(code), Cause(CauseKind.EXIT, f"exited with {code}")))

    def _decide(self, ending: Ending) -> bool:
        with self._ending_lock:
            if self.ending is not None:
                return False
            self.ending = ending
            self.check_at = _NOW
            return True

    def raise_if_killed(self) -> None:
        """Raise `GuestKilled` if the process must end."""
        if self.ending is not None:
            raise GuestKilled


def _nothing() -> None:
    pass


def _no_time() -> int:
    return 0
