"""The official WASI test suite: every test of `wasm32-wasip1`, mounted, copied into memory, and by the command line.

`AGENTVM_WASI_TESTSUITE` names a checkout of the branch of prebuilt tests; `test_suite.py` says so where it is missing.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentvm import AgentVM, HostDirectory, Result

SUITE = os.environ["AGENTVM_WASI_TESTSUITE"]


@dataclass(frozen=True)
class Case:
    wasm: Path
    config: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.wasm.parts[-4]}/{self.wasm.stem}"


def _cases() -> list[Case]:
    found = sorted(Path(SUITE).glob("tests/*/testsuite/wasm32-wasip1/*.wasm"))
    return [Case(wasm, _config(wasm)) for wasm in found]


def _config(wasm: Path) -> dict[str, Any]:
    path = wasm.with_suffix(".json")
    config: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return config


CASES = _cases()


@pytest.fixture
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """A fresh copy of the directory that a test wants as its root."""
    case: Case = request.getfixturevalue("case")
    if "root" not in case.config:
        return None
    copy = tmp_path / "root"
    shutil.copytree(case.wasm.parent / case.config["root"], copy, symlinks=True)
    return copy


def _check(case: Case, result: Result) -> None:
    expected = case.config.get("exit_code", 0)
    assert (result.exit_code, result.describe()) == (expected, f"exited with code {expected}"), result.stderr_text
    if "stdout" in case.config:
        assert result.stdout_text == case.config["stdout"]


def _run(vm: AgentVM, case: Case) -> Result:
    return vm.run(case.wasm, case.config.get("args", []), case.config.get("env", {}), timeout=60)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_with_the_directory_mounted(case: Case, directory: Path | None) -> None:
    with AgentVM() as vm:
        if directory is not None:
            vm.mount("/", HostDirectory(directory))
        _check(case, _run(vm, case))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_with_the_directory_in_memory(case: Case, directory: Path | None) -> None:
    with AgentVM() as vm:
        if directory is not None:
            for path in sorted(directory.rglob("*")):
                inside = "/" + str(path.relative_to(directory))
                if path.is_dir():
                    vm.fs.mkdir(inside, parents=True)
                else:
                    vm.fs.write(inside, path.read_bytes())
        _check(case, _run(vm, case))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_on_the_command_line(case: Case, directory: Path | None) -> None:
    command = [sys.executable, "-m", "agentvm", "run"]
    for name, value in case.config.get("env", {}).items():
        command += ["--env", f"{name}={value}"]
    if directory is not None:
        command += ["--dir", f"{directory}::/"]
    command += [str(case.wasm), *case.config.get("args", [])]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == case.config.get("exit_code", 0), done.stderr.decode()
    if "stdout" in case.config:
        assert done.stdout.decode() == case.config["stdout"]
