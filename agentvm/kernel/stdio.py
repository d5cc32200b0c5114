"""Standard streams: bytes to read, and output that goes to a reader. Output that is kept: see `kernel/captured.py`."""

from agentvm.kernel.lending import Lent
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.pipe import Pipe, PipeWriter
from agentvm.kernel.stat import FileStat, Filetype
from agentvm.kernel.wait import Readiness
from agentvm.limits.gauge import Gauge

__all__ = ["BytesInput", "StreamedOutput"]


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
        return Readiness.READ if self.readable_bytes() else Readiness.HANGUP

    def readable_bytes(self) -> int:
        return len(self._data) - self._position

    def stat(self) -> FileStat:
        return FileStat(0, 0, Filetype.UNKNOWN, 0, 0, 0, 0, 0, 0o600)


class StreamedOutput(PipeWriter):
    """Standard output or error that goes to a reader as it comes. `budget` is max_output_bytes, shared by both."""

    __slots__ = ("_budget",)

    def __init__(self, pipe: Pipe, budget: Gauge, filetype: Filetype = Filetype.UNKNOWN) -> None:
        super().__init__(pipe, filetype)
        self._budget = budget

    def lend(self, lent: Lent, ready: int) -> None:
        """What a reader took by itself would not be counted."""

    def write_nowait(self, buffers: Buffers) -> int:
        budget = self._budget
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        if budget.used + total > budget.cap:
            room = max(0, int(budget.cap - budget.used))
            if room == 0:
                budget.acquire(total)  # raises ENOSPC
            buffers = _first(buffers, room)
        done = self.pipe.write_nowait(buffers)
        used = budget.used = budget.used + done
        if used > budget.top:
            budget.top = used
            if used >= budget.trigger:
                budget.rise()
        return done


def _first(buffers: Buffers, size: int) -> list[memoryview]:
    """Return what makes up the first `size` bytes of `buffers`."""
    kept: list[memoryview] = []
    for buffer in buffers:
        kept.append(buffer[:size])
        size -= len(kept[-1])
    return kept
