"""`agentvm doctor`: one screen that says whether this installation keeps what it promises."""

import argparse
import io
import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from agentvm.cli.settings import add_flags, read_config
from agentvm.errors import InvalidLimit
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS

if TYPE_CHECKING:
    from agentvm.config.config import Config
    from agentvm.doctor.check import CheckResult, Rig
    from agentvm.doctor.finding import Finding

__all__ = ["add_verbs", "examine"]

_EPILOG = """\
exit status:
  0 if all is as promised, 1 if anything is not.

The self-test takes a few seconds. It gives each limit a tiny cap and takes a guest past it; nothing of the host is
changed but the module cache, which gets a few modules.

examples:
  agentvm doctor
  agentvm doctor --quick
  agentvm doctor --json max_memory_bytes max_cpu_time_seconds
"""
_RED, _GREEN, _YELLOW, _PLAIN = "\033[31m", "\033[32m", "\033[33m", "\033[0m"
_COLOURS = {"ok": _GREEN, "FAIL": _RED, "note": _YELLOW}
#: Widths of columns: a verdict, a part of agentvm.
_MARK, _PART = 4, 16
#: Lines of the log that are kept to be shown after a failure.
_MOST_LINES = 100


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `agentvm doctor`."""
    parser = verbs.add_parser(
        "doctor",
        help="say whether this installation keeps what it promises",
        usage="agentvm doctor [FLAGS] [LIMIT...]",
        description="Look at the installation, and take a guest past every limit to see what it gets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="LIMIT", help="test only these limits and settings (default: all)")
    parser.add_argument("--quick", action="store_true", help="leave the self-test out")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    add_flags(parser)
    parser.set_defaults(action=_act)


def _act(options: argparse.Namespace) -> int:
    names = () if options.quick else _names(options.names)
    return examine(read_config(options), names, as_json=options.json)


def _names(given: Sequence[str]) -> Sequence[str]:
    """Return what to test. Raises `InvalidLimit` with the nearest name for one that does not exist."""
    from agentvm.limits.names import find

    every = [*SPECS, *SETTINGS, *HOST_SPECS]
    chosen = [target.spec.name for name in given for target in find(name)]
    for name in chosen:
        if name not in every:
            raise InvalidLimit(f"{name} is nothing to be tested; `agentvm limits` lists the limits and settings")
    return chosen or every


def examine(config: "Config", names: Sequence[str], *, as_json: bool = False, rig: "Rig | None" = None) -> int:
    """Look at the installation, test the limits and settings `names`, show it all, and return the exit status."""
    from agentvm.doctor import installation
    from agentvm.doctor.check import Rig
    from agentvm.doctor.report import Report, self_test

    log, report = _keep_log(), Report()
    rig = replace(rig or Rig(), log_sink=log)
    screen = None if as_json else _Screen(is_coloured=sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
    for finding in installation.examine(config):
        report.findings.append(finding)
        if screen:
            screen.show_finding(finding)
    for result in self_test(names, rig):
        report.results.append(result)
        if screen:
            screen.show_result(result)
    print(json.dumps(report.fields(), indent=1) if as_json else f"\n{report.verdict()}")
    if report.is_well:
        return 0
    sys.stderr.write("".join(log.lines))
    return 1


class _KeptLog(io.StringIO):
    """Takes the place of stderr for the log, so that what the self-test provokes does not look like trouble."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=_MOST_LINES)

    def write(self, text: str) -> int:
        self.lines.append(text)
        return len(text)


def _keep_log() -> _KeptLog:
    """Keep the log from stderr, to the end: events of the last VMs come a little after they are closed."""
    from agentvm import log

    kept = _KeptLog()
    log.configure("error", sink=kept)
    return kept


class _Screen:
    """Prints one line after the other, in columns whose widths are known from the start."""

    def __init__(self, *, is_coloured: bool) -> None:
        specs = [*SPECS.values(), *HOST_SPECS.values()]
        self._is_coloured = is_coloured
        self._topic = max(len(name) for name in HOST_SPECS)
        self._widths = max(len(spec.name) for spec in specs), _PART, max(len(spec.guest_sees) for spec in specs)
        self._has_head = False

    def show_finding(self, finding: "Finding") -> None:
        """Print a fact, and what to do about it if it is not as it should be."""
        print(f"{self._mark(finding.status.value)}  {finding.topic:<{self._topic}}  {finding.text}", flush=True)
        if finding.advice and finding.status.value != "ok":
            print(f"{'':{_MARK + self._topic + 4}}{finding.advice}")

    def show_result(self, result: "CheckResult") -> None:
        """Print a row of the self-test."""
        if not self._has_head:
            self._has_head = True
            print(f"\n{'':{_MARK}}  {self._columns('limit', 'enforced by', 'promised', 'what came of it')}")
        cells = self._columns(result.name, result.by, result.promised, result.reported)
        print(f"{self._mark('ok' if result.is_kept else 'FAIL')}  {cells}", flush=True)

    def _columns(self, *cells: str) -> str:
        *padded, last = cells
        columns = [cell.ljust(width) for cell, width in zip(padded, self._widths, strict=True)]
        return "  ".join([*columns, last])

    def _mark(self, word: str) -> str:
        text = word.ljust(_MARK)
        return f"{_COLOURS[word]}{text}{_PLAIN}" if self._is_coloured else text
