"""What is in force under a configuration: every limit and setting, its value, where that came from, how to raise it."""

from collections.abc import Mapping
from dataclasses import dataclass

from agentvm.config.config import Config
from agentvm.engine.capacity import HostCapacity
from agentvm.limits.amount import write_amount
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.layers import Layer, lowered, raised
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec, Scope, SettingSpec

__all__ = ["EffectiveLimit", "EffectiveSetting", "effective_limits", "effective_settings"]


@dataclass(frozen=True, slots=True)
class EffectiveLimit:
    """A limit in force. `raise_with` are the flags that double it, None where it cannot be raised."""

    spec: LimitSpec
    cap: Cap
    source: str
    raise_with: str | None


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting in force."""

    spec: SettingSpec
    value: str | int
    source: str


def effective_limits(config: Config) -> list[EffectiveLimit]:
    """Return every limit, in the order of the catalogue; those of the whole host process last."""
    caps = Caps(config.limits)
    host = HostCapacity(config.host)
    found = [_effective(spec, caps[name], caps, config.sources) for name, spec in SPECS.items()]
    return found + [_effective(spec, host.cap(name), {}, config.sources) for name, spec in HOST_SPECS.items()]


def effective_settings(config: Config) -> list[EffectiveSetting]:
    """Return every setting, in the order of the catalogue."""
    return [
        EffectiveSetting(spec, config.limits.setting(name), given.source if given is not None else "default")
        for name, spec in SETTINGS.items()
        for given in [config.sources.get(name)]
    ]


def _effective(spec: LimitSpec, cap: Cap, caps: Mapping[str, Cap], sources: Layer) -> EffectiveLimit:
    return EffectiveLimit(spec, cap, _source(spec, cap, sources), _raise_with(spec, cap, caps))


def _source(spec: LimitSpec, cap: Cap, sources: Layer) -> str:
    """Say what set a cap: somebody, or one of the rules by which `limits.caps` completes what is not set."""
    given = sources.get(spec.name)
    if given is not None:
        return given.source
    if spec.follows is not None:
        return f"follows {spec.follows}"
    if spec.default is None:
        return "derived from the host"
    if cap < spec.default:
        return lowered(str(spec.within))
    if cap > spec.default:
        return raised(
            next(n for n, other in SPECS.items() if other.within == spec.name and other.widens and n in sources)
        )
    return "default"


def _raise_with(spec: LimitSpec, cap: Cap, caps: Mapping[str, Cap]) -> str | None:
    if cap == UNLIMITED or cap >= spec.maximum:
        return None
    more = min(max(cap * 2, spec.minimum, 1), spec.maximum)
    text = write_amount(spec.unit, more)
    flags = f"--limit {spec.name}={text}" if spec.scope is Scope.HOST else f"{spec.flag} {text}"
    wide = None if spec.within is None or spec.widens else SPECS[spec.within]
    if wide is not None and more > caps[wide.name]:
        flags += f" {wide.flag} {text}"
    return flags
