"""The engine's configuration: the WebAssembly features that guests may use, and one Engine for each distinct profile.

Every feature that wasmtime can switch is named in `FEATURES`, on or off: nothing is left to the library's defaults.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import wasmtime

from agentvm.engine import bind
from agentvm.errors import HostLimit

__all__ = [
    "ASYNC_STACK_EXTRA",
    "FEATURES",
    "GUARD_BYTES",
    "MAX_ENGINES",
    "RESERVATION_BYTES",
    "EngineProfile",
    "Feature",
    "build_config",
    "engine_for",
    "profile_at",
]

GIB = 1 << 30
MIB = 1 << 20

#: A memory's address range is reserved whole, so that it never moves and bounds checks cost nothing.
RESERVATION_BYTES = 4 * GIB
#: Accesses with a static offset below this are caught by the guard after the reservation.
GUARD_BYTES = 32 * MIB
#: wasmtime aborts the process if the async stack (unused here) is not above the wasm stack.
ASYNC_STACK_EXTRA = 1 * MIB
#: An engine is never freed, so there are only so many; see docs/rationale.md, "Why engines are few".
MAX_ENGINES = 16


@dataclass(frozen=True, slots=True)
class Feature:
    """One switch of the engine. `title` is how messages call it; `setter` is the name of the library's property."""

    setter: str
    enabled: bool
    title: str


def _table(*features: Feature) -> Mapping[str, Feature]:
    return {feature.setter.removeprefix("wasm_"): feature for feature in features}


#: Every feature that can be switched, by its short name. The MVP, sign extension, saturating conversions, mutable
#: globals and extended constant expressions have no switch in the library and are on.
FEATURES: Mapping[str, Feature] = _table(
    Feature("wasm_multi_value", True, "multi-value"),
    Feature("wasm_bulk_memory", True, "bulk memory operations"),
    Feature("wasm_reference_types", True, "reference types"),
    Feature("wasm_simd", True, "fixed-width SIMD"),
    Feature("wasm_tail_call", True, "tail calls"),
    Feature("wasm_exceptions", True, "exception handling (exnref)"),
    Feature("wasm_multi_memory", True, "multiple memories"),
    Feature("wasm_relaxed_simd", False, "relaxed SIMD"),
    Feature("wasm_function_references", False, "typed function references"),
    Feature("wasm_gc", False, "garbage collection"),
    Feature("wasm_threads", False, "threads and atomics"),
    Feature("shared_memory", False, "shared memories"),
    Feature("wasm_memory64", False, "64-bit memories"),
    Feature("wasm_stack_switching", False, "stack switching"),
    Feature("wasm_custom_page_sizes", False, "custom page sizes"),
    Feature("wasm_wide_arithmetic", False, "wide arithmetic"),
    Feature("wasm_branch_hinting", False, "branch hints"),
    Feature("wasm_compact_imports", False, "compact import sections"),
    Feature("wasm_component_model", False, "the component model"),
    Feature("wasm_component_model_async", False, "asynchronous components"),
    Feature("wasm_component_model_map", False, "component maps"),
    Feature("wasm_component_model_implements", False, "component implements"),
)


@dataclass(frozen=True, slots=True)
class EngineProfile:
    """What a compiled module depends on. Modules and engines of different profiles do not mix."""

    max_wasm_stack_bytes: int


def build_config(profile: EngineProfile, *, memory_creator: bool) -> wasmtime.Config:
    """Return a fresh configuration. Code compiled without the memory creator loads into an engine that has it.

    Raises `EngineUnsupported` if the installed wasmtime lacks one of the switches.
    """
    config = wasmtime.Config()
    for feature in FEATURES.values():
        bind.set_switch(config, feature.setter, feature.enabled)
    bind.set_switch(config, "gc_support", True)  # exnref needs the heap, not the gc proposal
    bind.set_switch(config, "concurrency_support", False)
    bind.set_switch(config, "consume_fuel", True)
    bind.set_switch(config, "epoch_interruption", True)
    bind.set_switch(config, "memory_init_cow", False)
    bind.set_switch(config, "memory_may_move", False)
    bind.set_switch(config, "signals_based_traps", True)
    config.memory_reservation = RESERVATION_BYTES
    config.memory_guard_size = GUARD_BYTES
    config.max_wasm_stack = profile.max_wasm_stack_bytes
    bind.set_async_stack_size(config, profile.max_wasm_stack_bytes + ASYNC_STACK_EXTRA)
    if memory_creator:
        from agentvm.engine.memory import creator

        bind.set_memory_creator(config, creator().address)
    return config


_lock = threading.Lock()
_engines: dict[EngineProfile, wasmtime.Engine] = {}
_profiles: dict[int, EngineProfile] = {}


def engine_for(profile: EngineProfile) -> wasmtime.Engine:
    """Return the engine of `profile`, made at its first use. Any thread.

    Raises `EngineUnsupported`, or `HostLimit` when there are `MAX_ENGINES` profiles already.
    """
    engine = _engines.get(profile)
    if engine is not None:
        return engine
    from agentvm.engine import host_signals

    with _lock:
        engine = _engines.get(profile)
        if engine is None:
            if len(_engines) >= MAX_ENGINES:
                raise HostLimit(
                    f"{MAX_ENGINES} different values of max_wasm_stack_bytes are in use already; "
                    f"take one of {sorted(p.max_wasm_stack_bytes for p in _engines)}",
                    limit="engines",
                    cap=MAX_ENGINES,
                )
            engine = wasmtime.Engine(build_config(profile, memory_creator=True))
            host_signals.save()
            _profiles[bind.engine_address(engine)] = profile
            _engines[profile] = engine
    return engine


def profile_at(engine_address: int) -> EngineProfile:
    """Return the profile of an engine that `engine_for` made. Raises `KeyError` for any other."""
    return _profiles[engine_address]
