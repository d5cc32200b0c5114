"""`agentvm cgroup`: what the outer wall would be here, or a systemd unit that is one; and the flag `--cgroup`."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentvm.errors import InvalidArgument
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    from agentvm.config.config import Config
    from agentvm.host.block_device import Disks
    from agentvm.host.cgroup_limits import OuterWall
    from agentvm.host.cgroup_plan import Plan

__all__ = ["add_flags", "add_verbs", "confined"]

_FLAG = "--cgroup"
_MODES = ("auto", "required", "off")
_EPILOG = """\
examples:
  agentvm cgroup
  agentvm cgroup --print-unit --max-memory-bytes 512MiB --max-cpu-percent 50 > /etc/systemd/system/agent.service
  agentvm cgroup --print-unit --exec 'agentvm run --cgroup=required tool.wasm'
"""


class _Choose(argparse.Action):
    """Reads the mode out of the flag itself: in `--cgroup tool.wasm`, the next word is none."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        setattr(namespace, self.dest, (option_string or "").partition("=")[2] or _MODES[0])


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare `--cgroup[=auto|required|off]`, whose value is None where it is not given."""
    parser.add_argument(
        _FLAG,
        *(f"{_FLAG}={mode}" for mode in _MODES),
        action=_Choose,
        dest="cgroup",
        nargs=0,
        help="run in a control group of our own, with limits that follow from the VM's; what the host does not enforce "
        "is said (auto), or nothing runs (required)",
    )


@contextmanager
def confined(mode: str, caps: Mapping[str, Cap], paths: Iterable[str], warn: Callable[[str], None]) -> Iterator[None]:
    """Run the body in a control group with limits that follow from `caps`, unless `mode` is "off".

    Disk rates apply to the disks under `paths`, or else to the one under the working directory. `warn` gets one line
    about what the host does not enforce. Raises as `Cgroup.enter` does, before the body runs.
    """
    if mode == "off":
        yield
        return
    from agentvm.host.block_device import disks_below
    from agentvm.host.cgroup import Cgroup

    disks = disks_below(*(tuple(paths) or (os.curdir,)))
    with Cgroup.enter(caps, mode, disks=disks, warn=warn):
        yield


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `agentvm cgroup`."""
    from agentvm.cli import settings

    parser = verbs.add_parser(
        "cgroup",
        help="say what the host can enforce too, or print a systemd unit that does",
        description="Say which caps the host would enforce too, by control groups (version 2), and why not the rest.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--print-unit", action="store_true", help="print a systemd service with the matching limits")
    parser.add_argument(
        "--exec", metavar="COMMAND", help="what the service runs (default: agentvm run, with the limits given here)"
    )
    parser.add_argument(
        "--path", action="append", default=[], metavar="PATH", help="throttle the disk under PATH; default: what is "
        "mounted, or the working directory",
    )  # fmt: skip
    settings.add_flags(parser)
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    from agentvm.cli.settings import read_config
    from agentvm.cli.systemd_unit import unit_text
    from agentvm.host.block_device import disks_below
    from agentvm.host.cgroup_limits import derive_wall
    from agentvm.limits.caps import Caps

    if options.exec is not None and not options.print_unit:
        raise InvalidArgument("--exec says what a unit runs: it needs --print-unit")
    config = read_config(options)
    caps = {**Caps(config.limits), **dict(config.host.given())}
    paths = options.path or [os.fsdecode(directory.path) for directory in config.mounts.values()] or [os.curdir]
    disks = disks_below(*paths)
    wall = derive_wall(caps, cores=os.cpu_count() or 1)
    if not options.print_unit:
        _print_state(caps, disks, wall)
        return 0
    command = _split(options.exec) if options.exec is not None else _run_command(options, config)
    asks = [word.partition("=")[2] or _MODES[0] for word in command if word.partition("=")[0] == _FLAG]
    delegate = (asks[-1] if asks else config.cgroup) != "off"
    print(unit_text(wall, disks, command, delegate=delegate), end="")
    return 0


def _run_command(options: argparse.Namespace, config: "Config") -> list[str]:
    """Return the command line of a unit that runs a program with the configuration given here."""
    import shutil

    agentvm = shutil.which("agentvm")
    command = [agentvm] if agentvm else [sys.executable, "-m", "agentvm"]
    file = [f"--config={os.path.abspath(config.path)}"] if config.path else ["--no-config"]
    return [*command, "run", *file, *(f"{flag}={value}" for flag, value in options.set), "/path/to/program.wasm"]


def _split(text: str) -> list[str]:
    """Return the words of a command line, the program with its whole path."""
    import shlex
    import shutil

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InvalidArgument(f"--exec {text!r} is no command line: {error}") from None
    if not words:
        raise InvalidArgument("--exec: which command?")
    return [shutil.which(words[0]) or words[0], *words[1:]]


def _print_state(caps: Mapping[str, Cap], disks: "Disks", wall: "OuterWall") -> None:
    from agentvm.cli.systemd_unit import memory_text
    from agentvm.host.cgroup_plan import plan_wall

    plan = plan_wall(caps, disks=disks)
    if plan.hierarchy is None:
        print("cgroup v2    not here")
    else:
        print(f"cgroup v2    {plan.hierarchy.fs.mount}")
        print(f"own group    {plan.hierarchy.own or '/'}")
        print(f"delegated    {' '.join(sorted(plan.delegated)) or 'nothing'}")
    print("\nThe VM itself enforces every cap. The host would enforce too:")
    rows = dict(_rows(plan, caps))
    for cap, stands in rows.items():
        print(f"  {cap:<{max(map(len, rows))}}  {stands}")
    if wall.memory_bytes is not None:
        print(f"\nmemory.max is the sum of {memory_text(wall)}.")


def _rows(plan: "Plan", caps: Mapping[str, Cap]) -> Iterator[tuple[str, str]]:
    """Yield each cap that the wall is about, and what stands for it."""
    from agentvm.limits.amount import format_amount
    from agentvm.limits.catalogue import SPECS

    stands: dict[str, list[str]] = {}
    for file in plan.files:
        for cap in file.caps:
            stands.setdefault(cap, []).append(f"{file.name} = {file.value}")
    for record in plan.not_enforced:
        stands.setdefault(record.cap, []).append(f"NOT ENFORCED: {record.why}")
    for cap, texts in stands.items():
        yield f"{cap} ({format_amount(SPECS[cap].unit, caps[cap])})", "; ".join(texts)
