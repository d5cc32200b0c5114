"""Standard streams: input ends, and streamed output spends what its reader is given."""

import pytest

from agentvm import Errno, Limits
from agentvm.errno import KernelError
from agentvm.kernel.captured import CapturedOutput
from agentvm.kernel.pipe import Pipe, PipeReader
from agentvm.kernel.stdio import BytesInput, StreamedOutput
from agentvm.kernel.wait import Readiness
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge
from agentvm.limits.registry import Registry


def _budget(cap: float, name: str = "max_log_bytes") -> Gauge:
    return Gauge(SPECS[name], cap)


def _views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def test_input_is_read_to_its_end() -> None:
    file = BytesInput(b"hello")
    buffers = [bytearray(2), bytearray(0), bytearray(2)]
    assert file.readable_bytes() == 5
    assert file.read_nowait([memoryview(buffer) for buffer in buffers]) == 4
    assert (bytes(buffers[0]), bytes(buffers[2]), file.readiness()) == (b"he", b"ll", Readiness.READ)
    assert file.read_nowait([memoryview(bytearray(9))]) == 1
    assert file.read_nowait([memoryview(bytearray(9))]) == 0
    assert file.readiness() == Readiness.HANGUP


def test_input_cannot_be_written_and_output_not_be_read() -> None:
    for call in (BytesInput(b"").write_nowait, CapturedOutput(_budget(1)).read_nowait):
        with pytest.raises(KernelError) as caught:
            call([])
        assert caught.value.errno is Errno.EBADF


def test_streamed_output_ends_at_its_budget() -> None:
    pipe = Pipe(Registry(Limits()))
    PipeReader(pipe)
    budget = _budget(10, "max_output_bytes")
    out = StreamedOutput(pipe, budget)
    assert out.write_nowait(_views(b"1234", b"5678")) == 8
    assert out.write_nowait(_views(b"9", b"abc")) == 2
    with pytest.raises(KernelError) as caught:
        out.write_nowait(_views(b"x"))
    assert (caught.value.errno, caught.value.limit) == (Errno.ENOSPC, "max_output_bytes")
    assert bytes(pipe.data) == b"123456789a"
    assert out.write_nowait([]) == 0


def test_streamed_output_spends_what_the_pipe_took_alone() -> None:
    pipe = Pipe(Registry(Limits(max_pipe_bytes=4096)))
    reader = PipeReader(pipe)
    budget = _budget(float("inf"), "max_output_bytes")
    out = StreamedOutput(pipe, budget)
    assert out.write_nowait(_views(bytes(5000))) == 4096
    with pytest.raises(KernelError) as caught:
        out.write_nowait(_views(b"x"))
    assert caught.value.errno is Errno.EAGAIN
    reader.on_last_close()
    with pytest.raises(KernelError) as caught:
        out.write_nowait(_views(b"x"))
    assert caught.value.errno is Errno.EPIPE
    assert budget.used == 4096
