"""max_actions_per_hour: what the host does is counted by the VM's clock, and refused before anything happens."""

import asyncio
from collections.abc import Callable

import pytest

from agentvm import AgentVM, AsyncAgentVM, Limits, ManualClock
from agentvm.api.launch import StartOptions
from agentvm.errors import InvalidArgument, InvalidLimit, ProgramNotFound, RateLimited
from tests.limits.harness import assemble, drives
from tests.support.fixtures import guest

HOUR = 3_600_000_000_000
LIMIT = "max_actions_per_hour"
REACTOR = assemble('(module (func (export "f") (result i32) (i32.const 7)))')

#: Each way to act, once.
ACTIONS: dict[str, Callable[[AgentVM], object]] = {
    "run": lambda vm: vm.run(guest("hello")),
    "spawn": lambda vm: vm.spawn(guest("hello"), capture=True).wait(),
    "start": lambda vm: vm.start(guest("hello"), StartOptions(stdin=b"", capture=True)).wait(),
    "instantiate": lambda vm: vm.instantiate(REACTOR).close(),
}


def capped(count: int, clock: ManualClock | None = None) -> AgentVM:
    return AgentVM(Limits(max_actions_per_hour=count), clock=clock or ManualClock())


def used(vm: AgentVM) -> tuple[float, int]:
    usage = vm.usage()[LIMIT]
    return usage.used, usage.refused


@drives(LIMIT)
@pytest.mark.parametrize("action", ACTIONS)
def test_action_past_the_cap_is_refused_before_anything_starts(action: str) -> None:
    with capped(2) as vm:
        ACTIONS[action](vm)
        ACTIONS[action](vm)
        with pytest.raises(RateLimited):
            ACTIONS[action](vm)
        assert used(vm) == (2, 1)
        assert vm.usage()["max_processes"].peak == 1
        assert vm.usage()["max_processes"].used == 0


def test_refusal_says_when_there_is_room_again() -> None:
    clock = ManualClock()
    with capped(2, clock) as vm:
        vm.run(guest("hello"))
        clock.advance(HOUR // 4)
        vm.run(guest("hello"))
        clock.advance(HOUR // 4)
        with pytest.raises(RateLimited) as refused:
            vm.run(guest("hello"))
        error = refused.value
        assert error.retry_after == 1800
        assert error.values == {"limit": LIMIT, "cap": 2, "retry_after": 1800}
        assert "1,800.0 s" in str(error)
        assert "Limits(max_actions_per_hour=4)" in str(error)
        assert error.exit_status == 125
        clock.advance(HOUR // 2 - 1)
        with pytest.raises(RateLimited):
            vm.run(guest("hello"))
        clock.advance(1)
        vm.run(guest("hello")).check()
        with pytest.raises(RateLimited):
            vm.run(guest("hello"))


def test_each_call_of_a_reactor_counts() -> None:
    with capped(3) as vm, vm.instantiate(REACTOR) as instance:
        assert (instance.call("f"), instance.call("f")) == (7, 7)
        with pytest.raises(RateLimited):
            instance.call("f")
        assert instance.pid
        vm.raise_limit(max_actions_per_hour="none")
        assert instance.call("f") == 7


def test_nothing_else_counts() -> None:
    with capped(1) as vm:
        process = vm.spawn(guest("spin"), args=["sleep"])
        vm.fs.write("/file", b"x")
        vm.usage()
        process.kill()
        process.wait()
        vm.kill()
        assert used(vm) == (1, 0)


def test_what_makes_no_sense_does_not_count() -> None:
    with capped(1) as vm:
        with pytest.raises(InvalidArgument):
            vm.run(guest("hello"), cwd="relative")
        with pytest.raises(InvalidLimit):
            vm.run(guest("hello"), limits={"max_memory_bytes": "1MiB"})
        assert used(vm) == (0, 0)
        with pytest.raises(ProgramNotFound):
            vm.run("/nowhere.wasm")
        assert used(vm) == (1, 0)


def test_a_vm_without_the_cap_does_not_look_at_its_clock() -> None:
    clock = ManualClock(step_ns=1)
    with AgentVM(clock=clock) as vm, vm.instantiate(REACTOR) as instance:
        before = clock.monotonic_ns()
        instance.call("f")
        assert clock.monotonic_ns() == before + 1


def test_the_async_twin_is_refused_alike() -> None:
    async def scenario() -> float:
        async with AsyncAgentVM(Limits(max_actions_per_hour=1), clock=ManualClock()) as vm:
            await vm.run(guest("hello"))
            with pytest.raises(RateLimited) as refused:
                await vm.spawn(guest("hello"))
            return refused.value.retry_after

    assert asyncio.run(scenario()) == 3600
