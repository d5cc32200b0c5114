"""The process record: who it is, what it holds, and how it is told to end, to stop and to look for signals."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from agentvm.kernel.credentials import Credentials
from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.outcome import Cause, CauseKind, ExitStatus, Signal
from agentvm.kernel.signals import SignalState
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.wait import Event, Lock, NoScheduler, Scheduler, Waiter, WaitQueue, Watch
from agentvm.limits.registry import ProcessGauges

if TYPE_CHECKING:
    from agentvm.kernel.itimer import IntervalTimer
    from agentvm.kernel.rlimits import ResourceLimits

__all__ = ["INIT_PID", "Ending", "GuestExec", "GuestExit", "GuestKilled", "Image", "Process", "ProcessState"]

#: Process 1 is the VM's own: it has no record, and adopts and reaps what nobody else waits for.
INIT_PID = 1
_NEVER = float("inf")
_NOW = float("-inf")


class GuestExit(Exception):
    """Raised by proc_exit to leave the guest. Only the host-call boundary catches it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class GuestExec(Exception):
    """Raised by proc_exec, when nothing can fail any more, to leave the guest for `program`."""

    def __init__(self, program: object) -> None:
        super().__init__(program)
        self.program = program


class GuestKilled(Exception):
    """Raised where a process that must end is found: at a host call, or in a wait. `process.ending` says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a program is started with. `argv` and `environ` are bytes without NUL; `cwd` is an absolute path."""

    argv: tuple[bytes, ...]
    environ: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    name: str = ""
    #: Where the program lies in the VM's files; None for one that the host brought.
    exe: bytes | None = None


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
    """One process of a VM. `ProcessTable` makes them."""

    # guarded by the kernel lock
    #: Whether the program imports the host ABI: it then hears of SIGPIPE, and its directories are tagged.
    has_host_abi = False
    #: Whether it exports what runs its handlers.
    has_trampoline = False
    #: Whether it has become another program since it was made: its parent then leaves its group alone.
    has_executed = False
    #: Its timer, if it ever asked for one.
    alarm: "IntervalTimer | None" = None
    #: What it has lowered of its own limits, or its parent has; None if nothing.
    rlimits: "ResourceLimits | None" = None
    #: Whether it sleeps, and does not wait to compute; written by who runs it.
    is_asleep = False
    #: The signal that stopped it; None while it goes on.
    stopped_by: Signal | None = None
    #: What the parent has not yet been told: that it stopped, or that it goes on.
    has_stop_to_report = has_continue_to_report = False

    def __init__(
        self, pid: int, parent: "Process | None", image: Image, fds: FdTable, gauges: ProcessGauges, root: Node | None
    ) -> None:
        """`parent` is None for what the host starts: its parent is process 1."""
        # immutable
        self.pid = pid
        self.gauges = gauges
        self.waiter = Waiter()
        #: Whether the host started it, and so reaps it.
        self.is_hosts = parent is None
        # guarded by the kernel lock
        self.image = image
        #: Where absolute symlinks start; None for a process that was not given the VM's root.
        self.root = root
        #: The directories that it is given at its start, and each program that it starts.
        self.preopens: tuple[bytes, ...] = parent.preopens if parent is not None else ()
        self.fds = fds
        self.parent = parent
        self.children: dict[int, Process] = {}  # bounded by max_processes
        #: Told when a child ends, stops or goes on.
        self.child_events = WaitQueue("its children")
        self.watch: Watch | None = None
        #: All processes of the VM, itself among them.
        self.neighbours: Collection[Process] = ()
        self.pgid: int = parent.pgid if parent is not None else pid
        self.sid: int = parent.sid if parent is not None else pid
        self.umask: int = parent.umask if parent is not None else 0o022
        self.credentials: Credentials = parent.credentials.executed() if parent is not None else Credentials()
        self.signals: SignalState = parent.signals.inherited() if parent is not None else SignalState()
        self.state = ProcessState.RUNNING
        self.ended = Event()
        # set by the engine before the process runs
        self.scheduler: Scheduler = NoScheduler()
        self.on_kill: Callable[[], None] = _nothing
        self.on_alarm: Callable[[], None] = _nothing
        self.cpu_time_ns: Callable[[], int] = _no_time
        # written by any thread, read at every host call: guarded by _ending_lock
        self._ending_lock = Lock()
        self.ending: Ending | None = None
        #: Monotonic seconds from which on a host call looks whether something is due; -inf if something is.
        self.check_at = _NEVER

    @property
    def ppid(self) -> int:
        """The parent's pid; 1 for what the host started, and for orphans."""
        return self.parent.pid if self.parent is not None else INIT_PID

    @property
    def is_stopped(self) -> bool:
        return self.stopped_by is not None

    @property
    def state_letter(self) -> str:
        """What it is at, as proc(5) writes it: R runs or waits to, S sleeps, T is stopped, Z has ended."""
        if self.state is not ProcessState.RUNNING:
            return "Z" if self.state is ProcessState.ZOMBIE else "X"
        if self.stopped_by is not None:
            return "T"
        return "S" if self.is_asleep else "R"

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal came whose handler is to run."""
        signals = self.signals
        return bool(signals.pending & ~signals.blocked)

    @property
    def is_signalled(self) -> bool:
        """Whether it was stopped, or a handler is to run."""
        return self.stopped_by is not None or self.is_interrupted

    @property
    def has_timer(self) -> bool:
        """Whether a timer of its own will wake it."""
        return self.alarm is not None and self.alarm.at_ns is not None

    def set_alarm(self, alarm: "IntervalTimer") -> None:
        """Have the process's timer looked at from now on; again after each change. Kernel lock."""
        self.alarm = alarm
        self.check_at = _NOW
        self.on_alarm()

    def become(self, image: Image) -> None:
        """The process is another program from now on: execve(2)."""
        self.image = image
        self.credentials = self.credentials.executed()
        self.has_executed = True
        self.signals.reset_handlers()

    def enter(self, path: bytes) -> None:
        """Make an absolute path the working directory."""
        self.image = replace(self.image, cwd=path)

    def notice(self) -> None:
        """Have the process look up: a signal came, or it was stopped or continued. Kernel lock."""
        self.check_at = _NOW
        self.waiter.wake()

    @contextmanager
    def when_killed(self, wake: Callable[[], None]) -> Iterator[None]:
        """Have `wake` called if the process is killed meanwhile, or was. It may be called twice, on any thread."""
        before = self.on_kill

        def on_kill() -> None:
            wake()
            before()

        self.on_kill = on_kill
        try:
            if self.ending is not None:
                wake()
            yield
        finally:
            self.on_kill = before

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

    def rest(self) -> None:
        """Sleep while the process is stopped; a kill ends that too. Without any lock, on the process's own thread."""
        while True:
            self.waiter.reset()
            if self.stopped_by is None or self.ending is not None:
                return
            self.waiter.gate.acquire()

    def raise_if_killed(self) -> None:
        """Raise `GuestKilled` if the process must end."""
        if self.ending is not None:
            raise GuestKilled


def _nothing() -> None:
    pass


def _no_time() -> int:
    return 0
