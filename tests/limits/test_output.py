"""Captured output at its cap: refused or cut in the middle, and never shown as if it were all there was."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from agentvm import AgentVM, AsyncAgentVM, Limits, Result
from agentvm.api.result import Gap, text_of
from agentvm.errors import GuestFailed
from tests.limits.harness import MIB, assemble, beside_a_sibling, opened
from tests.support.fixtures import guest

#: What the guest "output" prints again and again if its chunks are multiples of it.
PATTERN = bytes(ord("\n") if at % 64 == 63 else ord("a") + at % 26 for at in range(832))
CHUNK = 832 * 70


def printed(size: int) -> bytes:
    return (PATTERN * (size // len(PATTERN) + 1))[:size]


def cut(data: bytes, cap: int) -> tuple[bytes, Gap]:
    """What is kept of one stream that has the cap for itself."""
    head, tail = cap // 2, cap - cap // 2
    return data[:head] + data[len(data) - tail :], Gap(head, len(data) - cap)


# -- error: ENOSPC ----------------------------------------------------------------------------------------------------


def test_a_refused_program_s_result_says_what_was_kept_and_how_to_keep_more() -> None:
    with opened(max_log_bytes="10KiB") as vm:
        result = vm.run(guest("output"), args=["stdout", "50000", "832"])
        report = vm.fs.read("/output.report")
    assert report.splitlines()[:2] == [b"wrote 10240", b"errno ENOSPC"]
    assert result.stdout == printed(10_240)
    assert (result.truncated, result.kept_bytes, result.dropped_bytes) == (True, 10_240, 0)
    assert result.stdout_gap == Gap(10_240, 0)
    assert result.describe() == (
        "exited with code 1; its output is truncated: 10 KiB kept (max_log_bytes), the rest was refused with ENOSPC; "
        "raise it with Limits(max_log_bytes=20480) or --limit max_log_bytes=20480"
    )
    assert result.stdout_text == printed(10_240).decode() + "[... output refused: max_log_bytes ...]\n"
    with pytest.raises(GuestFailed, match="its output is truncated: 10 KiB kept"):
        result.check()


def test_a_complete_result_has_no_gap() -> None:
    for policy in ("error", "discard"):
        with opened(max_log_bytes=1000, on_output_full=policy) as vm:
            result = vm.run(guest("cat"), stdin=b"x" * 1000)
        assert (result.truncated, result.stdout_gap, result.stderr_gap) == (False, None, None)
        assert (result.kept_bytes, result.dropped_bytes, result.stdout_text) == (1000, 0, "x" * 1000)
        assert result.describe() == "exited with code 0"
        assert result.usage["max_log_bytes"].refused == 0


# -- discard: head and tail -------------------------------------------------------------------------------------------


def _run(limits: Limits) -> Result:
    with AgentVM(limits) as vm:
        return vm.run(guest("output"), args=["stdout", "999000", str(CHUNK)])


def _spawn(limits: Limits) -> Result:
    with AgentVM(limits) as vm, vm.spawn(guest("output"), ["stdout", "999000", str(CHUNK)], capture=True) as process:
        return process.wait(60)


def _aio(limits: Limits) -> Result:
    async def run() -> Result:
        async with AsyncAgentVM(limits) as vm:
            return await vm.run(guest("output"), ["stdout", "999000", str(CHUNK)])

    return asyncio.run(run())


@pytest.mark.parametrize("door", [_run, _spawn, _aio])
def test_head_and_tail_are_kept_and_the_rest_is_counted(door: Callable[[Limits], Result]) -> None:
    cap = 100_001
    result = door(Limits(max_log_bytes=cap, on_output_full="discard"))
    report = b"wrote 999000\nerrno OK\nshort 0\n"
    assert result.stderr == report, "the program has seen success only, and its last words are kept"
    kept, _ = cut(printed(999_000), cap)
    tail = cap - cap // 2 - len(report)
    assert result.stdout == kept[: cap // 2] + printed(999_000)[-tail:]
    assert (result.stdout_gap, result.stderr_gap) == (Gap(cap // 2, 999_000 + len(report) - cap), None)
    assert (result.ok, result.truncated, result.kept_bytes) == (True, True, cap)
    assert result.dropped_bytes == 999_000 + len(report) - cap
    assert f"97.7 KiB kept (max_log_bytes), {result.dropped_bytes:,} bytes were dropped" in result.describe()
    use = result.usage["max_log_bytes"]
    assert (use.peak, use.warnings, use.refused) == (cap, 1, 1)


def test_the_setting_that_is_offered_keeps_it_all() -> None:
    limits = Limits(max_log_bytes=5000, on_output_full="discard")
    wanted = 5000 + _run(limits).dropped_bytes
    assert f"Limits(max_log_bytes={wanted})" in _run(limits).describe()
    assert not _run(limits.replace(max_log_bytes=wanted)).truncated


_REACTOR = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\00\\04\\00\\00\\00\\00\\00\\00")
  (func (export "_initialize"))
  (func (export "print") (param $letter i32) (param $size i32) (result i32)
    (memory.fill (i32.const 1024) (local.get $letter) (local.get $size))
    (i32.store (i32.const 4) (local.get $size))
    (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))"""


def test_a_reactor_s_output_is_cut_in_the_middle_too() -> None:
    with AgentVM(Limits(max_log_bytes=1000, on_output_full="discard")) as vm:
        instance = vm.instantiate(assemble(_REACTOR))
        assert [instance.call("print", letter, 400) for letter in b"abcdef"] == [0] * 6
        result = instance.close()
        assert result.stdout == instance.close().stdout == b"a" * 400 + b"b" * 100 + b"e" * 100 + b"f" * 400
    assert result.stdout_gap == Gap(500, 1400)


def test_a_program_s_own_tighter_cap_is_where_its_output_is_cut() -> None:
    with AgentVM(Limits(max_log_bytes="1MiB", on_output_full="discard")) as vm:
        result = vm.run(guest("cat"), stdin=b"x" * 5000, limits={"max_log_bytes": 1000})
    assert (result.kept_bytes, result.dropped_bytes) == (1000, 4000)


def test_a_flood_costs_no_more_memory_than_the_cap() -> None:
    size = 256 * MIB
    result = beside_a_sibling(
        lambda vm: vm.run(guest("output"), args=["stdout", str(size), str(CHUNK)]),
        again=False,
        max_log_bytes="2MiB",
        on_output_full="discard",
    )
    assert result.ok
    assert (result.kept_bytes, result.kept_bytes + result.dropped_bytes) == (2 * MIB, size + len(result.stderr))
    assert result.stdout.endswith(printed(size % 832 + 832 * 500))


def test_streamed_output_is_never_dropped() -> None:
    with opened(max_log_bytes=1000, on_output_full="discard") as vm:
        process = vm.spawn(guest("output"), ["stdout", "300000", str(CHUNK)], stdin=b"")
        assert process.stdout.read() == printed(300_000)
        assert not process.wait(60).truncated


# -- as text and as JSON ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "gap", "text"),
    [
        (b"abc", None, "abc"),
        (b"abc", Gap(3, 0), "abc\n[... output refused: max_log_bytes ...]\n"),
        (b"one\ntwo", Gap(4, 1_234_567), "one\n[... 1,234,567 bytes dropped ...]\ntwo"),
        (b"onetwo", Gap(3, 5), "one\n[... 5 bytes dropped ...]\ntwo"),
        (b"two", Gap(0, 5), "[... 5 bytes dropped ...]\ntwo"),
        ("aß€".encode()[:-1] + "€b".encode()[2:], Gap(5, 4), "aß\n[... 4 bytes dropped ...]\nb"),
        (b"\xff|\xfe", Gap(2, 1), "\ufffd|\n[... 1 bytes dropped ...]\n\ufffd"),
        (b"\x80\x80\x80\x80", Gap(0, 1), "[... 1 bytes dropped ...]\n" + "\ufffd" * 4),
    ],
    ids=["whole", "refused", "at a line's end", "within a line", "no head", "within characters", "no text", "garbage"],
)
def test_text_marks_what_is_missing_on_a_line_of_its_own(data: bytes, gap: Gap | None, text: str) -> None:
    assert text_of(data, gap) == text


def _json(*flags: str, stdin: bytes = b"") -> dict[str, object]:
    command = [sys.executable, "-m", "agentvm", "run", "--json", *flags]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=90, check=False)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_json_never_shows_a_cut_output_as_complete() -> None:
    flags = ["--limit", "max_log_bytes=1000", "--limit", "on_output_full=discard"]
    result = _json(*flags, str(guest("output")), "stdout", "9000", "832")
    err = "wrote 9000\nerrno OK\nshort 0\n"
    assert (result["truncated"], result["kept_bytes"], result["dropped_bytes"]) == (True, 1000, 8000 + len(err))
    assert result["stdout_gap"] == {"at": 500, "dropped_bytes": 8000 + len(err)}
    assert f"\n[... {8000 + len(err):,} bytes dropped ...]\n" in str(result["stdout"])
    assert result["stderr"] == err
    assert "stderr_gap" not in result


def test_json_of_a_refused_program_says_so() -> None:
    result = _json("--limit", "max_log_bytes=1000", str(guest("output")), "stdout", "9000", "832")
    assert (result["truncated"], result["kept_bytes"], result["dropped_bytes"]) == (True, 1000, 0)
    assert (result["stdout_gap"], result["stderr_gap"]) == (
        {"at": 1000, "dropped_bytes": 0},
        {"at": 0, "dropped_bytes": 0},
    )
    assert str(result["stdout"]).endswith("\n[... output refused: max_log_bytes ...]\n")


def test_json_of_output_that_is_no_text_has_its_bytes_and_where_some_are_missing() -> None:
    with AgentVM(Limits(max_log_bytes=10, on_output_full="discard")) as vm:
        result = vm.run(guest("cat"), stdin=b"\xff" * 5 + b"-" * 90 + b"\xfe" * 5)
    from agentvm.cli.report import to_json

    record = json.loads(to_json(result))
    assert base64.b64decode(record["stdout_base64"]) == b"\xff" * 5 + b"\xfe" * 5
    assert (record["stdout_gap"], "stdout" in record) == ({"at": 5, "dropped_bytes": 90}, False)
