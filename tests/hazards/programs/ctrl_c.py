"""A storm of Ctrl-C on the main thread while it starts, waits for, calls, kills and closes guests."""

import gc
import signal
import sys
import threading
from time import monotonic

from agentvm.engine.capacity import host_capacity
from agentvm.engine.memory import live_memories
from tests.support.engine_rig import BUSY, HELLO, SPIN, WAIT, Rig, until

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 4.0


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    caught = rounds = 0
    stop = threading.Event()
    target = threading.main_thread().ident
    assert target is not None
    rigs: list[Rig] = []
    with Rig() as first:
        first.run(HELLO)
        for body in (SPIN, BUSY, WAIT):
            first.run(body, timeout_seconds=0.01)

    begun = threading.Event()

    def storm() -> None:
        begun.wait()
        while not stop.wait(0.0007):
            signal.pthread_kill(target, signal.SIGINT)

    thread = threading.Thread(target=storm, daemon=True)
    thread.start()
    end = monotonic() + SECONDS
    while True:
        try:
            if not begun.is_set():
                begun.set()
            while monotonic() < end:
                while rigs:
                    rigs[-1].machine.close()
                    rigs.pop()
                rounds += 1
                rig = Rig()
                rigs.append(rig)
                executions = [rig.start(body) for body in (HELLO, SPIN, WAIT, BUSY)]
                executions[0].wait(1)
                executions[1].kill()
                executions[2].wait(0.001)
                rig.machine.close()
                rigs.pop()
            break
        except KeyboardInterrupt:
            caught += 1
    while True:
        try:
            stop.set()
            thread.join()
            break
        except KeyboardInterrupt:
            caught += 1
    for rig in rigs:
        assert rig.machine.close(20), f"a guest outlived its VM: {rig.machine.statistics()}"
    assert caught > 50, f"only {caught} interrupts arrived"
    rigs.clear()
    gc.collect()
    until(lambda: host_capacity().gauge("max_running_processes").used == 0, "all places came back")
    until(lambda: live_memories() == 0, "all memories were unmapped")
    assert host_capacity().gauge("max_resident_memory_bytes").used == 0
    with Rig() as last:
        assert last.run(HELLO).status.code == 0
    print(f"{rounds} rounds, {caught} interrupts")


if __name__ == "__main__":
    main()
