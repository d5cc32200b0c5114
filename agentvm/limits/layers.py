"""Layers: what each place sets, with where it was written, and what holds when several of them are put together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import refusal, write_amount
from agentvm.limits.catalogue import SETTINGS, SPECS, Limits
from agentvm.limits.host_catalogue import HOST_SPECS, HostLimits
from agentvm.limits.names import Target, find, snake_case
from agentvm.limits.presets import PRESET, PRESETS
from agentvm.limits.spec import Cap, LimitSpec, Scope

__all__ = ["Accepts", "Layer", "Sourced", "lowered", "merge", "raised"]


class Accepts(Enum):
    """Whose limits may be set in a place."""

    VM = "a VM"
    HOST = "the host process"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Sourced:
    """A cap or a setting, and what set it: `--max-open-fds`, `agentvm.toml: [resources] max_open_files`."""

    value: Cap | str
    source: str


class Layer:
    """What one place sets, by canonical names."""

    def __init__(self) -> None:
        self._values: dict[str, Sourced] = {}

    def __getitem__(self, name: str) -> Sourced:
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def get(self, name: str) -> Sourced | None:
        """Return what was set, None if nothing was."""
        return self._values.get(name)

    def put(self, name: str, sourced: Sourced) -> None:
        """Set a cap or a setting by its canonical name."""
        self._values[name] = sourced

    def set(
        self, key: str, value: object, source: str, *, accepts: Accepts = Accepts.VM, may_repeat: bool = False
    ) -> None:
        """Set what `key`, in any spelling, stands for; None sets nothing. `source` is where it was written.

        Raises `InvalidLimit` for an unknown key, a value that it does not take, and for what was set before under
        this or another spelling; with `may_repeat` only if it was set to something else.
        """
        try:
            targets = find(key)
        except InvalidLimit as error:
            if source == key:
                raise
            raise InvalidLimit(f"{source}: {error}", **error.values) from None
        if value is None:
            return
        for target in targets:
            _check_scope(target, source, accepts)
            name = target.spec.name
            new = Sourced(_parse(target, key, value, source), source)
            old = self._values.get(name)
            if old is not None and not (may_repeat and old.value == new.value):
                raise _twice(target, old, new)
            self._values[name] = new

    def limits(self) -> Limits:
        """Return the limits and settings of a VM. Raises `InvalidLimit` where settings contradict each other."""
        return Limits(**self._among({**SPECS, **SETTINGS}))

    def host_limits(self) -> HostLimits:
        """Return the limits of the host process."""
        return HostLimits(**self._among(HOST_SPECS))

    def _among(self, declared: Mapping[str, object]) -> dict[str, Any]:
        return {name: sourced.value for name, sourced in self._values.items() if name in declared}


def _check_scope(target: Target, source: str, accepts: Accepts) -> None:
    spec = target.spec
    is_of_host = isinstance(spec, LimitSpec) and spec.scope is Scope.HOST
    if accepts is Accepts.VM and is_of_host:
        raise InvalidLimit(
            f"{source} is a limit of the whole process, not of a VM: set it with configure_host({spec.name}=...), "
            f"--limit {spec.name}=... or under [host]",
            limit=spec.name,
        )
    if accepts is Accepts.HOST and not is_of_host:
        raise InvalidLimit(
            f"{source} is a limit of each VM, not of the whole process: set it under [resources]", limit=spec.name
        )


def _parse(target: Target, key: str, value: object, source: str) -> Cap | str:
    try:
        return target.parse(value)
    except InvalidLimit as error:
        stands_for = "" if snake_case(key) == target.spec.name else f" ({target.spec.name})"
        raise refusal(target.spec, value, str(error.values["why"]), called=source + stands_for) from None


def _twice(target: Target, old: Sourced, new: Sourced) -> InvalidLimit:
    spec = target.spec
    written = [
        f"{each.source} to {write_amount(spec.unit, each.value) if isinstance(spec, LimitSpec) else each.value}"  # type: ignore[arg-type]
        for each in (old, new)
    ]
    return InvalidLimit(
        f"{spec.name} is set twice, by {written[0]} and by {written[1]}: leave one out", limit=spec.name
    )


# -- several layers ---------------------------------------------------------------------------------------------------
def merge(layers: Sequence[Layer]) -> Layer:
    """Put layers together, the lowest first: the higher one wins, and the preset that is chosen lies under them all.

    It wins over a cap of a lower layer that contradicts its own, too: a narrower cap is lowered to a wider one that was
    set above it, and a wider one raised to hold what a narrower one above it asks for, where that one widens.
    """
    chosen = next((layer["preset"] for layer in reversed(layers) if "preset" in layer), None)
    if chosen is not None and chosen.value in PRESETS:
        layers = [_preset_layer(str(chosen.value)), *layers]
    merged, rank = Layer(), {}
    for height, layer in enumerate(layers):
        for name in layer:
            merged.put(name, layer[name])
            rank[name] = height
    for name, spec in SPECS.items():
        wide = spec.within
        if wide is None or name not in merged or wide not in merged or merged[name].value <= merged[wide].value:  # type: ignore[operator]
            continue
        if rank[wide] > rank[name]:
            merged.put(name, Sourced(merged[wide].value, f"{merged[name].source}, {lowered(wide)}"))
        elif rank[name] > rank[wide] and spec.widens:
            merged.put(wide, Sourced(merged[name].value, f"{merged[wide].source}, {raised(name)}"))
    return merged


def lowered(wide: str) -> str:
    """Say that a cap is lower than it would be, because it lies within another."""
    return f"lowered to {wide}"


def raised(narrow: str) -> str:
    """Say that a cap is higher than it would be, because another that lies within it needs the room."""
    return f"raised to hold {narrow}"


def _preset_layer(name: str) -> Layer:
    layer = Layer()
    for limit, cap in PRESETS[name].caps.items():
        layer.put(limit, Sourced(cap, f"{PRESET.name} {name}"))
    return layer
