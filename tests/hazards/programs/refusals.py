"""The host refuses: `refusals thread|mapping|recursion|ticker`. RLIMIT_AS binds root too, unlike RLIMIT_NPROC."""

import resource
import sys
from pathlib import Path

from agentvm.errors import HostLimit
from agentvm.kernel.outcome import CauseKind, Signal
from tests.support.engine_rig import HELLO, SPIN, START, Rig, load

MIB = 1 << 20


def limit_address_space(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    size = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))


def free_address_space() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def thread() -> None:
    with Rig(max_wasm_stack_bytes=64 * MIB) as rig:
        program = load(START.format(""), 64 * MIB)
        limit_address_space(16 * MIB)
        try:
            rig.start(program)
        except HostLimit as error:
            print(error)
        else:
            raise AssertionError("a thread of 65 MiB was had in 16 MiB")
        free_address_space()
        assert rig.run(program).status.code == 0


def mapping() -> None:
    with Rig() as rig:
        assert rig.run(HELLO).status.code == 0
        limit_address_space(256 * MIB)
        ending = rig.run(HELLO)
        assert (ending.status.signal, ending.cause.kind) == (Signal.SIGKILL, CauseKind.LIMIT), ending
        assert "address space" in ending.cause.message
        # The runner and everything else still work.
        assert rig.run(START.format("")).status.code == 0
        free_address_space()
        assert rig.run(HELLO).status.code == 0


def recursion() -> None:
    with Rig() as rig:
        sys.setrecursionlimit(200)
        try:
            rig.start(HELLO)
        except HostLimit as error:
            print(error)
        else:
            raise AssertionError("a guest ran with hardly any frames left")
        finally:
            sys.setrecursionlimit(1000)
        assert rig.run(SPIN, timeout_seconds=0.02).cause.limit == "max_wall_time_seconds"


if __name__ == "__main__":
    {"thread": thread, "mapping": mapping, "recursion": recursion}[sys.argv[1]]()
