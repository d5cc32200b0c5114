"""docs/limits.md: what an operator needs to know of limits, made of their declarations alone."""

from agentvm.cli.tables import Row, markdown_table
from agentvm.limits.amount import format_amount
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SETTINGS, SPECS, Limits
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.presets import PRESETS
from agentvm.limits.spec import Alias, Cap, LimitSpec, Unit

__all__ = ["limits_page"]

_INTRODUCTION = """\
# Limits

Everything that a guest can make the host spend is charged to a limit: memory, time, descriptors, bytes on disk. This
page lists them all, with their defaults. Generated: `agentvm limits --format md`. What is in force here and now, and
what set it, `agentvm limits` says; how to set it, [configuration](configuration.md).

The operator alone sets limits, and raises them while a VM runs (`vm.raise_limit(max_open_fds=512)`). A guest cannot."""

_READING = """\
## How to read the tables

**kind** is how a limit is used up. A *gauge* counts what is held now, and giving back makes room. A *budget* is only
spent. A *ceiling* is asked anew by each call, module or compile, for itself. A *rate* comes back as time passes.

**scope** is what one cap covers: all of a VM, each of its processes, each file (or pipe, or socket), each call, each
module, each compile; "all VMs" is the host process with everything in it.

**past it the guest gets** is what happens at the cap: an errno, as Linux would give it, at the very call that asked for
too much; a signal that ends the process; or time: it waits, or runs slower, and nothing fails.

**Units.** Sizes are in bytes: `67108864`, `"64MiB"`, `"64M"`, `"64MB"` are the same, and every suffix is a power of
1,024. Times are in seconds: `1.5`, `"1.5s"`, `"250ms"`, `"2m"`, `"1h"`. Percent are of one core. Fuel is instructions,
as wasmtime counts them. `"none"` is no limit, where there can be none. A rate of the disk takes the shape of its bucket
too, as Firecracker defines it: `"10MiB/s,size=1MiB,burst=64MiB"` lets 1 MiB pass at once after a pause, and 64 MiB
once, at the start. Without a shape, what comes in a tenth of a second may pass at once.

**Unset limits** have the default. One that lies within a wider one is lowered to it: `max_open_fds=64` alone leaves
each process 64 too. One that is set above the wider one is refused, but for {widening}, which raises
it where that is unset."""

_WARNINGS = """\
## Warnings

A limit is told of before it is reached, once, and again only after it has recovered:

| kind | warns | can warn again |
| --- | --- | --- |
| gauge, budget | when its use reaches {warn} % of the cap | after its use has fallen to {rearm} % |
| ceiling | when a call asks for {warn} % of the cap or more | after a call that asked for {rearm} % or less |
| rate | when its bucket first runs dry | after the bucket was full |

The thresholds are `warn_percent` and `rearm_percent`. Each refusal is counted and told of too; many of one limit are
one line with their number. A queue whose producer waits, and a cache that drops its oldest, are no refusals, and are
told of as information only. Where all this can be heard, [observability](observability.md) says."""

_TIGHTER = """\
## Tighter for one program

`vm.run(..., limits=Limits(...))` gives one program caps of its own, never above those of its VM: {names}."""

_ALIASES = """\
## Other spellings

Each name can be spelt `max_open_fds`, `max-open-fds`, `maxOpenFds` or `MAX_OPEN_FDS`. These are further names, those of
other products among them; a plain number counts what the last column says, and one with a unit of its own that."""

_PRESETS = """\
## Presets

A preset is a set of caps for a kind of guest: `Limits.preset("{example}")`, `--preset {example}`, or
`preset = "{example}"` under `[resources]`. Whatever is set explicitly wins over it, and the rest has the default."""

_HOST = """\
## Limits of the host process

What all VMs of one process share. They are set with `configure_host(...)`, `--limit`, or under `[host]`. What is
"derived" depends on what the operating system allows this process, a quarter left to the program around the VMs."""


def limits_page() -> str:
    """Return the whole document. It depends on the declarations and on nothing else."""
    caps = Caps(Limits())
    thresholds = {"warn": SETTINGS["warn_percent"].default, "rearm": SETTINGS["rearm_percent"].default}
    widening = " and ".join(f"`{name}`" for name, spec in SPECS.items() if spec.widens)
    tighter = ", ".join(f"`{name}`" for name, spec in SPECS.items() if spec.can_be_tightened)
    parts = [
        _INTRODUCTION,
        _READING.format(widening=widening),
        _WARNINGS.format(**thresholds),
        "## Limits of a VM",
        markdown_table([_limit_row(spec, caps[name]) for name, spec in SPECS.items()]),
        "## Settings",
        markdown_table(_setting_rows()),
        _HOST,
        markdown_table([_limit_row(spec, spec.default) for spec in HOST_SPECS.values()]),
        _TIGHTER.format(names=tighter),
        _PRESETS.format(example=next(iter(PRESETS))),
        "\n".join(f"- `{preset.name}`: {preset.summary}" for preset in PRESETS.values()),
        markdown_table(_preset_rows(caps)),
        _ALIASES,
        markdown_table(_alias_rows()),
    ]
    return "\n\n".join(parts) + "\n"


def _limit_row(spec: LimitSpec, default: Cap | None) -> Row:
    return {
        "limit": f"`{spec.name}`",
        "default": "derived" if default is None else format_amount(spec.unit, default),
        "kind": spec.kind.value,
        "scope": spec.scope.value,
        "past it the guest gets": spec.guest_sees,
        "what it caps": spec.summary + _relation(spec),
    }


def _relation(spec: LimitSpec) -> str:
    if spec.follows is not None:
        return f" Unset, it is `{spec.follows}`."
    return "" if spec.within is None else f" Lies within `{spec.within}`."


def _setting_rows() -> list[Row]:
    return [
        {"setting": f"`{spec.name}`", "default": str(spec.default), "takes": spec.accepts, "what it says": spec.summary}
        for spec in SETTINGS.values()
    ]


def _preset_rows(defaults: Caps) -> list[Row]:
    names = [name for name in SPECS if any(name in preset.caps for preset in PRESETS.values())]
    return [
        {
            "limit": f"`{name}`",
            "default": format_amount(SPECS[name].unit, defaults[name]),
            **{
                preset.name: format_amount(SPECS[name].unit, preset.caps[name]) if name in preset.caps else ""
                for preset in PRESETS.values()
            },
        }
        for name in names
    ]


def _alias_rows() -> list[Row]:
    names: dict[Alias, list[LimitSpec]] = {}
    for spec in SPECS.values():
        for alias in spec.aliases:
            names.setdefault(alias, []).append(spec)
    return [
        {
            "spelling": f"`{alias.name}`" + (f", `{alias.flag}`" if alias.is_flag else ""),
            "sets": " and ".join(f"`{spec.name}`" for spec in specs),
            "a plain number counts": _counts(alias, specs[0].unit),
        }
        for alias, specs in sorted(names.items(), key=lambda item: item[0].name)
    ]


def _counts(alias: Alias, unit: Unit) -> str:
    if alias.factor == 1:
        return unit.value
    if unit is Unit.SECONDS:
        return f"{alias.factor:g} seconds"
    return format_amount(unit, alias.factor)
