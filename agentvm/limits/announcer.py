"""Who passes on what counters have to say: what the registry of a VM and the capacity of the process have in common."""

from agentvm.limits.events import EventKind
from agentvm.limits.gauge import Thresholds
from agentvm.limits.outlet import EventSink
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["Announcer", "Listener"]


_USUAL = Thresholds()


class Announcer:
    """Tells its outlets of the events of one VM's counters, or of those of the whole process."""

    def __init__(self, vm: str | None = None) -> None:
        """`vm` is the VM's name in events; None for the process."""
        self.vm = vm
        #: When to warn.
        self.thresholds = _USUAL
        #: Who is told of events; the owner's calls alone let it grow.
        self.outlets: tuple[EventSink, ...] = ()

    def caller(self) -> int | None:
        """Return the process that makes the current call; None for the host's own."""
        return None

    def tell(self, kind: EventKind, spec: LimitSpec, observed: Cap, cap: Cap, pid: int | None = None) -> None:
        """Pass an event on; `pid` is the process that it is about, None for the caller. Any thread, any lock; never
        blocks, never raises."""
        if self.outlets:
            pid = self.caller() if pid is None else pid
            for outlet in self.outlets:
                outlet.post(kind, spec, observed, cap, vm=self.vm, pid=pid)


class Listener:
    """Hears of the counters of one owner, or of one process of a VM: the `Watch` of all gauges and ceilings."""

    __slots__ = ("_announcer", "_pid", "thresholds")

    def __init__(self, announcer: Announcer, pid: int | None = None) -> None:
        self._announcer = announcer
        self._pid = pid
        self.thresholds = announcer.thresholds

    def warn(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        self._announcer.tell(EventKind.WARNING, spec, observed, cap, self._pid)

    def refuse(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        self._announcer.tell(EventKind.REFUSED, spec, observed, cap, self._pid)
