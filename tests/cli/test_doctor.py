"""`agentvm doctor` as a person or a script runs it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS

TIMEOUT = 120
EVERYTHING = [*SPECS, *SETTINGS, *HOST_SPECS]


def doctor(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the doctor in a process of its own."""
    command = [sys.executable, "-m", "agentvm", "doctor", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


@pytest.mark.parametrize("level", ["warn", "debug"])
def test_all_is_as_promised_here_and_nothing_but_the_screen_is_shown(level: str) -> None:
    done = doctor(AGENTVM_LOG=level)
    *rows, empty, verdict = done.stdout.splitlines()
    assert (done.returncode, done.stderr, empty) == (0, "", ""), verdict
    assert verdict.startswith("All is as promised: ")
    shown = [row.split()[1] for row in rows if row.startswith("ok")]
    assert not [name for name in EVERYTHING if name not in shown]
    assert "\033" not in done.stdout


def test_json_is_one_object_with_the_same() -> None:
    done = doctor("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr, report["ok"]) == (0, "", True)
    assert [row["name"] for row in report["self_test"]] == EVERYTHING
    assert all(row["ok"] and row["promised"] and row["reported"] for row in report["self_test"])
    wasmtime = next(finding for finding in report["installation"] if finding["topic"] == "wasmtime")
    assert wasmtime["values"]["version"]


def test_quick_leaves_the_self_test_out() -> None:
    done = doctor("--quick", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["self_test"]) == (0, [])
    assert "not tested" in report["verdict"]


def test_limits_can_be_chosen_by_any_of_their_names() -> None:
    done = doctor("--json", "maxOpenFds", "--", "pids_limit")
    assert [row["name"] for row in json.loads(done.stdout)["self_test"]] == ["max_open_fds", "max_processes"]


def test_limit_that_does_not_exist_is_refused_with_the_nearest() -> None:
    done = doctor("max_open_fsd")
    assert (done.returncode, done.stdout) == (125, "")
    assert "max_open_fds" in done.stderr


def test_public_host_calls_are_a_fault_and_the_limits_hold_all_the_same() -> None:
    done = doctor("--json", AGENTVM_PUBLIC_HOST_CALLS="1")
    report = json.loads(done.stdout)
    faults = [finding["topic"] for finding in report["installation"] if finding["status"] == "FAIL"]
    assert (done.returncode, faults) == (1, ["host calls"])
    assert not [row for row in report["self_test"] if not row["ok"]]


def test_last_line_of_a_failure_says_what_and_what_to_do() -> None:
    done = doctor("max_fuel", AGENTVM_PUBLIC_HOST_CALLS="1")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[-1].startswith("1 of ")
    assert "host calls" in lines[-1]
    assert "reinstall" in lines[-1]
    assert any("unset AGENTVM_PUBLIC_HOST_CALLS" in line for line in lines)


def test_engine_that_does_not_load_is_a_failure_and_no_traceback(tmp_path: Path) -> None:
    package = tmp_path / "wasmtime"
    package.mkdir()
    (package / "__init__.py").write_text("raise ImportError('libwasmtime.so: wrong ELF class')\n")
    done = doctor("max_fuel", PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert {"engine", "max_fuel"} <= set(failed)
    assert "wrong ELF class" in done.stdout


def test_handlers_that_the_program_around_it_took_are_a_failure_and_guests_trap_all_the_same() -> None:
    script = """if True:
        import faulthandler, sys
        from agentvm import AgentVM
        from agentvm.cli.main import main
        from agentvm.doctor.probe import PROBE
        with AgentVM() as vm:
            vm.run(PROBE).check()
        faulthandler.enable()
        sys.exit(main(["doctor", "max_wasm_stack_bytes"]))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if line}
    assert (done.returncode, done.stderr) == (1, "")
    assert rows["traps"].startswith("FAIL")
    assert rows["max_wasm_stack_bytes"].startswith("ok")


def test_colours_are_for_terminals() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "agentvm", "doctor", "--quick"]
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    process = subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 1 << 16)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(TIMEOUT) == 0
    assert b"\033[32mok" in shown
