"""Which place wins, and what is said of where each value came from."""

from pathlib import Path

import pytest

from agentvm import Config, Limits
from agentvm.config.effective import EffectiveLimit, effective_limits, effective_settings
from agentvm.errors import InvalidLimit
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.layers import Accepts, Layer
from agentvm.limits.spec import UNLIMITED

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def resolve(file: str = "", environment: dict[str, str] | None = None, **flags: object) -> Config:
    if file:
        Path("agentvm.toml").write_text(file)
    layer = Layer()
    for name, value in flags.items():
        layer.set(name, value, f"--{name}", accepts=Accepts.BOTH)
    return Config.resolve(None, environment or {}, layer)


def effective(config: Config) -> dict[str, EffectiveLimit]:
    return {limit.spec.name: limit for limit in effective_limits(config)}


@pytest.mark.parametrize(
    ("places", "value", "source"),
    [
        ("", 64, "default"),
        ("preset", 4, "preset tiny"),
        ("preset file", 11, "agentvm.toml: [resources] max_subprocesses"),
        ("preset file environment", 12, "AGENTVM_LIMIT_MAX_PROCESSES"),
        ("preset file environment flag", 13, "--max_processes"),
        ("file flag", 13, "--max_processes"),
        ("environment preset", 12, "AGENTVM_LIMIT_MAX_PROCESSES"),
    ],
)
def test_flag_over_environment_over_file_over_preset_over_default(places: str, value: int, source: str) -> None:
    config = resolve(
        "[resources]\nmax_subprocesses = 11" if "file" in places else "",
        {"AGENTVM_LIMIT_MAX_PROCESSES": "12"} if "environment" in places else {},
        **({"max_processes": 13} if "flag" in places else {}),
        **({"preset": "tiny"} if "preset" in places else {}),
    )
    found = effective(config)["max_processes"]
    assert (found.cap, found.source) == (value, source)
    assert Caps(config.limits)["max_processes"] == value


def test_the_preset_itself_follows_the_same_order() -> None:
    file, environment = '[resources]\npreset = "tiny"', {"AGENTVM_LIMIT_PRESET": "compiler"}
    for config, expected in (
        (resolve(file), Limits.preset("tiny")),
        (resolve(file, environment), Limits.preset("compiler")),
        (resolve(file, environment, preset="none"), Limits()),
    ):
        assert config.limits == expected


@pytest.mark.parametrize("name", [*SPECS, *HOST_SPECS])
def test_every_limit_can_be_set_by_its_variable(name: str) -> None:
    spec = {**SPECS, **HOST_SPECS}[name]
    value = int(-(-spec.minimum // 1)) or 1
    config = resolve("", {spec.variable: str(value), "AGENTVM_LIMITLESS": "x", "PATH": "/bin"})
    found = effective(config)[name]
    assert (found.cap, found.source) == (value, spec.variable)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_set_by_its_variable(name: str) -> None:
    spec = SETTINGS[name]
    value = spec.choices[-1] if spec.choices else 60 if name == "warn_percent" else 40
    found = {each.spec.name: each for each in effective_settings(resolve("", {spec.variable: str(value)}))}
    assert (found[name].value, found[name].source) == (value, spec.variable)
    assert {each.source for each in found.values()} == {"default", spec.variable}


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("AGENTVM_LIMIT_MAX_PROCESES", "3", "AGENTVM_LIMIT_MAX_PROCESES: there is no limit 'MAX_PROCESES'; did"),
        ("AGENTVM_LIMIT_MAX_PROCESSES", "x", "AGENTVM_LIMIT_MAX_PROCESSES cannot be 'x': it takes count from 1"),
        ("AGENTVM_LIMIT_MAX_PROCESSES", "", "AGENTVM_LIMIT_MAX_PROCESSES cannot be '': it takes count from 1"),
        ("AGENTVM_LIMIT_MAX_MEMORY_MB", "0", "AGENTVM_LIMIT_MAX_MEMORY_MB (max_memory_bytes) cannot be '0': it takes"),
        ("AGENTVM_LIMIT_PRESET", "big", "AGENTVM_LIMIT_PRESET cannot be 'big': it takes 'none' or 'tiny' or"),
        ("AGENTVM_LIMIT_", "3", "AGENTVM_LIMIT_: there is no limit ''"),
    ],
)  # fmt: skip
def test_a_variable_that_cannot_be_is_an_error(variable: str, value: str, text: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        Config.find(environment={variable: value})
    assert str(caught.value).startswith(text)


def test_the_environment_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTVM_LIMIT_MAX_PROCESSES", "5")
    Path("vm.toml").write_text("[resources]\nmax_sockets = 6")
    assert dict(Config.load("vm.toml").limits.given()) == {"max_processes": 5, "max_sockets": 6}
    assert dict(Config.load("vm.toml", environment={}).limits.given()) == {"max_sockets": 6}
    assert dict(Config.find().limits.given()) == {"max_processes": 5}


def test_the_file_is_the_named_one_else_the_one_in_the_working_directory_else_none() -> None:
    assert Config.find(environment={}).path is None
    Path("agentvm.toml").write_text("[resources]\nmax_sockets = 1")
    Path("other.toml").write_text("[resources]\nmax_sockets = 2")
    assert Config.find(environment={}).limits == Limits(max_sockets=1)
    assert Config.find(environment={"AGENTVM_CONFIG": ""}).limits == Limits(max_sockets=1)
    assert Config.find(environment={"AGENTVM_CONFIG": "other.toml"}).limits == Limits(max_sockets=2)
    assert Config.resolve("other.toml", {"AGENTVM_CONFIG": "agentvm.toml"}).limits == Limits(max_sockets=2)
    assert Config.resolve(None, {"AGENTVM_CONFIG": "agentvm.toml"}, search=False).limits == Limits()


def test_what_was_not_set_says_by_which_rule_it_has_its_value() -> None:
    found = effective(resolve(max_open_fds=50, max_temp_storage_bytes="500MiB", memory="1MiB"))
    assert {name: (found[name].cap, found[name].source) for name in (
        "max_open_fds_per_process", "max_filesystem_bytes", "max_temp_storage_bytes", "max_host_write_bytes",
        "max_memory_per_process_bytes", "max_inodes", "max_file_bytes",
    )} == {
        "max_open_fds_per_process": (50, "lowered to max_open_fds"),
        "max_filesystem_bytes": (500 * MIB, "raised to hold max_temp_storage_bytes"),
        "max_temp_storage_bytes": (500 * MIB, "--max_temp_storage_bytes"),
        "max_host_write_bytes": (500 * MIB, "follows max_filesystem_bytes"),
        "max_memory_per_process_bytes": (MIB, "--memory"),
        "max_inodes": (16_384, "default"),
        "max_file_bytes": (UNLIMITED, "default"),
    }  # fmt: skip
    assert found["max_open_vms"].source == "derived from the host"
    assert found["max_cached_modules"].source == "default"


@pytest.mark.parametrize(
    "variables", [{}, {"MAX_OPEN_FDS": "5"}, {"MEMORY": "1MiB"}, {"MAX_PROCESSES": str(2**53 - 1)}, {"MAX_FUEL": "0"}]
)
def test_the_flags_that_raise_a_cap_raise_it(variables: dict[str, str]) -> None:
    environment = {f"AGENTVM_LIMIT_{name}": value for name, value in variables.items()}
    config = resolve("", environment)
    for name, limit in effective(config).items():
        if limit.raise_with is None:
            assert limit.cap in (UNLIMITED, limit.spec.maximum)
            continue
        words = limit.raise_with.split()
        if words[0] == "--limit":
            words = words[1].split("=")
        raised = resolve("", environment, **dict(zip(words[::2], words[1::2], strict=True)))
        assert effective(raised)[name].cap > limit.cap
