"""The binary format as far as it is needed before compiling: headers, imports, exports, memories, tables, counts.

Source: WebAssembly Core Specification 3.0, section 5 (binary format). Function bodies and initial values are skipped;
wasmtime validates them in the compiler process. No length is trusted, and no step costs more than linear time.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from agentvm.engine.cursor import SIMPLE_VALUE_TYPES, Cursor, disabled, value_type
from agentvm.engine.module_info import Export, ExternKind, Import, MemoryType, ModuleInfo, Signature, TableType
from agentvm.errors import MalformedModule

__all__ = ["DATA", "DATA_COUNT", "Check", "Layout", "Span", "parse"]

#: Called with a limit's name and how much of it the module needs, before anything of that size is read.
Check = Callable[[str, int], None]


class Span(NamedTuple):
    """Where a section lies: its header, its first byte, and the byte after its last."""

    header: int
    start: int
    end: int


#: The sections of a module by their id.
Layout = dict[int, Span]

TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE, DATA, DATA_COUNT, TAG = range(1, 14)
_NAMES = [
    "custom",
    "type",
    "import",
    "function",
    "table",
    "memory",
    "global",
    "export",
    "start",
    "element",
    "code",
    "data",
    "data-count",
    "tag",
]
#: Position of each section in the file; a section may not come after one of a higher rank, nor twice.
_RANK = {
    section: rank
    for rank, section in enumerate(
        (TYPE, IMPORT, FUNCTION, TABLE, MEMORY, TAG, GLOBAL, EXPORT, START, ELEMENT, DATA_COUNT, CODE, DATA)
    )
}
_KINDS = tuple(ExternKind)
#: The engine takes no more parameters, or results (wasmparser, MAX_WASM_FUNCTION_PARAMS).
MAX_VALUES = 1_000
#: Names of custom sections that are kept; more are only counted.
MAX_CUSTOM_NAMES = 64
_INDEX = re.compile(rb"[\x80-\xff]{0,4}[\x00-\x7f]")


@dataclass(slots=True)
class _Functions:
    """Types of functions by index, resolved only where an import or export asks for them."""

    imported: list[int]
    section: Span | None = None
    count: int = 0
    defined: list[bytes] | None = None


class _Parser:
    def __init__(self, wasm: bytes, check: Check) -> None:
        self._wasm = wasm
        self._check = check
        self.layout: Layout = {}
        self._counts: dict[str, int] = {}
        self._type_starts: list[int] = []
        self._signatures: dict[int, Signature] = {}
        self._functions = _Functions([])
        self._imports: list[Import] = []
        self._exports: dict[str, Export] = {}
        self._memories: list[MemoryType] = []
        self._tables: list[TableType] = []
        self._imported = dict.fromkeys(ExternKind, 0)
        self._has_start = False
        self._has_tags = False
        self._data_count: int | None = None
        self._code_count = self._segment_count = 0
        self._custom: list[str] = []
        self._slow_values = 0

    def parse(self) -> ModuleInfo:
        readers = {
            TYPE: self._read_types, IMPORT: self._read_imports, FUNCTION: self._read_functions,
            TABLE: self._read_tables, MEMORY: self._read_memories, TAG: self._read_tags,
            GLOBAL: self._read_globals, EXPORT: self._read_exports, START: self._read_start,
            ELEMENT: self._read_segments, DATA: self._read_segments, DATA_COUNT: self._read_data_count,
            CODE: self._read_code,
        }  # fmt: skip
        at, size, rank = 8, len(self._wasm), -1
        while at < size:
            section = self._wasm[at]
            header = Cursor(self._wasm, at + 1, size, _NAMES[section] if section < len(_NAMES) else str(section))
            length = header.u32()
            start, end = header.at, header.at + length
            if end > size:
                raise MalformedModule(
                    f"the module is truncated: the {header.what} section at offset {at} takes {length:,} bytes, "
                    f"but the file ends after {size - start:,}",
                    offset=at,
                )
            cursor = Cursor(self._wasm, start, end, header.what)
            if section == 0:
                self._read_custom(cursor)
            else:
                order = _RANK.get(section)
                if order is None or order <= rank:
                    raise MalformedModule(
                        f"the module is not valid: section {header.what} at offset {at} is "
                        + ("unknown" if order is None else "repeated, or out of order"),
                        offset=at,
                    )
                rank = order
                self.layout[section] = Span(at, start, end)
                readers[section](cursor)
            at = end
        return self._finish()

    def _finish(self) -> ModuleInfo:
        if self._functions.count != self._code_count:
            raise MalformedModule(
                f"the module is not valid: it declares {self._functions.count:,} functions "
                f"and has {self._code_count:,} bodies (is the file truncated?)",
                offset=len(self._wasm),
            )
        return ModuleInfo(
            size_bytes=len(self._wasm),
            imports=tuple(self._imports),
            exports=self._exports,
            memories=tuple(self._memories),
            imported_memories=self._imported[ExternKind.MEMORY],
            tables=tuple(self._tables),
            has_start=self._has_start,
            has_tags=self._has_tags,
            data_count=self._data_count,
            counts=self._counts,
            custom_sections=tuple(self._custom),
        )

    def _count(self, limit: str, more: int) -> None:
        total = self._counts.get(limit, 0) + more
        self._check(limit, total)
        self._counts[limit] = total

    def _read_custom(self, cursor: Cursor) -> None:
        self._count("max_custom_sections", 1)
        name = cursor.name()
        if len(self._custom) < MAX_CUSTOM_NAMES and len(name) <= 64:
            self._custom.append(name)

    # Types

    def _read_types(self, cursor: Cursor) -> None:
        count = cursor.u32()
        self._count("max_types", count)
        for _ in range(count):
            self._type_starts.append(cursor.at)
            form = cursor.byte()
            if form != 0x60:
                self._refuse_type(cursor, form)
            self._skip_values(cursor)
            self._skip_values(cursor)
        cursor.finish()

    @staticmethod
    def _refuse_type(cursor: Cursor, form: int) -> NoReturn:
        if form in {0x4E, 0x4F, 0x50, 0x5E, 0x5F, 0x4C, 0x4D}:
            raise disabled("gc")
        if form == 0x5D:
            raise disabled("stack switching")
        if form == 0x65:
            raise disabled("shared-everything threads")
        cursor.at -= 1
        cursor.fail(f"an unknown kind of type, {form:#04x},")

    def _skip_values(self, cursor: Cursor) -> None:
        count = cursor.u32()
        if count > MAX_VALUES:
            cursor.fail(f"a function type with {count:,} parameters or results")
        at = cursor.at
        if not self._wasm[at : at + count].translate(None, SIMPLE_VALUE_TYPES):
            cursor.skip(count)
            return
        self._slow_values += count
        self._check("max_types", self._slow_values // MAX_VALUES)
        for _ in range(count):
            value_type(cursor)

    def _signature(self, index: int, cursor: Cursor) -> Signature:
        signature = self._signatures.get(index)
        if signature is None:
            if index >= len(self._type_starts):
                cursor.fail(f"type {index} does not exist")
            reader = Cursor(self._wasm, self._type_starts[index] + 1, self.layout[TYPE].end, "type")
            params = tuple(value_type(reader) for _ in range(reader.u32()))
            results = tuple(value_type(reader) for _ in range(reader.u32()))
            signature = self._signatures[index] = Signature(params, results)
        return signature

    # Imports and definitions

    def _read_imports(self, cursor: Cursor) -> None:
        count = cursor.u32()
        self._count("max_imports", count)
        for _ in range(count):
            module, name = cursor.name(), cursor.name()
            kind = self._kind(cursor)
            self._imported[kind] += 1
            signature = None
            if kind is ExternKind.FUNCTION:
                self._count("max_functions", 1)
                index = cursor.u32()
                signature = self._signature(index, cursor)
                self._functions.imported.append(index)
            elif kind is ExternKind.TABLE:
                self._add_table(cursor)
            elif kind is ExternKind.MEMORY:
                self._add_memory(cursor)
            else:
                self._count("max_globals", 1)
                self._skip_global(cursor, kind)
            self._imports.append(Import(module, name, kind, signature))
        cursor.finish()

    @staticmethod
    def _kind(cursor: Cursor) -> ExternKind:
        number = cursor.byte()
        if number >= len(_KINDS):
            cursor.at -= 1
            cursor.fail(f"an unknown kind, {number:#04x},")
        return _KINDS[number]

    def _skip_global(self, cursor: Cursor, kind: ExternKind) -> None:
        if kind is ExternKind.TAG:
            self._has_tags = True
            cursor.byte()
            cursor.u32()
            return
        value_type(cursor)
        if cursor.byte() & 2:
            raise disabled("shared-everything threads")

    def _read_functions(self, cursor: Cursor) -> None:
        count = cursor.u32()
        self._count("max_functions", count)
        if count > cursor.end - cursor.at:
            cursor.fail(f"{count:,} functions are announced, which do not fit")
        self._functions.section = Span(0, cursor.at, cursor.end)
        self._functions.count = count

    def _read_tables(self, cursor: Cursor) -> None:
        for _ in range(cursor.u32()):
            self._add_table(cursor)
        cursor.finish()

    def _add_table(self, cursor: Cursor) -> None:
        self._count("max_tables", 1)
        if cursor.at < cursor.end and self._wasm[cursor.at] == 0x40:
            raise disabled("typed function references")
        value_type(cursor)
        flags = cursor.byte()
        if flags & 4:
            raise disabled("memory64")
        if flags & 2:
            raise disabled("shared-everything threads")
        if flags > 1:
            cursor.fail(f"unknown flags {flags:#04x}")
        minimum, maximum = cursor.u32(), cursor.u32() if flags & 1 else None
        self._count("max_table_elements", minimum)
        self._tables.append(TableType(minimum, maximum))

    def _read_memories(self, cursor: Cursor) -> None:
        for _ in range(cursor.u32()):
            self._add_memory(cursor)
        cursor.finish()

    def _add_memory(self, cursor: Cursor) -> None:
        self._count("max_memories", 1)
        flags = cursor.byte()
        if flags & 2:
            raise disabled("shared memory")
        if flags & 4:
            raise disabled("memory64")
        if flags & 8:
            raise disabled("custom page sizes")
        if flags > 1:
            cursor.fail(f"unknown flags {flags:#04x}")
        minimum, maximum = cursor.u32(), cursor.u32() if flags & 1 else None
        if minimum > 65_536 or (maximum is not None and (maximum > 65_536 or maximum < minimum)):
            cursor.fail(f"a memory of {minimum:,} to {maximum} pages")
        self._memories.append(MemoryType(minimum, maximum))

    def _read_globals(self, cursor: Cursor) -> None:
        self._count("max_globals", cursor.u32())

    def _read_tags(self, cursor: Cursor) -> None:
        self._count("max_globals", cursor.u32())  # like a global, a tag takes a slot in every instance
        self._has_tags = True

    def _read_start(self, cursor: Cursor) -> None:
        cursor.u32()
        cursor.finish()
        self._has_start = True

    def _read_segments(self, cursor: Cursor) -> None:
        self._count("max_segments", cursor.u32())

    def _read_data_count(self, cursor: Cursor) -> None:
        self._data_count = cursor.u32()
        self._check("max_segments", self._counts.get("max_segments", 0) + self._data_count)
        cursor.finish()

    def _read_code(self, cursor: Cursor) -> None:
        self._code_count = cursor.u32()

    # Exports

    def _read_exports(self, cursor: Cursor) -> None:
        count = cursor.u32()
        self._count("max_exports", count)
        for _ in range(count):
            start = cursor.at
            name = cursor.name()
            kind = self._kind(cursor)
            index = cursor.u32()
            if name in self._exports:
                cursor.at = start
                cursor.fail("a name is exported twice")
            signature = self._function_type(index, cursor) if kind is ExternKind.FUNCTION else None
            self._exports[name] = Export(name, kind, index, signature)
        cursor.finish()

    def _function_type(self, index: int, cursor: Cursor) -> Signature:
        functions = self._functions
        if index < len(functions.imported):
            return self._signature(functions.imported[index], cursor)
        if functions.defined is None:
            functions.defined = []
            if functions.section is not None:
                _, start, end = functions.section
                functions.defined = _INDEX.findall(self._wasm, start, end)
        index -= len(functions.imported)
        if index >= len(functions.defined):
            cursor.fail(f"function {index} is exported but does not exist")
        number = functions.defined[index]
        return self._signature(Cursor(number, 0, len(number), "function").u32(), cursor)


def parse(wasm: bytes, check: Check) -> tuple[ModuleInfo, Layout]:
    """Read the headers of a module whose first 8 bytes are known to be right.

    Raises `MalformedModule`, `FeatureDisabled`, and what `check` raises.
    """
    parser = _Parser(wasm, check)
    info = parser.parse()
    return info, parser.layout
