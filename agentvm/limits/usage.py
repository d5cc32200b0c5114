"""How far limits are used, at one moment: what every door shows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentvm.limits.spec import UNLIMITED, Cap, Kind, LimitSpec, Scope

__all__ = ["LimitUsage", "Tally", "UsageSnapshot"]


#: What one counter, or several of one limit, have counted: used, peak, refused, warnings.
Tally = tuple[Cap, Cap, int, int]
_NOTHING: Tally = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """How far one limit is used. For a limit that each process or pipe has, `used` and `peak` are those of the fullest
    one. `refused` counts what was refused or made to wait, `warnings` how often its use came near the cap."""

    spec: LimitSpec
    used: Cap
    peak: Cap
    cap: Cap
    refused: int
    warnings: int = 0

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def kind(self) -> Kind:
        return self.spec.kind

    @property
    def scope(self) -> Scope:
        return self.spec.scope

    @property
    def percent(self) -> float:
        """Used share of the cap in percent; 0 where there is no cap."""
        return 100.0 * self.used / self.cap if self.cap else 100.0 * (self.used > 0)

    def fields(self) -> dict[str, Any]:
        """Return it as plain values for JSON, in which no cap is null."""
        return {
            "kind": self.kind.value,
            "scope": self.scope.value,
            "used": self.used,
            "peak": self.peak,
            "cap": None if self.cap == UNLIMITED else self.cap,
            "percent": round(self.percent, 1),
            "refused": self.refused,
            "warnings": self.warnings,
        }


class UsageSnapshot:
    """The use of every limit at one moment."""

    __slots__ = ("_caps", "_counted", "_measured", "_specs", "_tallies")

    def __init__(
        self,
        specs: Mapping[str, LimitSpec],
        caps: Mapping[str, Cap],
        counted: Iterable[tuple[str, Tally]],
        measured: Iterable[Mapping[str, Cap]] = (),
    ) -> None:
        """`counted` has the tally of each counter: several of one limit are put together when somebody looks.
        `measured` are amounts that single calls asked for besides."""
        self._specs = specs
        self._caps = caps
        self._counted = counted
        self._measured = measured
        self._tallies: dict[str, Tally] | None = None

    def _put_together(self) -> dict[str, Tally]:
        tallies: dict[str, Tally] = {}
        for name, (used, peak, refused, warnings) in self._counted:
            known = tallies.get(name, _NOTHING)
            # Two objects with a cap each: the fuller one counts, refusals and warnings add up.
            tallies[name] = max(used, known[0]), max(peak, known[1]), refused + known[2], warnings + known[3]
        for amounts in self._measured:
            for name, amount in amounts.items():
                used, peak, refused, warnings = tallies.get(name, _NOTHING)
                tallies[name] = used, max(peak, amount), refused, warnings
        return tallies

    def __getitem__(self, name: str) -> LimitUsage:
        """Return one limit's use; KeyError if there is no such limit."""
        if self._tallies is None:
            self._tallies = self._put_together()
        used, peak, refused, warnings = self._tallies.get(name, _NOTHING)
        return LimitUsage(self._specs[name], used, peak, self._caps[name], refused, warnings)

    def __iter__(self) -> Iterator[LimitUsage]:
        return (self[name] for name in self._specs)

    @property
    def limits(self) -> tuple[LimitUsage, ...]:
        """Every limit, in the order of the catalogue."""
        return tuple(self)
