"""`AgentVM.instantiate`: reactors, called export by export."""

from pathlib import Path

import pytest

from agentvm import AgentVM, Limits, Signal
from agentvm.errno import KernelError
from agentvm.errors import GuestFailed, InvalidArgument, MissingExport, VMClosed

REACTOR = Path(__file__).parents[2] / "fixtures" / "guests" / "reactor.wasm"


def test_exports_are_called_and_keep_their_state() -> None:
    with AgentVM() as vm, vm.instantiate(REACTOR) as instance:
        assert instance.call("add", 2, 3) == 5
        assert instance.call("add", 2**31 - 1, 1) == -(2**31)
        first = instance.call("next")
        assert first == 101
        assert [instance.call("next") for _ in range(3)] == [first + 1, first + 2, first + 3]


def test_what_it_prints_is_in_the_result() -> None:
    with AgentVM() as vm:
        instance = vm.instantiate(REACTOR)
        assert instance.call("say", 7) is None
        assert instance.call("half", 5.0) == 2.5
        result = instance.close()
        assert result.exit_code == 0
        assert result.stdout == b"said 7\n"
        assert instance.close() is not None


def test_a_missing_export_is_named() -> None:
    with AgentVM() as vm, vm.instantiate(REACTOR) as instance:
        with pytest.raises(MissingExport, match="nothing"):
            instance.call("nothing")
        assert instance.call("add", 1, 1) == 2


def test_arguments_must_fit() -> None:
    with AgentVM() as vm, vm.instantiate(REACTOR) as instance:
        with pytest.raises(InvalidArgument):
            instance.call("add", 1)
        with pytest.raises(InvalidArgument):
            instance.call("add", 1, 2**40)


def test_a_trap_ends_the_instance_and_nothing_else() -> None:
    with AgentVM() as vm:
        instance = vm.instantiate(REACTOR)
        with pytest.raises(GuestFailed) as caught:
            instance.call("trap")
        assert caught.value.values["result"].signal is Signal.SIGILL  # type: ignore[attr-defined]
        with pytest.raises(VMClosed):
            instance.call("add", 1, 1)
        with vm.instantiate(REACTOR) as fresh:
            assert fresh.call("add", 1, 1) == 2


def test_memory_can_be_read_and_written() -> None:
    with AgentVM() as vm, vm.instantiate(REACTOR) as instance:
        before = instance.read_memory(1024, 4)
        instance.write_memory(1024, b"abcd")
        assert instance.read_memory(1024, 4) == b"abcd"
        instance.write_memory(1024, before)
        with pytest.raises(KernelError, match="EFAULT"):
            instance.read_memory(2**32 - 4, 8)


def test_an_instance_is_a_process_of_its_vm() -> None:
    with AgentVM(Limits(max_processes=1)) as vm:
        instance = vm.instantiate(REACTOR)
        assert vm.usage()["max_processes"].used == 1
        instance.close()
        assert vm.usage()["max_processes"].used == 0
