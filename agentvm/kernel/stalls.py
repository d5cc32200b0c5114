"""Stalls: every process of a VM waits for ever, and only the VM's own processes could move what they wait for.

A process that sleeps without a deadline is noted here by the one function that waits. When the last one that could do
anything goes to sleep, or ends, what all wait for is looked at once.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import ProcessState
from agentvm.kernel.wait import WaitQueue

if TYPE_CHECKING:
    from agentvm.kernel.process import Process

__all__ = ["Stall", "StallWatch", "Waits"]


@dataclass(frozen=True, slots=True)
class Waits:
    """One process of a stall, and what it waits for, in words."""

    pid: int
    name: str
    waits_for: str

    def __str__(self) -> str:
        return f"{self.pid} ({self.name}) for {self.waits_for}"


@dataclass(frozen=True, slots=True)
class Stall:
    """Every process of a VM waits for the others, and none will ever go on unless the host does something."""

    processes: tuple[Waits, ...]

    def describe(self) -> str:
        """Return it as one sentence."""
        return f"every process waits for ever: {'; '.join(map(str, self.processes))}"


class StallWatch:
    """The sleepers of one VM. Guarded by the kernel lock; bounded by max_processes."""

    __slots__ = ("_is_told", "_kills", "_on_stall", "_processes", "_sleepers", "zombies")

    def __init__(self, processes: "Collection[Process]", *, kills: bool) -> None:
        """`processes` are those of the VM; `kills`: a stall ends them all (on_stall)."""
        self._processes = processes
        self._kills = kills
        self._on_stall: Callable[[Stall], None] = _nobody
        self._sleepers: dict[Process, Sequence[WaitQueue]] = {}
        self._is_told = False
        #: How many of the processes have ended.
        self.zombies = 0

    def tell(self, on_stall: Callable[[Stall], None]) -> None:
        """Have `on_stall` called with each stall, under the kernel lock: it must neither block nor raise."""
        self._on_stall = on_stall

    def sleep(self, process: "Process", queues: Sequence[WaitQueue]) -> None:
        """A process is about to sleep, without a deadline, until one of `queues` is notified."""
        self._sleepers[process] = queues
        self.look()

    def wake(self, process: "Process") -> None:
        """It is awake again: a stall, if there was one, may be over."""
        self._sleepers.pop(process, None)

    def move(self) -> None:
        """A wait has come to an end: the next stall is another one."""
        self._is_told = False

    def look(self) -> None:
        """Tell of a stall, once, if this is one."""
        if self._is_told or not self._sleepers or len(self._sleepers) + self.zombies < len(self._processes):
            return
        living = [process for process in self._processes if process.state is ProcessState.RUNNING]
        if not living or not all(self._is_stuck(process) for process in living):
            return
        self._is_told = True
        stall = Stall(tuple(self._describe(process) for process in living))
        self._on_stall(stall)
        if self._kills:
            for process in living:
                process.kill(Signal.SIGKILL, Cause(CauseKind.STALL, f"{stall.describe()}: killed by SIGKILL"))

    def _is_stuck(self, process: "Process") -> bool:
        """Whether nobody but the VM's processes could have this one go on. One that is ending will be heard of once
        more; signals to what the host started are the host's to send."""
        queues = self._sleepers.get(process)
        if queues is None or process.waiter.is_woken or process.ending is not None or process.has_timer:
            return False
        if process.is_hosts and (process.is_stopped or not queues):
            return False
        return not any(queue.host_ends for queue in queues)

    def _describe(self, process: "Process") -> Waits:
        if process.stopped_by is not None:
            what = f"a signal to go on: it was stopped by {process.stopped_by.name}"
        else:
            what = " or ".join(self._name(process, queue) for queue in self._sleepers[process]) or "a signal"
        return Waits(process.pid, process.image.name, what)

    @staticmethod
    def _name(process: "Process", queue: WaitQueue) -> str:
        for number in process.fds:
            if process.fds.by_number[number].file.waiters is queue:
                return f"descriptor {number}, {queue.what}"
        return queue.what


def _nobody(_stall: Stall) -> None:
    pass
