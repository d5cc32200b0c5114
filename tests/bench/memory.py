"""(c) Bytes per idle VM, and per running process beyond its guest's pages."""

import os
from pathlib import Path

import wasmtime

from agentvm import AgentVM, Process

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident_bytes() -> int:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _with_a_file() -> AgentVM:
    vm = AgentVM()
    vm.fs.write("/file", b"x" * 100)
    assert vm.run(GUESTS / "hello.wasm").ok
    return vm


def measure(vms: int = 2000, processes: int = 200) -> str:
    warm = [_with_a_file() for _ in range(50)]
    before = resident_bytes()
    idle = [_with_a_file() for _ in range(vms)]
    per_vm = (resident_bytes() - before) / vms
    for vm in [*idle, *warm]:
        vm.close()
    sleepers = [AgentVM() for _ in range(processes // 50)]
    first = [vm.spawn(SLEEPER) for vm in sleepers]
    _wait_for(first)
    before = resident_bytes()
    started = [vm.spawn(SLEEPER) for vm in sleepers for _ in range(49)]
    _wait_for(started)
    per_process = (resident_bytes() - before) / len(started)
    for vm in sleepers:
        vm.close()
    return (
        f"idle VM that has run a hello and holds a file: {per_vm / 1024:.1f} KiB (target 50)\n"
        f"running process, with the page it touches:     {per_process / 1024:.1f} KiB (target 200)"
    )


def _wait_for(processes: list[Process]) -> None:
    """Wait until each has said that it is about to sleep."""
    for process in processes:
        assert process.stdout
        process.stdout.read(1)


#: Says so, and sleeps for an hour; it touches one page of its memory.
SLEEPER = bytes(
    wasmtime.wat2wasm("""(module
 (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
 (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
 (memory (export "memory") 1)
 (data (i32.const 0) "\\40\\00\\00\\00\\01\\00\\00\\00")
 (func (export "_start")
  (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))
  (i32.store (i32.const 144) (i32.const 1)) (i64.store (i32.const 152) (i64.const 3600000000000))
  (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 16)))))""")
)
