"""The host's doors to processes: who there is, signals, users, and what ends with the VM."""

import asyncio
import gc
import subprocess
import sys
import weakref
from pathlib import Path
from time import monotonic

import pytest

from agentvm import AgentVM, AsyncAgentVM, GuestFile, Limits, Process, ProcessInfo, Signal
from agentvm.errors import InvalidArgument, NoSuchProcess
from tests.deadlines.measure import WakeUps, percentile
from tests.processes.programs import program
from tests.support.engine_rig import until
from tests.support.fixtures import guest, process_guest

LATE_SECONDS = 0.020
#: See tests/deadlines: the machine's own lateness counts that often.
WAKE_UPS = 5


def swarm(vm: AgentVM) -> GuestFile:
    vm.fs.mkdir("/bin", exist_ok=True)
    vm.fs.write("/bin/swarm", process_guest("swarm").read_bytes(), mode=0o755)
    return GuestFile("/bin/swarm")


def leave(vm: AgentVM) -> ProcessInfo:
    """Run a program that leaves a child behind, and return the child."""
    assert vm.run(swarm(vm), ["leave"]).ok
    (left,) = vm.processes()
    return left


def state(vm: AgentVM, process: Process) -> str:
    return vm.process(process.pid).info().state


# -- who there is -----------------------------------------------------------------------------------------------------
def handles_signals(vm: AgentVM, pid: int) -> bool:
    """Whether the process has asked for a handler: until then a signal ends it."""
    return b"SigCgt:\t0000000000000000" not in vm.fs.read(f"/proc/{pid}/status")


def test_processes_are_listed_with_what_they_are_at() -> None:
    with AgentVM() as vm:
        assert vm.processes() == ()
        one = vm.spawn(program("spins"), args=["a", "b"], argv0="spinner", user=7)
        other = vm.spawn(program("sleeps"))
        until(lambda: state(vm, other) == "S", "the sleep")
        first, second = vm.processes()
        assert (first.pid, first.ppid, first.pgid, first.sid) == (one.pid, 1, one.pid, one.pid)
        assert (first.name, first.argv, first.uid, first.state) == ("spinner", ("spinner", "a", "b"), 7, "R")
        assert (second.uid, second.state, second.started_by_host) == (1000, "S", True)
        assert (second.fds, second.memory_bytes) == (3, 2 * 65536)
        until(lambda: vm.process(one.pid).info().cpu_seconds > 0.02, "some computing")
        one.kill()
        until(lambda: not one.running, "the end")
        assert [process.state for process in vm.processes()] == ["Z", "S"]
        one.wait()
        assert [process.pid for process in vm.processes()] == [other.pid]


def test_what_a_program_leaves_behind_goes_on_until_the_host_ends_it() -> None:
    with AgentVM() as vm:
        left = leave(vm)
        assert (left.ppid, left.started_by_host, left.name) == (1, False, "swarm")
        assert vm.is_running
        process = vm.process(left.pid)
        assert process.running
        process.kill()
        until(lambda: not vm.is_running, "the end")
        assert vm.processes() == ()
        process.kill()  # does nothing
        with pytest.raises(NoSuchProcess, match=str(left.pid)):
            vm.process(left.pid)


def test_close_ends_what_was_left_behind_in_time_and_nothing_is_left() -> None:
    for _ in range(3):
        vm = AgentVM(limits=Limits(max_processes=40))
        with WakeUps() as machine:
            for _ in range(4):
                vm.run(swarm(vm), ["leave"])
            assert len(vm.processes()) == 4
            start = monotonic()
            vm.close()
            seconds = monotonic() - start
        usage = vm.usage()
        held = {limit.name: limit.used for limit in usage if limit.spec.kind.value == "gauge" and limit.used}
        assert not held
        if seconds <= LATE_SECONDS + WAKE_UPS * percentile(machine.seconds, 99):
            return
    pytest.fail(f"close took {seconds} s")


def test_a_vm_that_is_forgotten_lives_as_long_as_what_runs_in_it() -> None:
    vm = AgentVM()
    pid = leave(vm).pid
    forgotten, process = weakref.ref(vm), vm.process(pid)
    del vm
    gc.collect()
    assert forgotten() is not None
    process.kill()
    until(lambda: gc.collect() is not None and forgotten() is None, "the VM's end")


# -- signals ----------------------------------------------------------------------------------------------------------
def test_a_handler_hears_of_the_hosts_signal() -> None:
    with AgentVM() as vm, vm.spawn(program("waits for SIGUSR1"), capture=True) as process:
        until(lambda: handles_signals(vm, process.pid), "its handler")
        process.send_signal(Signal.SIGUSR1)
        assert process.wait(30).exit_code == 3


def test_stop_and_continue() -> None:
    with AgentVM() as vm, vm.spawn(program("spins"), capture=True) as process:
        process.send_signal(Signal.SIGSTOP)
        until(lambda: state(vm, process) == "T", "the stop")
        process.send_signal(Signal.SIGCONT)
        until(lambda: state(vm, process) == "R", "going on")
        process.send_signal(Signal.SIGTERM)
        result = process.wait(30)
        assert (result.signal, result.cause.message) == (Signal.SIGTERM, "killed by the host with SIGTERM")


@pytest.mark.parametrize("signal", [Signal.SIGCHLD, Signal.SIGWINCH, Signal.SIGCONT, Signal.SIGURG])
def test_harmless_signals_do_nothing_to_a_program_without_handlers(signal: Signal) -> None:
    with AgentVM() as vm, vm.spawn(guest("cat")) as process:
        process.send_signal(signal)
        assert process.stdin
        process.stdin.close()
        assert process.wait(30).ok


def test_signals_of_a_group_reach_what_the_program_has_started() -> None:
    with AgentVM() as vm:
        left = leave(vm)
        vm.process(left.pid).send_signal(Signal.SIGINT, group=True)
        until(lambda: not vm.is_running, "the end")


def test_what_is_no_signal_is_refused() -> None:
    with AgentVM() as vm, vm.spawn(program("sleeps")) as process:
        for number in (0, -1, 65):
            with pytest.raises(InvalidArgument, match="no signal"):
                process.send_signal(number)


def test_the_asyncio_twin_has_the_same_doors() -> None:
    async def main() -> None:
        async with AsyncAgentVM() as vm:
            process = await vm.spawn(program("waits for SIGINT"), capture=True, user="root")
            (info,) = vm.processes()
            assert (info.pid, info.uid, vm.is_running) == (process.pid, 0, True)
            while not handles_signals(vm._vm, info.pid):
                await asyncio.sleep(0)
            process.send_signal(Signal.SIGINT, group=True)
            assert (await process.wait(30)).exit_code == 4
            assert vm.processes() == ()

    asyncio.run(main())


# -- users ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("user", "ids", "groups"),
    [
        (None, (1000, 1000), ()),
        ("root", (0, 0), ()),
        (0, (0, 0), ()),
        ("user", (1000, 1000), (7,)),
        (1000, (1000, 1000), (7,)),
        ("ann", (7, 8), (7, 9)),
        ("5", (5, 5), ()),
        ("5:6", (5, 6), ()),
        ("ann:5", (7, 5), ()),
        ("user:staff", (1000, 9), ()),
    ],
)
def test_a_program_runs_as_the_user_that_is_asked_for(
    user: str | int | None, ids: tuple[int, int], groups: tuple[int, ...]
) -> None:
    with AgentVM() as vm:
        vm.fs.write("/etc/passwd", b"ann:x:7:8::/a:\n", append=True)
        vm.fs.write("/etc/group", b"some:x:7:user,ann\nstaff:x:9:ann\n", append=True)
        with vm.spawn(program("sleeps"), user=user) as process:
            own = process._record.credentials
            assert (own.uid, own.gid, own.euid, own.suid, own.groups) == (*ids, ids[0], ids[0], groups)


@pytest.mark.parametrize("user", ["nobody-here", "user:nobody-here", "", "-1", -1, 0xFFFF_FFFF, "1:"])
def test_a_user_that_is_not_there_is_refused(user: str | int) -> None:
    with AgentVM() as vm:
        with pytest.raises(InvalidArgument, match="user="):
            vm.run(program("sleeps"), user=user)
        assert vm.processes() == ()


def environment(vm: AgentVM, process: Process) -> list[bytes]:
    return vm.fs.read(f"/proc/{process.pid}/environ").split(b"\0")[:-1]


def test_a_program_of_the_host_abi_is_told_who_it_is() -> None:
    with AgentVM() as vm:
        with vm.spawn(program("sleeps")) as process:
            assert environment(vm, process) == [b"HOME=/home/user", b"USER=user"]
        with vm.spawn(program("sleeps"), user="root", env={"A": "1", "HOME": "/x"}) as process:
            assert environment(vm, process) == [b"A=1", b"HOME=/x", b"USER=root"]
        with vm.spawn(program("sleeps"), user=4711) as process:
            assert environment(vm, process) == [b"HOME=/"]


def test_a_preview1_program_gets_the_environment_that_it_is_given() -> None:
    with AgentVM() as vm, vm.spawn(guest("cat"), env={"A": "1"}) as process:
        assert environment(vm, process) == [b"A=1"]


def test_the_command_line_takes_a_user(tmp_path: Path) -> None:
    (tmp_path / "program.wasm").write_bytes(program("memory limit"))

    def status(user: str) -> int:
        command = [sys.executable, "-m", "agentvm", "run", "--user", user, str(tmp_path / "program.wasm")]
        return subprocess.run(command, check=False, timeout=60).returncode

    assert (status("root"), status("nobody-here")) == (3, 125)


# -- /proc ------------------------------------------------------------------------------------------------------------
def test_proc_tells_of_every_process() -> None:
    with AgentVM() as vm:
        left = leave(vm)
        until(lambda: vm.process(left.pid).info().state == "S", "the sleep")
        fields = vm.fs.read(f"/proc/{left.pid}/stat").split()
        assert fields[:6] == [b"%d" % left.pid, b"(swarm)", b"S", b"1", b"%d" % left.pgid, b"%d" % left.sid]
        assert vm.fs.readlink(f"/proc/{left.pid}/exe") == b"/bin/swarm"
        assert vm.fs.read("/proc/loadavg") == b"0.00 0.00 0.00 0/1 %d\n" % left.pid
        assert b"\nUid:\t1000\t1000\t1000\t1000\n" in vm.fs.read(f"/proc/{left.pid}/status")
