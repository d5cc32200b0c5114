"""Transfers that may wait: a process sleeps until there is something to do, and never spins."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentvm import Errno, Limits, ManualClock
from agentvm.abi.context import CallContext, remaining
from agentvm.errno import KernelError
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.net.socket import SocketKind
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.outcome import Signal
from agentvm.kernel.pipe import Pipe, PipeReader, PipeWriter
from agentvm.kernel.process import Image
from agentvm.kernel.signalling import post
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.stdio import StreamedOutput
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.registry import Registry


class Recording:
    """A scheduler that tells when the process is about to sleep."""

    def __init__(self) -> None:
        self.asleep = threading.Event()

    def pause(self) -> None:
        self.asleep.set()

    def resume(self) -> None:
        self.asleep.clear()

    def give_way(self) -> None:
        """Nobody waits."""


@pytest.fixture
def context() -> CallContext:
    registry, clock = Registry(Limits(max_pipe_bytes=4096)), ManualClock()
    kernel = Kernel(registry, clock, bytes, Vfs(registry, clock), lambda: None)
    return CallContext(kernel, kernel.processes.spawn(Image((b"p",)), None))


@pytest.fixture
def asleep(context: CallContext) -> threading.Event:
    scheduler = context.process.scheduler = Recording()
    return scheduler.asleep


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def _read(context: CallContext, file: OpenFile, size: int) -> bytes:
    buffer = bytearray(size)
    with context.lock:
        return bytes(buffer[: context.read(file, [memoryview(buffer)])])


def _write(context: CallContext, file: OpenFile, *pieces: bytes) -> int:
    with context.lock:
        return context.write(file, [memoryview(piece) for piece in pieces])


def test_a_reader_sleeps_until_there_is_data(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe), PipeWriter(pipe)
    reading = pool.submit(_read, context, reader, 10)
    assert asleep.wait(60)
    with context.lock:
        writer.write_nowait([memoryview(b"hello")])
    assert reading.result(60) == b"hello"


def test_a_reader_sleeps_although_it_cannot_write(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    """A socket whose other end reads no more is broken for writing alone: waiting to read must not spin."""
    with context.lock:
        here, there = context.kernel.network.pair(SocketKind.STREAM)
    there.shutdown(read=True, write=False)
    reading = pool.submit(_read, context, here, 10)
    assert asleep.wait(60)
    with context.lock:
        there.write_nowait([memoryview(b"still talking")])
    assert reading.result(60) == b"still talk"


def test_a_writer_sleeps_until_all_is_taken(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe), PipeWriter(pipe)
    writing = pool.submit(_write, context, writer, b"a" * 4000, b"b" * 96, b"c" * 10)
    assert asleep.wait(60)
    got = bytearray(5000)
    with context.lock:
        assert reader.read_nowait([memoryview(got)]) == 4106  # what was in the pipe, and what the sleeper still had
    assert writing.result(60) == 4106
    assert bytes(got[4090:4106]) == b"b" * 6 + b"c" * 10
    assert not pipe.data


def test_what_is_written_goes_straight_to_readers_that_sleep(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe), PipeWriter(pipe)
    reading = pool.submit(_read, context, reader, 3)
    assert asleep.wait(60)
    with context.lock:
        assert writer.write_nowait([memoryview(b"he"), memoryview(b"llo")]) == 5
        assert bytes(pipe.data) == b"lo"
    assert reading.result(60) == b"hel"


def test_a_sleeper_that_was_stopped_gets_nothing_before_it_goes_on(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe), PipeWriter(pipe)
    reading = pool.submit(_read, context, reader, 3)
    assert asleep.wait(60)
    with context.lock:
        post(context.process, Signal.SIGSTOP)
        assert writer.write_nowait([memoryview(b"abc")]) == 3
        assert bytes(pipe.data) == b"abc"
        post(context.process, Signal.SIGCONT)
    assert reading.result(60) == b"abc"


def test_a_small_write_that_sleeps_is_taken_whole_or_not_at_all(
    context: CallContext, asleep: threading.Event, pool: ThreadPoolExecutor
) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe), PipeWriter(pipe)
    writer.write_nowait([memoryview(bytes(4000))])
    writing = pool.submit(_write, context, writer, b"x" * 500)
    assert asleep.wait(60)
    with context.lock:
        reader.read_nowait([memoryview(bytearray(100))])
        assert b"x" not in pipe.data
        reader.read_nowait([memoryview(bytearray(400))])
        assert bytes(pipe.data).endswith(b"x" * 500)
    assert writing.result(60) == 500


def test_a_writer_whose_budget_ends_does_not_wait_for_a_reader(context: CallContext) -> None:
    """What is left is refused at once, not when somebody has made room."""
    pipe = Pipe(context.kernel.registry)
    PipeReader(pipe)
    budget = context.process.gauges.gauge("max_output_bytes")
    budget.set_cap(10)
    file = StreamedOutput(pipe, budget)
    assert _write(context, file, b"12345678", b"9abc") == 10
    with pytest.raises(KernelError, match="ENOSPC"):
        _write(context, file, b"x")


def test_a_non_blocking_file_never_sleeps(context: CallContext, asleep: threading.Event) -> None:
    pipe = Pipe(context.kernel.registry)
    reader, writer = PipeReader(pipe, flags=FdFlags.NONBLOCK), PipeWriter(pipe, flags=FdFlags.NONBLOCK)
    with pytest.raises(KernelError, match="EAGAIN"):
        _read(context, reader, 1)
    assert _write(context, writer, bytes(5000)) == 4096
    with pytest.raises(KernelError) as caught:
        _write(context, writer, b"x")
    assert caught.value.errno is Errno.EAGAIN
    assert not asleep.is_set()


@pytest.mark.parametrize(
    ("done", "rest"),
    [(0, [b"abc", b"d"]), (1, [b"bc", b"d"]), (3, [b"d"]), (4, [])],
    ids=["none", "some", "one", "all"],
)
def test_remaining_buffers(done: int, rest: list[bytes]) -> None:
    assert [
        bytes(buffer) for buffer in remaining([memoryview(b"abc"), memoryview(b""), memoryview(b"d")], done)
    ] == rest
