"""`agentvm limits`: every limit and setting, what is in force, where it came from, and how to raise it."""

import argparse
import json
from typing import Any

from agentvm.cli.settings import add_flags, read_config
from agentvm.cli.tables import Row, text_table
from agentvm.config.config import Config
from agentvm.config.effective import EffectiveLimit, EffectiveSetting, effective_limits, effective_settings
from agentvm.limits.amount import format_amount
from agentvm.limits.presets import PRESET, PRESETS
from agentvm.limits.rate import Rate
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec

__all__ = ["add_verbs"]


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `agentvm limits`."""
    parser = verbs.add_parser(
        "limits",
        help="list every limit, its value, where that came from, and how to raise it",
        usage="agentvm limits [FLAGS]",
        description="List every limit and setting as `agentvm run` with the same flags, environment and file has it.",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("text", "md", "json"), default="text", help="how (default: text); md is the "
                      "documentation, with the defaults alone")  # fmt: skip
    form.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    add_flags(parser)
    parser.set_defaults(action=_show)


def _show(options: argparse.Namespace) -> int:
    if options.format == "md":
        from agentvm.cli.limits_page import limits_page

        print(limits_page(), end="")
        return 0
    config = read_config(options)
    print(json.dumps(_to_json(config), indent=1) if options.format == "json" else _to_text(config))
    return 0


def _to_text(config: Config) -> str:
    limits: list[Row] = [
        {
            "limit": limit.spec.name,
            "value": format_amount(limit.spec.unit, limit.cap),
            "from": limit.source,
            "past it the guest gets": limit.spec.guest_sees,
            "raise it with": limit.raise_with or "",
        }
        for limit in effective_limits(config)
    ]
    settings: list[Row] = [
        {
            "setting": setting.spec.name,
            "value": str(setting.value),
            "from": setting.source,
            "takes": setting.spec.accepts,
        }
        for setting in effective_settings(config)
    ]
    presets: list[Row] = [{"preset": preset.name, "for": preset.summary} for preset in PRESETS.values()]
    chosen = config.sources.get(PRESET.name)
    head = f"configuration file: {config.path or 'none'}"
    if chosen is not None:
        head += f"\npreset: {chosen.value}, from {chosen.source}"
    return "\n\n".join([head, *map(text_table, (limits, settings, presets))])


def _to_json(config: Config) -> dict[str, Any]:
    chosen = config.sources.get(PRESET.name)
    return {
        "config": config.path,
        "preset": None if chosen is None else chosen.value,
        "limits": [_limit_record(limit) for limit in effective_limits(config)],
        "settings": [_setting_record(setting) for setting in effective_settings(config)],
        "presets": [
            {"name": preset.name, "summary": preset.summary, "caps": dict(preset.caps)} for preset in PRESETS.values()
        ],
    }


def _limit_record(limit: EffectiveLimit) -> dict[str, Any]:
    spec = limit.spec
    shape = {"size": limit.cap.size, "burst": limit.cap.burst} if isinstance(limit.cap, Rate) else {}
    return {
        "name": spec.name,
        "cap": _finite(limit.cap),
        **shape,
        "source": limit.source,
        "raise": limit.raise_with,
        "default": _finite(spec.default),
        **_declaration(spec),
    }


def _declaration(spec: LimitSpec) -> dict[str, Any]:
    return {
        "kind": spec.kind.value,
        "scope": spec.scope.value,
        "unit": spec.unit.value,
        "past": spec.past.value,
        "errno": None if spec.errno is None else spec.errno.name,
        "guest_sees": spec.guest_sees,
        "summary": spec.summary,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "can_be_unlimited": spec.can_be_unlimited,
        "can_be_tightened": spec.can_be_tightened,
        "follows": spec.follows,
        "within": spec.within,
        "variable": spec.variable,
        "aliases": {alias.name: alias.factor for alias in spec.aliases},
    }


def _setting_record(setting: EffectiveSetting) -> dict[str, Any]:
    spec = setting.spec
    takes = {"choices": list(spec.choices)} if spec.choices else {"minimum": spec.minimum, "maximum": spec.maximum}
    return {
        "name": spec.name,
        "value": setting.value,
        "source": setting.source,
        "default": spec.default,
        "summary": spec.summary,
        **takes,
        "variable": spec.variable,
    }


def _finite(cap: Cap | None) -> Cap | None:
    """JSON has no infinity: no cap is null."""
    return None if cap == UNLIMITED else cap
