"""`Limits.parse`: both seed documents as written, every spelling, and one clear refusal for everything else."""

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Limits
from agentvm.errors import InvalidLimit
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.foreign import FOREIGN_GROUPS
from agentvm.limits.spec import UNLIMITED, Unit
from tests.support.seeds import AGENTOS, AGENTOS_TOML, ZEROCLAW

MIB = 1 << 20


def parsed(given: Any) -> dict[str, object]:
    limits = Limits.parse(given)
    return {**dict(limits.given()), **dict(limits.settings_given())}


def test_the_sample_of_the_zeroclaw_seed_parses_key_for_key() -> None:
    assert parsed(tomllib.loads(ZEROCLAW)) == {
        "max_memory_bytes": 512 * MIB,
        "max_memory_per_process_bytes": 128 * MIB,
        "max_cpu_percent": 50,
        "max_cpu_time_seconds": 60,
        "max_log_bytes": 100 * MIB,
        "max_temp_storage_bytes": 500 * MIB,
        "max_processes": 10,
        "max_open_fds": 100,
    }
    in_force = Caps(Limits.parse(tomllib.loads(ZEROCLAW)))
    assert in_force["max_filesystem_bytes"] == 500 * MIB  # raised from its default, to hold /tmp
    assert in_force["max_open_fds_per_process"] == 100  # lowered from its own


@pytest.mark.parametrize(
    "given",
    [
        AGENTOS,
        AGENTOS["limits"],
        AGENTOS["limits"]["resources"],
        json.dumps(AGENTOS),
        json.dumps(AGENTOS).encode(),
        tomllib.loads(AGENTOS_TOML),
    ],
    ids=["object", "limits", "resources", "JSON", "JSON bytes", "TOML"],
)
def test_the_object_of_the_agentos_seed_parses_in_python_json_and_toml(given: object) -> None:
    assert parsed(given) == {
        "max_processes": 64,
        "max_open_fds": 256,
        "max_sockets": 128,
        "max_filesystem_bytes": 256 * MIB,
        "max_wasm_stack_bytes": 4 * MIB,
    }


def test_the_wasm_group_counts_milliseconds() -> None:
    wasm = {"activeCpuTimeLimitMs": 1500, "wallClockLimitMs": 250, "deterministicFuel": 10**13, "maxModuleFileBytes": 9}
    assert parsed({"limits": {"resources": {"maxInodeCount": 5}, "wasm": wasm}}) == {
        "max_inodes": 5,
        "max_cpu_time_seconds": 1.5,
        "max_wall_time_seconds": 0.25,
        "max_fuel_per_process": 10**13,
        "max_module_bytes": 9,
    }


def test_dockers_spellings_mean_what_they_mean_there() -> None:
    assert parsed({"memory": "512m", "cpus": "1.5", "pids-limit": 100}) == {
        "max_memory_bytes": 512 * MIB,
        "max_memory_per_process_bytes": 512 * MIB,
        "max_cpu_percent": 150,
        "max_processes": 100,
    }
    assert parsed({"cpus": 0.57}) == {"max_cpu_percent": 57}
    assert parsed({"cpus": ".5", "pidsLimit": 3}) == {"max_cpu_percent": 50, "max_processes": 3}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (512, 512 * MIB),
        ("512", 512 * MIB),
        ("512MiB", 512 * MIB),
        ("1g", 1024 * MIB),
        (0.5, MIB // 2),
        ("none", UNLIMITED),
    ],
)
def test_a_plain_number_counts_what_the_alias_says_and_a_unit_counts_itself(value: object, expected: float) -> None:
    assert parsed({"max_memory_mb": value}) == {"max_memory_bytes": expected}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_every_alias_parses_to_the_cap_that_its_factor_makes(spec) -> None:  # type: ignore[no-untyped-def]
    for alias in spec.aliases:
        amount = 64 if alias.factor >= 1 and alias.factor != 1 else 100_000
        assert parsed({alias.name: amount})[spec.name] == pytest.approx(amount * alias.factor)
        assert parsed({alias.name: str(amount)})[spec.name] == pytest.approx(amount * alias.factor)


def test_settings_and_a_preset_stand_beside_limits_and_null_is_not_set() -> None:
    assert parsed({"onOutputFull": "discard", "warn-percent": "70", "max_fuel": None, "wasm": None}) == {
        "on_output_full": "discard",
        "warn_percent": 70,
    }
    assert parsed({"resources": {"preset": "tiny", "max_processes": 9}})["max_processes"] == 9
    assert parsed({}) == parsed("{}") == {}
    assert Limits.of({"maxProcesses": 3}) == Limits(max_processes=3)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"max_memory_mb": "lots"}, "max_memory_mb (max_memory_bytes) cannot be 'lots': it takes bytes from 64 KiB to"),
        ({"max_memory_mb": 0}, "max_memory_mb (max_memory_bytes) cannot be 0: it takes bytes from 64 KiB to"),
        ({"cpus": 0}, "cpus (max_cpu_percent) cannot be 0: it takes percent from 1 %"),
        ({"max_memory_mb": 1e308}, "max_memory_mb (max_memory_bytes) cannot be 1e+308"),
        ({"wall_clock_limit_ms": 10**400}, "wall_clock_limit_ms (max_wall_time_seconds) cannot be 1000"),
        ({"maxProcesses": True}, "maxProcesses cannot be True: it takes count from 1 to"),
        ({"maxProcesses": [1]}, "maxProcesses cannot be [1]: it takes count"),
        ({"maxProcesses": {}}, "maxProcesses cannot be {}: it takes count"),
        ({"limits": {"resources": {"maxProcs": 1}}}, "limits.resources.maxProcs: there is no limit 'maxProcs'; did"),
        ({"limits": {"resources": {"maxPtys": 1}}}, "limits.resources.maxPtys: maxPtys is a limit of agentOS"),
        ({"max_memory_mb": 1, "max_memory_bytes": 2**20}, "max_memory_bytes is set twice, by max_memory_mb to 1MiB"),
        ({"memory": "1m", "maxWasmMemoryBytes": 2**20}, "max_memory_per_process_bytes is set twice, by memory"),
        ({"max_open_fds": 1, "resources": {"maxOpenFds": 1}}, "max_open_fds is set twice, by max_open_fds to 1"),
        ({"max_open_vms": 1}, "max_open_vms is a limit of the whole process, not of a VM"),
        ({"on_output_full": "drop"}, "on_output_full cannot be 'drop': it takes 'error' or 'discard'"),
        ({"warn_percent": 40}, "rearm_percent is 50 and must be lower than warn_percent, which is 40"),
        ({"preset": "big"}, "preset cannot be 'big': it takes 'none' or 'tiny' or 'compiler'"),
        ({"resources": 3}, "resources is a group of limits and cannot be 3"),
        ({"resources": {"resources": {}}}, "resources.resources: there is no limit 'resources'"),
        ({1: 2}, "1 is no name of a limit"),
        ("[1]", "limits are an object of names and values, such as max_open_fds, and not [1]"),
        ("{", "the limits are no JSON: "),
        ('{"a": 1, "a": 1}', "the limits are no JSON: 'a' is given twice"),
        ('{"max_fuel": NaN}', "max_fuel cannot be nan"),
        ('{"max_fuel": ' + "9" * 5000 + "}", "the limits are no JSON: "),
        ("[" * 100_000, "the limits are no JSON: it is nested too deeply"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_sentence_with_the_key_as_written(given: Any, text: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Limits.parse(given)
    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("group", FOREIGN_GROUPS)
def test_a_group_of_agentos_without_a_counterpart_is_refused_with_the_reason(group: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Limits.parse({"limits": {group: {"wallClockLimitMs": 5}}})
    assert str(caught.value) == (
        f"limits.{group} is a group of agentOS that has no counterpart here: {FOREIGN_GROUPS[group]}"
    )
    assert parsed({"limits": {group: {}}}) == {}


def _values(name: str) -> st.SearchStrategy[object]:
    if name in SETTINGS:
        setting = SETTINGS[name]
        # Thresholds of the two halves of the range never contradict each other.
        whole = st.integers(60, 100) if name == "warn_percent" else st.integers(0, 40)
        return st.sampled_from(setting.choices) if setting.choices else whole
    spec = SPECS[name]
    numbers: st.SearchStrategy[object] = st.integers(int(-(-spec.minimum // 1)), int(spec.maximum))
    if spec.unit is Unit.SECONDS:
        numbers |= st.floats(float(spec.minimum), float(spec.maximum))
    return numbers | st.just("none") if spec.can_be_unlimited else numbers


@given(st.fixed_dictionaries({}, optional={name: _values(name) for name in (*SPECS, *SETTINGS)}))
def test_what_was_parsed_parses_to_itself_as_a_mapping_and_as_json(values: dict[str, object]) -> None:
    limits = Limits.parse(values)
    plain = {name: "none" if cap == UNLIMITED else cap for name, cap in limits.given()} | dict(limits.settings_given())
    assert Limits.parse(plain) == limits
    assert Limits.parse(json.dumps({"limits": {"resources": plain}})) == limits
    assert set(plain) == set(values)
