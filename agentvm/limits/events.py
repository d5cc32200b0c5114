"""What a limit has to say: a typed event, with its values and the way out."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from agentvm.limits.amount import format_amount
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec, Past

__all__ = ["EventKind", "LimitEvent", "is_flow"]


class EventKind(Enum):
    """What happened."""

    WARNING = "warning"  # the use of a limit has come near its cap
    REFUSED = "refused"  # something was refused, or made to wait, for a cap


def is_flow(kind: EventKind, spec: LimitSpec) -> bool:
    """Whether such an event is a queue, a cache or a throttle at its ordinary work, and nothing was refused.

    That a rate is used up for the first time is worth a warning; each wait after that is what the operator asked for.
    """
    return spec.past in (Past.WAITS, Past.EVICTED) or (spec.past is Past.SLOWER and kind is EventKind.REFUSED)


@dataclass(frozen=True, slots=True)
class LimitEvent:
    """What happened to one limit. Events of one limit and kind that come faster than they are heard are one, with the
    latest values and a `count`. `pid` is the process that asked last, None where it was the host."""

    kind: EventKind
    spec: LimitSpec
    observed: Cap
    capacity: Cap
    vm: str | None = None
    pid: int | None = None
    count: int = 1

    @property
    def limit(self) -> str:
        """The limit's name."""
        return self.spec.name

    @property
    def fill_percent(self) -> float:
        """The share of the cap that was asked for or is used, in percent."""
        return round(100.0 * self.observed / self.capacity, 1) if self.capacity else 100.0

    @property
    def setting(self) -> str:
        """How the operator raises the cap."""
        return self.spec.raised(self.capacity, self.observed)

    @property
    def is_flow(self) -> bool:
        """Whether this is flow control at its ordinary work, and nothing was refused; see `is_flow`."""
        return is_flow(self.kind, self.spec)

    def describe(self) -> str:
        """Say it in one line, for a person."""
        unit, percent = self.spec.unit, f"{self.fill_percent:g} %"
        values = f"{format_amount(unit, self.observed)} of {format_amount(unit, self.capacity)}"
        if self.kind is EventKind.WARNING:
            text = f"{self.limit} is at {percent} ({values}); past it: {self.spec.guest_sees}"
        else:
            text = f"{self.limit} is reached ({values}): {self.spec.guest_sees}"
        times = f", {self.count:,} times" if self.count > 1 else ""
        return f"{text}{times}; raise it with {self.setting}"

    def fields(self) -> dict[str, Any]:
        """Return the event as plain values, for logs and for JSON, in which no cap is null."""
        return {
            "kind": self.kind.value,
            "vm": self.vm,
            "pid": self.pid,
            "limit": self.limit,
            "observed": self.observed,
            "capacity": None if self.capacity == UNLIMITED else self.capacity,
            "fill_percent": self.fill_percent,
            "count": self.count,
            "setting": self.setting,
        }
