"""Modules for the self-test, byte by byte: one for each cap on modules, two that are dear to compile, and a reactor.

Source: WebAssembly core specification, 5.5 "Modules" of its binary format.
"""

from collections.abc import Iterable

from agentvm.abi.syscall import SyscallSpec

__all__ = ["START", "calling", "crowded", "memory_bomb", "padded", "time_bomb", "waiting_reactor"]

_HEADER = b"\0asm\x01\0\0\0"
_WASI = "wasi_snapshot_preview1"
_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _CODE, _DATA = 0, 1, 2, 3, 4, 5, 6, 7, 10, 11
_I32 = b"\x7f"
#: () -> (), and () -> (i32), the type of sched_yield.
_PLAIN, _YIELD = b"\x60\x00\x00", b"\x60\x00\x01\x7f"
_EMPTY = b"\x02\x00\x0b"


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _vec(items: Iterable[bytes]) -> bytes:
    items = list(items)
    return _leb(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return _vec(bytes([byte]) for byte in text.encode())


def _section(number: int, body: bytes) -> bytes:
    return bytes([number]) + _leb(len(body)) + body


def _import(name: str, kind: int) -> bytes:
    return _name(_WASI) + _name(name) + b"\x00" + _leb(kind)


def _export(name: str, function: int) -> bytes:
    return _name(name) + b"\x00" + _leb(function)


def _program(**more: list[bytes]) -> bytes:
    """A module with a `_start` that returns at once, and more in the sections of these names."""
    imports, table = more.get("imports", []), more.get("tables", [])
    sections = [
        (_TYPE, [_PLAIN, *more.get("types", [])]),
        (_IMPORT, imports),
        (_FUNCTION, [b"\x00", *more.get("functions", [])]),
        (_TABLE, table),
        (_MEMORY, more.get("memories", [])),
        (_GLOBAL, more.get("globals", [])),
        (_EXPORT, [_export("_start", len(imports)), *more.get("exports", [])]),
        (_CODE, [_EMPTY, *[_EMPTY for _ in more.get("functions", [])]]),
        (_DATA, more.get("segments", [])),
    ]
    return _HEADER + b"".join(_section(number, _vec(items)) for number, items in sections if items)


#: A program that returns at once.
START = _program()


def crowded(limit: str, count: int) -> bytes:
    """Return a program that has `count` of what the limit `limit` counts. LookupError for a limit of another kind."""
    if limit == "max_types":
        return _program(types=[_PLAIN] * (count - 1))
    if limit == "max_imports":
        return _program(types=[_YIELD], imports=[_import("sched_yield", 1)] * count)
    if limit == "max_exports":
        return _program(exports=[_export(f"e{number}", 0) for number in range(count - 1)])
    if limit == "max_functions":
        return _program(functions=[b"\x00"] * (count - 1))
    if limit == "max_custom_sections":
        return START + _section(_CUSTOM, _name("custom")) * count
    repeated = {
        "max_globals": ("globals", _I32 + b"\x00\x41\x00\x0b"),
        "max_segments": ("segments", b"\x01\x01x"),
        "max_tables": ("tables", b"\x70\x01\x01\x01"),
        "max_memories": ("memories", b"\x01\x00\x01"),
    }
    if limit == "max_table_elements":
        return _program(tables=[b"\x70\x01" + _leb(count) * 2])
    section, item = repeated[limit]
    return _program(**{section: [item] * count})


def padded(size_bytes: int) -> bytes:
    """Return a program of exactly that size, which must be a hundred bytes or more."""
    padding = size_bytes
    while len(wasm := START + _section(_CUSTOM, _name("padding") + bytes(padding))) != size_bytes:
        padding -= 1
    return wasm


def _nested_loops(loops: int, variables: int) -> bytes:
    """A program whose start never ends: so many loops, each inside the one before, around variables that change."""
    bump = b"".join(b"\x20" + _leb(n) + b"\x41\x01\x6a\x21" + _leb(n) for n in range(variables))
    body = _vec([_leb(variables) + _I32]) + b"\x03\x40" * loops + bump + b"\x0b" * loops + b"\x0b"
    sections = [(_TYPE, _PLAIN), (_FUNCTION, b"\x00"), (_EXPORT, _export("_start", 0)), (_CODE, _leb(len(body)) + body)]
    return _HEADER + b"".join(_section(number, _vec([item])) for number, item in sections)


def time_bomb() -> bytes:
    """18 KB that take the compiler more than ten seconds."""
    return _nested_loops(loops=3_000, variables=1_000)


def memory_bomb() -> bytes:
    """105 KB that take the compiler more than 2 GiB within seconds."""
    return _nested_loops(loops=20_000, variables=5_000)


def waiting_reactor() -> bytes:
    """A reactor whose export "wait" returns once it has read a byte of standard input."""
    read = b"\x41\x00\x41\x00\x41\x01\x41\x18\x10\x00\x1a"  # fd_read(0, iovecs=0, count=1, result=24), dropped
    sections = [
        (_TYPE, [_PLAIN, b"\x60\x04" + _I32 * 4 + b"\x01" + _I32]),
        (_IMPORT, [_import("fd_read", 1)]),
        (_FUNCTION, [b"\x00", b"\x00"]),
        (_MEMORY, [b"\x00\x01"]),
        (_EXPORT, [_export("_initialize", 1), _export("wait", 2), _name("memory") + b"\x02\x00"]),
        (_CODE, [_EMPTY, _leb(len(read) + 2) + b"\x00" + read + b"\x0b"]),
        (_DATA, [b"\x00\x41\x00\x0b\x08\x10\x00\x00\x00\x01\x00\x00\x00"]),  # the iovec: one byte at 16
    ]
    return _HEADER + b"".join(_section(number, _vec(items)) for number, items in sections)


def calling(*calls: SyscallSpec) -> bytes:
    """Return a reactor that exports each of these calls under its name, and two pages of memory."""
    kinds = {"i32": _I32, "i64": b"\x7e"}
    types = [
        b"\x60" + _vec(kinds[kind] for kind in spec.wasm_params) + _vec(kinds[kind] for kind in spec.wasm_results)
        for spec in calls
    ]
    numbers = range(len(calls))
    imports = [
        _name(spec.module) + _name(spec.name) + b"\x00" + _leb(number)
        for number, spec in zip(numbers, calls, strict=True)
    ]
    bodies = [
        b"\x00" + b"".join(b"\x20" + _leb(n) for n in range(len(spec.wasm_params))) + b"\x10" + _leb(number) + b"\x0b"
        for number, spec in zip(numbers, calls, strict=True)
    ]
    exports = [_export(spec.name, len(calls) + number) for number, spec in zip(numbers, calls, strict=True)]
    sections = [
        (_TYPE, types),
        (_IMPORT, imports),
        (_FUNCTION, [_leb(number) for number in numbers]),
        (_MEMORY, [b"\x00\x02"]),
        (_EXPORT, [*exports, _name("memory") + b"\x02\x00"]),
        (_CODE, [_leb(len(body)) + body for body in bodies]),
    ]
    return _HEADER + b"".join(_section(number, _vec(items)) for number, items in sections)
