"""Standard streams that need no other end: bytes to read, and output that is kept."""

from io import BytesIO

from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.pipe import Pipe, PipeWriter
from agentvm.kernel.stat import FileStat, Filetype
from agentvm.kernel.wait import Readiness
from agentvm.limits.gauge import Gauge

__all__ = ["BytesInput", "CapturedOutput", "StreamedOutput"]


def _stream_stat() -> FileStat:
    return FileStat(0, 0, Filetype.UNKNOWN, 0, 0, 0, 0, 0, 0o600)


class BytesInput(OpenFile):
    """Standard input that is known from the start, and then ends."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = memoryview(data)
        self._position = 0

    def read_nowait(self, buffers: Buffers) -> int:
        start = self._position
        for buffer in buffers:
            chunk = self._data[self._position : self._position + len(buffer)]
            buffer[: len(chunk)] = chunk
            self._position += len(chunk)
        return self._position - start

    def readiness(self) -> int:
        return Readiness.READ if self.readable_bytes() else Readiness.READ | Readiness.HANGUP

    def readable_bytes(self) -> int:
        return len(self._data) - self._position

    def stat(self) -> FileStat:
        return _stream_stat()


class CapturedOutput(OpenFile):
    """Standard output or error that is kept for the result. `budget` is max_log_bytes, shared by both streams."""

    __slots__ = ("_budget", "_kept", "truncated")

    def __init__(self, budget: Gauge) -> None:
        super().__init__()
        self._budget = budget
        # Not a bytearray: its bytes would be copied for the result, and all output held twice.
        self._kept = BytesIO()
        #: True once a write was cut or refused: what is kept is not all that was written.
        self.truncated = False

    def write_nowait(self, buffers: Buffers) -> int:
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        budget = self._budget
        used = budget.used + total
        if used > budget.cap:
            return self._write_rest(buffers, total)
        budget.used = used
        if used > budget.peak:
            budget.peak = used
        for buffer in buffers:
            self._kept.write(buffer)
        return total

    def _write_rest(self, buffers: Buffers, total: int) -> int:
        """Take what still fits; ENOSPC if that is nothing."""
        self.truncated = True
        room = self._budget.acquire_up_to(total)
        done = 0
        for buffer in buffers:
            done += self._kept.write(buffer[: room - done])
        return done

    def value(self) -> bytes:
        """Return what was kept so far; once the process has ended it is not copied."""
        return self._kept.getvalue()

    def readiness(self) -> int:
        return Readiness.WRITE

    def stat(self) -> FileStat:
        return _stream_stat()


class StreamedOutput(PipeWriter):
    """Standard output or error that goes to a reader as it comes. `budget` is max_output_bytes, shared by both."""

    __slots__ = ("_budget",)

    def __init__(self, pipe: Pipe, budget: Gauge, filetype: Filetype = Filetype.UNKNOWN) -> None:
        super().__init__(pipe, filetype)
        self._budget = budget

    def write_nowait(self, buffers: Buffers) -> int:
        budget = self._budget
        total = sum(map(len, buffers))
        if budget.used + total <= budget.cap:
            done = super().write_nowait(buffers)
        else:
            room = max(0, int(budget.cap - budget.used))
            if room == 0:
                budget.acquire(total)  # raises ENOSPC
            done = super().write_nowait(_first(buffers, room))
        budget.acquire(done)
        return done


def _first(buffers: Buffers, size: int) -> list[memoryview]:
    """Return what makes up the first `size` bytes of `buffers`."""
    kept: list[memoryview] = []
    for buffer in buffers:
        kept.append(buffer[:size])
        size -= len(kept[-1])
    return kept
