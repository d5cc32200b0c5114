"""Somebody replaces the signal handlers of the engine: `handlers early|late|running|foreign`."""

import faulthandler
import signal
import sys

from agentvm.kernel.outcome import Signal
from tests.support.engine_rig import START, WAIT, Rig, ended, until

TRAPS = {
    Signal.SIGSEGV: "(memory 1)" + START.format("(drop (i32.load (i32.const -9)))"),
    Signal.SIGILL: START.format("unreachable"),
    Signal.SIGFPE: START.format("(drop (i32.div_s (i32.const 1) (i32.const 0)))"),
}


def trap_all(rig: Rig) -> None:
    for number, body in TRAPS.items():
        assert rig.run(body).status.signal is number


def main(when: str) -> None:
    if when == "early":
        faulthandler.enable()
    with Rig() as rig:
        trap_all(rig)
        if when == "late":
            faulthandler.enable()
        elif when == "foreign":
            for number in (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS):
                signal.signal(number, signal.SIG_DFL)
        elif when == "running":
            guest = rig.start(
                "(memory 1)" + WAIT[: -len("(call $wait))")] + "(call $wait) (drop (i32.load (i32.const -9))))"
            )
            busy = rig.start(START.format("(loop $l (br $l))"))
            until(lambda: rig.waiting == 1)
            faulthandler.enable()
            # The ticker looks while anything computes.
            before = busy.time.cpu_time_ns()
            until(lambda: busy.time.cpu_time_ns() > before + 100 * 10**6)
            rig.release()
            assert ended(guest).status.signal is Signal.SIGSEGV
            busy.kill()
        trap_all(rig)
    print("the host lives")


if __name__ == "__main__":
    main(sys.argv[1])
