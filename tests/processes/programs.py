"""Small programs of the host ABI, written in the text format: each says in its exit code what it found."""

from functools import cache

import wasmtime

from agentvm import Signal

__all__ = ["ALARM_US", "Program", "program"]

ALARM_US = 50_000
#: The bits of the signals whose handlers have run are in $handled.
_HEAD = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
  (import "host_process" "sleep_ms" (func $sleep (param i32) (result i32)))
  (import "host_process" "proc_kill" (func $kill (param i32 i32) (result i32)))
  (import "host_process" "proc_sigaction" (func $sigaction (param i32 i32 i32 i32 i32) (result i32)))
  (import "host_process" "proc_itimer_real" (func $itimer (param i32 i64 i64 i32 i32) (result i32)))
  (import "host_process" "proc_setrlimit" (func $setrlimit (param i32 i64 i64) (result i32)))
  (memory (export "memory") 2)
  (global $handled (mut i32) (i32.const 0))
  (func (export "__wasi_signal_trampoline") (param $signal i32)
    (global.set $handled (i32.or (global.get $handled) (i32.shl (i32.const 1) (local.get $signal)))))
  (func $handle (param $signal i32)
    (drop (call $sigaction (local.get $signal) (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0))))
  (func $alarm (param $value i64) (param $interval i64)
    (drop (call $itimer (i32.const 1) (local.get $value) (local.get $interval) (i32.const 0) (i32.const 8))))
  (func (export "_start")
"""
_SPIN = "(loop $again (br $again))"
_SET = f"(call $alarm (i64.const {ALARM_US}) (i64.const 0))"
_UNTIL_HANDLED = "(loop $again (drop (call $yield)) (br_if $again (i32.eqz (global.get $handled))))"
_BODIES = {
    "alarm while it computes": f"{_SET} {_SPIN}",
    "alarm while it sleeps": f"{_SET} (drop (call $sleep (i32.const 60000)))",
    "alarm that is handled in calls": f"(call $handle (i32.const 14)) {_SET} {_UNTIL_HANDLED}",
    "alarm that ends a sleep": f"""
        (call $handle (i32.const 14)) {_SET} (call $exit (call $sleep (i32.const 60000)))""",
    "alarm while it is stopped": f"{_SET} (drop (call $kill (i32.const 0) (i32.const 19))) {_SPIN}",
    "alarm while others compute": f"{_SET} {_SPIN}",
    "spins": _SPIN,
    "sleeps": "(drop (call $sleep (i32.const 60000)))",
    "waits for SIGUSR1": f"(call $handle (i32.const 10)) {_UNTIL_HANDLED} (call $exit (i32.const 3))",
    "waits for SIGINT": f"(call $handle (i32.const 2)) {_UNTIL_HANDLED} (call $exit (i32.const 4))",
    "cpu soft limit": f"(drop (call $setrlimit (i32.const 0) (i64.const 1) (i64.const 60))) {_SPIN}",
    "cpu hard limit": f"(drop (call $setrlimit (i32.const 0) (i64.const 1) (i64.const 1))) {_SPIN}",
    "cpu signal that is handled": f"""
        (call $handle (i32.const {int(Signal.SIGXCPU)}))
        (drop (call $setrlimit (i32.const 0) (i64.const 1) (i64.const 60))) {_UNTIL_HANDLED} (call $exit (i32.const 5))
    """,
    "memory limit": """
        (drop (call $setrlimit (i32.const 9) (i64.const 196608) (i64.const 196608)))
        (call $exit (i32.add
          (i32.eq (memory.grow (i32.const 1)) (i32.const 2))
          (i32.mul (i32.const 2) (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))))
    """,
}

#: One of the names below.
Program = str


@cache
def program(name: Program) -> bytes:
    """Return a program as a binary module."""
    return bytes(wasmtime.wat2wasm(f"{_HEAD}{_BODIES[name]}))"))
