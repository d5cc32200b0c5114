"""Amounts as people write them: "64MiB", "1.5s", "none"; read from text, and written back."""

import math
import re
from collections.abc import Mapping
from typing import Any

from agentvm.errors import InvalidLimit
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec, SettingSpec, Unit

__all__ = [
    "Amount",
    "accepted_range",
    "format_amount",
    "parse_amount",
    "parse_setting",
    "refusal",
    "scaled",
    "write_amount",
]

#: What an operator may give for a limit; None means "the default". A mapping is the bucket of a rate.
Amount = int | float | str | Mapping[str, Any] | None

_BINARY = {"": 1, "b": 1} | {
    letter + rest: 1 << shift
    for letter, shift in (("k", 10), ("m", 20), ("g", 30), ("t", 40))
    for rest in ("", "b", "i", "ib")
}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*((?:[0-9][0-9_]*(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?)\s*([a-z%]*)\s*", re.I | re.A)
_RATE = re.compile(r"\s*/\s*s(?:ec|econd)?\s*$", re.IGNORECASE)
#: Limits whose rates have a bucket.
_BUCKETS = (Unit.BYTES_PER_SECOND, Unit.PER_SECOND)
_BYTES = (Unit.BYTES, Unit.BYTES_PER_SECOND)
_FRACTIONS = (Unit.SECONDS, *_BUCKETS)
_UNLIMITED_WORDS = frozenset({"none", "unlimited", "inf", "infinity"})
#: Longer digit strings are above every cap, and slow to read exactly.
_MAX_DIGITS = 30
_SHOWN = 80


# -- reading ----------------------------------------------------------------------------------------------------------
def parse_amount(spec: LimitSpec, value: int | float | str | Mapping[str, Any]) -> Cap:
    """Return `value` as a cap of `spec`. Sizes take binary suffixes (k, KiB, MB ...: all powers of 1,024).

    A rate may be a `Rate`, text such as "10MiB/s,size=1MiB,burst=64MiB", or a mapping with Firecracker's keys `size`,
    `one_time_burst` and `refill_time` (milliseconds). Raises `InvalidLimit` with the accepted range.
    """
    if spec.unit in _BUCKETS and (isinstance(value, Mapping) or (isinstance(value, str) and "," in value)):
        from agentvm.limits.bucket_shape import parse_bucket

        return parse_bucket(spec, value)
    if isinstance(value, str):
        cap = _parse_text(spec, value)
    elif isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # NaN differs from itself
        raise refusal(spec, value)
    else:
        cap = value
    if cap == UNLIMITED and spec.can_be_unlimited:
        return UNLIMITED
    if isinstance(cap, float) and math.isinf(cap):
        raise refusal(spec, value)
    if spec.unit not in _FRACTIONS:
        if cap != int(cap):
            raise refusal(spec, value)
        cap = int(cap)
    if not spec.minimum <= cap <= spec.maximum:
        raise refusal(spec, value)
    return cap


def _parse_text(spec: LimitSpec, text: str) -> Cap:
    if text.strip().lower() in _UNLIMITED_WORDS:
        return UNLIMITED
    match = _NUMBER.fullmatch(_RATE.sub("", text) if spec.unit in _BUCKETS else text)
    if match is None:
        raise refusal(spec, text)
    suffix = match.group(2).lower()
    if spec.unit in _BYTES:
        factor: Cap | None = _BINARY.get(suffix)
    elif spec.unit is Unit.SECONDS:
        factor = _SECONDS.get(suffix)
    else:
        factor = 1 if not suffix or (suffix == "%" and spec.unit is Unit.PERCENT) else None
    amount = UNLIMITED if factor is None else _number(match) * factor
    if math.isinf(amount):
        raise refusal(spec, text)
    return _whole_bytes(spec, amount) if factor != 1 else amount


def _number(match: re.Match[str]) -> Cap:
    digits = match.group(1).replace("_", "")
    return float(digits) if len(digits) > _MAX_DIGITS or any(c in digits for c in ".eE") else int(digits)


def _whole_bytes(spec: LimitSpec, amount: Cap) -> Cap:
    """Drop the part of a byte that a fraction of a larger unit leaves: "0.1MiB" is 104,857 bytes."""
    return int(amount) if spec.unit is Unit.BYTES else amount


def scaled(spec: LimitSpec, value: Any, factor: int | float) -> Any:
    """Return the value of a spelling whose plain numbers count `factor` units of `spec` each, in those units.

    Text with a unit of its own stays as it is, and so does what is no number.
    """
    if factor == 1 or isinstance(value, bool):
        return value
    number = value
    if isinstance(value, str):
        match = _NUMBER.fullmatch(value)
        if match is None or match.group(2):
            return value
        number = _number(match)
    if not isinstance(number, int | float):
        return value
    try:
        amount = number * factor
        # Decimal factors are no binary fractions: without rounding 0.57 cores are 56.99999999999999 percent.
        return _whole_bytes(spec, amount) if spec.unit is Unit.BYTES else round(amount, 6)
    except (OverflowError, ValueError):  # too large, infinite or NaN, which parse_amount refuses
        return value


def parse_setting(spec: SettingSpec, value: object) -> str | int:
    """Return `value` as a setting. Raises `InvalidLimit` with what it accepts."""
    if spec.choices:
        if isinstance(value, str) and value.strip().lower() in spec.choices:
            return value.strip().lower()
    elif not isinstance(value, bool):
        try:
            number = int(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, int) and spec.minimum <= number <= spec.maximum:
            return number
    raise refusal(spec, value)


# -- refusing ---------------------------------------------------------------------------------------------------------
def accepted_range(spec: LimitSpec | SettingSpec) -> str:
    """Say which values a limit or a setting takes."""
    if isinstance(spec, SettingSpec):
        return spec.accepts
    low, high = format_amount(spec.unit, spec.minimum), format_amount(spec.unit, spec.maximum)
    example = _EXAMPLES.get(spec.unit, "64")
    return f"{spec.unit.value} from {low} to {high}, such as {example}" + (
        ', or "none" for no limit' if spec.can_be_unlimited else ""
    )


_EXAMPLES = {
    Unit.BYTES: '"64MiB"',
    Unit.SECONDS: '"1.5s"',
    Unit.BYTES_PER_SECOND: '"10MiB/s" or "10MiB/s,size=1MiB,burst=64MiB"',
    Unit.PER_SECOND: '"100/s" or "100/s,size=10,burst=1000"',
}


def refusal(spec: LimitSpec | SettingSpec, value: object, why: str = "", *, called: str | None = None) -> InvalidLimit:
    """Return the error for a value that a limit or a setting does not take.

    `why` says more than the range does; `called` is what it was set with, if that was not its name.
    """
    why = why or f"it takes {accepted_range(spec)}"
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 4] + " ..."
    name = spec.name if called is None else called
    return InvalidLimit(f"{name} cannot be {shown}: {why}", limit=spec.name, value=value, why=why)


# -- writing ----------------------------------------------------------------------------------------------------------
def format_amount(unit: Unit, amount: Cap) -> str:
    """Write an amount for a person: `64 MiB`, `1.5 s`, `10 MiB/s`, `none`."""
    if amount == UNLIMITED:
        return "none"
    if unit is Unit.BYTES:
        return _format_bytes(int(amount))
    if unit is Unit.BYTES_PER_SECOND:
        return _format_bytes(int(amount)) + "/s"
    if unit is Unit.SECONDS:
        return f"{amount:,.3f}".rstrip("0").rstrip(".") + " s"
    return f"{int(amount):,}" + _SUFFIXES.get(unit, "")


_SUFFIXES = {Unit.PERCENT: " %", Unit.PER_SECOND: "/s", Unit.PER_HOUR: "/h"}


def _format_bytes(amount: int) -> str:
    size, names = float(amount), ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(names) > 1:
        size /= 1024
        names.pop(0)
    return f"{size:.1f}".removesuffix(".0") + f" {names[0]}"


def write_amount(unit: Unit, amount: Cap) -> str:
    """Write an amount exactly, as `parse_amount` reads it back: `64MiB`, `1.5s`, `10MiB/s,size=1MiB`, `none`."""
    if amount == UNLIMITED:
        return "none"
    if unit is Unit.SECONDS:
        return f"{amount!r}s"
    if unit not in _BUCKETS:
        return _write_number(unit, int(amount))
    shape = {"size": getattr(amount, "size", None), "burst": getattr(amount, "burst", 0.0)}
    parts = [f"{_write_number(unit, float(amount))}/s"]
    parts += [f"{key}={_write_number(unit, part)}" for key, part in shape.items() if part]
    return ",".join(parts)


def _write_number(unit: Unit, amount: Cap) -> str:
    if amount != int(amount):
        return repr(amount)
    amount = int(amount)
    if unit in _BYTES and amount:
        for name, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
            if not amount % (1 << shift):
                return f"{amount >> shift}{name}"
    return str(amount)
