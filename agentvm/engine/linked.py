"""A module linked against the host's calls: what every start of it shares, made once for each module and linker."""

from typing import TYPE_CHECKING, NamedTuple, Protocol

from agentvm.engine import bind
from agentvm.engine.module_info import PAGE_BYTES, ExternKind, ModuleInfo, Signature, TableType
from agentvm.errors import MissingExport, MissingImport, ModuleLimit
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    import wasmtime

    from agentvm.engine.image import Image

__all__ = ["Linked", "Runnable", "TablePlan", "link", "plan_tables"]

#: What an element of a table takes in the host; twice that where the table may grow, as its storage doubles.
FIXED_ELEMENT_BYTES, GROWING_ELEMENT_BYTES = 8, 16
#: Tables that may grow get at most this part of a process's memory.
_GROWTH_SHARE = 8

_NOTHING = Signature((), ())


class Runnable(Protocol):
    """A compiled module and what is known about it; see `engine.module.LoadedModule`."""

    @property
    def handle(self) -> "wasmtime.Module": ...
    @property
    def info(self) -> ModuleInfo: ...
    @property
    def image(self) -> "Image | None": ...


class TablePlan(NamedTuple):
    """How far each table may grow, and what all of them are charged for at the start."""

    elements_each: int
    size_bytes: int


class Linked:
    """One module with all its imports found."""

    def __init__(self, module: Runnable, linker: bind.HostLinker) -> None:
        """Raises `MissingImport`."""
        info = module.info
        try:
            self.pre = bind.new_instance_pre(linker, module.handle)
        except ValueError as error:
            raise MissingImport(f"the module cannot be linked: {error}") from None
        self.info = info
        self.image = module.image
        self.minimums = tuple(memory.min_pages * PAGE_BYTES for memory in info.memories)
        memory = info.exports.get("memory")
        self.exported_memory: int | None = None
        if memory is not None and memory.kind is ExternKind.MEMORY:
            self.exported_memory = memory[2]

    def __del__(self) -> None:
        pre = getattr(self, "pre", 0)
        if pre:
            self.pre = 0
            bind.delete_pre(pre)

    def has_entry(self, name: str) -> bool:
        """Whether `name` is exported as a function without parameters and results."""
        export = self.info.exports.get(name)
        return export is not None and export.signature == _NOTHING

    def signature(self, name: str) -> Signature:
        """Return the type of an exported function. Raises `MissingExport` with the names that there are."""
        export = self.info.exports.get(name)
        if export is None or export.signature is None:
            names = sorted(e.name for e in self.info.exports.values() if e.kind is ExternKind.FUNCTION)
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            raise MissingExport(f"the module exports no function {name!r}; it has {shown or 'none'}", name=name)
        return export.signature


def link(module: Runnable, linker: bind.HostLinker) -> Linked:
    """Return the module linked, from the linker's cache if it was before. Raises `MissingImport`."""
    linked: Linked | None = linker.linked.get(module.handle)
    if linked is None:
        linked = linker.linked.setdefault(module.handle, Linked(module, linker))
    return linked


def _total(tables: tuple[TableType, ...], each: int) -> int:
    return sum(_reach(table, each) for table in tables)


def _reach(table: TableType, each: int) -> int:
    most = each if table.maximum is None else min(table.maximum, each)
    return max(table.minimum, most)


def plan_tables(tables: tuple[TableType, ...], max_elements: Cap, memory_bytes: Cap) -> TablePlan:
    """Share max_table_elements out, so that all tables together can never pass it.

    wasmtime can only cap each table. So each gets the same cap, as high as the sum allows, and is charged at the start
    for all that it may grow to; tables that cannot grow (nearly all) are charged exactly. Raises `ModuleLimit`.
    """
    if not tables:
        return TablePlan(0, 0)
    least = max(table.minimum for table in tables)
    if _total(tables, least) > max_elements:
        asked = sum(table.minimum for table in tables)
        raise ModuleLimit(
            f"the module's {len(tables)} tables start with {asked:,} elements and may not share max_table_elements, "
            f"which is {max_elements:,}; raise it with Limits(max_table_elements=...)",
            limit="max_table_elements",
            observed=asked,
            cap=max_elements,
        )
    growing = tuple(table for table in tables if table.maximum is None or table.maximum > table.minimum)
    fixed_bytes = FIXED_ELEMENT_BYTES * sum(table.minimum for table in tables if table not in growing)
    if not growing:
        return TablePlan(least, fixed_bytes)
    room = int(min(max_elements, 1 << 40))
    growth = int(min(memory_bytes, 1 << 60)) // (_GROWTH_SHARE * GROWING_ELEMENT_BYTES)
    low, high = least, max(least, room)
    while low < high:  # the highest cap for each that keeps the sum, and the charge, within theirs
        middle = (low + high + 1) // 2
        fits = _total(tables, middle) <= room and _total(growing, middle) <= growth
        low, high = (middle, high) if fits else (low, middle - 1)
    return TablePlan(low, fixed_bytes + GROWING_ELEMENT_BYTES * _total(growing, low))
