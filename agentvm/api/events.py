"""The events of limits on their way out: to the log, to callbacks, and to whoever keeps them.

A listener has a thread of its own, which exists only while there is something to tell; see `Outlet`.
"""

import atexit
import threading
from collections.abc import Callable

from agentvm import log
from agentvm.engine.capacity import host_capacity
from agentvm.limits.announcer import Announcer
from agentvm.limits.events import EventKind, LimitEvent, is_flow
from agentvm.limits.outlet import Collector, EventSink, Outlet
from agentvm.limits.spec import LimitSpec

__all__ = ["Callback", "Events", "Forget", "host_events", "on_host_limit"]

#: Told of each event. What it returns is ignored, what it raises is logged, once.
Callback = Callable[[LimitEvent], object]
#: Takes a callback back. Idempotent.
Forget = Callable[[], None]

#: How long the exit of the interpreter waits for stderr.
_EXIT_SECONDS = 1.0


def _level(kind: EventKind, spec: LimitSpec) -> str:
    """See docs/rationale.md, "Why a full queue is no warning"."""
    return "info" if is_flow(kind, spec) else "warn"


def _is_logged(kind: EventKind, spec: LimitSpec) -> bool:
    return log.enabled(_level(kind, spec))


def _write(event: LimitEvent) -> None:
    log.write(_level(event.kind, event.spec), event.describe(), **event.fields())


#: One for all VMs, so that a stderr that stands still holds up one thread.
_log_outlet = Outlet(_write, wants=_is_logged)


@atexit.register
def _flush_log() -> None:
    if not _log_outlet.is_empty:
        log.load()  # what importing takes is not counted
    _log_outlet.flush(_EXIT_SECONDS)


#: One for all VMs: who listens changes rarely.
_changing = threading.Lock()


class Events:
    """Who hears of the events of one VM, or of the whole process. Any thread."""

    def __init__(self, announcer: Announcer) -> None:
        """All that it announces goes to the log, at the levels at which anybody listens."""
        self._announcer = announcer
        announcer.outlets = (*announcer.outlets, _log_outlet)

    def call(self, callback: Callback) -> Forget:
        """Have `callback` called on a thread of its own. How many there are is the embedding program's business."""
        outlet = Outlet(_Guarded(callback))
        self._add(outlet)

        def forget() -> None:
            self._remove(outlet)
            outlet.close()

        return forget

    def collect(self) -> Collector:
        """Keep the events that happen from now on."""
        collector = Collector()
        self._add(collector)
        return collector

    def hurry(self) -> None:
        """Have what waits told without any pause: nothing comes after. Waits for nobody."""
        for sink in self._announcer.outlets:
            if isinstance(sink, Outlet):
                sink.hurry(self._announcer.vm)

    def _add(self, sink: EventSink) -> None:
        with _changing:
            self._announcer.outlets = (*self._announcer.outlets, sink)

    def _remove(self, sink: EventSink) -> None:
        with _changing:
            self._announcer.outlets = tuple(other for other in self._announcer.outlets if other is not sink)


class _Guarded:
    """A callback that may raise: the first time that is logged, and it goes on getting events."""

    def __init__(self, callback: Callback) -> None:
        self._callback = callback
        self._has_failed = False

    def __call__(self, event: LimitEvent) -> None:
        try:
            self._callback(event)
        except BaseException as error:  # noqa: BLE001 - the embedding program's code, on our thread
            if not self._has_failed:
                self._has_failed = True
                log.error("a callback for limits failed; it goes on getting events", vm=event.vm, exc_info=error)


_attaching = threading.Lock()
_host: tuple[Announcer, Events] | None = None


def host_events() -> Events:
    """Return those of the process-wide limits."""
    global _host  # noqa: PLW0603 - there is one host
    capacity = host_capacity()
    if _host is None or _host[0] is not capacity:
        with _attaching:
            if _host is None or _host[0] is not capacity:
                _host = capacity, Events(capacity)
                log.count_with(capacity.meter("max_waiting_log_lines"))
    return _host[1]


def on_host_limit(callback: Callback) -> Forget:
    """Have `callback` called with a `LimitEvent` whenever a process-wide limit is near its cap, or refuses.

    Returns a function that takes it back. It is called as those of `AgentVM.on_limit` are.
    """
    return host_events().call(callback)
