"""`agentvm limits | syscalls | errnos`: what there is, as a table, Markdown or JSON. The docs are made from these."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping

from agentvm.errno import Errno, describe
from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS, Caps, Limits
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["add_verbs", "errnos_rows", "limits_rows", "syscalls_rows", "to_markdown"]

Rows = list[dict[str, str]]


def add_verbs(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the verbs that show what agentvm has."""
    for name, (rows, summary, _) in PAGES.items():
        parser = verbs.add_parser(name, help=f"list {summary}", description=f"List {summary}.")
        parser.add_argument("--format", choices=("text", "md", "json"), default="text", help="how (default: text)")
        parser.set_defaults(action=lambda options, rows=rows, name=name: _show(name, rows(), options.format))


def limits_rows() -> Rows:
    """One row a limit, in the order of the catalogue; those of the whole host process last."""
    caps: Mapping[str, Cap] = Caps(Limits())
    rows = [_limit_row(spec, format_amount(spec.unit, caps[spec.name])) for spec in SPECS.values()]
    for spec in HOST_SPECS.values():
        default = "derived" if spec.default is None else format_amount(spec.unit, spec.default)
        rows.append(_limit_row(spec, default))
    return rows


def _limit_row(spec: LimitSpec, default: str) -> dict[str, str]:
    return {
        "limit": spec.name,
        "default": default,
        "kind": spec.kind.value,
        "scope": spec.scope.value,
        "past it the guest gets": spec.guest_sees,
        "what it caps": spec.summary,
    }


def syscalls_rows() -> Rows:
    """One row a call."""
    from agentvm.abi.preview1 import PREVIEW1

    return [
        {
            "call": spec.signature_text(),
            "support": spec.support.value,
            "what it does": spec.summary + (f" {spec.note}" if spec.note else ""),
            "fails with": ", ".join(sorted(errno.name for errno in spec.errnos)) or "nothing",
        }
        for spec in PREVIEW1.values()
    ]


def errnos_rows() -> Rows:
    """One row an errno."""
    return [{"errno": errno.name, "number": str(int(errno)), "meaning": describe(errno)} for errno in Errno]


#: Each page: its rows, what it lists, and the introduction of the generated document.
PAGES: Mapping[str, tuple[Callable[[], Rows], str, str]] = {
    "limits": (
        limits_rows,
        "every limit",
        'Every limit, declared once in `agentvm/limits/`. Those of scope "all VMs" belong to the host process: they '
        "are derived from what the operating system allows, a quarter left to the embedding program, and set with "
        "`configure_host(...)`.",
    ),
    "syscalls": (
        syscalls_rows,
        "every call of wasi_snapshot_preview1",
        "Every call of `wasi_snapshot_preview1`, declared once under `agentvm/abi/preview1/`. `wasi_unstable` has the "
        "same calls but for `sock_accept`, with its own whence numbers, filestat and subscription layouts.",
    ),
    "errnos": (errnos_rows, "every errno", "Every errno that a guest can see, declared once in `agentvm/errno.py`."),
}


def to_markdown(name: str, rows: Rows, introduction: str) -> str:
    """Return the generated document of a page."""
    keys = list(rows[0])
    lines = [f"# {name.capitalize()}", "", introduction, f"Generated: `agentvm {name} --format md`.", ""]
    lines += [_markdown_row(keys), _markdown_row(["---"] * len(keys))]
    lines += [_markdown_row(row.values()) for row in rows]
    return "\n".join(lines) + "\n"


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _show(name: str, rows: Rows, form: str) -> int:
    if form == "json":
        print(json.dumps(rows, indent=1))
    elif form == "md":
        print(to_markdown(name, rows, PAGES[name][2]), end="")
    else:
        keys = list(rows[0])
        widths = [max(len(key), *(len(row[key]) for row in rows)) for key in keys]
        for cells in (keys, *([row[key] for key in keys] for row in rows)):
            print("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return 0
