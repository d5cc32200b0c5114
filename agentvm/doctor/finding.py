"""A finding: one fact about the installation, and whether it is as it should be."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

__all__ = ["Finding", "Status", "look", "name_of"]


class Status(Enum):
    """What to think of a fact."""

    OK = "ok"
    #: Worth knowing; nothing that was promised depends on it.
    NOTE = "note"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact: in words, as plain values for programs, and what to do about it."""

    topic: str
    status: Status
    text: str
    advice: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> Mapping[str, Any]:
        """Return it as plain values for JSON."""
        return {
            "topic": self.topic,
            "status": self.status.value,
            "text": self.text,
            "advice": "" if self.status is Status.OK else self.advice,
            "values": dict(self.values),
        }


def look(topic: str, at: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what `at` finds; what it raises is a finding too."""
    try:
        yield from at()
    except Exception as error:  # noqa: BLE001 - an installation can be broken in any way
        yield Finding(topic, Status.FAIL, name_of(error))


def name_of(error: Exception) -> str:
    """Say an error in one line: the name of its type, and its text."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
