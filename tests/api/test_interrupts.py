"""Ctrl-C while a program runs, and a Python that ends while guests still run: each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"
TIMEOUT = 90


def python(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, str(GUESTS)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)


@pytest.mark.parametrize("mode", ["busy", "sleep", "clock", "stdin"])
def test_ctrl_c_during_run_ends_the_guest_and_leaves_the_program_usable(mode: str) -> None:
    done = python(
        f"""
import signal, sys, threading
from agentvm import AgentVM

def pressed(*_):
    if is_running:  # the second press may come late, and is not this script's then
        raise KeyboardInterrupt

signal.signal(signal.SIGINT, pressed)
with AgentVM() as vm:
    def interrupt():
        while not vm.usage()["max_memory_bytes"].used:
            pass
        signal.raise_signal(signal.SIGINT)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    for _ in range(3):
        is_running = True
        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            vm.run(sys.argv[1] + "/spin.wasm", args=[{mode!r}] if {mode!r} != "stdin" else ["sleep"])
        except KeyboardInterrupt:
            is_running = False
            thread.join()
            print("interrupted", vm.usage()["max_processes"].used)
    print(vm.run(sys.argv[1] + "/hello.wasm").stdout_text, end="")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["interrupted 0"] * 3 + ["hello from a VM"]


def test_a_program_that_ends_while_guests_run_ends_cleanly() -> None:
    done = python(
        """
import sys
from agentvm import AgentVM
vms = [AgentVM() for _ in range(4)]
for vm in vms:
    for mode in ("busy", "sleep", "clock", "stdout"):
        vm.spawn(sys.argv[1] + "/spin.wasm", args=[mode])
print("leaving")
"""
    )
    assert (done.returncode, done.stdout) == (0, "leaving\n"), done.stderr


def test_an_exception_while_a_guest_runs_is_not_hidden() -> None:
    done = python(
        """
import sys
from agentvm import AgentVM
vm = AgentVM()
vm.spawn(sys.argv[1] + "/spin.wasm")
raise SystemExit(3)
"""
    )
    assert done.returncode == 3, done.stderr


def test_a_fork_with_an_open_vm_is_refused_in_the_child() -> None:
    done = python(
        """
import os, sys
from agentvm import AgentVM
from agentvm.errors import VMClosed
vm = AgentVM()
vm.run(sys.argv[1] + "/hello.wasm").check()
child = os.fork()
if child == 0:
    try:
        vm.run(sys.argv[1] + "/hello.wasm")
    except VMClosed as error:
        print(error, flush=True)
        vm.close()
        os._exit(7)
    os._exit(8)
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7
vm.run(sys.argv[1] + "/hello.wasm").check()
vm.close()
"""
    )
    assert done.returncode == 0, done.stderr
    assert "fork" in done.stdout
