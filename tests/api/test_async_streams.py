"""Streams under asyncio: cancelled calls lose no byte and mix none, and nothing waits for what will not come."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import pytest

from agentvm import AsyncAgentVM, Limits
from tests.support.fixtures import guest

PIPE = 4096
LIMITS = Limits(max_pipe_bytes=PIPE)


def in_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 60))

    return run


async def _cancelled(call: Coroutine[Any, Any, Any]) -> None:
    """Start a call that waits, and cancel it."""
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@in_loop
async def test_a_read_that_is_cancelled_loses_nothing() -> None:
    async with AsyncAgentVM() as vm, await vm.spawn(guest("cat")) as process:
        for size in (100, 2, -1, 100):
            await _cancelled(process.stdout.read(size))
        await process.stdin.write(b"hello, world")
        assert await process.stdout.read(5) == b"hello"
        await _cancelled(process.stdout.read())
        process.stdin.close()
        assert await process.stdout.read() == b", world"
        assert await process.stdout.read(9) == b""


@in_loop
async def test_reads_at_the_same_time_share_the_bytes() -> None:
    async with AsyncAgentVM() as vm, await vm.spawn(guest("cat")) as process:
        reading = [asyncio.ensure_future(process.stdout.read(1)) for _ in range(4)]
        await process.stdin.write(b"abcd")
        assert sorted(await asyncio.gather(*reading)) == [b"a", b"b", b"c", b"d"]


@in_loop
async def test_a_write_that_is_cancelled_goes_on_and_the_next_one_waits_for_it() -> None:
    async with AsyncAgentVM(LIMITS) as vm, await vm.spawn(guest("cat")) as process:
        first = asyncio.ensure_future(process.stdin.write(b"1" * 50_000))
        await asyncio.sleep(0)
        first.cancel()
        second = asyncio.ensure_future(process.stdin.write(b"2" * 50_000))
        got = b""
        while len(got) < 100_000:
            got += await process.stdout.read(1 << 16)
        assert got == b"1" * 50_000 + b"2" * 50_000
        assert await second == 50_000


@in_loop
async def test_a_write_that_waits_ends_with_the_process() -> None:
    async with AsyncAgentVM(LIMITS) as vm, await vm.spawn(guest("spin"), args=["sleep"]) as process:
        writing = asyncio.ensure_future(process.stdin.write(bytes(PIPE + 1)))
        while vm.usage()["max_pipe_bytes"].refused == 0:
            await asyncio.sleep(0)
        process.kill()
        with pytest.raises(BrokenPipeError, match=f"took {PIPE} of {PIPE + 1} bytes"):
            await writing


@in_loop
async def test_a_large_output_arrives_whole() -> None:
    async with AsyncAgentVM() as vm, await vm.spawn(guest("output"), args=["stdout", "3000000"]) as process:
        assert len(await process.stdout.read()) == 3_000_000
        assert (await process.wait()).ok


@in_loop
async def test_captured_output_keeps_its_head_and_tail_here_too() -> None:
    async with AsyncAgentVM(Limits(max_log_bytes=1000, on_output_full="discard")) as vm:
        result = await vm.run(guest("cat"), stdin=b"a" * 500 + b"-" * 9000 + b"z" * 500)
    assert result.stdout == b"a" * 500 + b"z" * 500
    assert (result.ok, result.truncated, result.dropped_bytes) == (True, True, 9000)
