"""The flags that configure a VM, the same for every verb that opens or shows one, and what comes of them."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentvm.config.place import is_configured
from agentvm.errors import InvalidArgument
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.presets import PRESET
from agentvm.limits.spec import Alias

if TYPE_CHECKING:
    from agentvm.config.config import Config

__all__ = ["add_flags", "configure_process", "read_config", "read_config_if_any"]


class _Set(argparse.Action):
    """Notes a flag, as it was written, and its value; what they stand for is found out when all are there."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        namespace.set = [*namespace.set, (option_string, values)]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare the flags, one for each limit and setting of the catalogue among them."""
    chosen = parser.add_argument_group("configuration", "a flag wins over the environment, and that over the file")
    file = chosen.add_mutually_exclusive_group()
    file.add_argument(
        "--config", metavar="FILE", help="the configuration; default: AGENTVM_CONFIG, or ./agentvm.toml if there is one"
    )
    file.add_argument("--no-config", action="store_true", help="read no configuration file")
    _add(chosen, PRESET.flag, "NAME", f"{PRESET.summary} Takes {PRESET.accepts}.")
    _add(chosen, "--limit", "NAME=VALUE", "set a limit, a setting or a limit of the host process; see `agentvm limits`")
    limits = parser.add_argument_group("limits", 'sizes as "64MiB", times as "1.5s", "none" for no limit')
    for spec in SPECS.values():
        _add(limits, spec.flag, spec.unit.name, spec.summary)
    for setting in SETTINGS.values():
        _add(limits, setting.flag, "|".join(setting.choices) or "NUMBER", setting.summary)
    for alias, names in _alias_flags().items():
        _add(limits, alias.flag, "VALUE", f"As Docker's: sets {' and '.join(names)}.")


def _alias_flags() -> dict[Alias, list[str]]:
    flags: dict[Alias, list[str]] = {}
    for spec in SPECS.values():
        for alias in spec.aliases:
            if alias.is_flag:
                flags.setdefault(alias, []).append(spec.name)
    return flags


def _add(group: argparse._ArgumentGroup, flag: str, metavar: str, summary: str) -> None:
    group.add_argument(flag, action=_Set, dest="set", default=[], metavar=metavar, help=summary.replace("%", "%%"))


def read_config_if_any(options: argparse.Namespace) -> "Config | None":
    """Return the configuration, None where nothing is configured. Raises what `read_config` raises."""
    if options.set or options.config is not None or is_configured(os.environ, search=not options.no_config):
        return read_config(options)
    return None


def read_config(options: argparse.Namespace) -> "Config":
    """Return the configuration that file, environment and flags make. Raises `InvalidConfig`, `InvalidLimit`."""
    from agentvm.config.config import Config
    from agentvm.limits.layers import Accepts, Layer

    flags = Layer()
    for flag, text in options.set:
        key, value, source = flag, text, flag
        if flag == "--limit":
            key, equals, value = text.partition("=")
            source = f"--limit {key}"
            if not equals:
                raise InvalidArgument(f"--limit {text}: it takes NAME=VALUE, such as max_open_fds=64")
        flags.set(key, value, source, accepts=Accepts.BOTH, may_repeat=True)
    return Config.resolve(options.config, flags=flags, search=not options.no_config)


def configure_process(config: "Config") -> None:
    """Put in force what a configuration says of the whole process: its limits, and its log."""
    from agentvm.config.file import LogSettings

    if next(config.host.given(), None) is not None:
        from agentvm.engine.capacity import configure_host

        configure_host(config.host)
    if config.log != LogSettings():
        from agentvm import log

        log.configure(config.log.level, config.log.format)
