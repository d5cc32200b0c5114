"""Both seed documents as written, in force: the caps of a real VM, and guests that run into them."""

import json
import re
from pathlib import Path

import pytest

from agentvm import AgentVM, Config, Limits
from tests.support.fixtures import guest
from tests.support.seeds import AGENTOS, AGENTOS_TOML, ZEROCLAW

MIB = 1 << 20


def zeroclaw(tmp_path: Path, **changes: int) -> Config:
    """Load the sample from a file, but for the values that a test would take too long to reach."""
    text = ZEROCLAW
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = \d+$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, f"{key} is not in the sample"
    path = tmp_path / "agentvm.toml"
    path.write_text(text)
    return Config.load(path, environment={})


def agentos(form: str, tmp_path: Path) -> Limits:
    if form == "Python":
        return Limits.parse(AGENTOS)
    if form == "JSON":
        return Limits.parse(json.dumps(AGENTOS))
    path = tmp_path / ("agentvm.toml" if form == "TOML file" else "agentvm.json")
    path.write_text(AGENTOS_TOML if form == "TOML file" else json.dumps(AGENTOS))
    return Config.load(path, environment={}).limits


# -- ZeroClaw ---------------------------------------------------------------------------------------------------------
def test_every_value_of_the_zeroclaw_sample_is_a_cap_of_the_vm(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path).limits) as vm:
        caps = {usage.name: usage.cap for usage in vm.usage()}
    expected = {
        "max_memory_bytes": 512 * MIB,
        "max_memory_per_process_bytes": 128 * MIB,
        "max_cpu_percent": 50,
        "max_cpu_time_seconds": 60,
        "max_log_bytes": 100 * MIB,
        "max_temp_storage_bytes": 500 * MIB,
        "max_filesystem_bytes": 500 * MIB,  # has to hold it
        "max_processes": 10,
        "max_open_fds": 100,
        "max_open_fds_per_process": 100,  # lies within it
    }
    assert {name: caps[name] for name in expected} == expected


def test_max_open_files_holds(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path).limits) as vm:
        result = vm.run(guest("fds"), ["open"])
    assert "opened 96\nerrno EMFILE" in result.stdout_text, "three streams and a directory are open already"
    assert result.usage["max_open_fds"].peak == 100


def test_max_log_size_mb_holds(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path, max_log_size_mb=1).limits) as vm:
        result = vm.run(guest("output"), ["stdout", str(3 * MIB)])
    assert len(result.stdout) + len(result.stderr) == MIB
    assert result.truncated


def test_max_memory_per_command_mb_holds(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path).limits) as vm:
        result = vm.run(guest("memory"), ["grow"])
    assert "pages 2047" in result.stdout_text or "pages 2048" in result.stdout_text
    assert result.usage["max_memory_per_process_bytes"].refused == 1


def test_max_temp_storage_mb_holds_above_the_default_of_the_filesystem(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path, max_temp_storage_mb=70).limits) as vm:
        assert vm.usage()["max_filesystem_bytes"].cap == 70 * MIB
        result = vm.run(guest("fsbytes"), ["fill", "/tmp/file"])
    assert "ENOSPC" in result.stdout_text
    assert 65 * MIB < result.usage["max_temp_storage_bytes"].peak <= 70 * MIB


def test_max_cpu_time_seconds_and_max_subprocesses_hold(tmp_path: Path) -> None:
    with AgentVM(zeroclaw(tmp_path, max_cpu_time_seconds=1, max_subprocesses=1, max_cpu_percent=100).limits) as vm:
        result = vm.run(guest("spin"))
        assert (result.cause.limit, result.cause.cap) == ("max_cpu_time_seconds", 1)
        assert vm.usage()["max_processes"].cap == 1


# -- agentOS ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["Python", "JSON", "TOML file", "JSON file"])
def test_every_value_of_the_agentos_sample_is_a_cap_of_the_vm(form: str, tmp_path: Path) -> None:
    with AgentVM(agentos(form, tmp_path)) as vm:
        caps = {usage.name: usage.cap for usage in vm.usage()}
        result = vm.run(guest("fds"), ["open"])
    expected = {
        "max_processes": 64,
        "max_open_fds": 256,
        "max_sockets": 128,
        "max_filesystem_bytes": 256 * MIB,
        "max_wasm_stack_bytes": 4 * MIB,
    }
    assert {name: caps[name] for name in expected} == expected
    assert "opened 252\nerrno EMFILE" in result.stdout_text


def test_the_filesystem_of_the_agentos_sample_holds_more_than_the_default_and_no_more_than_it_says() -> None:
    limits = {**AGENTOS["limits"]["resources"], "maxFilesystemBytes": 70 * MIB}
    with AgentVM(Limits.parse({"limits": {"resources": limits}})) as vm:
        result = vm.run(guest("fsbytes"), ["fill", "/file"])
    assert "ENOSPC" in result.stdout_text
    assert 65 * MIB < result.usage["max_filesystem_bytes"].peak <= 70 * MIB
