"""Results for people and for programs: the table of `--stats`, the object of `--json`."""

import base64
import json
from collections.abc import Iterable
from typing import Any

from agentvm.api.result import Gap, Result, Usage, text_of
from agentvm.limits.amount import format_amount
from agentvm.limits.events import LimitEvent
from agentvm.limits.spec import UNLIMITED, Cap
from agentvm.limits.usage import LimitUsage

__all__ = ["stats_table", "to_json"]

_BAR = 12
_RED, _YELLOW, _GREEN, _PLAIN = "\033[31m", "\033[33m", "\033[32m", "\033[0m"


def to_json(result: Result, events: Iterable[LimitEvent] = ()) -> str:
    """Write a result, and what its limits had to say, as one JSON object.

    Output is text, with a line where something is missing. What is not UTF-8 comes as it was kept, in `stdout_base64`
    instead of `stdout`; the gap's `at` counts its bytes.
    """
    cause = result.cause
    record: dict[str, Any] = {
        "exit_code": result.exit_code,
        "signal": result.signal.name if result.signal is not None else None,
        "truncated": result.truncated,
        "kept_bytes": result.kept_bytes,
        "dropped_bytes": result.dropped_bytes,
        "cause": {
            "kind": cause.kind.value,
            "message": cause.message,
            "limit": cause.limit,
            "observed": cause.observed,
            "cap": _finite(cause.cap),
            "setting": cause.setting,
            "backtrace": list(cause.backtrace),
        },
        "usage": {
            "cpu_seconds": result.usage.cpu_seconds,
            "wall_seconds": result.usage.wall_seconds,
            "compile_seconds": result.usage.compile_seconds,
            "fuel": result.usage.fuel,
            "peak_memory_bytes": result.usage.peak_memory_bytes,
            "limits": {usage.name: usage.fields() for usage in result.usage},
        },
        "events": [event.fields() for event in events],
    }
    _add_output(record, "stdout", result.stdout, result.stdout_gap)
    _add_output(record, "stderr", result.stderr, result.stderr_gap)
    return json.dumps(record)


def _add_output(record: dict[str, Any], name: str, data: bytes, gap: Gap | None) -> None:
    try:
        record[name] = text_of(data, gap, "strict")
    except UnicodeDecodeError:
        record[f"{name}_base64"] = base64.b64encode(data).decode()
    if gap is not None:
        record[f"{name}_gap"] = {"at": gap.at, "dropped_bytes": gap.dropped_bytes}


def _finite(cap: Cap | None) -> Cap | None:
    """JSON has no infinity: no cap is null."""
    return None if cap == UNLIMITED else cap


def stats_table(usage: Usage, *, color: bool) -> str:
    """Return a table of every limit: used, peak, cap and a bar of the peak, and what the program took as a whole."""
    head = (
        f"cpu {usage.cpu_seconds:.3f} s   wall {usage.wall_seconds:.3f} s   "
        f"memory {usage.peak_memory_bytes / (1 << 20):.1f} MiB   fuel {usage.fuel:,}"
    )
    if usage.compile_seconds:
        head += f"   compile {usage.compile_seconds:.1f} s"
    rows = [("limit", "used", "peak", "cap", "refused", "")]
    rows += [_row(limit, color=color) for limit in usage]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join([head, *(_line(row, widths) for row in rows)])


def _row(usage: LimitUsage, *, color: bool) -> tuple[str, str, str, str, str, str]:
    unit = usage.spec.unit
    used, peak = format_amount(unit, usage.used), format_amount(unit, usage.peak)
    refused = str(usage.refused) if usage.refused else ""
    return usage.name, used, peak, format_amount(unit, usage.cap), refused, _bar(usage, color=color)


def _bar(usage: LimitUsage, *, color: bool) -> str:
    if usage.cap == UNLIMITED or not usage.cap:
        return ""
    share = min(1.0, usage.peak / usage.cap)
    full = round(share * _BAR) if share < 1 else _BAR
    if usage.peak and not full:
        full = 1
    bar = "█" * full + "░" * (_BAR - full) + f" {100 * share:3.0f}%"
    if not color:
        return bar
    return (_RED if share >= 1 else _YELLOW if usage.warnings else _GREEN) + bar + _PLAIN


def _line(row: Iterable[str], widths: list[int]) -> str:
    name, *amounts, bar = row
    cells = [amount.rjust(width) for amount, width in zip(amounts, widths[1:], strict=True)]
    return "  ".join([name.ljust(widths[0]), *cells, bar]).rstrip()
