"""`AsyncAgentVM`: the same names under asyncio, and an event loop that is never held."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from agentvm import AsyncAgentVM, Signal
from agentvm.errors import ProgramNotFound

GUESTS = Path(__file__).parents[2] / "fixtures" / "guests"


def guest(name: str) -> Path:
    return GUESTS / f"{name}.wasm"


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(test())

    return run


@in_loop
async def test_run() -> None:
    async with AsyncAgentVM() as vm:
        result = await vm.run(guest("hello"))
        assert result.stdout == b"hello from a VM\n"


@in_loop
async def test_many_runs_at_once() -> None:
    async with AsyncAgentVM() as vm:
        results = await asyncio.gather(*(vm.run(guest("hello")) for _ in range(20)))
        assert all(result.ok for result in results)


@in_loop
async def test_a_conversation() -> None:
    async with AsyncAgentVM() as vm, await vm.spawn(guest("cat")) as process:
        assert process.stdin
        assert process.stdout
        await process.stdin.write(b"ping")
        assert await process.stdout.read(100) == b"ping"
        process.stdin.close()
        assert [chunk async for chunk in process.stdout] == []
        assert (await process.wait()).ok


@in_loop
async def test_the_loop_goes_on_while_a_guest_computes() -> None:
    async with AsyncAgentVM() as vm:
        process = await vm.spawn(guest("spin"))
        turns = 0
        for _ in range(100):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 100
        assert process.running
        process.kill()
        assert (await process.wait()).signal is Signal.SIGKILL


@in_loop
async def test_cancelling_a_run_kills_the_program() -> None:
    async with AsyncAgentVM() as vm:
        task = asyncio.create_task(vm.run(guest("spin")))
        while not vm.usage()["max_processes"].used:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while vm.usage()["max_processes"].used:
            await asyncio.sleep(0)
        assert (await vm.run(guest("hello"))).ok


@in_loop
async def test_wait_times_out() -> None:
    async with AsyncAgentVM() as vm, await vm.spawn(guest("spin"), args=["sleep"]) as process:
        with pytest.raises(TimeoutError):
            await process.wait(timeout=0.01)


@in_loop
async def test_files() -> None:
    async with AsyncAgentVM() as vm:
        await vm.fs.write("/a", b"x")
        assert await vm.fs.read("/a") == b"x"
        assert (await vm.run(guest("cat"), ["/a"])).stdout == b"x"


@in_loop
async def test_errors_are_the_same() -> None:
    async with AsyncAgentVM() as vm:
        with pytest.raises(ProgramNotFound):
            await vm.run("/no/such/file")


@in_loop
async def test_reactors() -> None:
    async with AsyncAgentVM() as vm, await vm.instantiate(guest("reactor")) as instance:
        assert await instance.call("add", 2, 3) == 5
        instance.write_memory(1024, b"abcd")
        assert instance.read_memory(1024, 4) == b"abcd"
        assert (await instance.close()).exit_code == 0
