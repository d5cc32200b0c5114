"""Limits from outside: JSON, or an object that groups them as agentOS does, in every spelling that is accepted."""

from collections.abc import Callable, Mapping
from typing import Any

from agentvm.errors import InvalidLimit
from agentvm.limits.catalogue import Limits
from agentvm.limits.foreign import FOREIGN_GROUPS
from agentvm.limits.layers import Accepts, Layer, merge
from agentvm.limits.names import snake_case

__all__ = ["parse_json", "parse_limits", "parse_object", "preset_limits"]

_GROUPS = ("resources", "wasm")
_FOREIGN = {snake_case(group): why for group, why in FOREIGN_GROUPS.items()}
#: What may be nested in what.
_INSIDE: Mapping[tuple[str, ...], tuple[str, ...]] = {
    (): ("limits", *_GROUPS, *_FOREIGN),
    ("limits",): (*_GROUPS, *_FOREIGN),
}

#: Says where a key was written, from the names of the groups around it and its own.
Place = Callable[[tuple[str, ...], str], str]


def parse_limits(given: Mapping[str, Any] | str | bytes) -> Limits:
    """Return limits from a mapping or JSON text; see `Limits.parse`. Raises `InvalidLimit`."""
    layer = Layer()
    if isinstance(given, str | bytes | bytearray):
        try:
            given = parse_json(given)
        except ValueError as error:
            raise InvalidLimit(f"the limits are no JSON: {error}") from None
    if not isinstance(given, Mapping):
        raise InvalidLimit(f"limits are an object of names and values, such as max_open_fds, and not {given!r:.80}")
    parse_object(layer, given)
    return merge([layer]).limits()


def preset_limits(name: str, given: Mapping[str, Any]) -> Limits:
    """Return the caps of a preset, under those that are `given`. Raises `InvalidLimit`."""
    layer = Layer()
    layer.set("preset", name, "preset")
    parse_object(layer, given)
    return merge([layer]).limits()


def parse_object(
    layer: Layer,
    given: Mapping[str, Any],
    *,
    place: Place = lambda groups, key: ".".join((*groups, key)),
    accepts: Accepts = Accepts.VM,
    groups: tuple[str, ...] = (),
) -> None:
    """Set in `layer` all that an object gives, in groups or not. Raises `InvalidLimit`."""
    for key, value in given.items():
        if not isinstance(key, str):
            raise InvalidLimit(f"{key!r:.80} is no name of a limit")
        name = snake_case(key)
        where = place(groups, key)
        if name not in _INSIDE.get(groups, ()):
            layer.set(key, value, where, accepts=accepts)
        elif value is None:
            continue
        elif not isinstance(value, Mapping):
            raise InvalidLimit(f"{where} is a group of limits and cannot be {value!r:.80}")
        elif name in _FOREIGN and value:
            raise InvalidLimit(
                f"{where} is a group of agentOS that has no counterpart here: {_FOREIGN[name]}", limit=key
            )
        else:
            parse_object(layer, value, place=place, accepts=accepts, groups=(*groups, name))


def parse_json(text: str | bytes | bytearray) -> Any:
    """Return what JSON text says. Raises `ValueError`, also for a key that an object has twice."""
    import json

    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is given twice in one object: leave one out")
    return found
