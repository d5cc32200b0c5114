"""How a guest ends, and what is said about it."""

import pytest

from agentvm.errors import MissingExport, MissingImport
from agentvm.kernel.outcome import CauseKind, Signal
from tests.support.engine_rig import BUSY, HELLO, SPIN, START, WAIT, Rig, ended, load, run, until


@pytest.mark.parametrize("public", [False, True], ids=["fast", "public"])
def test_guest_that_returns_exits_with_0(public: bool) -> None:
    with Rig(public=public) as rig:
        ending = rig.run(HELLO)
        assert (ending.status.code, ending.cause.kind) == (0, CauseKind.EXIT)
        assert rig.endings == [ending]


@pytest.mark.parametrize("public", [False, True], ids=["fast", "public"])
@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_call_ends_with_its_code(public: bool, code: int) -> None:
    with Rig(public=public) as rig:
        assert rig.run(START.format(f"(call $exit (i32.const {code})) unreachable")).status.code == code


TRAPS = {
    "out of bounds": ("(memory 1)", "(drop (i32.load (i32.const -9)))", Signal.SIGSEGV),
    "stack overflow": ("(func $f (call $f))", "(call $f)", Signal.SIGSEGV),
    "table out of bounds": ("(table 1 funcref)", "(drop (table.get (i32.const 7)))", Signal.SIGSEGV),
    "unreachable": ("", "unreachable", Signal.SIGILL),
    "empty entry": ("(table 1 funcref)", "(call_indirect (i32.const 0))", Signal.SIGILL),
    "wrong type": (
        "(table funcref (elem $g)) (func $g (param i32))",
        "(call_indirect (i32.const 0))",
        Signal.SIGILL,
    ),
    "division by zero": ("", "(drop (i32.div_s (i32.const 1) (i32.const 0)))", Signal.SIGFPE),
    "overflow": ("", "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", Signal.SIGFPE),
    "conversion": ("", "(drop (i32.trunc_f32_s (f32.const nan)))", Signal.SIGFPE),
    "uncaught exception": ("(tag $t)", "(throw $t)", Signal.SIGABRT),
}


@pytest.mark.parametrize("name", TRAPS)
def test_trap_ends_like_the_signal_of_linux(name: str) -> None:
    fields, code, signal = TRAPS[name]
    ending = run(f"{fields} (func $inner {code}) {START.format('(call $inner)')}")
    assert ending.status.signal is signal
    assert ending.cause.kind is CauseKind.TRAP
    assert signal.name in ending.cause.message


def test_trap_tells_where_innermost_first() -> None:
    ending = run(f"(func $inner unreachable) (func $outer (call $inner)) {START.format('(call $outer)')}")
    assert [line.split(" at ")[0] for line in ending.cause.backtrace[:2]] == ["inner", "outer"]


def test_backtrace_is_bounded_and_holds_no_control_characters() -> None:
    name = '$"\\1b[2J' + "x" * 5000 + '"'
    ending = run(f"(func {name} unreachable) {START.format(f'(call {name})')}")
    assert "\x1b" not in "".join(ending.cause.backtrace)
    assert max(map(len, ending.cause.backtrace)) < 1200


def test_trap_in_the_start_section_ends_the_process() -> None:
    ending = run("(func $s unreachable) (start $s)" + START.format(""))
    assert ending.status.signal is Signal.SIGILL


def test_exit_in_the_start_section_ends_the_process() -> None:
    assert run("(func $s (call $exit (i32.const 5))) (start $s)" + START.format("")).status.code == 5


@pytest.mark.parametrize("body", [SPIN, BUSY, WAIT], ids=["computes", "calls", "waits"])
def test_kill_ends_a_guest_that(body: str) -> None:
    with Rig() as rig:
        execution = rig.start(body)
        until(lambda: rig.waiting == 1 if body is WAIT else execution.time.cpu_time_ns() > 10**6, "a start")
        assert execution.kill(Signal.SIGTERM)
        assert ended(execution).status.signal is Signal.SIGTERM
        assert not execution.kill()


def test_kill_before_the_runner_is_there_ends_it() -> None:
    with Rig() as rig:
        execution = rig.start(SPIN)
        execution.kill(Signal.SIGINT)
        assert ended(execution).status.signal is Signal.SIGINT


def test_process_that_was_killed_before_it_started_never_runs() -> None:
    with Rig() as rig:
        make = rig.process

        def dying() -> object:
            process = make()
            process.kill(Signal.SIGHUP)
            return process

        rig.process = dying  # type: ignore[assignment, method-assign]
        assert rig.run(SPIN).status.signal is Signal.SIGHUP


def test_module_without_start_is_refused() -> None:
    with Rig() as rig, pytest.raises(MissingExport, match="_start"):
        rig.start('(func (export "_start") (param i32))')


def test_missing_import_is_refused() -> None:
    with Rig() as rig, pytest.raises(MissingImport, match="nowhere"):
        rig.start(load('(import "nowhere" "f" (func))' + START.format("")))


def test_bug_in_a_host_call_ends_the_process_and_reaches_the_log_only(caplog: pytest.LogCaptureFixture) -> None:
    ending = run(START.format("(call $fault)"))
    assert ending.cause.kind is CauseKind.HOST_BUG
    assert "a bug in a host call" not in ending.cause.message
    assert "a bug in a host call" in caplog.text


def test_failing_on_end_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(_ending: object) -> None:
        raise ValueError("in on_end")

    with Rig() as rig:
        assert rig.run(HELLO, on_end=fail).status.code == 0
        assert rig.run(HELLO).status.code == 0
    assert "in on_end" in caplog.text
