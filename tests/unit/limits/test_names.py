"""Every name that a limit goes by, and what is said of a name that none goes by."""

import pytest

from agentvm.errors import InvalidLimit
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.foreign import FOREIGN_GROUPS, FOREIGN_LIMITS
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.names import find, find_spec, snake_case, spellings
from agentvm.limits.spec import LimitSpec

ALL = {**SPECS, **SETTINGS, **HOST_SPECS}
ALIASES = [(spec, alias) for spec in SPECS.values() for alias in spec.aliases]


def _styles(name: str) -> dict[str, str]:
    head, *tail = name.split("_")
    kebab = name.replace("_", "-")
    camel = head + "".join(word.capitalize() for word in tail)
    return {"snake": name, "kebab": kebab, "flag": f"--{kebab}", "camel": camel, "variable": name.upper()}


@pytest.mark.parametrize("name", ALL)
def test_every_limit_and_setting_is_found_in_every_style(name: str) -> None:
    for style, text in _styles(name).items():
        assert [target.spec for target in find(f" {text} ")] == [ALL[name]], style


@pytest.mark.parametrize(("spec", "alias"), ALIASES, ids=lambda each: each.name)
def test_every_alias_sets_its_limit_in_every_style(spec: LimitSpec, alias) -> None:  # type: ignore[no-untyped-def]
    for style, text in _styles(alias.name).items():
        found = {target.spec.name: target.factor for target in find(text)}
        assert found[spec.name] == alias.factor, style
    assert alias.flag == _styles(alias.name)["flag"]


def test_no_alias_hides_a_name_and_only_memory_sets_two_limits() -> None:
    names = [alias.name for _, alias in ALIASES]
    assert not set(names) & (set(ALL) | {"preset"})
    assert {name for name in names if len(find(name)) != 1} == {"memory"}
    assert [target.spec.name for target in find("memory")] == ["max_memory_bytes", "max_memory_per_process_bytes"]
    assert set(spellings()) == {*ALL, "preset", *names}


def test_the_names_that_the_seed_documents_use_are_there() -> None:
    stand_for = {
        "max_memory_mb": "max_memory_bytes",
        "max_memory_per_command_mb": "max_memory_per_process_bytes",
        "max_cpu_percent": "max_cpu_percent",
        "max_cpu_time_seconds": "max_cpu_time_seconds",
        "max_log_size_mb": "max_log_bytes",
        "max_temp_storage_mb": "max_temp_storage_bytes",
        "max_subprocesses": "max_processes",
        "max_open_files": "max_open_fds",
        "maxProcesses": "max_processes",
        "maxOpenFds": "max_open_fds",
        "maxSockets": "max_sockets",
        "maxFilesystemBytes": "max_filesystem_bytes",
        "maxWasmStackBytes": "max_wasm_stack_bytes",
        "maxInodeCount": "max_inodes",
        "maxProcessArgvBytes": "max_argv_bytes",
        "maxProcessEnvBytes": "max_env_bytes",
        "maxWasmMemoryBytes": "max_memory_per_process_bytes",
        "maxModuleFileBytes": "max_module_bytes",
        "capturedOutputLimitBytes": "max_log_bytes",
        "activeCpuTimeLimitMs": "max_cpu_time_seconds",
        "wallClockLimitMs": "max_wall_time_seconds",
        "deterministicFuel": "max_fuel_per_process",
    }
    assert {name: find_spec(name).name for name in stand_for} == stand_for


@pytest.mark.parametrize(
    ("text", "snake"),
    [
        ("maxOpenFds", "max_open_fds"),
        ("maxCPUPercent", "max_cpu_percent"),
        ("max-open-fds", "max_open_fds"),
        ("--maxOpenFds", "max_open_fds"),
        ("MAX_OPEN_FDS", "max_open_fds"),
        ("Max-Open-Fds", "max_open_fds"),
        ("max__open", "max__open"),
        ("", ""),
    ],
)
def test_styles_are_read_as_snake_case(text: str, snake: str) -> None:
    assert snake_case(text) == snake


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_proceses", "did you mean max_processes? It takes count from 1 to "),
        ("maxProceses", "did you mean maxProcesses? It takes count from 1 to "),
        ("--max-proceses", "did you mean --max-processes? It takes"),
        ("max-proceses", "did you mean max-processes? It takes"),
        ("MAX_PROCESES", "did you mean MAX_PROCESSES? It takes"),
        ("max_memory_gb", "did you mean max_memory_mb (max_memory_bytes)? It takes bytes from 64 KiB to "),
        ("pids", "did you mean pids_limit (max_processes)? It takes count"),
        ("on_memory_ful", "did you mean on_memory_full? It takes 'enomem' or 'kill'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_in_its_own_style_and_the_range(name: str, text: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        find(name)
    assert str(caught.value).startswith(f"there is no limit {name!r}; {text}")


def test_a_name_like_nothing_is_refused_with_where_to_look() -> None:
    with pytest.raises(InvalidLimit) as caught:
        find("zzz")
    assert str(caught.value) == "there is no limit 'zzz'; `agentvm limits` lists them"


def test_a_setting_is_no_limit() -> None:
    with pytest.raises(InvalidLimit, match="warn_percent is a setting"):
        find_spec("warn_percent")


@pytest.mark.parametrize("name", FOREIGN_LIMITS)
def test_a_limit_of_agentos_without_a_counterpart_is_refused_with_the_reason(name: str) -> None:
    for text in (name, snake_case(name)):
        with pytest.raises(InvalidLimit) as caught:
            find(text)
        assert str(caught.value) == (
            f"{text} is a limit of agentOS that has no counterpart here: {FOREIGN_LIMITS[name]}"
        )


def test_no_foreign_limit_is_one_that_there_is() -> None:
    assert not {snake_case(name) for name in (*FOREIGN_LIMITS, *FOREIGN_GROUPS)} & set(spellings())
