"""Pipes: nothing is lost, small writes are atomic, ends tell each other when they go."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentvm import Errno, ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.pipe import PIPE_BUF, HostPipeEnd, Pipe, PipeReader, PipeWriter
from agentvm.kernel.wait import Lock, Readiness
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

CAPACITY = 2 * PIPE_BUF


def _views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def _pipe(capacity: int) -> Pipe:
    return Pipe(Registry(Limits(max_pipe_bytes=capacity)))


def _ends(capacity: int = CAPACITY) -> tuple[PipeReader, PipeWriter]:
    pipe = _pipe(capacity)
    return PipeReader(pipe), PipeWriter(pipe)


def _read(reader: PipeReader, *sizes: int) -> bytes:
    buffers = [bytearray(size) for size in sizes]
    count = reader.read_nowait([memoryview(buffer) for buffer in buffers])
    return b"".join(buffers)[:count]


def test_what_goes_in_comes_out_in_order() -> None:
    reader, writer = _ends()
    assert writer.write_nowait(_views(b"ab", b"", b"cde")) == 5
    assert [_read(reader, 1, 0, 2), _read(reader, 9)] == [b"abc", b"de"]


def test_read_of_an_empty_pipe_is_eagain_and_of_nothing_is_0() -> None:
    reader, _ = _ends()
    assert _read(reader) == b""
    assert _read(reader, 0) == b""
    with pytest.raises(KernelError) as caught:
        _read(reader, 1)
    assert caught.value.errno is Errno.EAGAIN


def test_the_end_comes_after_the_last_byte() -> None:
    reader, writer = _ends()
    writer.write_nowait(_views(b"x"))
    writer.on_last_close()
    assert [_read(reader, 9), _read(reader, 9)] == [b"x", b""]


def test_write_without_readers_is_epipe_unless_it_is_empty() -> None:
    reader, writer = _ends()
    reader.on_last_close()
    assert writer.write_nowait([]) == 0
    with pytest.raises(KernelError) as caught:
        writer.write_nowait(_views(b"x"))
    assert caught.value.errno is Errno.EPIPE


@pytest.mark.parametrize("room", [0, 1, PIPE_BUF - 1])
def test_a_small_write_goes_in_whole_or_not_at_all(room: int) -> None:
    reader, writer = _ends()
    writer.write_nowait(_views(bytes(CAPACITY - room)))
    with pytest.raises(KernelError) as caught:
        writer.write_nowait(_views(bytes(PIPE_BUF)))
    assert caught.value.errno is Errno.EAGAIN
    assert reader.readable_bytes() == CAPACITY - room
    assert not writer.readiness() & Readiness.WRITE


def test_a_large_write_takes_what_fits() -> None:
    _, writer = _ends()
    writer.write_nowait(_views(bytes(CAPACITY - 10)))
    assert writer.write_nowait(_views(bytes(4), bytes(PIPE_BUF))) == 10


def test_readiness_of_both_ends() -> None:
    reader, writer = _ends()
    assert (reader.readiness(), writer.readiness()) == (Readiness.NONE, Readiness.WRITE)
    writer.write_nowait(_views(b"x"))
    assert (reader.readiness(), reader.readable_bytes()) == (Readiness.READ, 1)
    reader.on_last_close()
    assert writer.readiness() == Readiness.WRITE | Readiness.ERROR
    other, writer = _ends()
    writer.on_last_close()
    assert other.readiness() == Readiness.HANGUP  # and no READ: poll(2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(st.tuples(st.just("w"), st.integers(0, 3 * PIPE_BUF)), st.tuples(st.just("r"), st.integers(1, 9000)))
    )
)
def test_no_byte_is_lost_or_made_up(steps: list[tuple[str, int]]) -> None:
    reader, writer = _ends()
    sent = received = b""
    for number, (kind, size) in enumerate(steps):
        held = len(sent) - len(received)
        assert held == reader.readable_bytes() <= CAPACITY
        if kind == "r":
            received += _read(reader, size) if held else b""
        elif size <= CAPACITY - held or (size > PIPE_BUF and held < CAPACITY):
            data = bytes([number % 251]) * size
            sent += data[: writer.write_nowait(_views(data))]
        else:
            with pytest.raises(KernelError, match="EAGAIN"):
                writer.write_nowait(_views(bytes(size)))
    assert sent.startswith(received)


# -- the host's end ---------------------------------------------------------------------------------------------------
def _host(pipe: Pipe, lock: Lock, *, reads: bool) -> HostPipeEnd:  # type: ignore[valid-type]
    return HostPipeEnd(pipe, lock, ManualClock(), reads=reads)


def test_host_ends_block_and_lose_nothing() -> None:
    lock, pipe = Lock(), _pipe(PIPE_BUF)
    reader, writer = _host(pipe, lock, reads=True), _host(pipe, lock, reads=False)
    data = bytes(range(256)) * 300
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.write, data)
        got = b""
        while len(got) < len(data):
            got += reader.read(1000)
        assert writing.result() == len(data)
        reading = pool.submit(reader.read)
        writer.close()
        assert reading.result() == b""
    assert got == data
    assert writer.closed
    assert not reader.closed


def test_closing_a_host_end_ends_its_own_call_and_the_other_side_s() -> None:
    lock, pipe = Lock(), _pipe(PIPE_BUF)
    reader, writer = _host(pipe, lock, reads=True), _host(pipe, lock, reads=False)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(reader.read)
        reader.close()
        assert reading.result() == b""
        assert writer.write(b"x") == 0
        writer.close()
        writer.close()
    assert (pipe.readers, pipe.writers) == (0, 0)


def test_a_host_s_write_tells_how_much_was_taken_before_the_reader_went() -> None:
    lock, pipe = Lock(), _pipe(PIPE_BUF)
    reader, writer = _host(pipe, lock, reads=True), _host(pipe, lock, reads=False)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.write, bytes(PIPE_BUF + 1000))
        assert len(reader.read(10)) == 10
        reader.close()
        assert PIPE_BUF <= writing.result() <= PIPE_BUF + 10


def test_threads_of_the_host_may_share_an_end_and_closing_it_ends_all_their_calls() -> None:
    lock, pipe = Lock(), _pipe(PIPE_BUF)
    reader, writer = _host(pipe, lock, reads=True), _host(pipe, lock, reads=False)
    with ThreadPoolExecutor(4) as pool:
        reading = [pool.submit(reader.read, 1) for _ in range(4)]
        assert writer.write(b"ab") == 2
        reader.close()
        assert sorted(call.result() for call in reading)[:2] == [b"", b""]
        assert {call.result() for call in reading} <= {b"", b"a", b"b"}


# -- the registry -----------------------------------------------------------------------------------------------------
def test_the_registry_knows_a_pipe_while_it_has_both_ends_and_keeps_what_it_came_to() -> None:
    for first in (PipeReader, PipeWriter):
        registry = Registry(Limits(max_pipe_bytes=PIPE_BUF))
        pipe = Pipe(registry)
        reader, writer = PipeReader(pipe), PipeWriter(pipe)
        writer.write_nowait(_views(bytes(PIPE_BUF)))
        with pytest.raises(KernelError, match="EAGAIN"):
            writer.write_nowait(_views(b"x"))
        use = registry.snapshot()["max_pipe_bytes"]
        assert (use.used, use.peak, use.refused, use.warnings) == (PIPE_BUF, PIPE_BUF, 1, 1)
        (reader if first is PipeReader else writer).on_last_close()
        assert not registry._objects
        (writer if first is PipeReader else reader).on_last_close()
        use = registry.snapshot()["max_pipe_bytes"]
        assert (use.used, use.peak, use.refused, use.warnings) == (0, PIPE_BUF, 1, 1)
        assert not pipe.data, "what nobody can read is let go of"


def test_each_wait_of_a_host_s_writer_is_counted() -> None:
    registry, lock = Registry(Limits(max_pipe_bytes=PIPE_BUF)), Lock()
    pipe = Pipe(registry)
    reader, writer = _host(pipe, lock, reads=True), _host(pipe, lock, reads=False)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.write, bytes(3 * PIPE_BUF))
        got = 0
        while got < 3 * PIPE_BUF:
            got += len(reader.read())
        assert writing.result() == got
    assert 1 <= registry.snapshot()["max_pipe_bytes"].refused <= 2


def test_raising_the_cap_lets_a_writer_go_on_that_waits() -> None:
    registry, lock = Registry(Limits(max_pipe_bytes=PIPE_BUF)), Lock()
    pipe = Pipe(registry)
    PipeReader(pipe)
    writer = _host(pipe, lock, reads=False)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(writer.write, bytes(3 * PIPE_BUF))
        while not pipe.room_waiters:
            pass
        with lock:
            registry.raise_to(Limits(max_pipe_bytes=3 * PIPE_BUF))
        assert writing.result(60) == 3 * PIPE_BUF
