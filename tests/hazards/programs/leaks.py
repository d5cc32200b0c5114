"""Thousands of VMs, each with a guest that ends in another way: what the process holds must not grow."""

import gc
import os
import sys
from pathlib import Path

from agentvm.engine.capacity import host_capacity
from agentvm.engine.memory import live_memories
from tests.support.engine_rig import HELLO, SPIN, START, WAIT, Rig, ended, until

CYCLES = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
KIB = 1024


def held() -> dict[str, int]:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    numbers = {
        line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith(("VmRSS", "Threads"))
    }
    return {
        "rss": int(numbers["VmRSS"]) * KIB,
        "threads": int(numbers["Threads"]),
        "fds": len(os.listdir("/proc/self/fd")),
        "maps": Path("/proc/self/maps").read_text().count("\n"),
    }


def cycle(number: int) -> None:
    with Rig() as rig:
        match number % 5:
            case 0 | 1:
                assert rig.run(HELLO).status.code == 0
            case 2:
                rig.run("(memory 1)" + START.format("(drop (i32.load (i32.const -1)))"))
            case 3:
                execution = rig.start(WAIT)
                until(lambda: rig.waiting == 1)
                execution.kill()
                ended(execution)
            case 4:
                rig.start(SPIN).kill()


def main() -> None:
    for number in range(300):
        cycle(number)
    before = held()
    for number in range(CYCLES):
        cycle(number)
    after = held()
    print(before, after)
    assert live_memories() == 0
    assert host_capacity().gauge("max_running_processes").used == 0
    assert after["rss"] - before["rss"] < CYCLES * KIB, "more than a KiB for each VM"
    assert after["threads"] <= before["threads"] + 2
    assert after["fds"] == before["fds"]
    assert after["maps"] <= before["maps"] + 20


if __name__ == "__main__":
    main()
