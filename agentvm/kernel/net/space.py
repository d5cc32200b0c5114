"""The bytes that wait in all sockets of a VM: one budget. Each socket is sure of a part of it, and none gets too much.

See docs/rationale.md, "Why a socket is sure of some room".
"""

from collections.abc import Iterator
from typing import Protocol

from agentvm.kernel.wait import WaitQueue
from agentvm.limits.gauge import Gauge
from agentvm.limits.spec import UNLIMITED

__all__ = ["SOCKET_SHARE", "BufferSpace", "Holder"]

#: What each socket is sure to get, in bytes, where the budget is large enough for that.
_FLOOR_BYTES = 4096
#: No socket holds more than one of so many parts of the budget.
SOCKET_SHARE = 4


class Holder(Protocol):
    """What holds bytes of the budget: the queue of one socket."""

    #: How much it holds, and how much it is sure of.
    held: int
    floor: int

    def refresh(self) -> None:
        """The caps were raised."""


class BufferSpace:
    """max_socket_buffer_bytes. Guarded by the kernel lock.

    The cap bounds what is held and what is still kept free for those that hold less than their floor.
    """

    __slots__ = ("_holders", "_kept", "_sockets", "gauge", "is_short", "waiters")

    def __init__(self, gauge: Gauge, sockets: Gauge) -> None:
        """`gauge` is max_socket_buffer_bytes, `sockets` max_sockets: no more queues than two for each have a floor."""
        self.gauge = gauge
        self._sockets = sockets
        self._holders: set[Holder] = set()  # as many as there are queues with a floor
        #: What is kept free, together.
        self._kept = 0
        #: Whether somebody found less room than his own queue has: he is told when there is more.
        self.is_short = False
        #: Who waits for room that only other sockets can make.
        self.waiters = WaitQueue("room for what is sent: max_socket_buffer_bytes")

    @property
    def most(self) -> int:
        """What one socket may hold at most."""
        cap = self.gauge.cap
        return (1 << 53) if cap == UNLIMITED else int(cap) // SOCKET_SHARE

    @property
    def _floor(self) -> int:
        cap, sockets = self.gauge.cap, self._sockets.cap
        if UNLIMITED in (cap, sockets):
            return _FLOOR_BYTES if cap == UNLIMITED else 0
        return min(_FLOOR_BYTES, int(cap) // (2 * max(1, int(sockets))))

    # -- floors -------------------------------------------------------------------------------------------------------
    def assure(self, holder: Holder) -> None:
        """From now on `holder` is sure of its part. Idempotent."""
        if holder in self._holders:
            return
        self._holders.add(holder)
        holder.floor = self._floor
        self._kept += max(0, holder.floor - holder.held)

    def forget(self, holder: Holder) -> None:
        """A queue is gone; it holds nothing any more."""
        assert not holder.held
        if holder in self._holders:
            self._holders.discard(holder)
            self._kept -= holder.floor
            holder.floor = 0
            self._tell()

    def refresh(self) -> None:
        """The caps were raised."""
        self._kept = 0
        for holder in self._holders:
            holder.floor = self._floor
            self._kept += max(0, holder.floor - holder.held)
            holder.refresh()
        self.waiters.notify()

    def __iter__(self) -> Iterator[Holder]:
        return iter(self._holders)

    # -- bytes --------------------------------------------------------------------------------------------------------
    def room_for(self, holder: Holder) -> int:
        """Return how much the budget has for one queue; it may be less than nothing after the caps have changed."""
        gauge = self.gauge
        if gauge.cap == UNLIMITED:
            return 1 << 53
        return int(gauge.cap - gauge.used) - self._kept + max(0, holder.floor - holder.held)

    def refuse(self, holder: Holder, amount: int) -> None:
        """Note that a sender found no room: too much is held and kept free, or the socket has its whole share. What is
        noted is how large the budget would have to be."""
        kept = self._kept - max(0, holder.floor - holder.held)
        self.gauge.refuse(max(self.gauge.used + kept + amount, SOCKET_SHARE * (holder.held + amount)))

    def charge(self, holder: Holder, amount: int) -> None:
        """`holder` takes so much more, for which there is room."""
        held, floor = holder.held, holder.floor
        if held < floor:
            self._kept -= min(amount, floor - held)
        holder.held = held + amount
        self.gauge.acquire(amount)

    def discharge(self, holder: Holder, amount: int) -> None:
        """`holder` gives so much back."""
        held = holder.held = holder.held - amount
        if held < holder.floor:
            self._kept += min(amount, holder.floor - held)
        self.gauge.release(amount)
        if self.is_short:
            self._tell()

    def _tell(self) -> None:
        self.is_short = False
        self.waiters.notify()
