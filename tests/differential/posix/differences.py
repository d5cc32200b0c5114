"""What differs between two transcripts, and the table of the differences that are accepted."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

__all__ = ["Difference", "Row", "compare", "rows"]

TABLE = Path(__file__).with_name("differences.toml")


@dataclass(frozen=True, slots=True)
class Difference:
    """A check that does not print the same. None where it prints nothing."""

    check: str
    linux: str | None
    agentvm: str | None

    def __str__(self) -> str:
        return f"{self.check}: Linux {self.linux!r}, agentvm {self.agentvm!r}"


@dataclass(frozen=True, slots=True)
class Row:
    """Checks that may differ, by a pattern of their names, what each side prints then, and why that is right."""

    checks: str
    linux: str
    agentvm: str
    why: str

    def covers(self, difference: Difference) -> bool:
        return (
            re.fullmatch(self.checks, difference.check) is not None
            and re.fullmatch(self.linux, difference.linux or "") is not None
            and re.fullmatch(self.agentvm, difference.agentvm or "") is not None
        )


@lru_cache
def rows() -> tuple[Row, ...]:
    """Return the table. TypeError if a row has a field too many or too few."""
    found: list[dict[str, Any]] = tomllib.loads(TABLE.read_text(encoding="utf-8")).get("row", [])
    return tuple(Row(**fields) for fields in found)


def compare(linux: Sequence[str], agentvm: Sequence[str]) -> list[Difference]:
    """Return what differs, in Linux's order; what is printed in another order differs too."""
    theirs, ours = _values(linux), _values(agentvm)
    found = [Difference(name, value, ours.get(name)) for name, value in theirs.items() if value != ours.get(name)]
    found += [Difference(name, None, value) for name, value in ours.items() if name not in theirs]
    both = [name for name in theirs if name in ours]
    order = [name for name in ours if name in theirs]
    found += [Difference("order", name, other) for name, other in zip(both, order, strict=True) if name != other][:1]
    return found


def _values(transcript: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for line in transcript:
        name, _, value = line.partition(": ")
        assert name not in values, f"{name} is printed twice"
        values[name] = value
    return values
