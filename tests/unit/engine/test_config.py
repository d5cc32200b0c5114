"""The allow list of features, the profiles, and what is refused when the library lacks something."""

import pytest
import wasmtime

from agentvm.engine import bind, config
from agentvm.engine.config import FEATURES, EngineProfile, build_config, engine_for, profile_at
from agentvm.errors import EngineUnsupported, HostLimit

PROFILE = EngineProfile(1 << 20)

ON = {
    "multi_value": "(module (func (result i32 i32) (i32.const 1) (i32.const 2)))",
    "bulk_memory": "(module (memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))))",
    "reference_types": "(module (table 1 externref) (func (param externref)))",
    "simd": "(module (func (result v128) (v128.const i32x4 1 2 3 4)))",
    "tail_call": "(module (func $f (return_call $f)))",
    "exceptions": "(module (tag $t) (func (throw $t)))",
    "multi_memory": "(module (memory 1) (memory 1))",
    "sign extension": "(module (func (param i32) (result i32) (i32.extend8_s (local.get 0))))",
    "saturating conversions": "(module (func (param f32) (result i32) (i32.trunc_sat_f32_s (local.get 0))))",
    "extended constants": "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
}
OFF = {
    "gc": "(module (type $s (struct (field i32))) (func (drop (struct.new $s (i32.const 1)))))",
    "threads": "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
    "shared_memory": "(module (memory 1 1 shared))",
    "memory64": "(module (memory i64 1))",
    "table64": "(module (table i64 1 funcref))",
    "relaxed_simd": "(module (func (param v128) (result v128) (i8x16.relaxed_swizzle (local.get 0) (local.get 0))))",
    "function_references": "(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))",
    "custom_page_sizes": "(module (memory 1 (pagesize 1)))",
    "wide_arithmetic": "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1))))",
    "stack_switching": "(module (type $f (func)) (type $c (cont $f)))",
    "component_model": "(component)",
}


@pytest.mark.parametrize("name", ON)
def test_feature_of_the_allow_list_compiles(name: str) -> None:
    wasmtime.Module(engine_for(PROFILE), wasmtime.wat2wasm(ON[name]))


@pytest.mark.parametrize("name", OFF)
def test_other_feature_is_refused(name: str) -> None:
    with pytest.raises(wasmtime.WasmtimeError):
        wasmtime.Module(engine_for(PROFILE), wasmtime.wat2wasm(OFF[name]))


def test_every_feature_is_said_to_be_on_or_off() -> None:
    assert set(ON) & set(FEATURES) == {name for name, feature in FEATURES.items() if feature.enabled}
    assert {name for name in OFF if name in FEATURES} <= {n for n, feature in FEATURES.items() if not feature.enabled}


def test_code_compiled_without_the_creator_loads_into_the_engine() -> None:
    compiler = wasmtime.Engine(build_config(PROFILE, memory_creator=False))
    code = wasmtime.Module(compiler, '(module (memory 1) (data (i32.const 0) "x"))').serialize()
    wasmtime.Module.deserialize(engine_for(PROFILE), code)


def test_engine_is_shared_by_profile() -> None:
    engine = engine_for(PROFILE)
    assert engine_for(EngineProfile(1 << 20)) is engine
    assert profile_at(bind.engine_address(engine)) == PROFILE


def test_number_of_engines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "MAX_ENGINES", len(config._engines))
    with pytest.raises(HostLimit, match="max_wasm_stack_bytes"):
        engine_for(EngineProfile(3 << 20))


@pytest.mark.parametrize("name", ["memory64", "async_stack_size", "host_memory_creator"])
def test_missing_switch_is_refused_with_the_versions_that_work(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bind, "_missing", [f"wasmtime_config_{name}_set"])
    missing = bind._foreign(f"wasmtime_config_{name}_nowhere_set", None)
    with pytest.raises(EngineUnsupported, match=r">=50,<52"):
        missing()
    with pytest.raises(EngineUnsupported, match=name):
        bind.check_supported()
    with pytest.raises(EngineUnsupported, match=name):
        build_config(PROFILE, memory_creator=True)
