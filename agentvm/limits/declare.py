"""How limits and settings are declared: as fields of a dataclass, whose metadata become their specs."""

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any

from agentvm.errno import Errno
from agentvm.limits.spec import Alias, Cap, Kind, LimitSpec, Scope, SettingSpec, Unit

__all__ = ["GIB", "KIB", "MIB", "collect", "collect_settings", "limit", "mib", "milliseconds", "setting"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_LIMIT, _SETTING = "limit", "setting"


def limit(
    kind: Kind,
    scope: Scope,
    unit: Unit,
    default: Cap | None,
    errno: Errno | None,
    guest_sees: str,
    summary: str,
    aliases: tuple[str | Alias, ...] = (),
    **more: Any,
) -> Any:
    """Declare a limit; its name is that of the field."""
    make = {"kind": kind, "scope": scope, "unit": unit, "default": default, "errno": errno}
    spelt = tuple(Alias(alias) if isinstance(alias, str) else alias for alias in aliases)
    texts = {"guest_sees": guest_sees, "summary": summary, "aliases": spelt}
    return field(default=None, metadata={_LIMIT: make | texts | more})


def mib(name: str) -> Alias:
    """Another spelling, whose numbers count MiB."""
    return Alias(name, MIB)


def milliseconds(name: str) -> Alias:
    """Another spelling, whose numbers count milliseconds."""
    return Alias(name, 0.001)


def setting(default: str | int, summary: str, *choices: str, minimum: int = 0, maximum: int = 0) -> Any:
    """Declare a setting; its name is that of the field."""
    make = {"default": default, "summary": summary, "choices": choices, "minimum": minimum, "maximum": maximum}
    return field(default=None, metadata={_SETTING: make})


def collect(declared: type[Any]) -> Mapping[str, LimitSpec]:
    """Return the limits that the fields of a dataclass declare, by name; those of the classes that it extends last."""
    ordered = sorted(fields(declared), key=lambda field: field.name not in declared.__annotations__)
    return {f.name: LimitSpec(name=f.name, **f.metadata[_LIMIT]) for f in ordered if _LIMIT in f.metadata}


def collect_settings(declared: type[Any]) -> Mapping[str, SettingSpec]:
    """Return the settings that the fields of a dataclass declare, by name."""
    return {
        f.name: SettingSpec(name=f.name, **f.metadata[_SETTING]) for f in fields(declared) if _SETTING in f.metadata
    }
