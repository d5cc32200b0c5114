"""`AgentVM.spawn`: handles, pipes with backpressure, signals, the process table."""

import threading
from pathlib import Path

import pytest

from agentvm import AgentVM, CauseKind, Limits, Signal
from agentvm.errors import InvalidArgument, InvalidLimit, ProcessLimit

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"


def guest(name: str) -> Path:
    return GUESTS / f"{name}.wasm"


def test_a_conversation_through_pipes() -> None:
    with AgentVM() as vm, vm.spawn(guest("cat")) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"ping")
        assert process.stdout.read(100) == b"ping"
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait().exit_code == 0


def test_a_program_that_prints_waits_for_its_reader() -> None:
    with AgentVM() as vm, vm.spawn(guest("spin"), args=["stdout"]) as process:
        assert process.stdout
        first = process.stdout.read(1 << 16)
        assert first.startswith(b"spinning\n")
        total = sum(len(process.stdout.read(1 << 16)) for _ in range(50))
        assert total > 0
        assert process.running


def test_large_output_arrives_whole() -> None:
    data = bytes(range(256)) * 8000
    with AgentVM() as vm, vm.spawn(guest("cat"), stdin=data) as process:
        assert process.stdout
        assert process.stdout.read() == data
        assert process.wait().ok


def test_large_input_arrives_whole() -> None:
    data = bytes(range(256)) * 8000
    with AgentVM() as vm, vm.spawn(guest("cat")) as process:
        assert process.stdin
        assert process.stdout
        received: list[bytes] = []
        reader = threading.Thread(target=lambda: received.append(process.stdout.read() if process.stdout else b""))
        reader.start()
        assert process.stdin.write(data) == len(data)
        process.stdin.close()
        reader.join()
        assert received == [data]


def test_writing_to_a_process_that_ended_is_a_broken_pipe() -> None:
    with AgentVM() as vm, vm.spawn(guest("hello")) as process:
        process.wait()
        assert process.stdin
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x")


def test_a_reader_that_goes_away_is_epipe_for_the_guest() -> None:
    with AgentVM() as vm, vm.spawn(guest("spin"), args=["stdout"]) as process:
        assert process.stdout
        process.stdout.read(10)
        process.stdout.close()
        result = process.wait()
        assert result.exit_code == 6  # what the guest makes of a write that fails


def test_kill_ends_it_with_sigkill() -> None:
    with AgentVM() as vm, vm.spawn(guest("spin")) as process:
        assert process.running
        process.kill()
        result = process.wait()
    assert result.signal is Signal.SIGKILL
    assert result.cause.kind is CauseKind.SIGNAL
    assert result.shell_code == 137


def test_sigterm_ends_a_program_that_cannot_catch_it() -> None:
    with AgentVM() as vm, vm.spawn(guest("spin"), args=["sleep"]) as process:
        process.send_signal(15)
        assert process.wait().signal is Signal.SIGTERM
        with pytest.raises(InvalidArgument):
            process.send_signal(1000)


def test_waiting_in_vain_is_a_timeout() -> None:
    with AgentVM() as vm, vm.spawn(guest("spin"), args=["sleep"]) as process:
        with pytest.raises(TimeoutError):
            process.wait(timeout=0.01)
        assert process.running


def test_the_table_is_full_at_max_processes_and_zombies_count() -> None:
    with AgentVM(Limits(max_processes=2)) as vm:
        first = vm.spawn(guest("spin"), args=["sleep"])
        second = vm.spawn(guest("hello"), capture=True)
        while second.running:
            pass
        with pytest.raises(ProcessLimit, match="EAGAIN"):
            vm.spawn(guest("hello"))
        second.wait()
        third = vm.spawn(guest("hello"), capture=True)
        assert third.wait().stdout == b"hello from a VM\n"
        first.kill()
        assert first.wait().signal is Signal.SIGKILL
        assert vm.usage()["max_processes"].used == 0
        assert vm.usage()["max_processes"].refused == 1


def test_close_ends_everything() -> None:
    vm = AgentVM()
    processes = [vm.spawn(guest("spin"), args=[mode]) for mode in ("busy", "sleep", "stdin", "stdout", "clock")]
    vm.close()
    assert [process.wait().signal for process in processes] == [Signal.SIGKILL] * 5


def test_vm_kill_leaves_the_vm_usable() -> None:
    with AgentVM() as vm:
        process = vm.spawn(guest("spin"))
        vm.kill()
        assert process.wait().signal is Signal.SIGKILL
        assert vm.run(guest("hello")).ok


def test_done_callbacks_are_called_once() -> None:
    called = threading.Event()
    with AgentVM() as vm:
        process = vm.spawn(guest("hello"), capture=True)
        process.add_done_callback(called.set)
        process.wait()
        assert called.wait(10)
        again = threading.Event()
        process.add_done_callback(again.set)
        assert again.is_set()


def test_siblings_of_other_vms_are_not_disturbed() -> None:
    with AgentVM() as first, AgentVM() as second:
        spinning = first.spawn(guest("spin"))
        assert second.run(guest("hello")).ok
        assert spinning.running


def test_contradictory_limits_are_refused() -> None:
    with pytest.raises(InvalidLimit, match="max_open_fds"):
        AgentVM(Limits(max_open_fds=10, max_open_fds_per_process=20))
