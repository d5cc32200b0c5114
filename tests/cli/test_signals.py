"""SIGINT and SIGTERM at any moment of `agentvm run`: 128 + N or the program's own status, and never a traceback."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agentvm.cli.interrupts import Interrupts
from tests.support.wasm_builder import time_bomb

ROOT = Path(__file__).parents[2]
TIMEOUT = 60
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])

#: The command line, which says when it has begun: what Python does before that is not ours.
_SAYING_READY = """
import os, sys
from agentvm.__main__ import _die_of_ctrl_c, main
_die_of_ctrl_c()  # as main does first
os.write(1, b"ready\\n")
sys.exit(main())
"""
#: The same, where the thread that tells of the program's end dawdles in the middle of it, and the main thread that
#: waits for it does when it is interrupted there, as both may on a busy machine.
_DAWDLING = """
import os, sys, threading, time
import agentvm.api.launch
from agentvm.__main__ import main

class Event(threading.Event):
    def __init__(self):
        super().__init__()
        self._cond._acquire_restore = self._restore

    def _restore(self, _state):
        try:
            self._cond.acquire()
        except BaseException:
            time.sleep(0.6)
            raise

    def set(self):
        with self._cond:
            self._flag = True
            self._cond.notify_all()
            os.write(1, b"ended\\n")
            time.sleep(0.3)

agentvm.api.launch.Event = Event
sys.exit(main())
"""


def guest(name: str) -> str:
    return str(ROOT / "fixtures" / "guests" / f"{name}.wasm")


def _start(code: str, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", code, "run", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload,no-any-return]


def _ends_well(running: "subprocess.Popen[bytes]", number: int) -> None:
    _, errors = running.communicate(timeout=TIMEOUT)
    assert errors == b""
    # The default action, before the run and after it, ends a process by the signal itself: a shell shows the same.
    assert running.returncode in (0, 128 + number, -number)


@BOTH
def test_a_signal_at_any_moment(number: signal.Signals) -> None:
    with _start(_SAYING_READY, guest("hello")) as running:
        assert running.stdout is not None
        running.stdout.readline()
        begun = time.monotonic()
        running.communicate(timeout=TIMEOUT)
        life = time.monotonic() - begun
    for moment in range(16):
        with _start(_SAYING_READY, guest("hello")) as running:
            assert running.stdout is not None
            running.stdout.readline()
            time.sleep(life * moment / 15)
            running.send_signal(number)
            _ends_well(running, number)


@BOTH
def test_a_signal_while_the_end_of_the_program_is_told(number: signal.Signals) -> None:
    """An exception out of the handler left a lock there that it did not hold, and the command ended with 1."""
    with _start(_DAWDLING, guest("hello")) as running:
        assert running.stdout is not None
        while running.stdout.readline() != b"ended\n":
            continue
        running.send_signal(number)
        _ends_well(running, number)


@BOTH
def test_a_signal_while_a_module_is_compiled(number: signal.Signals, tmp_path: Path) -> None:
    module = tmp_path / "bomb.wasm"
    module.write_bytes(time_bomb())
    with _start(_SAYING_READY, str(module)) as running:
        assert running.stderr is not None
        assert b"compiling" in running.stderr.readline()
        running.send_signal(number)
        assert running.wait(TIMEOUT) == 128 + number
        assert running.stderr.read() == b""


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    with _start(_SAYING_READY, guest("cat"), stdin=subprocess.PIPE, preexec_fn=ignore) as running:
        assert running.stdout is not None
        running.stdout.readline()
        for _ in range(20):
            running.send_signal(signal.SIGINT)
            time.sleep(0.01)
        assert running.communicate(b"heard", timeout=TIMEOUT) == (b"heard", b"")
    assert running.returncode == 0


def test_signals_wait_to_be_taken_and_the_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupts() as interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), number)
            assert interrupts.wait() == number
        interrupts.exit_if_any()
        threading.Timer(0.01, interrupts.wake).start()
        assert interrupts.wait() == 0
        interrupts.wake()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as caught:
            interrupts.exit_if_any()
        assert caught.value.code == 128 + signal.SIGTERM
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
