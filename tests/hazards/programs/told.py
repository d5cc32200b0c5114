"""Events of limits while the host is disturbed: `told ctrl_c` on the main thread, `told leaving` at the exit."""

import os
import signal
import sys
import threading
from time import monotonic

from agentvm import AgentVM, KernelError, LimitEvent, Limits
from tests.support.engine_rig import until
from tests.support.fixtures import guest

SECONDS = 4.0


def refuse(vm: AgentVM, name: str = "x" * 300) -> None:
    try:
        vm.fs.write("/" + name, b"")
    except KernelError:
        pass


def ctrl_c() -> None:
    """The main thread is interrupted while it posts, listens, takes back and closes; then all still works."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    target = threading.main_thread().ident
    assert target is not None
    stop, caught, rounds = threading.Event(), 0, 0

    begun = threading.Event()

    def storm() -> None:
        begun.wait()
        while not stop.wait(0.0007):
            signal.pthread_kill(target, signal.SIGINT)

    heard: list[LimitEvent] = []
    vms = [AgentVM(Limits(max_inodes=40), name="kept")]
    vms[0].on_limit(heard.append)
    thread = threading.Thread(target=storm, daemon=True)
    thread.start()
    end = monotonic() + SECONDS
    while thread.is_alive():
        try:
            if not begun.is_set():
                begun.set()
            while monotonic() < end:
                rounds += 1
                refuse(vms[0])
                vms.append(AgentVM())
                forget = vms[-1].on_limit(heard.append)
                refuse(vms[-1])
                forget()
                vms.pop().close()
            stop.set()
            thread.join()
        except KeyboardInterrupt:
            caught += 1
    assert caught > 50, f"only {caught} interrupts arrived"
    heard.clear()
    other = threading.Thread(target=lambda: refuse(vms[0], "y" * 400))
    other.start()
    other.join(30)
    assert not other.is_alive(), "an interrupt left a lock behind"
    until(lambda: any(event.vm == "kept" and event.observed == 400 for event in heard), "events still arrive")
    for vm in vms:
        vm.close()
    print(f"{rounds} rounds, {caught} interrupts, the host lives")


def leaving() -> None:
    """The interpreter exits while a callback never returns, nobody reads the log, and guests go on being refused."""
    reader, writer = os.pipe()
    os.dup2(writer, 2)
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    os.set_inheritable(reader, False)
    is_here = threading.Event()

    def hang(_event: LimitEvent) -> None:
        is_here.set()
        threading.Event().wait()

    vm = AgentVM(Limits(max_pipe_bytes=4096))
    vm.on_limit(hang)
    for _ in range(3):
        vm.spawn(guest("spin"), args=["stdout"], stdin=b"")
    refuse(vm)
    assert is_here.wait(60)
    print("the host lives", flush=True)


if __name__ == "__main__":
    {"ctrl_c": ctrl_c, "leaving": leaving}[sys.argv[1]]()
