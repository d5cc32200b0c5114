"""The names of limits and settings as operators spell them, and what they stand for."""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import accepted_range, parse_amount, parse_setting, scaled
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.presets import PRESET
from agentvm.limits.spec import Cap, LimitSpec, SettingSpec

__all__ = ["Target", "find", "find_spec", "snake_case", "spellings"]

_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class Target:
    """What a spelling sets: a limit whose plain numbers count `factor` units each, or a setting."""

    spec: LimitSpec | SettingSpec
    factor: int | float = 1

    def parse(self, value: Any) -> Cap | str:
        """Return a value as written with this spelling as a cap or a setting. Raises `InvalidLimit`."""
        if isinstance(self.spec, SettingSpec):
            return parse_setting(self.spec, value)
        return parse_amount(self.spec, scaled(self.spec, value, self.factor))


def find(name: str) -> tuple[Target, ...]:
    """Return what `name` sets: a limit of a VM or of the host process, a setting, the preset; several for "memory".

    `max_open_fds`, `max-open-fds`, `--max-open-fds`, `MAX_OPEN_FDS`, `maxOpenFds` and every alias of a limit, spelt in
    these ways, name it. Raises `InvalidLimit` with the nearest spelling, or why a limit of agentOS is none here.
    """
    wanted = snake_case(name)
    found = spellings().get(wanted)
    if found is None:
        raise _unknown(name, wanted)
    return found


def find_spec(name: str) -> LimitSpec:
    """Return the limit called `name`, or known by that alias. Raises `InvalidLimit` with the nearest names."""
    spec = find(name)[0].spec
    if not isinstance(spec, LimitSpec):
        raise InvalidLimit(f"{spec.name} is a setting, not a limit")
    return spec


@functools.cache
def spellings() -> Mapping[str, tuple[Target, ...]]:
    """Return every spelling in snake case, with what it sets."""
    found: dict[str, tuple[Target, ...]] = {}
    for name, target in _declared():
        found[name] = (*found.get(name, ()), target)
    return found


def _declared() -> Iterator[tuple[str, Target]]:
    for setting in (PRESET, *SETTINGS.values()):
        yield setting.name, Target(setting)
    for spec in (*SPECS.values(), *HOST_SPECS.values()):
        yield spec.name, Target(spec)
        for alias in spec.aliases:
            yield alias.name, Target(spec, alias.factor)


def snake_case(name: str) -> str:
    """Return a name in the style of the catalogue: `--max-open-fds`, `maxOpenFds`, `MAX_OPEN_FDS` as `max_open_fds`."""
    return _HUMPS.sub("_", name.strip().removeprefix("--").replace("-", "_")).lower()


def _unknown(name: str, wanted: str) -> InvalidLimit:
    from agentvm.limits.foreign import FOREIGN_LIMITS

    for foreign, why in FOREIGN_LIMITS.items():
        if snake_case(foreign) == wanted:
            return InvalidLimit(f"{name} is a limit of agentOS that has no counterpart here: {why}", limit=name)
    import difflib

    near = difflib.get_close_matches(wanted, spellings(), n=1, cutoff=0.5)
    if not near:
        return InvalidLimit(f"there is no limit {name!r}; `agentvm limits` lists them", limit=name)
    spec = spellings()[near[0]][0].spec
    spelt = _in_the_style_of(name, near[0])
    stands_for = "" if near[0] == spec.name else f" ({spec.name})"
    return InvalidLimit(
        f"there is no limit {name!r}; did you mean {spelt}{stands_for}? It takes {accepted_range(spec)}",
        limit=name,
        nearest=spelt,
    )


def _in_the_style_of(name: str, wanted: str) -> str:
    """Spell a name as somebody who wrote `name` would."""
    if name.isupper():
        return wanted.upper()
    if "-" in name:
        return "--" * name.startswith("--") + wanted.replace("_", "-")
    if "_" in name or name.islower():
        return wanted
    head, *tail = wanted.split("_")
    return head + "".join(part.capitalize() for part in tail)
