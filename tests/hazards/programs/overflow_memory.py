"""What an overflow of a large stack takes of the host's memory, after the allocator has served large pieces itself."""

import ctypes
import sys
import threading

from agentvm import AgentVM, Limits, Signal, log
from tests.limits.harness import MIB, assemble, reset_peak, resident_bytes

STACK_MIB = 64
#: wasmtime notes 16 bytes for each frame while it unwinds, and the smallest frame takes 48.
NOTES_MIB = STACK_MIB / 3
SLACK_MIB = 8

ENDLESS = assemble('(module (func $f (call $f) unreachable) (func (export "_start") (call $f)))')


def serve_large_pieces() -> None:
    """Free a piece so large that glibc from then on keeps pieces of that size, as in any program with large arrays."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(32_000_000))


def overflow() -> None:
    with AgentVM(Limits(max_wasm_stack_bytes=STACK_MIB * MIB)) as vm:
        assert vm.run(ENDLESS).signal is Signal.SIGSEGV


def main(threads: int) -> None:
    log.configure("error", None)  # the log's own import takes more than what is looked for
    serve_large_pieces()
    with AgentVM() as vm:
        vm.run(ENDLESS)
    before = resident_bytes()
    for _ in range(3):
        reset_peak()
        running = [threading.Thread(target=overflow) for _ in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        peak, left = ((resident_bytes(field) - before) / MIB for field in ("VmHWM", "VmRSS"))
        assert peak <= threads * (STACK_MIB + NOTES_MIB) + SLACK_MIB, f"{peak:.1f} MiB at most"
        assert left <= SLACK_MIB, f"{left:.1f} MiB are left"
        print(f"peak {peak:.1f} MiB, left {left:.1f} MiB")


if __name__ == "__main__":
    main(int(sys.argv[1]))
