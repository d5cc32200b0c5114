"""Where events go: a slot for each limit and kind, emptied by a thread of its own, so that no guest ever waits.

A listener that is slow, raises or never returns costs nothing but its own events' freshness: they become one, with a
count. The memory is bounded by the catalogue. See docs/rationale.md, "Why events are slots and not a queue".
"""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from agentvm.background import Background, forks
from agentvm.limits.events import EventKind, LimitEvent
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["INTERVAL_SECONDS", "MOST_SLOTS", "Collector", "EventSink", "Outlet"]

#: Events of one limit and kind are delivered at most that often; the first comes at once.
INTERVAL_SECONDS = 1.0
#: With that many slots in use, those of a limit and kind become one for all VMs. Only an outlet that serves many VMs
#: can have so many, and only while its listener stands still.
MOST_SLOTS = 4096
#: Slots that are due within that time are looked at together.
_GRAIN_SECONDS = 0.01

_Key = tuple[str | None, str, EventKind]


class EventSink(Protocol):
    """What hears of events. Called on any thread, under any of a VM's locks: it must neither block nor raise."""

    def post(
        self, kind: EventKind, spec: LimitSpec, observed: Cap, capacity: Cap, *, vm: str | None, pid: int | None
    ) -> None:
        """Note an event."""


class _Slot:
    """What happened to one limit since it was last told."""

    __slots__ = ("capacity", "count", "observed", "pid", "spec")

    def __init__(self, spec: LimitSpec) -> None:
        self.spec = spec
        self.count = 0
        self.observed: Cap = 0
        self.capacity: Cap = 0
        self.pid: int | None = None

    def note(self, observed: Cap, capacity: Cap, pid: int | None) -> None:
        self.count += 1
        self.observed, self.capacity, self.pid = observed, capacity, pid

    def event(self, key: _Key) -> LimitEvent:
        return LimitEvent(key[2], self.spec, self.observed, self.capacity, key[0], self.pid, self.count)


class Collector:
    """Keeps the events of one VM until they are asked for: one for each limit and kind."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._slots: dict[_Key, _Slot] = {}  # guarded by _lock; bounded by the catalogue

    def post(
        self, kind: EventKind, spec: LimitSpec, observed: Cap, capacity: Cap, *, vm: str | None, pid: int | None
    ) -> None:
        """Note an event."""
        key = (vm, spec.name, kind)
        with self._lock:
            slot = self._slots.get(key)
            if slot is None:
                slot = self._slots[key] = _Slot(spec)
            slot.note(observed, capacity, pid)

    def events(self) -> tuple[LimitEvent, ...]:
        """Return what has happened so far, in the order in which it first did."""
        with self._lock:
            return tuple(slot.event(key) for key, slot in self._slots.items())


def _everything(_kind: EventKind, _spec: LimitSpec) -> bool:
    return True


class Outlet:
    """Delivers events to one listener, one at a time, in the order in which their slots were first filled.

    A slot is `ready` when its event may be delivered, and held back where the one before was delivered less than an
    interval ago.
    """

    def __init__(
        self,
        deliver: Callable[[LimitEvent], None],
        *,
        wants: Callable[[EventKind, LimitSpec], bool] = _everything,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """`deliver` is called on a thread of this outlet; what it raises is its own business. `wants` is asked first
        whether anybody would hear of such an event."""
        self._deliver = deliver
        self._wants = wants
        self._interval = interval_seconds
        self._thread = Background(self._step)
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._made_in = forks()
        # Reentrant: a finalizer may run anywhere, and have something to say.
        self._lock = threading.RLock()
        # guarded by _lock; at most MOST_SLOTS slots, and then one more for each limit and kind of event
        self._ready: dict[_Key, _Slot] = {}
        self._held: dict[_Key, _Slot] = {}
        #: When events were delivered, oldest first, for one interval.
        self._told: dict[_Key, float] = {}

    @property
    def is_running(self) -> bool:
        """Whether the thread exists: it ends an interval after its last event."""
        return self._thread.is_running

    @property
    def is_empty(self) -> bool:
        """Whether no event waits. One may be being delivered."""
        return not self._ready and not self._held

    def post(
        self, kind: EventKind, spec: LimitSpec, observed: Cap, capacity: Cap, *, vm: str | None, pid: int | None
    ) -> None:
        """Note an event. Any thread, any lock but this one: never blocks, never raises."""
        if not self._wants(kind, spec):
            return
        self._look_for_fork()
        key: _Key = (vm, spec.name, kind)
        with self._lock:
            if self._closed:
                return
            slot = self._find(key)
            if slot is None and len(self._ready) + len(self._held) >= MOST_SLOTS:
                key = (None, spec.name, kind)
                slot = self._find(key)
            is_new = slot is None
            if slot is None:
                slot = _Slot(spec)
                (self._held if key in self._told else self._ready)[key] = slot
            slot.note(observed, capacity, pid)
        # Asked each time: a thread that the host refused before may be had now.
        if is_new or not self._thread.is_running:
            self._thread.wake()

    def _look_for_fork(self) -> None:
        if self._made_in != forks():
            self._reset()  # what waited is the parent's to tell, and nobody will release its lock

    def _find(self, key: _Key) -> _Slot | None:
        return self._ready.get(key) or self._held.get(key)

    def hurry(self, vm: str | None = None) -> None:
        """Deliver what waits, of one VM or of all, without any pause. Does not wait for it."""
        if self.is_empty:
            return
        self._look_for_fork()
        with self._lock:
            for key in list(self._held):
                if vm is None or key[0] == vm:
                    self._ready[key] = self._held.pop(key)
                    self._told.pop(key, None)
            if not self._ready:
                return
        self._thread.wake()

    def flush(self, timeout_seconds: float) -> bool:
        """Deliver what waits without any pause, and wait for it; return whether all is delivered, within the timeout.

        Not from within `deliver`.
        """
        self.hurry()
        return self._thread.settle(timeout_seconds) if self._thread.is_running else self.is_empty

    def close(self) -> None:
        """Deliver no more, now and ever. Does not wait for a delivery that is under way."""
        self._look_for_fork()
        with self._lock:
            self._closed = True
            for slots in (self._ready, self._held, self._told):
                slots.clear()
        if self._thread.is_running:
            self._thread.wake()

    # ---- the outlet's thread ----

    def _step(self) -> float | None:
        """Deliver one event and return 0; without one, return in how many seconds to look again."""
        with self._lock:
            now = monotonic()
            self._let_go(now)
            if not self._ready:
                return self._pause(now)
            key = next(iter(self._ready))
            event = self._ready.pop(key).event(key)
            self._told.pop(key, None)
            self._told[key] = now
        try:
            self._deliver(event)
        except BaseException:  # noqa: BLE001, S110 - somebody else's code; whoever makes the outlet logs it
            pass
        return 0.0

    def _let_go(self, now: float) -> None:
        """Forget what was delivered an interval ago; what was held back for it is ready now."""
        while self._told:
            key, at = next(iter(self._told.items()))
            if at + self._interval > now:
                return
            del self._told[key]
            if key in self._held:
                self._ready[key] = self._held.pop(key)

    def _pause(self, now: float) -> float | None:
        """Return how long nothing is to be done: until a slot is due, or else until all is forgotten."""
        if not self._told:
            return None
        told = self._told.values()
        due = next(iter(told)) if self._held else next(reversed(told))
        return max(due + self._interval - now, _GRAIN_SECONDS)
