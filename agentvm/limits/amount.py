"""Amounts as people write them: "64MiB", "1.5s", "none"; read from text, and written back."""

import math
import re

from agentvm.errors import InvalidLimit
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec, Unit

__all__ = ["Amount", "format_amount", "parse_amount"]

#: What an operator may give for a limit; None means "the default".
Amount = int | float | str | None

_BINARY = {"": 1, "b": 1} | {
    letter + rest: 1 << shift
    for letter, shift in (("k", 10), ("m", 20), ("g", 30), ("t", 40))
    for rest in ("", "b", "i", "ib")
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"^\s*([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([a-z]*)\s*$", re.IGNORECASE)
_UNLIMITED_WORDS = frozenset({"none", "unlimited", "inf", "infinity"})


def parse_amount(spec: LimitSpec, value: int | float | str) -> Cap:
    """Return `value` as a cap of `spec`. Sizes take binary suffixes (k, KiB, MB ...: all powers of 1,024).

    Raises `InvalidLimit` with the accepted range.
    """
    if isinstance(value, str):
        cap = _parse_text(spec, value)
    elif isinstance(value, bool) or value != value:  # NaN differs from itself
        raise _refusal(spec, value)
    else:
        cap = value
    if cap == UNLIMITED and spec.can_be_unlimited:
        return UNLIMITED
    if math.isinf(cap):
        raise _refusal(spec, value)
    if spec.unit is not Unit.SECONDS:
        if cap != int(cap):
            raise _refusal(spec, value)
        cap = int(cap)
    if not spec.minimum <= cap <= spec.maximum:
        raise _refusal(spec, value)
    return cap


def _parse_text(spec: LimitSpec, text: str) -> Cap:
    if text.strip().lower() in _UNLIMITED_WORDS:
        return UNLIMITED
    match = _NUMBER.match(text)
    if match is None:
        raise _refusal(spec, text)
    number, suffix = match.group(1).replace("_", ""), match.group(2).lower()
    amount: Cap = float(number) if any(c in number for c in ".eE") else int(number)
    if spec.unit is Unit.BYTES:
        factor: Cap | None = _BINARY.get(suffix)
    elif spec.unit is Unit.SECONDS:
        factor = _SECONDS.get(suffix)
    else:
        factor = 1 if not suffix else None
    if factor is None or math.isinf(amount):
        raise _refusal(spec, text)
    return amount * factor


def _refusal(spec: LimitSpec, value: object) -> InvalidLimit:
    example = {Unit.BYTES: '"64MiB"', Unit.SECONDS: '"1.5s"'}.get(spec.unit, "64")
    low, high = format_amount(spec.unit, spec.minimum), format_amount(spec.unit, spec.maximum)
    return InvalidLimit(
        f"{spec.name} cannot be {value!r}: it takes {spec.unit.value} from {low} to {high}, "
        f"such as {example}" + (', or "none" for no limit' if spec.can_be_unlimited else "")
    )


def format_amount(unit: Unit, amount: Cap) -> str:
    """Write an amount for a person: `64 MiB`, `1.5 s`, `none`."""
    if amount == UNLIMITED:
        return "none"
    if unit is Unit.BYTES:
        return _format_bytes(int(amount))
    if unit is Unit.SECONDS:
        return f"{amount:,.3f}".rstrip("0").rstrip(".") + " s"
    return f"{int(amount):,}" + (" %" if unit is Unit.PERCENT else "")


def _format_bytes(amount: int) -> str:
    size, names = float(amount), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(names) > 1:
        size /= 1024
        names.pop(0)
    return f"{size:.1f}".removesuffix(".0") + f" {names[0]}"
