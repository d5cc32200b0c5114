"""`agentvm syscalls | errnos`: what there is, as a table, Markdown or JSON. The docs are made from these."""

import argparse
import json
from collections.abc import Callable, Mapping

from agentvm.cli.limits_page import limits_page
from agentvm.cli.tables import Row, markdown_table, text_table
from agentvm.errno import Errno, describe

__all__ = ["PAGES", "add_verbs", "errnos_rows", "syscalls_rows"]


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs that show what agentvm has."""
    for name, (rows, summary, _) in _LISTS.items():
        parser = verbs.add_parser(name, help=f"list {summary}", description=f"List {summary}.")
        parser.add_argument("--format", choices=("text", "md", "json"), default="text", help="how (default: text)")
        parser.set_defaults(action=lambda options, rows=rows, name=name: _show(name, rows(), options.format))


def syscalls_rows() -> list[Row]:
    """One row a call."""
    from agentvm.abi.agentos import AGENTOS
    from agentvm.abi.preview1 import PREVIEW1

    return [
        {
            "module": spec.module,
            "call": spec.signature_text(),
            "support": spec.support.value,
            "what it does": spec.summary + (f" {spec.note}" if spec.note else ""),
            "fails with": ", ".join(sorted(errno.name for errno in spec.errnos)) or "nothing",
            "disk rate": spec.disk.value if spec.disk is not None else "none",
        }
        for table in (PREVIEW1, *AGENTOS.values())
        for spec in table.values()
    ]


def errnos_rows() -> list[Row]:
    """One row an errno."""
    return [{"errno": errno.name, "number": str(int(errno)), "meaning": describe(errno)} for errno in Errno]


#: Each list: its rows, what it is of, and the introduction of the generated document.
_LISTS: Mapping[str, tuple[Callable[[], list[Row]], str, str]] = {
    "syscalls": (
        syscalls_rows,
        "every call that a program can import",
        "Every call of `wasi_snapshot_preview1`, declared once under `agentvm/abi/preview1/`, and of the host ABI of "
        "agentOS, `agentos-wasm-host-v1`, under `agentvm/abi/agentos/`. `wasi_unstable` has the calls of preview1 but "
        "for `sock_accept`, with its own whence numbers, filestat and subscription layouts. A call that is refused "
        "links, and fails with the errno that its row names.",
    ),
    "errnos": (errnos_rows, "every errno", "Every errno that a guest can see, declared once in `agentvm/errno.py`."),
}


def _page(name: str) -> str:
    rows, _, introduction = _LISTS[name]
    head = f"# {name.capitalize()}\n\n{introduction}\nGenerated: `agentvm {name} --format md`.\n\n"
    return f"{head}{markdown_table(rows())}\n"


#: Every generated document under docs/, by its name and the verb that prints it.
PAGES: Mapping[str, Callable[[], str]] = {
    "limits": limits_page,
    **{name: lambda name=name: _page(name) for name in _LISTS},  # type: ignore[misc]
}


def _show(name: str, rows: list[Row], form: str) -> int:
    if form == "json":
        print(json.dumps(rows, indent=1))
    elif form == "md":
        print(PAGES[name](), end="")
    else:
        print(text_table(rows))
    return 0
