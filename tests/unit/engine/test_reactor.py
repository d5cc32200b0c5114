"""Guests that stay: calls from other threads, re-entry from host calls, and the start function's view of memory."""

import threading

import pytest

from agentvm.engine.handlers import MAX_DEPTH
from agentvm.errors import GuestFailed, InvalidArgument, MissingExport
from agentvm.kernel.outcome import CauseKind, Signal
from tests.support.engine_rig import START, Rig, ended, run, until

ADDER = """(global $n (mut i32) (i32.const 0))
(func (export "_initialize") (global.set $n (i32.const 100)))
(func (export "add") (param i32) (result i32)
  (global.set $n (i32.add (global.get $n) (local.get 0))) (global.get $n))
(func (export "pair") (param i64 f64) (result f64 i64) (local.get 1) (local.get 0))
(func (export "single") (param f32) (result f32) (local.get 0))
(func (export "fail") unreachable)
(func (export "leave") (call $exit (i32.const 9)))
(func (export "spin") (loop $l (br $l)))
(func (export "block") (call $wait))
(func (export "refs") (param externref))"""


def test_calls_keep_state_and_finish_exits_with_0() -> None:
    with Rig() as rig:
        guest = rig.start(ADDER, entry="_initialize")
        assert [guest.call("add", (i,)) for i in (1, 2, -3)] == [(101,), (103,), (100,)]
        assert guest.call("pair", (-(1 << 63), 2.5)) == (2.5, -(1 << 63))
        assert guest.call("single", (1,)) == (1.0,)
        guest.finish()
        assert ended(guest).status.code == 0


def test_reactor_without_initialize_takes_calls() -> None:
    with Rig() as rig:
        guest = rig.start('(func (export "one") (result i32) (i32.const 1))', entry="_initialize")
        assert guest.call("one") == (1,)


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("nothing", (), MissingExport),
        ("add", (), InvalidArgument),
        ("add", (1, 2), InvalidArgument),
        ("add", (1.5,), InvalidArgument),
        ("add", (1 << 32,), InvalidArgument),
        ("add", (-(1 << 31) - 1,), InvalidArgument),
        ("add", ("1",), InvalidArgument),
        ("pair", (1, 10**400), InvalidArgument),
        ("refs", (None,), InvalidArgument),
    ],
)
def test_call_that_makes_no_sense_is_refused_and_the_guest_lives(name: str, arguments: tuple, error: type) -> None:  # type: ignore[type-arg]
    with Rig() as rig:
        guest = rig.start(ADDER, entry="_initialize")
        with pytest.raises(error):
            guest.call(name, arguments)
        assert guest.call("add", (0,)) == (100,)


@pytest.mark.parametrize(("name", "signal", "code"), [("fail", Signal.SIGILL, None), ("leave", None, 9)])
def test_call_in_which_the_guest_ends_raises_with_its_ending(
    name: str, signal: Signal | None, code: int | None
) -> None:
    with Rig() as rig:
        guest = rig.start(ADDER, entry="_initialize")
        with pytest.raises(GuestFailed) as caught:
            guest.call(name)
        ending = caught.value.values["ending"]
        assert ending == guest.ending
        assert (ending.status.signal, ending.status.code) == (signal, code)  # type: ignore[attr-defined]
        with pytest.raises(GuestFailed):
            guest.call("add", (1,))


@pytest.mark.parametrize("name", ["spin", "block"])
def test_kill_lets_all_callers_go(name: str) -> None:
    with Rig() as rig:
        guest = rig.start(ADDER, entry="_initialize")
        failed: list[str] = []

        def call(what: str) -> None:
            try:
                guest.call(what, (1,) if what == "add" else ())
            except GuestFailed:
                failed.append(what)

        threads = [threading.Thread(target=call, args=(what,)) for what in (name, "add", "add")]
        threads[0].start()
        until(lambda: rig.waiting == 1 if name == "block" else guest.time.cpu_time_ns() > 10**6)
        for thread in threads[1:]:
            thread.start()
        guest.kill()
        for thread in threads:
            thread.join(30)
        assert sorted(failed) == sorted([name, "add", "add"])


def test_idle_reactor_holds_no_slot_and_no_fuel() -> None:
    with Rig(max_fuel=10**9) as rig:
        guest = rig.start(ADDER, entry="_initialize")
        guest.call("add", (1,))
        until(lambda: not guest.statistics().is_computing)
        until(lambda: rig.machine.statistics().fuel.leased == 0)


NESTED = """(func (export "handler") (param i32)
  (if (local.get 0) (then (call $reenter (i32.sub (local.get 0) (i32.const 1))))))"""


@pytest.mark.parametrize("depth", [1, 5, MAX_DEPTH - 1])
def test_reentry_returns_to_where_it_came_from(depth: int) -> None:
    assert run(NESTED + START.format(f"(call $reenter (i32.const {depth}))")).status.code == 0


def test_reentry_past_the_cap_ends_like_a_stack_overflow() -> None:
    ending = run(NESTED + START.format(f"(call $reenter (i32.const {MAX_DEPTH}))"))
    assert (ending.status.signal, ending.cause.kind) == (Signal.SIGSEGV, CauseKind.TRAP)


def test_trap_in_a_handler_ends_the_process_once() -> None:
    with Rig() as rig:
        ending = rig.run(
            '(func (export "handler") (param i32) unreachable)' + START.format("(call $reenter (i32.const 0))")
        )
        assert ending.status.signal is Signal.SIGILL
        assert len(rig.endings) == 1


def test_exit_in_a_handler_ends_the_process() -> None:
    body = '(func (export "handler") (param i32) (call $exit (i32.const 4)))' + START.format(
        "(call $reenter (i32.const 0))"
    )
    assert run(body).status.code == 4


READ_IN_START = """{memories} (data $d (memory {index}) (i32.const 10) "\\2a")
(func $s (if (i32.ne (call $read (i32.const 10)) (i32.const 42)) (then unreachable))) (start $s)"""


@pytest.mark.parametrize(
    ("memories", "index"),
    [
        ('(memory (export "memory") 1)', 0),
        ('(memory 1) (memory (export "memory") 2)', 1),
        ('(tag $t) (memory 1) (memory (export "memory") 2)', 1),
        ('(tag $t) (memory (export "memory") 1) (func (throw $t))', 0),
    ],
    ids=["one", "second", "with exceptions", "thrown"],
)
def test_start_function_reaches_the_exported_memory(memories: str, index: int) -> None:
    assert run(READ_IN_START.format(memories=memories, index=index) + START.format("")).status.code == 0


def test_view_follows_growth() -> None:
    body = '(memory (export "memory") 1)' + START.format(
        """(drop (call $read (i32.const 0))) (drop (memory.grow (i32.const 1)))
        (i32.store8 (i32.const 65540) (i32.const 7)) (call $exit (call $read (i32.const 65540)))"""
    )
    assert run(body).status.code == 7


def test_module_without_memory_gets_efault_as_a_host_bug_only_in_this_rig() -> None:
    """The rig's calls do not turn a `KernelError` into an errno: that it is one, and no crash, is the point."""
    ending = run(START.format("(drop (call $read (i32.const 0)))"))
    assert "KernelError" in ending.cause.message
