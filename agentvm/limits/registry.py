"""The registry of a VM: a gauge for each limit, made when first asked for, and the usage of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass

from agentvm.limits.catalogue import SPECS, Caps, Limits
from agentvm.limits.gauge import Ceiling, Gauge
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec

__all__ = ["LimitUsage", "ProcessGauges", "Registry", "UsageSnapshot"]


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How far one limit is used. For a limit that each process has, `used` and `peak` are those of the fullest one."""

    spec: LimitSpec
    used: Cap
    peak: Cap
    cap: Cap
    refused: int

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def percent(self) -> float:
        """Used share of the cap in percent; 0 where there is no cap."""
        return 100.0 * self.used / self.cap if self.cap else 100.0 * (self.used > 0)


#: Used, peak and refused.
_Counts = tuple[Cap, Cap, int]


class UsageSnapshot:
    """The use of every limit at one moment."""

    __slots__ = ("_caps", "_counts")

    def __init__(self, caps: Mapping[str, Cap], counts: Mapping[str, _Counts]) -> None:
        self._caps = caps
        self._counts = counts

    def __getitem__(self, name: str) -> LimitUsage:
        """Return one limit's use; KeyError if there is no such limit."""
        used, peak, refused = self._counts.get(name, (0, 0, 0))
        return LimitUsage(SPECS[name], used, peak, self._caps[name], refused)

    @property
    def limits(self) -> tuple[LimitUsage, ...]:
        """Every limit, in the order of the catalogue."""
        return tuple(self[name] for name in SPECS)


class ProcessGauges:
    """The gauges that one process has for itself, by limit name."""

    __slots__ = ("_caps", "_gauges", "_tightened")

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._gauges: dict[str, Gauge] = {}
        self._tightened: dict[str, Cap] = {}

    def gauge(self, name: str) -> Gauge:
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(SPECS[name], self._caps[name])
        return gauge

    def tighten(self, name: str, cap: Cap) -> None:
        """Lower one cap for this process alone, for good; a higher one changes nothing."""
        self._tightened[name] = min(cap, self._tightened.get(name, cap))
        self.refresh()

    def refresh(self) -> None:
        """Take over the VM's caps as they are now, where this process has no tighter ones."""
        for name in self._tightened:
            self.gauge(name)
        for name, gauge in list(self._gauges.items()):
            gauge.cap = min(self._caps[name], self._tightened.get(name, UNLIMITED))

    def all(self) -> list[Gauge]:
        # A copy made in one step: threads that start processes add gauges without the lock that readers hold.
        return list(self._gauges.values())


class Registry:
    """Every gauge and ceiling of one VM. Bounded by the catalogue times the number of processes."""

    def __init__(self, limits: Limits) -> None:
        self.caps = Caps(limits)
        self._gauges: dict[str, Gauge] = {}
        self._ceilings: dict[str, Ceiling] = {}
        self._processes: list[ProcessGauges] = []
        self._ended: dict[str, Gauge] = {}  # peaks and refusals of the processes that are gone

    def gauge(self, name: str) -> Gauge:
        """Return the VM's gauge for a limit of the VM."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(SPECS[name], self.caps[name])
        return gauge

    def ceiling(self, name: str) -> Ceiling:
        """Return the VM's ceiling for a limit of single calls."""
        ceiling = self._ceilings.get(name)
        if ceiling is None:
            ceiling = self._ceilings[name] = Ceiling(SPECS[name], self.caps[name])
        return ceiling

    def open_process(self) -> ProcessGauges:
        """Make the gauges of a new process."""
        gauges = ProcessGauges(self.caps)
        self._processes.append(gauges)
        return gauges

    def close_process(self, gauges: ProcessGauges) -> None:
        """Keep the peaks and refusals of a process that ended."""
        self._processes.remove(gauges)
        for gauge in gauges.all():
            kept = self._ended.setdefault(gauge.spec.name, Gauge(gauge.spec, gauge.cap))
            kept.peak = max(kept.peak, gauge.peak)
            kept.refused += gauge.refused

    def raise_to(self, limits: Limits) -> None:
        """Raise caps, for running processes too. Raises `InvalidLimit` for one that would fall."""
        self.caps.raise_to(limits)
        for name, gauge in list(self._gauges.items()):
            gauge.cap = self.caps[name]
        for name, ceiling in list(self._ceilings.items()):
            ceiling.cap = self.caps[name]
        for process in self._processes:
            process.refresh()

    def snapshot(self) -> "UsageSnapshot":
        """Return how far every limit is used now: quick to take, spelled out only when it is looked at."""
        counts: dict[str, _Counts] = {}
        for name, gauge in list(self._gauges.items()):
            counts[name] = gauge.used, gauge.peak, gauge.refused
        for name, ceiling in list(self._ceilings.items()):
            counts[name] = 0, ceiling.peak, ceiling.refused
        for name, gauge in self._ended.items():
            counts[name] = 0, gauge.peak, gauge.refused
        for process in self._processes:
            for gauge in process.all():
                used, peak, refused = counts.get(gauge.spec.name, (0, 0, 0))
                counts[gauge.spec.name] = max(used, gauge.used), max(peak, gauge.peak), refused + gauge.refused
        return UsageSnapshot(self.caps.copy(), counts)

    def usage(self) -> tuple[LimitUsage, ...]:
        """Return every limit with its use, in the order of the catalogue."""
        return self.snapshot().limits
