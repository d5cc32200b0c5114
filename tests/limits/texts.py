"""Guests as text, for what the committed ones don't do: retry after a refusal, hammer one call, hold exceptions."""

import re

from tests.limits.harness import assemble

__all__ = [
    "HUNDRED_TABLES",
    "call",
    "create_files",
    "grow_tables",
    "hammer",
    "hold_exceptions",
    "retry",
    "with_length",
    "write_nonblocking",
]

_WASI = "wasi_snapshot_preview1"
_TYPES = {
    "clock_time_get": "(param i32 i64 i32) (result i32)",
    "fd_close": "(param i32) (result i32)",
    "fd_fdstat_set_flags": "(param i32 i32) (result i32)",
    "fd_pwrite": "(param i32 i32 i32 i64 i32) (result i32)",
    "fd_read": "(param i32 i32 i32 i32) (result i32)",
    "fd_readdir": "(param i32 i32 i32 i64 i32) (result i32)",
    "fd_write": "(param i32 i32 i32 i32) (result i32)",
    "path_open": "(param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)",
    "poll_oneoff": "(param i32 i32 i32 i32) (result i32)",
    "proc_exit": "(param i32)",
    "random_get": "(param i32 i32) (result i32)",
}

#: At 0 an iovec of 16 bytes at 1024, at 8 one of a byte at 1040; "full" at 1024; the name "file" at 1100.
_DATA = """(data (i32.const 0) "\\00\\04\\00\\00\\04\\00\\00\\00\\10\\04\\00\\00\\01\\00\\00\\00")
  (data (i32.const 1024) "full") (data (i32.const 1100) "fileaaaaaaaa")"""
_OPEN = """(call $path_open (i32.const 3) (i32.const 0) (i32.const 1100) (i32.const {length}) (i32.const {oflags})
  (i64.const 0x4a) (i64.const 0) (i32.const 0) (i32.const 512))"""


def _program(body: str, *, pages: int = 1, fields: str = "") -> bytes:
    imports = "\n".join(f'(import "{_WASI}" "{name}" (func ${name} {kind}))' for name, kind in _TYPES.items())
    return assemble(
        f'(module {imports} (memory (export "memory") {pages}) {_DATA} {fields}'
        f' (func (export "_start") (local $i i32) (local $n i32) (local $errno i32) {body}))'
    )


def retry(kind: str) -> bytes:
    """Go on until refused, print "full", wait for a byte, try once more: exit code 0 if that worked.

    `kind` is "fds" or "memory"; "wait" only waits; "fuel" burns about a million instructions after the wait.
    """
    attempts = {
        "fds": _OPEN.format(length=4, oflags=1),
        "memory": "(i32.eq (memory.grow (i32.const 1)) (i32.const -1))",
        "wait": "(i32.const 0)",
        "fuel": "(block (result i32) (local.set $i (i32.const 200000)) (loop $burn (br_if $burn"
        " (local.tee $i (i32.sub (local.get $i) (i32.const 1))))) (i32.const 0))",
    }
    until_refused = kind in ("fds", "memory")
    first = f"(loop $more (br_if $more (i32.eqz {attempts[kind]})))" if until_refused else ""
    return _program(
        f"""{first}
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512)))
        (drop (call $fd_read (i32.const 0) (i32.const 8) (i32.const 1) (i32.const 512)))
        (call $proc_exit {attempts[kind]})"""
    )


def create_files(count: int) -> bytes:
    """Make `count` empty files; exit with the errno of the first refusal."""
    digit = "".join(
        f"(i32.store8 (i32.const {1104 + place}) (i32.add (i32.const 97)"
        f" (i32.and (i32.shr_u (local.get $i) (i32.const {4 * place})) (i32.const 15))))"
        for place in range(6)
    )
    return _program(
        f"""(loop $next {digit}
          (local.set $errno {_OPEN.format(length=12, oflags=5)})
          (if (local.get $errno) (then (call $proc_exit (local.get $errno))))
          (drop (call $fd_close (i32.load (i32.const 512))))
          (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count}))))"""
    )


def call(name: str, *arguments: int) -> str:
    """Return the text of one call with constant arguments."""
    kinds = re.findall("i32|i64", _TYPES[name].partition("(result")[0])
    constants = (f"({kind}.const {value})" for kind, value in zip(kinds, arguments, strict=True))
    return f"(call ${name} {' '.join(constants)})"


def with_length(length: int, text: str) -> str:
    """Return a call before which the length of the iovec at 0 is set."""
    return f"(block (result i32) (i32.store (i32.const 4) (i32.const {length})) {text})"


def hammer(text: str, times: int) -> bytes:
    """Make the call `text` `times` times, and exit with the errno of the last."""
    return _program(
        f"""(loop $again
          (local.set $errno {text})
          (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {times}))))
        (call $proc_exit (local.get $errno))"""
    )


def write_nonblocking() -> bytes:
    """Make standard output non-blocking and write to it until refused; exit with that errno."""
    return _program(
        """(drop (call $fd_fdstat_set_flags (i32.const 1) (i32.const 4)))
        (loop $more
          (local.set $errno (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 512)))
          (br_if $more (i32.eqz (local.get $errno))))
        (call $proc_exit (local.get $errno))"""
    )


def hold_exceptions(count: int) -> bytes:
    """Throw, catch and keep `count` exceptions: they live on the GC heap. Exit code 0 if all could be had."""
    fields = f"""(tag $thrown (param i64 i64))
      (table $kept {count} exnref)
      (func $one (param $place i32) (local $exception exnref)
        (block $caught (result i64 i64 exnref)
          (try_table (catch_ref $thrown $caught) (throw $thrown (i64.const 1) (i64.const 2)))
          unreachable)
        (local.set $exception) drop drop
        (table.set $kept (local.get $place) (local.get $exception)))"""
    return _program(
        f"""(loop $next (call $one (local.get $i))
          (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {count}))))""",
        fields=fields,
    )


#: A hundred tables of a million elements each, from the start.
HUNDRED_TABLES = _program("", fields="(table 1000000 funcref)" * 100)


def grow_tables(count: int) -> bytes:
    """Grow each of `count` tables by 10,000 elements, again and again until refused; exit with 1 if none ever was."""
    tables = "".join(f"(table $t{number} 0 funcref)" for number in range(count))
    grow = "".join(
        f"""(local.set $n (i32.const 0))
        (block $full{number} (loop $more{number}
          (br_if $full{number} (i32.eq (table.grow $t{number} (ref.null func) (i32.const 10000)) (i32.const -1)))
          (if (i32.gt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 1000))
            (then (call $proc_exit (i32.const 1))))
          (br $more{number})))"""
        for number in range(count)
    )
    return _program(grow, fields=tables)
