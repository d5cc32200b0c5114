"""A process's turn at the processor: its run slot, its VM's share of CPU time, and courtesy to other VMs' guests."""

from time import monotonic

from agentvm.engine import bind
from agentvm.engine.courtesy import COURTESY_SECONDS, Courtesy
from agentvm.engine.cpu_rate import CpuRate
from agentvm.engine.slots import SLICE_SECONDS, RunSlots, Ticket
from agentvm.engine.ticker import TICK_SECONDS
from agentvm.kernel.process import Process

__all__ = ["Turn"]


class Turn:
    """Used on the process's runner thread, save `cancel` and `is_held`."""

    __slots__ = ("_courtesy", "_process", "_rate", "_slots", "_ticket")

    def __init__(self, process: Process, slots: RunSlots, ticket: Ticket, rate: CpuRate) -> None:
        self._process = process
        self._slots = slots
        self._ticket = ticket
        self._rate = rate
        self._courtesy = Courtesy()

    @property
    def is_held(self) -> bool:
        """Whether the process computes."""
        return self._ticket.held

    def cancel(self) -> None:
        """The process must end: let it out of the queue, and have it look up if it computes. Any thread, idempotent."""
        self._slots.cancel(self._ticket)
        if self._ticket.held:
            bind.increment_epoch(self._ticket.engine)

    def start(self) -> None:
        """Take a slot for the first time, once the VM may compute at all."""
        self.enter()
        if self._rate.must_wait():
            self.wait()

    def enter(self) -> None:
        """Take a slot, waiting for one."""
        self._slots.enter(self._ticket)

    def leave(self) -> None:
        """Give the slot to whose turn it is."""
        self._slots.leave(self._ticket)

    def come_back(self) -> None:
        """Take a slot after a sleep, behind the processes of the VM that wait for its share."""
        self.enter()
        if self._rate.is_contended:
            self.wait()

    def wait(self) -> None:
        """The VM has used its share of CPU time: wait, without a slot, until it is the process's turn."""
        self.leave()
        self._rate.wait_turn(self._process)
        self.enter()

    def share(self) -> None:
        """Let a guest compute that waits for a slot, once this one's slice is over."""
        if self._slots.contended and monotonic() - self._ticket.since >= SLICE_SECONDS * 0.9:
            self._slots.rotate(self._ticket)

    def give_way(self) -> None:
        """Let a guest compute that waits for a slot."""
        self._slots.rotate(self._ticket)

    def next_look(self, fuel_used: int) -> float:
        """Return in how many seconds host calls are to look in again; a guest that keeps others waiting pauses now."""
        if not self._slots.is_shared:
            return TICK_SECONDS
        self._courtesy.pay(fuel_used)
        return COURTESY_SECONDS
