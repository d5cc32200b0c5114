"""Guests that use up their stack: `recursion STACK_BYTES`. Endless, deep, and out of nested handlers."""

import sys

from agentvm.kernel.outcome import CauseKind, Signal
from tests.support.engine_rig import START, Rig

#: 100,000 frames of a small function; the wider one has many locals that live across the call.
DEEP = """(func $down (param i32) (result i32) (if (result i32) (i32.eqz (local.get 0)) (then (i32.const 0))
  (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))"""
ENDLESS = "(func $f (param i64) (call $f (i64.add (local.get 0) (i64.const 1))))"
CALLS = "(func $f (call $nop) (call $f) (call $nop))"
NESTED = """(func $f (call $f)) (func (export "handler") (param $n i32)
  (if (local.get $n) (then (call $reenter (i32.sub (local.get $n) (i32.const 1)))) (else (call $f))))"""
#: Goes down a while between any two handlers, so that they share one stack.
SHARED = """(func $down (param $n i32) (param $left i32) (if (local.get $left)
  (then (call $down (local.get $n) (i32.sub (local.get $left) (i32.const 1))) (call $nop))
  (else (call $reenter (local.get $n)))))
(func (export "handler") (param $n i32) (if (local.get $n)
  (then (call $down (i32.sub (local.get $n) (i32.const 1)) (i32.const 800)))))"""


def main(stack_bytes: int) -> None:
    with Rig(max_wasm_stack_bytes=stack_bytes) as rig:
        for name, body in {
            "endless": ENDLESS + START.format("(call $f (i64.const 0))"),
            "endless with calls": CALLS + START.format("(call $f)"),
            "endless in nested handlers": NESTED + START.format("(call $reenter (i32.const 15))"),
        }.items():
            ending = rig.run(body)
            assert (ending.status.signal, ending.cause.kind) == (Signal.SIGSEGV, CauseKind.TRAP), (name, ending)
        ending = rig.run(SHARED + START.format("(call $reenter (i32.const 15))"))
        assert ending.status.code == 0 or ending.status.signal is Signal.SIGSEGV, ending
        ending = rig.run(
            DEEP + START.format("(call $exit (i32.ne (call $down (i32.const 100000)) (i32.const 100000)))")
        )
        if stack_bytes >= 64 << 20:
            assert ending.status.code == 0, ending
        else:
            assert ending.status.code == 0 or ending.status.signal is Signal.SIGSEGV, ending
        assert rig.run(START.format("")).status.code == 0
    print("the host lives")


if __name__ == "__main__":
    main(int(sys.argv[1]))
