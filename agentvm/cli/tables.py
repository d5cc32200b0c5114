"""Tables for people: in columns on a terminal, or in Markdown."""

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Row", "markdown_table", "text_table"]

#: The cells of a row, by the names of their columns; all rows of a table have the same.
Row = Mapping[str, str]


def text_table(rows: Sequence[Row]) -> str:
    """Return rows under each other, in columns as wide as their widest cell."""
    keys = list(rows[0])
    widths = [max(len(key), *(len(row[key]) for row in rows)) for key in keys]
    lines = [keys, *([row[key] for key in keys] for row in rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines
    )


def markdown_table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown."""
    keys = list(rows[0])
    return "\n".join(_markdown_row(cells) for cells in (keys, ["---"] * len(keys), *(row.values() for row in rows)))


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
