"""`agentvm run` as people and scripts use it: real processes, real descriptors, real signals."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"
TIMEOUT = 90


def agentvm(*arguments: str, stdin: bytes = b"", **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "agentvm", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=TIMEOUT, check=False, **options)  # type: ignore[call-overload,no-any-return]


def guest(name: str) -> str:
    return str(GUESTS / f"{name}.wasm")


def test_hello() -> None:
    done = agentvm("run", guest("hello"))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello from a VM\n", b"")


def test_stdin_flows_through() -> None:
    data = bytes(range(256)) * 2000
    assert agentvm("run", guest("cat"), stdin=data).stdout == data


def test_stdin_can_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    assert agentvm("run", "--stdin", str(tmp_path / "in"), guest("cat")).stdout == b"from a file"


def test_arguments_after_the_guest_are_the_guests() -> None:
    for dashes in ([], ["--"]):
        done = agentvm("run", guest("argv"), *dashes, "--stats", "-x", "--", "y")
        assert done.stdout.splitlines()[:5] == [
            b"argc 5",
            b'argv[1] "--stats"',
            b'argv[2] "-x"',
            b'argv[3] "--"',
            b'argv[4] "y"',
        ]


def test_environment_is_only_what_is_given() -> None:
    environment = {**os.environ, "PASSED": "on"}
    done = agentvm("run", "--env", "A=1", "--env", "PASSED", guest("argv"), env=environment)
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith(b"env")] == [b'env "A=1"', b'env "PASSED=on"']


def test_a_directory_is_mounted_where_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"A")
    assert agentvm("run", "--dir", f"{tmp_path}::/work", guest("cat"), "/work/a.txt").stdout == b"A"
    assert agentvm("run", "--dir", f"{tmp_path}::/work", "--cwd", "/work", guest("cat"), "a.txt").stdout == b"A"
    assert agentvm("run", "--dir", str(tmp_path), guest("cat"), f"{tmp_path}/a.txt").stdout == b"A"
    assert agentvm("run", "--dir", ".", guest("cat"), "a.txt", cwd=tmp_path).stdout == b"A"


def test_a_read_only_directory_stays_as_it_is(tmp_path: Path) -> None:
    done = agentvm("run", "--dir", f"{tmp_path}::/work:ro", guest("fsbytes"), "/work/file")
    assert done.returncode != 0 or b"EROFS" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("arguments", "status"), [(["exit", "7"], 7), (["unreachable"], 132), (["exit", "256"], 0)])
def test_the_exit_status_mirrors_the_guests(arguments: list[str], status: int) -> None:
    assert agentvm("run", guest("exits"), *arguments).returncode == status


def test_a_death_by_limit_is_one_line_with_the_flag_that_raises_it() -> None:
    done = agentvm("run", "--max-fuel", "1000000", guest("spin"))
    assert done.returncode == 128 + 24
    lines = done.stderr.decode().splitlines()
    log = [json.loads(line) for line in lines if line.startswith("{")]
    assert [(entry["kind"], entry["limit"]) for entry in log] == [("warning", "max_fuel"), ("refused", "max_fuel")]
    (said,) = (line for line in lines if not line.startswith("{"))
    assert "max_fuel: 1,000,000 used, 1,000,000 allowed" in said
    assert "--limit max_fuel=2000000" in said


def test_a_timeout_kills() -> None:
    done = agentvm("run", "--timeout", "100ms", guest("spin"), "sleep")
    assert done.returncode == 128 + 9
    assert b"max_wall_time_seconds" in done.stderr


def test_a_trap_shows_where(tmp_path: Path) -> None:
    done = agentvm("run", guest("exits"), "unreachable")
    assert b"SIGILL" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["run"], 125, "which program"),
        (["run", "--bogus", "x.wasm"], 125, "--bogus"),
        (["run", "/no/such.wasm"], 127, "/no/such.wasm"),
        (["run", __file__], 126, "not a WebAssembly module"),
        (["run", "--limit", "max_fds=3", guest("hello")], 125, "max_open_fds"),
        (["run", "--limit", "max_open_fds", guest("hello")], 125, "NAME=VALUE"),
        (["run", "--max-memory-bytes", "lots", guest("hello")], 125, "64MiB"),
        (["run", "--dir", "/no/such::/x", guest("hello")], 125, "/no/such"),
        (["run", "--dir", "x::relative", guest("hello")], 125, "absolute"),
        (["run", "--env", "NO_SUCH_VARIABLE_HERE", guest("hello")], 125, "NO_SUCH_VARIABLE_HERE"),
        (["run", "--timeout", "soon", guest("hello")], 125, "soon"),
        (["run", "--stdin", "/no/such", guest("hello")], 125, "/no/such"),
        (["run", "--cwd", "relative", guest("hello")], 125, "absolute"),
        (["fly"], 125, "fly"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: list[str], status: int, text: str) -> None:
    done = agentvm(*arguments)
    assert done.returncode == status
    assert text in done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert done.stdout == b""


def test_json_is_one_object_on_stdout() -> None:
    done = agentvm("run", "--json", guest("exits"), "exit", "3")
    result = json.loads(done.stdout)
    assert done.returncode == 3
    assert (result["exit_code"], result["signal"], result["cause"]["kind"]) == (3, None, "exit")
    assert result["usage"]["limits"]["max_open_fds"]["cap"] == 1024


def test_json_of_a_death_by_limit_names_it() -> None:
    result = json.loads(agentvm("run", "--json", "--max-fuel", "1000000", guest("spin")).stdout)
    assert result["cause"]["limit"] == "max_fuel"
    assert result["signal"] == "SIGXCPU"
    assert result["stdout"] == "spinning\n"


def test_stats_show_every_limit_on_stderr() -> None:
    done = agentvm("run", "--stats", guest("hello"))
    assert done.stdout == b"hello from a VM\n"
    table = done.stderr.decode()
    assert "max_memory_bytes" in table
    assert "\033[" not in table
    assert "░" in table


def test_output_into_a_regular_file_is_capped_by_max_log_bytes(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with output.open("wb") as file:
        command = [sys.executable, "-m", "agentvm", "run", "--max-log-bytes", "100k", guest("spin"), "stdout"]
        done = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
    assert done.returncode == 6  # what the guest makes of a write that fails
    assert 90 * 1024 <= output.stat().st_size <= 100 * 1024


def test_a_reader_that_leaves_is_epipe_for_the_guest() -> None:
    command = [sys.executable, "-m", "agentvm", "run", guest("spin"), "stdout"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read(100)
        process.stdout.close()
        assert process.wait(TIMEOUT) == 6


def _started(*arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "agentvm", "run", guest("spin"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"spinning\n"
    return process


@pytest.mark.parametrize("mode", ["busy", "sleep", "stdin", "clock"])
def test_ctrl_c_ends_the_guest(mode: str) -> None:
    with _started(mode) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGINT
    assert b"Traceback" not in errors


def test_sigterm_ends_the_guest() -> None:
    with _started("sleep") as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=TIMEOUT)
    assert process.returncode == 128 + signal.SIGTERM


def test_a_terminal_is_a_terminal_to_the_guest() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "agentvm", "run", guest("postcard")]
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env={**os.environ, "NO_COLOR": ""}
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            piece = os.read(leader, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(TIMEOUT) == 0
    assert b"Greetings" in shown


@pytest.mark.parametrize("verb", ["syscalls", "errnos"])
def test_lists_are_text_markdown_and_json(verb: str) -> None:
    assert agentvm(verb).stdout
    assert agentvm(verb, "--format", "md").stdout.startswith(b"# ")
    assert len(json.loads(agentvm(verb, "--format", "json").stdout)) > 30


def test_the_cache_can_be_looked_at_and_emptied(tmp_path: Path) -> None:
    environment = {**os.environ, "AGENTVM_CACHE_DIR": str(tmp_path / "cache")}
    assert agentvm("run", guest("hello"), env=environment).returncode == 0
    assert b"modules    1" in agentvm("cache", "info", env=environment).stdout
    assert agentvm("cache", "prune", "--max-bytes", "1k", env=environment).stdout.startswith(b"freed")
    assert agentvm("run", guest("hello"), env=environment).returncode == 0
    assert agentvm("cache", "clear", env=environment).returncode == 0
    assert b"modules    0" in agentvm("cache", "info", env=environment).stdout


def test_help_and_version() -> None:
    assert b"exit status" in agentvm("run", "--help").stdout
    assert b"agentvm" in agentvm("--version").stdout
    assert agentvm().returncode == 125


def test_the_collector_works_while_a_program_runs_and_not_while_modules_are_loaded() -> None:
    script = (
        "import gc, sys; from agentvm.api.vm import AgentVM; from agentvm.api.process import Process\n"
        "def noting(name, act):\n"
        "    return lambda *args: (print(name, gc.isenabled(), file=sys.stderr), act(*args))[1]\n"
        "AgentVM.start, Process.wait = noting('start', AgentVM.start), noting('wait', Process.wait)\n"
        "from agentvm.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", guest("hello")], capture_output=True, timeout=TIMEOUT, check=True
    )
    assert done.stderr.decode().splitlines()[:2] == ["start False", "wait True"], done.stderr
