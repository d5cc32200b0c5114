"""`agentvm cache info | prune | clear`: the compiled modules on disk."""

import argparse

from agentvm.limits.amount import format_amount
from agentvm.limits.spec import Unit

__all__ = ["add_verbs"]


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `agentvm cache`."""
    parser = verbs.add_parser("cache", help="look at, or empty, the cache of compiled modules")
    actions = parser.add_subparsers(metavar="info|prune|clear", required=True)
    actions.add_parser("info", help="say where the cache is and what it holds").set_defaults(action=_info)
    prune = actions.add_parser("prune", help="remove what was used longest ago, down to a size")
    prune.add_argument("--max-bytes", metavar="SIZE", help="the size to prune to (default: the cache's cap)")
    prune.set_defaults(action=_prune)
    actions.add_parser("clear", help="remove everything").set_defaults(action=_clear)


def _info(_: argparse.Namespace) -> int:
    from agentvm.engine.module import cache_info

    info = cache_info()
    print(f"directory  {info.directory or 'none (off)'}")
    print(f"modules    {info.entries:,} of {format_amount(Unit.COUNT, info.max_entries)}")
    print(f"size       {format_amount(Unit.BYTES, info.size_bytes)} of {format_amount(Unit.BYTES, info.max_bytes)}")
    return 0


def _prune(options: argparse.Namespace) -> int:
    from agentvm.engine.module import prune_cache
    from agentvm.limits.amount import parse_amount
    from agentvm.limits.host_catalogue import HOST_SPECS

    size = None if options.max_bytes is None else parse_amount(HOST_SPECS["max_cache_bytes"], options.max_bytes)
    print(f"freed {format_amount(Unit.BYTES, prune_cache(size))}")
    return 0


def _clear(_: argparse.Namespace) -> int:
    from agentvm.engine.module import clear_cache

    print(f"freed {format_amount(Unit.BYTES, clear_cache())}")
    return 0
