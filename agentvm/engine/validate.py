"""Says why a module cannot run here: each refusal is a typed error of one sentence, with the values and the way out."""

import re
from collections.abc import Callable, Mapping

from agentvm.engine.cursor import disabled
from agentvm.engine.module_info import Export, ExternKind, Import, ModuleInfo, Signature
from agentvm.engine.wasm import Check
from agentvm.errors import (
    ComponentNotSupported,
    MalformedModule,
    MemoryTooLarge,
    MissingExport,
    MissingImport,
    ModuleLimit,
    NotRunnable,
    NotWasm,
)
from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.spec import Cap, Unit

__all__ = [
    "AvailableImports",
    "cap_check",
    "check_caps",
    "check_entry",
    "check_header",
    "check_imports",
    "limit_refusal",
    "quote",
    "refusal_of",
]

#: What a VM offers: the type of each function by (module, name), or a function that finds it (None: not there).
AvailableImports = Mapping[tuple[str, str], Signature] | Callable[[str, str], Signature | None]

#: What each cap counts, for messages.
_NOUNS = {
    "max_module_bytes": "bytes", "max_guest_module_bytes": "bytes", "max_types": "types", "max_imports": "imports",
    "max_exports": "exports", "max_functions": "functions", "max_globals": "globals and tags",
    "max_segments": "data and element segments", "max_tables": "tables", "max_memories": "memories",
    "max_table_elements": "table elements", "max_custom_sections": "custom sections",
}  # fmt: skip
#: Names in one message; the rest are counted.
_MAX_NAMED = 10
_MAX_QUOTED = 80


def quote(name: str) -> str:
    """Return a name that a module chose so that it is safe in a message: escaped, and cut at 80 characters."""
    text = name if len(name) <= _MAX_QUOTED else name[:_MAX_QUOTED] + "..."
    return text.encode("unicode_escape").decode("ascii")


# What the file is


def check_header(wasm: bytes) -> None:
    """Check the first 8 bytes. Raises `NotWasm`, `MalformedModule` or `ComponentNotSupported`."""
    if not wasm.startswith(b"\0asm"):
        if wasm and b"\0asm".startswith(wasm):
            raise MalformedModule(f"the module is truncated: the file ends after {len(wasm)} bytes", offset=len(wasm))
        raise NotWasm(f"this is not a WebAssembly module: {_describe(wasm)}")
    if len(wasm) < 8:
        raise MalformedModule(f"the module is truncated: the file ends after {len(wasm)} bytes", offset=len(wasm))
    version, layer = int.from_bytes(wasm[4:6], "little"), int.from_bytes(wasm[6:8], "little")
    if layer == 1:
        raise ComponentNotSupported(
            "this is a component (WASI 0.2 or later), and agentvm runs core modules: build for wasm32-wasip1"
        )
    if (version, layer) != (1, 0):
        raise MalformedModule(
            f"the module is of binary version {version}, layer {layer}: only version 1, layer 0 exists", offset=4
        )


_MAGIC = (
    (b"PK\x03\x04", "it is a zip archive (a wheel, a jar?): unpack it and pass the .wasm inside"),
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it first"),
    (b"#!", "it is a script: run the interpreter's .wasm and pass the script as an argument"),
    (b"MZ", "it is a Windows program: build for wasm32-wasip1"),
    (b"\xcf\xfa\xed\xfe", "it is a macOS program: build for wasm32-wasip1"),
    (b"BC\xc0\xde", "it is LLVM bitcode: link it with wasm-ld first"),
    (b"!<arch>", "it is a static library: link it with wasm-ld first"),
    (b"version https://git-lfs", "it is a Git LFS pointer: fetch the file with git lfs pull"),
)
_WAT = re.compile(rb"^(?:\s|;;[^\n]*\n|\(;.{0,2000}?;\))*\(\s*(?:module|component)\b", re.DOTALL)
_ELF_OSABI, _ELF_WASMTIME = 7, 200


def _describe(start: bytes) -> str:
    if not start:
        return "the file is empty"
    if start.startswith(b"\x7fELF"):
        if start[_ELF_OSABI : _ELF_OSABI + 1] == bytes([_ELF_WASMTIME]):
            return "it is precompiled native code (.cwasm), which is never trusted: pass the .wasm it was made from"
        return "it is a native program (ELF): build it for wasm32-wasip1"
    for magic, text in _MAGIC:
        if start.startswith(magic):
            return text
    if _WAT.match(start[:4096]):
        return "it is WebAssembly text: turn it into a binary with wat2wasm"
    if start[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "it is an HTML page: the download went wrong"
    return f"it starts with {start[:4].hex(' ')}, not with 00 61 73 6d"


# Caps


def limit_refusal(limit: str, observed: Cap, cap: Cap) -> ModuleLimit:
    """Make the refusal of a module that needs `observed` of `limit`."""
    spec = SPECS.get(limit)
    unit = spec.unit if spec else Unit.COUNT
    setting = spec.setting(observed) if spec else ""
    has = f"has {format_amount(unit, observed)}" + ("" if unit is Unit.BYTES else f" {_NOUNS.get(limit, '')}")
    return ModuleLimit(
        f"the module {has.rstrip()}, and {limit} allows {format_amount(unit, cap)}"
        + (f"; raise it with {setting}" if setting and spec and observed <= spec.maximum else ""),
        limit=limit,
        observed=observed,
        cap=cap,
        setting=setting,
    )


def cap_check(caps: Mapping[str, Cap]) -> Check:
    """Return the check that a parser calls: it raises `ModuleLimit` where a count passes its cap."""

    def check(limit: str, observed: int) -> None:
        cap = caps[limit]
        if observed > cap:
            raise limit_refusal(limit, observed, cap)

    return check


def check_caps(info: ModuleInfo, caps: Mapping[str, Cap], bytes_limit: str) -> None:
    """Check size, counts and initial memory. Raises `ModuleLimit` or `MemoryTooLarge`."""
    if info.size_bytes > caps[bytes_limit]:
        raise limit_refusal(bytes_limit, info.size_bytes, caps[bytes_limit])
    for limit, observed in info.counts.items():
        if observed > caps[limit]:
            raise limit_refusal(limit, observed, caps[limit])
    needed = info.min_memory_bytes
    for limit in ("max_memory_per_process_bytes", "max_memory_bytes"):
        if needed > caps[limit]:
            spec = SPECS[limit]
            raise MemoryTooLarge(
                f"the module starts with {format_amount(Unit.BYTES, needed)} of memory, and {limit} allows "
                f"{format_amount(Unit.BYTES, caps[limit])}; raise it with {spec.setting(needed)}",
                limit=limit,
                observed=needed,
                cap=caps[limit],
                setting=spec.setting(needed),
            )


# Imports and exports

_ORIGINS = (
    ("wasi:", "it was built for WASI 0.2: build for wasm32-wasip1"),
    ("wasix", "it was built for WASIX, which is not WASI: build for wasm32-wasip1"),
    ("__wbindgen", "it was built for JavaScript with wasm-bindgen: build for wasm32-wasip1"),
    ("wbg", "it was built for JavaScript with wasm-bindgen: build for wasm32-wasip1"),
    ("gojs", "it was built for browsers: build with GOOS=wasip1"),
    ("go", "it was built for browsers: build with GOOS=wasip1"),
    ("GOT.", "it is a dynamic library: link it statically"),
)


def check_imports(info: ModuleInfo, available: AvailableImports | None) -> None:
    """Check that everything imported is there with the right type. Raises `MissingImport`, which names all that is not.

    None for `available` checks nothing.
    """
    if available is None:
        return
    if isinstance(available, Mapping):  # the common case, at every start: in few steps
        if all(available.get(wanted[:2]) == wanted.signature is not None for wanted in info.imports):
            return
        find = _finder(available)
    else:
        find = available
    faults: list[str] = []
    names: list[str] = []
    count = 0
    for wanted in info.imports:
        if wanted.kind is ExternKind.FUNCTION:
            offered = find(wanted.module, wanted.name)
            if offered is not None and offered == wanted.signature:
                continue
        else:
            offered = None
        count += 1
        if count <= _MAX_NAMED:
            names.append(f"{quote(wanted.module)}.{quote(wanted.name)}")
            faults.append(_fault(wanted, offered))
    if not count:
        return
    more = f", and {count - _MAX_NAMED:,} more" if count > _MAX_NAMED else ""
    raise MissingImport(
        f"the module imports what this VM does not have: {', '.join(faults)}{more}{_origin(info)}",
        missing=tuple(names),
        count=count,
    )


def _finder(available: Mapping[tuple[str, str], Signature]) -> Callable[[str, str], Signature | None]:
    return lambda module, name: available.get((module, name))


def _fault(wanted: Import, offered: Signature | None) -> str:
    name = f"{quote(wanted.module)}.{quote(wanted.name)}"
    if wanted.kind is not ExternKind.FUNCTION:
        return f"{name} (a {wanted.kind.value}; only functions can be imported)"
    if offered is None:
        return f"{name} {wanted.signature}"
    return f"{name} as {wanted.signature} where it is {Signature(*offered)}"


def _origin(info: ModuleInfo) -> str:
    if "linking" in info.custom_sections:
        return "; it is an object file: link it with wasm-ld first"
    for wanted in info.imports:
        for prefix, text in _ORIGINS:
            if wanted.module.startswith(prefix):
                return f"; {text}"
        if wanted.module == "env" and wanted.name.startswith(("emscripten_", "__syscall_", "_emscripten")):
            return "; it was built with Emscripten for JavaScript: build for wasm32-wasip1"
    return ""


def check_entry(info: ModuleInfo, require: str | None) -> None:
    """Check that a "command" has `_start`, or that a "reactor" exports functions. Raises `MissingExport`."""
    if require is None:
        return
    entry = info.exports.get("_start" if require == "command" else "_initialize")
    if entry is not None:
        _check_entry_type(entry)
    elif require == "command":
        has_initialize = "_initialize" in info.exports
        raise MissingExport(
            "the module exports no function _start, so it is not a command"
            + ("; it exports _initialize: it is a reactor, call its functions by name" if has_initialize else ""),
            export="_start",
        )
    elif not any(export.kind is ExternKind.FUNCTION for export in info.exports.values()):
        raise MissingExport("the module exports no function that could be called", export=None)


def _check_entry_type(entry: Export) -> None:
    if entry.signature == Signature((), ()):
        return
    what = f"a function {entry.signature}" if entry.signature else f"a {entry.kind.value}"
    raise MissingExport(f"the module exports {entry.name} as {what}, not as a function () -> ()", export=entry.name)


# What wasmtime says

#: Words in wasmtime's refusals, and the feature they are about. The first match counts.
_FEATURE_WORDS = (
    ("legacy_exceptions", "legacy exceptions"),
    ("shared-everything", "shared-everything threads"),
    ("shared memories", "shared memory"),
    ("threads support", "threads"),
    ("threads must be enabled", "threads"),
    ("memory64 must be enabled", "memory64"),
    ("custom page sizes", "custom page sizes"),
    ("stack switching", "stack switching"),
    ("continuation types", "stack switching"),
    ("gc support", "gc"),
    ("gc feature", "gc"),
    ("gc proposal", "gc"),
    ("`gc`", "gc"),
    ("function references required", "typed function references"),
    ("function-references proposal", "typed function references"),
    ("function references support", "typed function references"),
    ("relaxed SIMD", "relaxed SIMD"),
    ("wide arithmetic", "wide arithmetic"),
)
_ANY_FEATURE = re.compile(r"([\w -]{3,40}) (?:support is not enabled|must be enabled)")
_OFFSET = re.compile(r"(?: at offset |\(at offset )(0x[0-9a-f]+|\d+)\)?:?")
_MAX_REASON = 300


def refusal_of(text: str) -> NotRunnable:
    """Turn wasmtime's refusal of a module into the error that says the same in our words."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = re.sub(r"^\d+: ", "", lines[-1] if lines else "unknown reason")
    offset = _OFFSET.search(reason)
    at = int(offset.group(1), 0) if offset else None
    for words, feature in _FEATURE_WORDS:
        if words in reason:
            return disabled(feature)
    named = _ANY_FEATURE.search(reason)
    if named:
        return disabled(named.group(1).strip())
    why = _OFFSET.sub(" ", reason).replace("Invalid input WebAssembly code", "").strip(" :")
    return MalformedModule(
        f"the module is not valid: {quote_reason(why)}" + (f" at offset {at}" if at is not None else ""), offset=at
    )


def quote_reason(reason: str) -> str:
    """Cut and escape a reason: it may hold names that the module chose."""
    text = reason if len(reason) <= _MAX_REASON else reason[:_MAX_REASON] + "..."
    return text.encode("unicode_escape").decode("ascii")
