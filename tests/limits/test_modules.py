"""Every module that cannot run is refused with a typed error that names why; compile bombs end within their caps."""

import os
import resource
from collections.abc import Callable, Iterator

import pytest
from wasmtime import wat2wasm

from agentvm import AgentVM, Limits, errors
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.config import EngineProfile
from agentvm.engine.module import LoadRequest, ModuleLoader
from agentvm.engine.module_info import Signature
from agentvm.limits.caps import Caps
from agentvm.limits.host_catalogue import HostLimits
from tests.support.wasm_builder import (
    code,
    functions,
    leb,
    memory_bomb,
    module,
    name,
    nested_blocks,
    plain_functions,
    section,
    time_bomb,
    vec,
)

PROFILE = EngineProfile(max_wasm_stack_bytes=1 << 20)
WASI = "wasi_snapshot_preview1"
AVAILABLE = {
    (WASI, "fd_write"): Signature(("i32",) * 4, ("i32",)),
    (WASI, "proc_exit"): Signature(("i32",), ()),
}
MIB = 1 << 20


@pytest.fixture(scope="module")
def loader() -> Iterator[ModuleLoader]:
    loader = ModuleLoader(HostCapacity(HostLimits(max_cached_module_bytes="64MiB")), None)
    yield loader
    loader.close()


Load = Callable[..., object]


@pytest.fixture
def load(loader: ModuleLoader) -> Load:
    """Load a module as a command with two imports on offer; keywords are limits."""

    def load(wasm: bytes, *, require: str | None = None, **limits: object) -> object:
        caps = Caps(Limits(**limits))  # type: ignore[arg-type]
        request = LoadRequest(caps=caps, profile=PROFILE, available_imports=AVAILABLE, require=require)
        return loader.load(wasm, request)

    return load


# What is not a module


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        pytest.param(b"", "the file is empty", id="empty"),
        pytest.param(b"(module (func))", "wat2wasm", id="text"),
        pytest.param(b" ;; comment\n (; block ;)\n(module)", "wat2wasm", id="text with comments"),
        pytest.param(b"\x7fELF\x02\x01\x01\0" + bytes(40), "native program", id="ELF"),
        pytest.param(b"\x7fELF\x02\x01\x01\xc8" + bytes(40), "cwasm", id="precompiled"),
        pytest.param(b"#!/bin/sh\necho hi\n", "script", id="script"),
        pytest.param(b"PK\x03\x04rest", "zip", id="zip"),
        pytest.param(b"\x1f\x8b\x08rest", "gzip", id="gzip"),
        pytest.param(b"<!DOCTYPE html><html>", "HTML", id="web page"),
        pytest.param(b"hello, world", "68 65 6c 6c", id="text file"),
        pytest.param(b"\0asn\x01\0\0\0", "00 61 73 6e", id="nearly"),
    ],
)
def test_what_is_no_module_is_said_to_be_what_it_is(load: Load, contents: bytes, words: str) -> None:
    with pytest.raises(errors.NotWasm, match=words) as caught:
        load(contents)
    assert caught.value.exit_status == 126


def test_a_component_is_named_with_the_way_out(load: Load) -> None:
    with pytest.raises(errors.ComponentNotSupported, match="wasm32-wasip1"):
        load(wat2wasm("(component)"))


SMALL = bytes(
    wat2wasm(
        f'(module (import "{WASI}" "fd_write" (func (param i32 i32 i32 i32) (result i32)))'
        '(memory (export "memory") 1) (table 1 funcref) (func (export "_start")) (elem (i32.const 0) 1)'
        '(data (i32.const 0) "hi"))'
    )
)


def test_a_module_truncated_at_any_byte_is_a_typed_error_or_lacks_its_start(load: Load) -> None:
    load(SMALL, require="command")
    without_data = SMALL.index(b"\x0b\x08\x01\x00\x41\x00\x0b\x02hi")  # the last section: shorter, it is a module
    for size in range(len(SMALL)):
        if size == without_data:
            continue
        with pytest.raises((errors.NotWasm, errors.MalformedModule, errors.MissingExport), match=r"\w") as caught:
            load(SMALL[:size], require="command")
        assert str(caught.value).isprintable()


def test_a_module_damaged_at_any_byte_is_loaded_or_a_typed_error(load: Load) -> None:
    refusals: list[str] = []
    for at in range(8, len(SMALL)):
        for byte in (0x00, 0x7F, 0x80, 0xFF):
            try:
                load(SMALL[:at] + bytes([byte]) + SMALL[at + 1 :])
            except errors.NotRunnable as refusal:
                refusals.append(str(refusal))
    assert all(text.isprintable() and len(text) < 500 for text in refusals)
    assert len(refusals) > len(SMALL)


# Imports and exports


def _importing(*imports: str) -> bytes:
    return bytes(wat2wasm(f"(module {' '.join(imports)})"))


def test_a_missing_import_is_named_with_its_type(load: Load) -> None:
    wasm = _importing(f'(import "{WASI}" "fd_write2" (func (param i32 i64) (result i32)))', '(import "env" "f" (func))')
    with pytest.raises(errors.MissingImport) as caught:
        load(wasm)
    text = str(caught.value)
    assert "wasi_snapshot_preview1.fd_write2 (i32, i64) -> (i32)" in text
    assert "env.f () -> ()" in text
    assert caught.value.values["missing"] == (f"{WASI}.fd_write2", "env.f")


def test_a_mistyped_import_is_named_with_both_types(load: Load) -> None:
    with pytest.raises(errors.MissingImport, match=r"proc_exit as \(i64\) -> \(\) where it is \(i32\) -> \(\)"):
        load(_importing(f'(import "{WASI}" "proc_exit" (func (param i64)))'))


@pytest.mark.parametrize("kind", ["(memory 1)", "(global i32)", "(table 1 funcref)", "(tag)"])
def test_only_functions_can_be_imported(load: Load, kind: str) -> None:
    with pytest.raises(errors.MissingImport, match="only functions can be imported"):
        load(_importing(f'(import "{WASI}" "proc_exit" {kind})'))


def test_many_missing_imports_are_counted_not_listed(load: Load) -> None:
    imports = vec(name("env") + name(f"f{n}") + b"\x00\x00" for n in range(900))
    with pytest.raises(errors.MissingImport, match="and 890 more") as caught:
        load(module(section(1, vec([b"\x60\0\0"])), section(2, imports)))
    assert caught.value.values["count"] == 900
    assert len(str(caught.value)) < 1500


def test_names_that_a_module_chose_are_escaped_and_cut(load: Load) -> None:
    imports = vec([name("e\x1b[31m\n") + name("x" * 50_000) + b"\x00\x00"])
    with pytest.raises(errors.MissingImport) as caught:
        load(module(section(1, vec([b"\x60\0\0"])), section(2, imports)))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("importing", "words"),
    [
        ('(import "wbg" "__wbindgen_throw" (func))', "wasm-bindgen"),
        ('(import "wasix_32v1" "thread_spawn" (func))', "WASIX"),
        ('(import "gojs" "runtime.wasmExit" (func))', "GOOS=wasip1"),
        ('(import "env" "emscripten_resize_heap" (func))', "Emscripten"),
        ('(import "wasi:cli/run@0.2.0" "run" (func))', "WASI 0.2"),
    ],
    ids=["wasm-bindgen", "WASIX", "Go", "Emscripten", "WASI 0.2"],
)
def test_modules_for_other_hosts_are_recognised(load: Load, importing: str, words: str) -> None:
    with pytest.raises(errors.MissingImport, match=words):
        load(_importing(importing))


@pytest.mark.parametrize(
    ("text", "require", "words"),
    [
        pytest.param("(module)", "command", "exports no function _start", id="no _start"),
        pytest.param('(module (func (export "_initialize")))', "command", "it is a reactor", id="reactor"),
        pytest.param('(module (func (export "_start") (param i32)))', "command", r"_start as .*\(i32\)", id="typed"),
        pytest.param('(module (memory (export "_start") 1))', "command", "_start as a memory", id="memory"),
        pytest.param('(module (memory (export "memory") 1))', "reactor", "no function", id="no functions"),
        pytest.param('(module (func (export "_initialize") (param i32)))', "reactor", "_initialize as", id="init"),
    ],
)
def test_a_missing_entry_is_named(load: Load, text: str, require: str, words: str) -> None:
    with pytest.raises(errors.MissingExport, match=words):
        load(wat2wasm(text), require=require)


# Features


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("(module (memory 1 1 shared))", "shared memory"),
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads"),
        ("(module (memory i64 1))", "memory64"),
        ("(module (tag $t) (func try (throw $t) catch_all end))", "legacy exceptions"),
        ("(module (type (struct (field i32))))", "gc"),
        ("(module (func (drop (ref.i31 (i32.const 0)))))", "gc"),
        ("(module (memory 1 1 (pagesize 1)))", "custom page sizes"),
        ("(module (type $f (func)) (type (cont $f)))", "stack switching"),
    ],
    ids=["shared memory", "atomics", "memory64", "legacy exceptions", "struct", "i31", "page sizes", "continuations"],
)
def test_a_feature_that_is_off_is_named(load: Load, text: str, feature: str) -> None:
    with pytest.raises(errors.FeatureDisabled, match=feature) as caught:
        load(wat2wasm(text))
    assert caught.value.values["feature"] == feature


@pytest.mark.parametrize(
    "text",
    [
        "(module (func (param v128)))",
        "(module (func return_call 0))",
        "(module (tag $t) (func (block $h (result exnref) (try_table (catch_all_ref $h) throw $t) return) throw_ref))",
        "(module (memory 1) (memory 1))",
        '(module (memory 1) (data (i32.add (i32.const 1) (i32.const 2)) "x"))',
        "(module (func (param i32) (result i32 i64) (i32.extend8_s (local.get 0)) (i64.const 0)))",
        '(module (memory 1) (data "x") (func (memory.init 0 (i32.const 0) (i32.const 0) (i32.const 1))))',
        "(module (table 2 externref) (func (param externref) (table.set 0 (i32.const 0) (local.get 0))))",
    ],
    ids=["SIMD", "tail calls", "exnref", "memories", "extended constants", "multi-value", "bulk memory", "references"],
)  # fmt: skip
def test_features_that_are_on_load(load: Load, text: str) -> None:
    assert load(wat2wasm(text))


# Sizes


def test_a_memory_above_the_cap_is_named_with_the_way_out(load: Load) -> None:
    wasm = wat2wasm("(module (memory 33))")
    with pytest.raises(errors.MemoryTooLarge, match="--limit max_memory_per_process_bytes=2162688") as caught:
        load(wasm, max_memory_per_process_bytes="2MiB")
    assert caught.value.values["observed"] == 33 * 65_536
    assert load(wasm, max_memory_per_process_bytes=2_162_688)


def test_memories_count_together(load: Load) -> None:
    with pytest.raises(errors.MemoryTooLarge):
        load(wat2wasm("(module (memory 20) (memory 20))"), max_memory_per_process_bytes="2MiB")


def _limited(limit: str, wasm: bytes, needed: int) -> object:
    return pytest.param(limit, bytes(wasm), needed, id=limit)


TYPE = section(1, vec([b"\x60\0\0"]))


@pytest.mark.parametrize(
    ("limit", "wasm", "needed"),
    [
        _limited("max_types", module(section(1, vec([b"\x60\0\0"] * 3))), 3),
        _limited("max_functions", plain_functions(3), 3),
        _limited("max_exports", wat2wasm('(module (func $f) (export "a" (func $f)) (export "b" (func $f)))'), 2),
        _limited("max_globals", wat2wasm("(module (global i32 (i32.const 0)) (tag))"), 2),
        _limited("max_segments", wat2wasm('(module (memory 1) (data "a") (elem func))'), 2),
        _limited("max_tables", wat2wasm("(module (table 1 funcref) (table 1 funcref))"), 2),
        _limited("max_memories", wat2wasm("(module (memory 1) (memory 1))"), 2),
        _limited("max_table_elements", wat2wasm("(module (table 5 funcref) (table 6 funcref))"), 11),
        _limited("max_imports", _importing(*[f'(import "{WASI}" "proc_exit" (func (param i32)))'] * 2), 2),
        _limited("max_module_bytes", module(section(0, name("padding"))), 18),
    ],
)
def test_a_module_at_its_cap_loads_and_past_it_is_refused(load: Load, limit: str, wasm: bytes, needed: int) -> None:
    guest = {"max_guest_module_bytes": 1} if limit == "max_module_bytes" else {}
    assert load(wasm, **guest, **{limit: needed})
    with pytest.raises(errors.ModuleLimit, match=limit) as caught:
        load(wasm, **guest, **{limit: needed - 1})
    assert caught.value.values["limit"] == limit
    assert (caught.value.values["observed"], caught.value.values["cap"]) == (needed, needed - 1)
    assert f"--limit {limit}={needed}" in str(caught.value)


# What the registry of a VM shows


def _globals(count: int) -> bytes:
    fields = " ".join(f"(global i32 (i32.const {number}))" for number in range(count))
    return bytes(wat2wasm(f'(module {fields} (memory 1) (func (export "_start")))'))


def test_each_vm_counts_the_modules_that_it_loads_itself() -> None:
    """Also those that another VM had compiled, and that were cached."""
    nine = _globals(9)
    for _ in range(2):
        with AgentVM(Limits(max_globals=10)) as vm, AgentVM() as other:
            vm.run(nine).check()
            vm.run(nine).check()
            use = vm.usage()["max_globals"]
            assert (use.used, use.peak, use.warnings, use.refused) == (0, 9, 1, 0)
            assert vm.usage()["max_module_bytes"].peak == len(nine)
            assert other.usage()["max_globals"].peak == 0
            other.run(nine).check()
            assert (other.usage()["max_globals"].peak, other.usage()["max_globals"].warnings) == (9, 0)


def test_refusals_are_those_of_the_vm_that_was_refused() -> None:
    with AgentVM(Limits(max_globals=10)) as vm, AgentVM() as other:
        for _ in range(2):
            with pytest.raises(errors.ModuleLimit):
                vm.run(_globals(11))
        other.run(_globals(11)).check()
        with pytest.raises(errors.ModuleLimit):  # from the cache of another VM
            vm.run(_globals(11))
        assert [owner.usage()["max_globals"].refused for owner in (vm, other)] == [3, 0]
        assert vm.usage()["max_globals"].peak == 0


def test_raised_cap_is_measured_against_anew() -> None:
    with AgentVM(Limits(max_globals=10)) as vm:
        for globals_count, cap in ((9, 10), (9, 11), (8, 20)):
            vm.raise_limit(max_globals=cap)
            for _ in range(2):
                vm.run(_globals(globals_count)).check()
        use = vm.usage()["max_globals"]
        assert (use.peak, use.cap, use.warnings) == (9, 20, 2)


def test_memory_that_a_module_starts_with_is_refused_on_the_gauges() -> None:
    wasm = bytes(wat2wasm('(module (memory 40) (func (export "_start")))'))
    with AgentVM(Limits(max_memory_per_process_bytes=39 * 65_536)) as vm:
        with pytest.raises(errors.MemoryTooLarge):
            vm.run(wasm)
        use = vm.usage()["max_memory_per_process_bytes"]
        assert (use.used, use.peak, use.refused, use.warnings) == (0, 0, 1, 0)
        vm.raise_limit(max_memory_per_process_bytes=40 * 65_536)
        vm.run(wasm).check()
        assert vm.usage()["max_memory_per_process_bytes"].warnings == 1


def test_compiling_is_measured_only_where_it_happens() -> None:
    wasm = bytes(wat2wasm(f'(module (global i64 (i64.const {os.getpid() << 32})) (func (export "_start")))'))
    with AgentVM() as vm, AgentVM() as other:
        vm.run(wasm + section(0, name(os.urandom(8).hex()))).check()
        seconds, memory = (vm.usage()[limit] for limit in ("max_compile_seconds", "max_compile_memory_bytes"))
        assert 0 < seconds.peak < seconds.cap
        assert MIB < memory.peak < memory.cap
        assert seconds.refused == memory.refused == vm.usage()["max_guest_compile_seconds"].peak == 0
        other.run(_globals(9)).check()
        other_before = other.usage()["max_compile_seconds"].peak
        other.run(_globals(9)).check()
        assert other.usage()["max_compile_seconds"].peak == other_before


def test_compile_that_nobody_refused_counts_as_no_refusal() -> None:
    """A timeout of the caller's own, and an interruption, have no limit."""
    with AgentVM() as vm:
        with pytest.raises(errors.CompileLimit, match="timeout"):
            vm.run(time_bomb(), timeout=0.2)
        assert not [use for use in vm.usage() if use.refused]
        vm_2 = AgentVM(Limits(max_compile_seconds=0.5, max_compile_memory_bytes="512MiB"))
        with vm_2, pytest.raises(errors.CompileLimit, match="max_compile_seconds"):
            vm_2.run(time_bomb())
        assert [use.name for use in vm_2.usage() if use.refused] == ["max_compile_seconds"]


# Bombs


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _many_types(count: int) -> bytes:
    return module(section(1, vec([b"\x60\x01\x7f\x00"] * count)))


def _many_exports(count: int) -> bytes:
    named = vec(name(f"f{n}") + b"\x00\x00" for n in range(count))
    return module(TYPE, functions(1), section(7, named), code(b""))


def _many_imports(count: int) -> bytes:
    imported = vec(name(WASI) + name("proc_exit") + b"\x00\x00" for _ in range(count))
    return module(section(1, vec([b"\x60\x01\x7f\x00"])), section(2, imported))


def _many_segments(count: int) -> bytes:
    segment = b"\x00\x41\x00\x0b\x01x"
    return module(section(5, b"\x01\x00\x01"), section(11, leb(count) + segment * count))


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(lambda: plain_functions(1_000_000), id="a million functions"),
        pytest.param(lambda: _many_types(100_000), id="100,000 types"),
        pytest.param(lambda: _many_imports(100_000), id="100,000 imports"),
        pytest.param(lambda: _many_exports(100_000), id="100,000 exports"),
        pytest.param(lambda: _many_segments(100_000), id="100,000 segments"),
        pytest.param(lambda: module(section(1, leb(2**32 - 1) + b"\x60\0\0")), id="4 billion types, announced"),
    ],
)
def test_counts_above_the_caps_end_before_compiling(load: Load, wasm: Callable[[], bytes]) -> None:
    bomb = wasm()
    before = _resident_bytes()
    with pytest.raises(errors.ModuleLimit):
        load(bomb)
    assert _resident_bytes() - before < 16 * MIB


@pytest.mark.parametrize(
    ("wasm", "limits"),
    [
        pytest.param(time_bomb, {"max_compile_seconds": 1}, id="time"),
        pytest.param(memory_bomb, {"max_compile_memory_bytes": "512MiB"}, id="memory"),
    ],
)
def test_a_compile_bomb_ends_at_its_cap_and_costs_us_nothing(
    load: Load, wasm: Callable[[], bytes], limits: dict[str, object]
) -> None:
    bomb = wasm()
    before, descriptors = _resident_bytes(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(errors.CompileLimit) as caught:
        load(bomb, **limits)
    (limit,) = limits
    assert caught.value.values["limit"] == limit
    assert f"--limit {limit}=" in str(caught.value)
    assert _resident_bytes() - before < 16 * MIB
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 3  # the compiler's process, once


@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(lambda: nested_blocks(50_000), id="50,000 nested blocks"),
        pytest.param(lambda: _many_types(50_000), id="50,000 types"),
        pytest.param(lambda: _many_exports(50_000), id="50,000 exports"),
        pytest.param(lambda: _many_imports(1_000), id="1,000 imports"),
        pytest.param(lambda: _many_segments(50_000), id="50,000 segments"),
    ],
)
def test_counts_at_the_caps_load_in_bounded_memory(load: Load, wasm: Callable[[], bytes]) -> None:
    bomb = wasm()
    before = _resident_bytes()
    module = load(bomb)
    assert _resident_bytes() - before < 32 * MIB + module.size_bytes  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.parametrize(
    "wasm",
    [
        pytest.param(lambda: plain_functions(200_000), id="200,000 functions"),
        pytest.param(lambda: plain_functions(5, b"\x41\x00" + b"\x41\x01\x6a" * 330_000 + b"\x1a"), id="5 MiB"),
    ],
)
def test_big_modules_compile_or_end_at_their_caps(load: Load, wasm: Callable[[], bytes]) -> None:
    bomb = wasm()
    try:
        load(bomb, max_compile_seconds=20)
    except errors.CompileLimit as error:
        limit = error.values["limit"]
    else:
        limit = None
    assert limit in {None, "max_compile_seconds", "max_compile_memory_bytes"}
