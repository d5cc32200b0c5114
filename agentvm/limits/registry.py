"""The registry of a VM: a counter for each limit, made when first asked for, and the usage of all of them."""

import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from agentvm.errors import InvalidLimit
from agentvm.limits.announcer import Announcer, Listener
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SPECS, Limits
from agentvm.limits.events import EventKind
from agentvm.limits.gauge import NOBODY, Ceiling, Gauge, Thresholds
from agentvm.limits.rate import Bucket, Window
from agentvm.limits.spec import UNLIMITED, Cap, Kind, LimitSpec, Scope
from agentvm.limits.usage import LimitUsage, Tally, UsageSnapshot

__all__ = ["ProcessGauges", "Registry"]


#: Amounts that are no warning under these caps, whatever VM has them: most VMs have the default caps and run modules
#: that others have run. By identity; the mappings are kept, so that none has the same.
_calm: dict[int, tuple[Mapping[str, Cap], Mapping[str, Cap]]] = {}
_MOST_CALM = 256


class ProcessGauges:
    """The gauges that one process has for itself, by limit name."""

    __slots__ = ("_caps", "_gauges", "_soft", "_tightened", "_watch")

    def __init__(self, caps: Caps, watch: Listener) -> None:
        self._caps = caps
        self._watch = watch
        self._gauges: dict[str, Gauge] = {}
        self._tightened: dict[str, Cap] = {}
        #: What the process itself has lowered, and may raise again up to its cap.
        self._soft: dict[str, Cap] = {}

    def gauge(self, name: str) -> Gauge:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges.setdefault(
                name, Gauge(SPECS[name], self._caps.now[name] if not self._tightened else self.cap(name), self._watch)
            )
            if self._soft:
                self.refresh()
        return gauge

    @property
    def own(self) -> Mapping[str, Cap]:
        """The caps that this process has lower than its VM."""
        return self._tightened

    def cap(self, name: str) -> Cap:
        """Return the cap that this process has."""
        cap = self._caps.now[name]
        return min(cap, self._tightened.get(name, UNLIMITED)) if self._tightened else cap

    @property
    def caps(self) -> Mapping[str, Cap]:
        """Every cap that this process is under, by name."""
        own = {name: self.cap(name) for name in self._tightened}
        return {**self._caps.now, **own} if own else self._caps.now

    def usage(self, spec: LimitSpec) -> LimitUsage:
        """Return how far this process uses a limit that each process has."""
        gauge = self.gauge(spec.name)
        return LimitUsage(spec, gauge.used, gauge.peak, gauge.cap, gauge.refused, gauge.warnings)

    def tighten(self, name: str, cap: Cap) -> None:
        """Lower one cap for this process alone, for good; a higher one changes nothing."""
        self._tightened[name] = min(cap, self._tightened.get(name, cap))
        self.refresh()

    def soften(self, name: str, cap: Cap) -> None:
        """Hold the process to less than its cap, or to that again: what a program sets for itself, which is no news
        for the operator."""
        if cap < self.cap(name):
            self._soft[name] = cap
            self.gauge(name).watch = NOBODY
        elif self._soft.pop(name, None) is not None:
            self.gauge(name).watch = self._watch
        self.refresh()

    def tighten_as(self, other: "ProcessGauges") -> None:
        """Lower the caps that another process has lower, as a child's are."""
        for name, cap in other.own.items():
            self.tighten(name, cap)

    def refresh(self) -> None:
        """Take over the VM's caps as they are now, where this process has no tighter ones."""
        for name, gauge in list(self._gauges.items()):
            cap = self.cap(name)
            gauge.set_cap(min(cap, self._soft.get(name, cap)) if self._soft else cap)

    def all(self) -> list[Gauge]:
        # A copy made in one step: threads that start processes add gauges without the lock that readers hold.
        return list(self._gauges.values())


class Registry(Announcer):
    """Every counter of one VM. Bounded by the catalogue times the number of processes, pipes and sockets."""

    def __init__(
        self, limits: Limits, *, vm: str | None = None, caller: Callable[[], int | None] = lambda: None
    ) -> None:
        """`vm` is the VM's name in events; `caller` returns the process that makes the current call, None for the
        host's own."""
        super().__init__(vm)
        self.caps = Caps(limits)
        if limits.warn_percent is not None or limits.rearm_percent is not None:
            self.thresholds = Thresholds(int(limits.setting("warn_percent")), int(limits.setting("rearm_percent")))
        self._limits = limits
        self._caller = caller
        self._watch = Listener(self)
        self._gauges: dict[str, Gauge] = {}
        self._ceilings: dict[str, Ceiling] = {}
        #: What was measured far below ceilings that nobody asked for; at most _MOST_CALM.
        self._measured: dict[int, Mapping[str, Cap]] = {}
        self._is_measuring = False  # whether it is measured against ceilings of this VM
        self._rates: dict[str, Bucket] = {}
        self._window: Window | None = None
        self._processes: list[ProcessGauges] = []
        # Queues of the engine come and go without the kernel lock, which guards the rest.
        self._objects_lock = threading.Lock()
        #: Those of pipes, listeners and the like, with who is told when their caps are raised.
        self._objects: dict[Gauge, Callable[[], None]] = {}
        self._ended: dict[str, Tally] = {}  # of processes and objects that are gone

    def setting(self, name: str) -> str | int:
        """Return a setting of this VM."""
        return self._limits.setting(name)

    # -- counters -----------------------------------------------------------------------------------------------------
    def gauge(self, name: str) -> Gauge:
        """Return the VM's gauge for a limit of the VM."""
        gauge = self._gauges.get(name)
        if gauge is None:
            # Programs may be started on several threads at once: the first one counts.
            gauge = self._gauges.setdefault(name, Gauge(SPECS[name], self.caps.now[name], self._watch))
        return gauge

    def ceiling(self, name: str) -> Ceiling:
        """Return the VM's ceiling for a limit of single calls."""
        ceiling = self._ceilings.get(name)
        if ceiling is None:
            ceiling = self._ceilings.setdefault(name, Ceiling(SPECS[name], self.caps.now[name], self._watch))
        return ceiling

    def measure(self, amounts: Mapping[str, Cap], *, is_lasting: bool = False) -> None:
        """Note what was asked of several ceilings, and got. A ceiling that it does not come near is not made for it:
        a module has a dozen, and most VMs run one module. `is_lasting`: the same object is measured again and again."""
        caps = self.caps.now
        if is_lasting and not self._is_measuring:
            known = _calm.get(id(amounts))
            if known is not None and known[0] is amounts and known[1] is caps:
                self._measured[id(amounts)] = amounts
                return
        warn_percent = self.thresholds.warn_percent
        near = [name for name, amount in amounts.items() if amount * 100 >= caps[name] * warn_percent]
        if near or self._is_measuring:
            self._is_measuring = True
            for name, amount in amounts.items():
                self.ceiling(name).observe(amount)
            return
        if is_lasting and self.thresholds == Thresholds():
            if len(_calm) >= _MOST_CALM:
                _calm.clear()
            _calm[id(amounts)] = amounts, caps
        if len(self._measured) >= _MOST_CALM:
            self._is_measuring = True  # ceilings cost less than so many modules
        self._measured[id(amounts)] = amounts

    def refuse(self, name: str, observed: Cap, cap: Cap) -> None:
        """Note what was refused before there was a process that asked for it; `cap` may be tighter than the VM's."""
        spec = SPECS[name]
        if spec.kind is Kind.CEILING:
            self._is_measuring = True
            self.ceiling(name).refuse(observed)
        elif spec.scope is Scope.PROCESS:
            gauges = self.open_process()
            gauges.tighten(name, cap)
            gauges.gauge(name).refuse(observed)
            self.close_process(gauges)
        else:
            self.gauge(name).refuse(observed)

    def bucket(self, name: str, *, scale: float = 1.0, now: float | None = None) -> Bucket:
        """Return the VM's bucket for a rate; see `Bucket` for `scale`. `now` is the time on the clock that its owner
        goes by, where that is not the host's."""
        bucket = self._rates.get(name)
        if bucket is None:
            start = monotonic() if now is None else now
            bucket = self._rates[name] = Bucket(SPECS[name], self.caps[name], start, self._watch, scale=scale)
        return bucket

    @property
    def actions(self) -> Window:
        """The window of max_actions_per_hour."""
        if self._window is None:
            name = "max_actions_per_hour"
            self._window = Window(SPECS[name], self.caps[name], self._watch)
        return self._window

    def open_object(self, name: str, raised: Callable[[], None] = lambda: None) -> Gauge:
        """Return a gauge for one pipe, listener or queue; the limit's use is that of the fullest one.

        `raised` is called, with the kernel lock held, when the operator has raised caps: who waits may go on.
        """
        gauge = Gauge(SPECS[name], self.caps.now[name], self._watch)
        with self._objects_lock:
            self._objects[gauge] = raised
        return gauge

    def close_object(self, gauge: Gauge) -> None:
        """Keep the peak and the refusals of an object that is gone. Idempotent."""
        with self._objects_lock:
            if self._objects.pop(gauge, None) is not None:
                self._keep((gauge,))

    def open_process(self, pid: int | None = None) -> ProcessGauges:
        """Make the gauges of a new process."""
        gauges = ProcessGauges(self.caps, Listener(self, pid))
        self._processes.append(gauges)
        return gauges

    def close_process(self, gauges: ProcessGauges) -> None:
        """Keep the peaks and refusals of a process that ended."""
        self._processes.remove(gauges)
        with self._objects_lock:
            self._keep(gauges.all())

    def _keep(self, gauges: Iterable[Gauge]) -> None:
        for gauge in gauges:
            peak = gauge.top if gauge.top > gauge.highest else gauge.highest
            if peak or gauge.refused:
                name = gauge.spec.name
                _, highest, refused, warnings = self._ended.get(name, (0, 0, 0, 0))
                if highest > peak:
                    peak = highest
                self._ended[name] = 0, peak, refused + gauge.refused, warnings + gauge.warnings

    # -- the operator's changes ---------------------------------------------------------------------------------------
    def raise_to(self, limits: Limits) -> None:
        """Raise caps, for running processes too. Raises `InvalidLimit` for one that would fall, and for a setting."""
        for name, _ in limits.settings_given():
            raise InvalidLimit(f"{name} is settled when the VM is opened, and cannot be changed afterwards", limit=name)
        self.caps.raise_to(limits)
        with self._objects_lock:
            objects = self._objects.copy()
        counters: list[Gauge | Ceiling | Bucket | Window] = [*self._gauges.values(), *self._ceilings.values(), *objects]
        counters += self._rates.values()
        if self._window is not None:
            counters.append(self._window)
        for counter in counters:
            counter.set_cap(self.caps[counter.spec.name])
        for process in self._processes:
            process.refresh()
        for tell_raised in objects.values():
            tell_raised()

    # -- what is told -------------------------------------------------------------------------------------------------
    def caller(self) -> int | None:
        return self._caller()

    def tell(self, kind: EventKind, spec: LimitSpec, observed: Cap, cap: Cap, pid: int | None = None) -> None:
        # The wider limit warns no later, and to raise the narrower one alone would not help.
        if kind is not EventKind.WARNING or not self.caps.echoes(spec, cap):
            super().tell(kind, spec, observed, cap, pid)

    def snapshot(self) -> UsageSnapshot:
        """Return how far every limit is used now: quick to take, spelled out only when it is looked at."""
        with self._objects_lock:
            tallies, gauges = list(self._ended.items()), [*self._gauges.values(), *self._objects]
        for process in self._processes:
            gauges += process.all()
        for gauge in gauges:
            peak = gauge.top if gauge.top > gauge.highest else gauge.highest
            if peak or gauge.refused:
                tallies.append((gauge.spec.name, (gauge.used, peak, gauge.refused, gauge.warnings)))
        for ceiling in list(self._ceilings.values()):
            if ceiling.highest or ceiling.refused:
                tallies.append((ceiling.spec.name, (0, ceiling.highest, ceiling.refused, ceiling.warnings)))
        rates: list[Bucket | Window] = list(self._rates.values())
        for rate in rates if self._window is None else (*rates, self._window):
            tallies.append((rate.spec.name, rate.tally()))
        return UsageSnapshot(SPECS, self.caps.now, tallies, tuple(self._measured.values()))

    def usage(self, process: ProcessGauges | None = None) -> tuple[LimitUsage, ...]:
        """Return every limit with its use, in the order of the catalogue. With `process`, those that each process has
        are its own, and not those of the fullest one."""
        limits = self.snapshot().limits
        if process is None:
            return limits
        return tuple(process.usage(use.spec) if use.spec.can_be_tightened else use for use in limits)
