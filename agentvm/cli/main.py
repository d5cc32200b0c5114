"""The command line: its verbs and flags, and the exit statuses of our own failures."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn, Protocol

from agentvm.errors import AgentVMError, InvalidArgument

__all__ = ["build_parser", "main"]

_EXIT_STATUSES = """\
exit status:
  the program's own; 128 + N when signal N ended it (a limit: 128 + 24 SIGXCPU, 128 + 9 SIGKILL ...);
  125 agentvm itself failed, 126 the module cannot be run, 127 there is no such file.
"""


class Verbs(Protocol):
    """A module that declares verbs."""

    def add_verbs(self, verbs: "argparse._SubParsersAction[Any]") -> None: ...


class _Parser(argparse.ArgumentParser):
    """Refuses with status 125, so that a wrong flag is not taken for the guest's own exit code 2."""

    def __init__(self, **options: Any) -> None:
        # No abbreviations: what is unique today means something else when the catalogue has grown.
        super().__init__(**options, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse an unknown flag with the nearest one that there is."""
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            import difflib

            flag = unknown[0].partition("=")[0]
            near = difflib.get_close_matches(flag, self._option_string_actions, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.error(f"there is no {'flag' if flag.startswith('-') else 'argument'} {flag}{hint}")
        return known, unknown

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(InvalidArgument.exit_status, f"{self.prog}: {message}\n")


def build_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the whole command line; for "run" only that of its own, which is ready sooner."""
    from agentvm.cli import run

    sources: list[Verbs] = [run]
    if verb != "run":
        from agentvm.cli import cache, cgroup, doctor, inspect, limits

        sources += [limits, inspect, cache, cgroup, doctor]

    parser = _Parser(
        prog="agentvm",
        description="Run untrusted WebAssembly programs in a small VM, with hard caps on everything.",
    )
    parser.add_argument("--version", action="store_true", help="print the versions of agentvm and wasmtime, and exit")
    verbs = parser.add_subparsers(metavar="VERB", dest="verb", parser_class=_Parser)
    for source in sources:
        source.add_verbs(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, and return its exit status."""
    try:
        return _act(sys.argv[1:] if arguments is None else arguments)
    except AgentVMError as error:
        print(f"agentvm: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read what we print has gone: `agentvm limits | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
        return 128 + 13


def _act(arguments: Sequence[str]) -> int:
    parser = build_parser(arguments[0] if arguments else None)
    options = parser.parse_args(arguments)
    if options.version:
        _print_versions()
        return 0
    if options.verb is None:
        parser.print_help(sys.stderr)
        return InvalidArgument.exit_status
    if options.verb != "run":  # which does both in its own time
        gc.freeze()
        gc.enable()
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # Ctrl-C lets a verb put its things in order
            signal.signal(signal.SIGINT, signal.default_int_handler)
    status: int = options.action(options)
    return status


def _print_versions() -> None:
    from importlib.metadata import version

    print(f"agentvm {version('agentvm-runtime')}, wasmtime {version('wasmtime')}")
