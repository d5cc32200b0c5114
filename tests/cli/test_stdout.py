"""Standard output is the guest's, or the JSON that was asked for: no log level puts a byte of ours there."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.limits.test_output import printed
from tests.support.fixtures import guest

TIMEOUT = 90

at_every_level = pytest.mark.parametrize(
    ("level", "form"),
    [
        ("error", "console"),
        ("warn", "console"),
        ("warn", "json"),
        ("info", "console"),
        ("debug", "console"),
        ("debug", "json"),
    ],
)


def _run(arguments: Sequence[str], level: str, form: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "AGENTVM_LOG": level, "AGENTVM_LOG_FORMAT": form}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT, check=False, env=environment
    )


def _agentvm(*arguments: str, level: str, form: str) -> subprocess.CompletedProcess[bytes]:
    return _run(["-m", "agentvm", "run", *arguments], level, form)


@at_every_level
def test_streamed_output_at_its_cap(level: str, form: str) -> None:
    limits = ["--limit", "max_output_bytes=20000", "--limit", "max_pipe_bytes=4096"]
    done = _agentvm(*limits, str(guest("output")), "stdout", "50000", "832", level=level, form=form)
    assert done.stdout == printed(20_000)
    assert (b"max_output_bytes" in done.stderr) is (level != "error"), done.stderr
    assert done.returncode == 1


@at_every_level
@pytest.mark.parametrize("policy", ["error", "discard"])
def test_json_at_the_cap_of_captured_output(policy: str, level: str, form: str) -> None:
    limits = ["--limit", "max_log_bytes=20000", "--limit", f"on_output_full={policy}"]
    done = _agentvm("--json", *limits, str(guest("output")), "stdout", "50000", "832", level=level, form=form)
    assert done.stdout.count(b"\n") == 1
    result = json.loads(done.stdout)
    assert (result["truncated"], result["kept_bytes"]) == (True, 20_000)
    assert result["usage"]["limits"]["max_log_bytes"]["warnings"] == 1
    assert (b"max_log_bytes" in done.stderr) is (level != "error"), done.stderr


@at_every_level
def test_a_death_by_limit_and_statistics(level: str, form: str) -> None:
    limits = ["--limit", "max_fuel=30000000", "--stats"]
    done = _agentvm(*limits, str(guest("spin")), "busy", level=level, form=form)
    assert done.stdout == b"spinning\n"
    assert b"max_fuel" in done.stderr
    assert done.returncode == 128 + 24


@at_every_level
def test_a_start_that_is_refused(level: str, form: str) -> None:
    done = _agentvm("--limit", "max_open_fds=1", str(guest("hello")), level=level, form=form)
    assert (done.stdout, done.returncode) == (b"", 125)
    assert b"EMFILE" in done.stderr


_EMBEDDED = f"""
import sys
from agentvm import AgentVM, Limits
with AgentVM(Limits(max_log_bytes=20_000, max_filesystem_bytes="64KiB", on_output_full="discard")) as vm:
    def broken(event):
        raise RuntimeError("a callback's own bug")
    vm.on_limit(broken)
    vm.run({str(guest("output"))!r}, ["stdout", "50000", "832"])
    vm.run({str(guest("fsbytes"))!r}, ["fill", "/f"])
"""


@at_every_level
def test_an_embedding_program_keeps_its_standard_output(level: str, form: str) -> None:
    done = _run(["-c", _EMBEDDED], level, form)
    assert (done.returncode, done.stdout) == (0, b""), done.stderr
