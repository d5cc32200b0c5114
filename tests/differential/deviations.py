"""The table of deviations: reads deviations.toml, tells what it covers, and makes docs/deviations.md of it.

`python -m tests.differential.deviations` writes the page anew.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.differential.compare import Difference

__all__ = ["PAGE", "Line", "Row", "page", "rows", "uncovered"]

TABLE = Path(__file__).with_name("deviations.toml")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "deviations.md"

_HEADER = """\
# Deviations from wasmtime

A preview1 guest gets the same answers under agentvm as under wasmtime's own WASI on a real directory, but for what this
page lists. The rule: Linux, POSIX and the definition of preview1 decide; where none of them speaks of a case, wasmtime
does. Files in memory and files on a mounted host directory answer alike.

`tests/differential` runs the same guests under both and compares what they print, call by call. A difference that is
not in this table fails, and so does a row that has become untrue. The page is made from
`tests/differential/deviations.toml`, with `python -m tests.differential.deviations`.

| # | What | wasmtime | agentvm | Why |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Line:
    """Lines that differ. A result that is None stands for a line that is not printed; else all are patterns."""

    run: str
    call: str
    wasmtime: str | None = None
    agentvm: str | None = None
    sometimes: bool = False

    def covers(self, run: str, difference: Difference) -> bool:
        return (
            _matches(self.run, run)
            and _matches(self.call, difference.call)
            and _matches(self.wasmtime, difference.wasmtime)
            and _matches(self.agentvm, difference.agentvm)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One deviation, as the page shows it, and the lines that prove it."""

    what: str
    wasmtime: str
    agentvm: str
    why: str
    lines: tuple[Line, ...]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Row":
        return cls(**{**fields, "lines": tuple(Line(**line) for line in fields["lines"])})


def _matches(pattern: str | None, text: str | None) -> bool:
    if pattern is None or text is None:
        return pattern is text
    return re.fullmatch(pattern, text) is not None


@lru_cache
def rows() -> tuple[Row, ...]:
    """Return the table. TypeError if a row has a field too many or too few."""
    return tuple(Row.of(fields) for fields in tomllib.loads(TABLE.read_text(encoding="utf-8"))["row"])


def uncovered(run: str, differences: Iterable[Difference]) -> list[Difference]:
    """Return the differences that no row names."""
    lines = [line for row in rows() for line in row.lines]
    return [difference for difference in differences if not any(line.covers(run, difference) for line in lines)]


def page() -> str:
    """Return the text of docs/deviations.md."""
    body = ""
    for number, row in enumerate(rows(), 1):
        cells = (str(number), row.what, row.wasmtime, row.agentvm, row.why)
        body += "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"
    return _HEADER + body


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
