"""What `agentvm run` logs: on stderr, one line each; stdout carries the guest's bytes, or the JSON asked for."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentvm import log
from tests.support.fixtures import guest

ROOT = Path(__file__).parents[2]
TIMEOUT = 90
HELLO = str(guest("hello"))
#: A program that comes near a cap, is refused, and says so.
FEW_FILES = ("--max-open-fds-per-process", "5", str(guest("fds")), "open")
FIELDS = {
    "timestamp", "level", "event", "kind", "vm", "pid", "limit", "observed", "capacity", "fill_percent", "count",
    "setting",
}  # fmt: skip
#: A line for people.
CONSOLE = re.compile(r"^agentvm: (error|warning|info|debug): \S.*$")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AGENTVM_LOG")}
    command = [sys.executable, "-m", "agentvm", "run", "--no-config", *arguments]
    return subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False, env=clean | environment)


def test_a_warning_is_one_json_object_where_stderr_is_no_terminal() -> None:
    done = run(*FEW_FILES)
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {record["limit"] for record in records} == {"max_open_fds_per_process"}
    assert {record["kind"] for record in records} == {"warning", "refused"}
    assert all(set(record) == FIELDS for record in records)
    assert {record["level"] for record in records} == {"warning"}


def test_a_warning_is_one_readable_line_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "agentvm", "run", "--no-config", *FEW_FILES]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, timeout=TIMEOUT, check=False)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        shown += piece
    os.close(ours)
    lines = shown.decode().splitlines()
    assert done.stdout
    assert len(lines) == 2
    assert all(CONSOLE.match(line) for line in lines)
    assert lines[0].startswith("agentvm: warning: max_open_fds_per_process is at 80 % (4 of 5); past it: EMFILE;")
    assert re.search(r"; vm=vm-1 pid=\d+$", lines[0])


@pytest.mark.parametrize("level", log.LEVELS)
@pytest.mark.parametrize("format_", log.FORMATS)
def test_stdout_carries_the_guests_bytes_alone_at_every_level(level: str, format_: str) -> None:
    done = run(*FEW_FILES, AGENTVM_LOG=level, AGENTVM_LOG_FORMAT=format_)
    assert done.stdout == b"opened 1\nerrno EMFILE\nafter one close: same fd\n"
    assert bool(done.stderr) == (level != "error")


@pytest.mark.parametrize("level", log.LEVELS)
def test_the_json_asked_for_is_all_of_stdout_at_every_level(level: str) -> None:
    done = run("--json", "--max-log-bytes", "10", HELLO, AGENTVM_LOG=level)
    record = json.loads(done.stdout)
    assert record["truncated"]
    assert all(set(event) == FIELDS - {"timestamp", "level", "event"} for event in record["events"])
    assert {event["kind"] for event in record["events"]} == {"warning", "refused"}
    assert {event["limit"] for event in record["events"]} == {"max_log_bytes"}
    assert (not done.stderr) == (level == "error")


def test_a_quiet_program_logs_nothing_and_has_no_events() -> None:
    done = run("--json", HELLO, AGENTVM_LOG="info")
    assert done.stderr == b""
    assert json.loads(done.stdout)["events"] == []


def test_a_bad_level_is_told_once_and_changes_nothing_else() -> None:
    done = run(HELLO, AGENTVM_LOG="loud")
    assert done.stdout == b"hello from a VM\n"
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"] == ("AGENTVM_LOG is 'loud': it takes error, warn, info or debug; warn is in force")


def test_a_stderr_that_nobody_reads_does_not_hold_up_the_end() -> None:
    reader, writer = os.pipe()
    filler = os.dup(writer)
    os.set_blocking(filler, False)
    try:
        while True:
            os.write(filler, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    command = [sys.executable, "-m", "agentvm", "run", "--no-config", "--json", "--max-log-bytes", "10", HELLO]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=writer, timeout=TIMEOUT, check=False)
    assert json.loads(done.stdout)["events"]
    assert done.returncode == json.loads(done.stdout)["exit_code"]
    for fd in (reader, writer, filler):
        os.close(fd)


# ---- the samples of the documentation are what is printed ----


def samples(kind: str) -> list[str]:
    text = (ROOT / "docs" / "observability.md").read_text()
    return [line for block in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def test_the_sample_lines_of_the_documentation_have_the_shape_of_real_ones() -> None:
    console = samples("console")
    assert len(console) >= 3
    assert all(CONSOLE.match(line) for line in console)
    records = [json.loads(line) for line in samples("json")]
    assert any(set(record) == FIELDS for record in records)
    assert any("usage" in record and record["level"] == "debug" for record in records)


def test_the_first_sample_is_printed_word_for_word() -> None:
    done = run(*FEW_FILES, AGENTVM_LOG_FORMAT="console")
    printed = [re.sub(r"pid=\d+", "pid=2", line) for line in done.stderr.decode().splitlines()]
    assert printed == samples("console")[:2]
