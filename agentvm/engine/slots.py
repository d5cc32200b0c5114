"""Run slots: at most as many guests compute at once as there are cores; the rest queue.

A free slot goes to the VM that holds the fewest, the one that has waited longest first; within a VM, first in first
out. Without slots a kill beside 64 busy guests comes up to a second late, and without turns between VMs one with 64
guests leaves its neighbour a 65th of the machine; see docs/rationale.md, "Why guests take turns".
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from agentvm.limits.gauge import Gauge
from agentvm.limits.spec import Cap

__all__ = ["SLICE_SECONDS", "RunSlots", "SlotStatistics", "Ticket"]

#: How long a guest computes before it gives way to one that waits.
SLICE_SECONDS = 0.010


class Ticket:
    """One guest's claim to a slot. `enter`, `leave` and `rotate` are called on its own thread only."""

    __slots__ = ("cancelled", "engine", "gate", "held", "owner", "since")

    def __init__(self, engine: int, owner: object = None) -> None:
        """`owner` stands for the VM: guests of one owner share its turns."""
        #: The address of the guest's engine, whose epoch the ticker moves while the slot is held.
        self.engine = engine
        self.owner = owner
        self.gate = threading.Lock()
        self.gate.acquire()
        self.held = False
        self.cancelled = False
        self.since = 0.0


@dataclass(frozen=True, slots=True)
class SlotStatistics:
    """How many guests compute and how many wait for their turn."""

    capacity: Cap
    computing: int
    waiting: int


class RunSlots:
    """The slots of the whole process. Any thread."""

    def __init__(self, gauge: Gauge, on_busy: Callable[[], None]) -> None:
        """`gauge` is max_computing_processes; `on_busy` is called, without the lock, when the first slot is taken."""
        self._on_busy = on_busy
        self._lock = threading.Lock()
        # guarded by _lock; all bounded by max_running_processes
        self._gauge = gauge
        #: Who waits, by owner: owners and tickets each in the order in which they came.
        self._queues: OrderedDict[object, OrderedDict[Ticket, None]] = OrderedDict()
        self._holders: set[Ticket] = set()
        self._held: dict[object, int] = {}

    def enter(self, ticket: Ticket) -> None:
        """Take a slot, waiting for one. Returns without one once the guest was killed: it has only to unwind."""
        with self._lock:
            if ticket.cancelled or ticket.held:
                return
            first = not self._holders
            waiting = len(self._holders) >= self._gauge.cap
            if waiting:
                self._wait_in_line(ticket)
                self._gauge.refuse(len(self._holders) + 1)
            else:
                self._grant(ticket)
        if first:
            self._on_busy()
        if waiting:
            ticket.gate.acquire()

    def _wait_in_line(self, ticket: Ticket) -> None:
        self._queues.setdefault(ticket.owner, OrderedDict())[ticket] = None

    def _grant(self, ticket: Ticket) -> None:
        ticket.held = True
        ticket.since = monotonic()
        self._holders.add(ticket)
        self._held[ticket.owner] = self._held.get(ticket.owner, 0) + 1
        self._gauge.set(len(self._holders))

    def _drop(self, ticket: Ticket) -> None:
        ticket.held = False
        self._holders.discard(ticket)
        self._gauge.set(len(self._holders))
        left = self._held[ticket.owner] - 1
        if left:
            self._held[ticket.owner] = left
        else:
            del self._held[ticket.owner]

    def leave(self, ticket: Ticket) -> None:
        """Give the slot, if one is held, to the guest whose turn it is."""
        with self._lock:
            if ticket.held:
                self._drop(ticket)
                self._hand_over()

    def _hand_over(self) -> None:
        while self._queues and len(self._holders) < self._gauge.cap:
            ticket = self._pop_next()
            if not ticket.cancelled:
                self._grant(ticket)
                ticket.gate.release()

    def _pop_next(self) -> Ticket:
        owner = self._next_owner()
        queue = self._queues.pop(owner)
        ticket, _ = queue.popitem(last=False)
        if queue:
            self._queues[owner] = queue  # behind the others
        return ticket

    def _next_owner(self) -> object:
        """Return the owner that holds the fewest slots; few owners hold any, so the first is nearly always it."""
        best, fewest = None, self._gauge.cap + 1
        for owner in self._queues:
            held = self._held.get(owner, 0)
            if held < fewest:
                best, fewest = owner, held
            if not held:
                break
        return best

    def rotate(self, ticket: Ticket) -> None:
        """Queue behind the guests that wait, if any; a VM that holds fewer slots than the others keeps its own."""
        if not self._queues:
            return
        with self._lock:
            if not ticket.held or ticket.cancelled:
                return
            self._drop(ticket)
            self._wait_in_line(ticket)
            self._hand_over()
            if not ticket.held:
                self._gauge.refuse(len(self._holders) + 1)
        ticket.gate.acquire()

    @property
    def contended(self) -> bool:
        """Whether anybody waits for a slot."""
        return bool(self._queues)

    @property
    def is_shared(self) -> bool:
        """Whether guests of several VMs compute, or any waits for a slot."""
        return len(self._held) > 1 or bool(self._queues)

    def cancel(self, ticket: Ticket) -> None:
        """Let a guest that was killed out of the queue at once. Idempotent: an interrupted call can be made again."""
        with self._lock:
            ticket.cancelled = True
            queue = self._queues.get(ticket.owner)
            if queue is not None and ticket in queue:
                if ticket.gate.locked():
                    ticket.gate.release()
                del queue[ticket]
                if not queue:
                    del self._queues[ticket.owner]

    def busy_engines(self) -> set[int]:
        """Return the engines on which guests compute now."""
        with self._lock:
            return {ticket.engine for ticket in self._holders}

    def resize(self, capacity: Cap) -> None:
        """Change how many guests compute at once."""
        with self._lock:
            self._gauge.set_cap(capacity)
            self._hand_over()

    def statistics(self) -> SlotStatistics:
        """Return a snapshot."""
        with self._lock:
            return SlotStatistics(self._gauge.cap, len(self._holders), sum(map(len, self._queues.values())))
