"""What is known about a module without running it. Immutable, and stored beside its compiled code."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["PAGE_BYTES", "Export", "ExternKind", "Import", "MemoryType", "ModuleInfo", "Signature", "TableType"]

#: The page of linear memory.
PAGE_BYTES = 65_536


class ExternKind(Enum):
    """What an import or export is, in the order of the binary format."""

    FUNCTION = "function"
    TABLE = "table"
    MEMORY = "memory"
    GLOBAL = "global"
    TAG = "tag"


class Signature(NamedTuple):
    """The type of a function, as the text format spells value types: `Signature(("i32", "i64"), ("i32",))`."""

    params: tuple[str, ...]
    results: tuple[str, ...]

    def __str__(self) -> str:
        return f"({', '.join(self.params)}) -> ({', '.join(self.results)})"


class Import(NamedTuple):
    """One import; `signature` is None unless it is a function."""

    module: str
    name: str
    kind: ExternKind
    signature: Signature | None


class Export(NamedTuple):
    """One export; `number` is its index among its kind, `signature` None unless it is a function."""

    name: str
    kind: ExternKind
    number: int
    signature: Signature | None


class MemoryType(NamedTuple):
    """A linear memory; both in pages of 64 KiB. `max_pages` is None without a maximum."""

    min_pages: int
    max_pages: int | None


class TableType(NamedTuple):
    """A table; both in elements. `maximum` is None without one."""

    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """A module's interface and size. `memories` and `tables` start with the imported ones.

    `has_tags`: it throws or catches exceptions. `counts` holds how much of each limit on modules it needs, by the
    limit's name.
    """

    size_bytes: int
    imports: tuple[Import, ...]
    exports: Mapping[str, Export]
    memories: tuple[MemoryType, ...]
    imported_memories: int
    tables: tuple[TableType, ...]
    has_start: bool
    has_tags: bool
    data_count: int | None
    counts: Mapping[str, int]
    custom_sections: tuple[str, ...]

    @property
    def min_memory_bytes(self) -> int:
        """What all memories take at the start."""
        return sum(memory.min_pages for memory in self.memories) * PAGE_BYTES

    def to_json(self) -> bytes:
        """Write it down; `from_json` reads it back."""
        import json

        record = {
            "size": self.size_bytes,
            "imports": [(i.module, i.name, i.kind.value, i.signature) for i in self.imports],
            "exports": [(e.name, e.kind.value, e.number, e.signature) for e in self.exports.values()],
            "memories": self.memories,
            "imported_memories": self.imported_memories,
            "tables": self.tables,
            "start": self.has_start,
            "tags": self.has_tags,
            "data_count": self.data_count,
            "counts": dict(self.counts),
            "custom": self.custom_sections,
        }
        return json.dumps(record, separators=(",", ":")).encode()

    @classmethod
    def from_json(cls, text: bytes) -> "ModuleInfo":
        """Read what `to_json` wrote. Raises `ValueError`, `KeyError` or `TypeError` for anything else."""
        import json

        record = json.loads(text)
        imports = tuple(Import(m, n, ExternKind(k), _signature(s)) for m, n, k, s in record["imports"])
        exports = {n: Export(n, ExternKind(k), i, _signature(s)) for n, k, i, s in record["exports"]}
        return cls(
            size_bytes=record["size"],
            imports=imports,
            exports=exports,
            memories=tuple(MemoryType(*memory) for memory in record["memories"]),
            imported_memories=record["imported_memories"],
            tables=tuple(TableType(*table) for table in record["tables"]),
            has_start=record["start"],
            has_tags=record["tags"],
            data_count=record["data_count"],
            counts=record["counts"],
            custom_sections=tuple(record["custom"]),
        )


def _signature(pair: tuple[list[str], list[str]] | None) -> Signature | None:
    return None if pair is None else Signature(tuple(pair[0]), tuple(pair[1]))
