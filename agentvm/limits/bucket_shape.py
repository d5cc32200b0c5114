"""The shape of a rate's bucket as people write it: "10MiB/s,size=1MiB,burst=64MiB", or Firecracker's three numbers."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import accepted_range, parse_amount, refusal
from agentvm.limits.rate import Rate
from agentvm.limits.spec import Cap, LimitSpec, Unit

__all__ = ["parse_bucket"]

_RATE, _SIZE, _BURST, _REFILL = "rate", "size", "burst", "refill_time"
_NAMES = {_RATE: _RATE, _SIZE: _SIZE, _BURST: _BURST, "one_time_burst": _BURST, _REFILL: _REFILL}


def parse_bucket(spec: LimitSpec, value: str | Mapping[str, Any]) -> Cap:
    """Return a `Rate`. A mapping has `rate`, or Firecracker's `size` and `refill_time` in milliseconds.

    Raises `InvalidLimit` for what makes no bucket.
    """
    parts = dict(value) if isinstance(value, Mapping) else _split(spec, value)
    named: dict[str, float] = {}
    for key, amount in parts.items():
        name = _NAMES.get(key)
        if name is None or name in named:
            raise _refusal(spec, value, f"{key!r} is not one of {', '.join(_NAMES)}, or is given twice")
        named[name] = _part(spec, name, amount)
    if (_RATE in named) == (_REFILL in named):
        raise _refusal(spec, value, "it takes a rate, or a size and a refill_time in milliseconds")
    if _REFILL in named:
        if _SIZE not in named:
            raise _refusal(spec, value, "a refill_time needs a size")
        named[_RATE] = named[_SIZE] / (named[_REFILL] / 1000)
    per_second = float(parse_amount(spec, named[_RATE]))
    return Rate(per_second, size=named.get(_SIZE), burst=named.get(_BURST, 0.0))


def _part(spec: LimitSpec, name: str, amount: Any) -> float:
    """Read one part: a plain amount, counted like the rate without its "a second", or in milliseconds. A part without
    an end would make the rate none at all."""
    unit = Unit.COUNT if name == _REFILL else spec.unit
    declared = replace(spec, name=f"{name} of {spec.name}", unit=unit, minimum=0 if name == _BURST else 1)
    if isinstance(amount, Mapping) or (isinstance(amount, str) and "," in amount):
        raise refusal(declared, amount)
    number = float(parse_amount(declared, amount))
    if math.isinf(number):
        raise refusal(declared, amount)
    return number


def _split(spec: LimitSpec, text: str) -> dict[str, str]:
    first, *others = text.split(",")
    parts = {_RATE: first}
    for other in others:
        key, equals, amount = other.partition("=")
        if not equals or key.strip() in parts:
            raise _refusal(spec, text, f"{other.strip()!r} is not size=... or burst=...")
        parts[key.strip()] = amount
    return parts


def _refusal(spec: LimitSpec, value: object, why: str) -> InvalidLimit:
    return refusal(spec, value, f"{why}; it takes {accepted_range(spec)}")
