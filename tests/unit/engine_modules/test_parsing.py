"""The parser finds what a module declares, and turns any damage into a typed error in linear time."""

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wasmtime import wat2wasm

from agentvm.engine import validate
from agentvm.engine.module_info import Export, ExternKind, Import, MemoryType, ModuleInfo, Signature, TableType
from agentvm.engine.wasm import parse
from agentvm.errors import FeatureDisabled, MalformedModule, ModuleLimit, NotRunnable, NotWasm
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from tests.support.wasm_builder import leb, module, name, plain_functions, section, vec

CAPS = Caps(Limits())
RICH = wat2wasm("""(module
  (type $a (func (param i32 i64 f32 f64 v128) (result i32 externref)))
  (import "m" "f" (func $f (type $a)))
  (import "m" "g" (global i32))
  (memory (export "memory") 2 9) (memory 1)
  (table 5 7 funcref) (global (mut i32) (i32.const 1)) (tag (param i32))
  (func $start) (start $start)
  (func (export "_start"))
  (func (export "big") (param i32 i64) (result i64) (local.get 1))
  (export "again" (func $f))
  (elem (i32.const 0) $start) (elem func $start)
  (data (i32.const 8) "xy") (data "passive")
  (@custom "note" "text"))""")


def _parse(wasm: bytes, **limits: int) -> ModuleInfo:
    validate.check_header(wasm)
    return parse(wasm, validate.cap_check(Caps(Limits(**limits))))[0]


def _refusal(wasm: bytes) -> str:
    """The text of the typed error that a module is refused with; empty if it is not."""
    try:
        _parse(wasm)
    except NotRunnable as refusal:
        return str(refusal)
    return ""


def test_interface_of_a_module_is_found() -> None:
    info = _parse(RICH)
    wide = Signature(("i32", "i64", "f32", "f64", "v128"), ("i32", "externref"))
    assert info.imports == (Import("m", "f", ExternKind.FUNCTION, wide), Import("m", "g", ExternKind.GLOBAL, None))
    assert info.exports == {
        "memory": Export("memory", ExternKind.MEMORY, 0, None),
        "_start": Export("_start", ExternKind.FUNCTION, 2, Signature((), ())),
        "big": Export("big", ExternKind.FUNCTION, 3, Signature(("i32", "i64"), ("i64",))),
        "again": Export("again", ExternKind.FUNCTION, 0, wide),
    }
    assert info.memories == (MemoryType(2, 9), MemoryType(1, None))
    assert info.min_memory_bytes == 3 * 65_536
    assert info.tables == (TableType(5, 7),)
    assert info.has_start
    assert info.data_count is None or info.data_count == 2
    assert "note" in info.custom_sections


def test_counts_are_named_by_the_limits_that_cap_them() -> None:
    counts = _parse(RICH).counts
    assert counts["max_imports"] == 2
    assert counts["max_functions"] == 4  # one imported
    assert counts["max_exports"] == 4
    assert counts["max_globals"] == 3  # one imported, one tag
    assert counts["max_segments"] == 4
    assert (counts["max_memories"], counts["max_tables"], counts["max_table_elements"]) == (2, 1, 5)


def test_info_survives_being_written_down() -> None:
    info = _parse(RICH)
    assert ModuleInfo.from_json(info.to_json()) == info


def test_function_types_are_found_where_indices_take_several_bytes() -> None:
    types = [b"\x60" + leb(n) + b"\x7f" * n + b"\x00" for n in range(300)]
    numbers = [0, 127, 128, 299]
    wasm = module(
        section(1, vec(types)),
        section(3, vec(leb(n) for n in numbers)),
        section(7, vec(name(str(n)) + b"\x00" + leb(at) for at, n in enumerate(numbers))),
        section(10, vec([b"\x02\x00\x0b"] * 4)),
    )
    assert {n: len(e.signature.params) for n, e in _parse(wasm).exports.items() if e.signature} == {
        str(n): n for n in numbers
    }


@pytest.mark.parametrize("cut", range(len(RICH)))
def test_a_module_truncated_anywhere_is_refused_or_still_a_module(cut: int) -> None:
    try:
        size = _parse(RICH[:cut]).size_bytes
    except (MalformedModule, NotWasm):
        size = cut
    assert size == cut  # where the cut fell between two sections, what is left is a module


@settings(max_examples=400, deadline=None)
@given(st.integers(8, len(RICH) - 1), st.integers(0, 255), st.integers(0, 4))
def test_damage_ends_in_a_typed_error_or_another_module(at: int, byte: int, inserted: int) -> None:
    damaged = RICH[:at] + bytes([byte]) + b"\xff" * inserted + RICH[at + 1 :]
    assert _refusal(damaged).isprintable()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_after_the_header_ends_in_a_typed_error_or_a_module(noise: bytes) -> None:
    assert _refusal(module(noise)).isprintable()


@pytest.mark.parametrize(
    ("wasm", "words"),
    [
        pytest.param(module(b"\x01\xff\xff\xff\xff\xff\x01"), "too long", id="length of six bytes"),
        pytest.param(module(b"\x01\xff\xff\xff\xff\x7f"), "too large", id="length above 32 bits"),
        pytest.param(module(section(1, b"\x05")), "too early", id="fewer types than announced"),
        pytest.param(module(section(1, b"\x00\x00")), "left over", id="more bytes than types"),
        pytest.param(module(section(3, b"\x00"), section(1, b"\x00")), "out of order", id="sections out of order"),
        pytest.param(module(section(1, b"\x00"), section(1, b"\x00")), "repeated", id="section twice"),
        pytest.param(module(section(77, b"")), "unknown", id="unknown section"),
        pytest.param(module(section(2, b"\x01\x01\xff\x00\x00\x00")), "UTF-8", id="name not UTF-8"),
        pytest.param(module(section(2, b"\x01\x01a\x01b\x09")), "unknown kind", id="unknown kind of import"),
        pytest.param(module(section(2, b"\x01\x01a\x01b\x00\x05")), "type 5", id="type that is not there"),
        pytest.param(module(section(5, b"\x01\x00\x81\x80\x04")), "pages", id="memory above 4 GiB"),
        pytest.param(module(section(5, b"\x01\x01\x02\x01")), "pages", id="maximum below minimum"),
        pytest.param(module(section(3, b"\x02\x00\x00")), "0 bodies", id="functions without bodies"),
        pytest.param(module(section(1, b"\x01\x60" + leb(5000) + b"\x7f" * 5000 + b"\0")), "5,000", id="wide type"),
    ],
)
def test_malformed_modules_are_refused_with_the_reason(wasm: bytes, words: str) -> None:
    with pytest.raises(MalformedModule, match=words) as caught:
        _parse(wasm)
    assert isinstance(caught.value.values["offset"], int)


@pytest.mark.parametrize(
    ("wasm", "feature"),
    [
        pytest.param(wat2wasm("(module (memory 1 1 shared))"), "shared memory", id="shared memory"),
        pytest.param(wat2wasm("(module (memory i64 1))"), "memory64", id="memory64"),
        pytest.param(wat2wasm("(module (table i64 1 funcref))"), "memory64", id="table64"),
        pytest.param(wat2wasm("(module (memory 1 1 (pagesize 1)))"), "custom page sizes", id="page sizes"),
        pytest.param(wat2wasm("(module (type (struct (field i32))))"), "gc", id="struct"),
        pytest.param(wat2wasm("(module (type (array i8)))"), "gc", id="array"),
        pytest.param(wat2wasm("(module (rec (type (func))))"), "gc", id="recursive types"),
        pytest.param(wat2wasm("(module (func (param anyref)))"), "gc", id="anyref"),
        pytest.param(
            wat2wasm("(module (type $t (func)) (func (param (ref $t))))"), "typed function references", id="typed ref"
        ),
        pytest.param(
            wat2wasm("(module (table 1 funcref (ref.null func)))"), "typed function references", id="table initialiser"
        ),
        pytest.param(wat2wasm("(module (type $f (func)) (type (cont $f)))"), "stack switching", id="continuations"),
        pytest.param(
            wat2wasm('(module (import "a" "b" (global (shared i32))))'), "shared-everything threads", id="shared global"
        ),
    ],
)
def test_features_that_are_off_are_named(wasm: bytes, feature: str) -> None:
    with pytest.raises(FeatureDisabled) as caught:
        _parse(wasm)
    assert caught.value.values["feature"] == feature
    assert feature in str(caught.value)


def test_exception_references_are_on() -> None:
    info = _parse(wat2wasm('(module (func (export "f") (param exnref (ref null exn) (ref exn))))'))
    assert info.exports["f"].signature == Signature(("exnref", "exnref", "(ref exn)"), ())


@pytest.mark.parametrize(
    ("limit", "wasm"),
    [
        pytest.param("max_types", module(section(1, leb(1_000_000))), id="types"),
        pytest.param("max_imports", module(section(2, leb(1_000_000))), id="imports"),
        pytest.param("max_functions", module(section(3, leb(1_000_000))), id="functions"),
        pytest.param("max_globals", module(section(6, leb(1_000_000))), id="globals"),
        pytest.param("max_globals", module(section(13, leb(1_000_000))), id="tags"),
        pytest.param("max_exports", module(section(7, leb(1_000_000))), id="exports"),
        pytest.param("max_segments", module(section(11, leb(1_000_000))), id="data segments"),
        pytest.param("max_segments", module(section(12, leb(1_000_000))), id="data count"),
        pytest.param("max_segments", module(section(9, leb(1_000_000))), id="element segments"),
        pytest.param("max_tables", module(section(4, leb(99) + b"\x70\x00\x00" * 99)), id="tables"),
        pytest.param("max_memories", module(section(5, leb(99) + b"\x00\x00" * 99)), id="memories"),
        pytest.param("max_table_elements", module(section(4, b"\x01\x70\x00" + leb(2_000_000))), id="elements"),
        pytest.param("max_custom_sections", module(section(0, b"\x01a") * 20_000), id="custom sections"),
    ],
)
def test_counts_above_their_cap_are_refused_before_anything_of_that_size_is_read(limit: str, wasm: bytes) -> None:
    with pytest.raises(ModuleLimit, match=limit) as caught:
        _parse(wasm)
    assert caught.value.values["limit"] == limit
    assert caught.value.values["observed"] > caught.value.values["cap"]


def test_a_raised_cap_lets_the_same_module_through() -> None:
    wasm = wat2wasm("(module (table 1 funcref) (table 1 funcref) (table 1 funcref))")
    with pytest.raises(ModuleLimit):
        _parse(wasm, max_tables=2)
    assert len(_parse(wasm, max_tables=3).tables) == 3


def test_parsing_keeps_nothing_of_function_bodies() -> None:
    wasm = plain_functions(1000, b"\x01" * 5000)  # 5 MB of nops
    tracemalloc.start()
    _parse(wasm)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


@pytest.mark.parametrize("noise", [b"\x80", b"\xff", b"\x00"], ids=["continuations", "ones", "zeros"])
def test_function_types_that_are_noise_cost_linear_time(noise: bytes) -> None:
    # A regular expression that backs up would take minutes over this.
    count = 150_000
    wasm = module(
        section(1, vec([b"\x60\x00\x00"])),
        section(3, leb(count) + noise * count * 8),
        section(7, vec([name("f") + b"\x00" + leb(count - 1)])),
        section(10, leb(count)),
    )
    try:
        _parse(wasm)
    except MalformedModule:
        pass
