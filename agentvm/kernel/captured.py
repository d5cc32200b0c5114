"""Captured output: what a program prints, kept for the result up to max_log_bytes. Both streams share that budget.

What happens at the cap is the operator's choice, on_output_full: ENOSPC for the program, or its head and tail are kept
and what lies between is dropped and counted. See docs/rationale.md, "Why captured output keeps its head and its tail".
"""

from collections import deque
from dataclasses import dataclass
from io import BytesIO

from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import FileStat, Filetype
from agentvm.kernel.wait import Readiness
from agentvm.limits.gauge import Gauge
from agentvm.limits.spec import UNBOUNDED

__all__ = ["CapturedOutput", "Gap", "HeadAndTail", "capture_outputs"]

#: A tail is kept in blocks of at most this size, so that what holds it is hardly larger than what it holds.
_BLOCK_BYTES = 1 << 14


@dataclass(frozen=True, slots=True)
class Gap:
    """Where a captured stream lacks something: after the first `at` bytes of what was kept, `dropped_bytes` of them.

    None were dropped (0) where the program was refused the rest: it was told ENOSPC.
    """

    at: int
    dropped_bytes: int


class CapturedOutput(OpenFile):
    """Standard output or error that is kept for the result; ENOSPC once `budget`, of max_log_bytes, is spent."""

    __slots__ = ("_budget", "_cut", "_kept")

    def __init__(self, budget: Gauge) -> None:
        super().__init__()
        self._budget = budget
        # Not a bytearray: its bytes would be copied for the result, and all output held twice.
        self._kept = BytesIO()
        self._cut = False

    def write_nowait(self, buffers: Buffers) -> int:
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        budget = self._budget
        used = budget.used + total
        if used > budget.cap:
            return self._write_rest(buffers, total)
        budget.used = used
        if used > budget.top:
            budget.top = used
            if used >= budget.trigger:
                budget.rise()
        for buffer in buffers:
            self._kept.write(buffer)
        return total

    def _write_rest(self, buffers: Buffers, total: int) -> int:
        """Take what still fits; ENOSPC if that is nothing."""
        self._cut = True
        room = self._budget.acquire_up_to(total)
        done = 0
        for buffer in buffers:
            done += self._kept.write(buffer[: room - done])
        return done

    def value(self) -> bytes:
        """Return what was kept; it is not copied."""
        return self._kept.getvalue()

    def gap(self) -> Gap | None:
        """Return where something is missing; None if `value` is all that was written."""
        return Gap(self._kept.tell(), 0) if self._cut else None

    def readiness(self) -> int:
        return Readiness.WRITE

    def stat(self) -> FileStat:
        return FileStat(0, 0, Filetype.UNKNOWN, 0, 0, 0, 0, 0, 0o600)


class _Tail:
    """The last bytes of a stream, and how many were dropped before them."""

    __slots__ = ("_blocks", "dropped", "size")

    def __init__(self) -> None:
        self._blocks: deque[bytearray] = deque()  # together at most max_log_bytes, and a block
        self.size = 0
        self.dropped = 0

    def append(self, data: memoryview) -> None:
        self.size += len(data)
        while data:
            if not self._blocks or len(self._blocks[-1]) >= _BLOCK_BYTES:
                self._blocks.append(bytearray())
            room = _BLOCK_BYTES - len(self._blocks[-1])
            self._blocks[-1] += data[:room]
            data = data[room:]

    def drop_to(self, size: int) -> None:
        """Drop the oldest bytes, so that at most `size` are left."""
        left = max(0, self.size - size)
        self.size -= left
        self.dropped += left
        while left:
            first = self._blocks[0]
            if len(first) <= left:
                left -= len(self._blocks.popleft())
            else:
                del first[:left]
                left = 0

    def move_to(self, file: BytesIO) -> None:
        """Hand all bytes on, block by block, so that they are held once."""
        while self._blocks:
            file.write(self._blocks.popleft())


class _Share:
    """What the two streams have in common: `budget`, of max_log_bytes, how much of its first half is taken, and how
    much was written in all."""

    __slots__ = ("budget", "head", "written")

    def __init__(self, budget: Gauge) -> None:
        self.budget = budget
        self.head = 0
        self.written = 0

    @property
    def cap(self) -> int:
        return int(min(self.budget.cap, UNBOUNDED))


class HeadAndTail(CapturedOutput):
    """Standard output or error of which the head and the tail are kept. The program sees success for all it writes.

    The first half of the cap goes to what either stream prints first; the rest to their tails. A tail takes what the
    other one leaves, and gives way down to half of that rest: a flood on one stream never costs the other its last
    words.
    """

    __slots__ = ("_head", "_other", "_share", "_tail")

    def __init__(self, share: _Share, tail: _Tail, other: _Tail) -> None:
        """Use `capture_outputs`."""
        super().__init__(share.budget)
        self._share = share
        self._head = 0
        self._tail = tail
        self._other = other

    def write_nowait(self, buffers: Buffers) -> int:
        share, budget = self._share, self._share.budget
        total = 0
        for buffer in buffers:
            rest = self._write_head(buffer)
            if rest:
                self._write_tail(rest)
            total += len(buffer)
        overran, share.written = share.written > share.cap, share.written + total
        budget.set(min(share.head + self._tail.size + self._other.size, share.written))
        if share.written > share.cap and not overran:
            budget.refuse(share.written)
        return total

    def _write_head(self, data: memoryview) -> memoryview:
        """Take what the head has room for, and return the rest. Once the tail has begun there is none."""
        if self._tail.size or self._tail.dropped:
            return data
        taken = min(self._share.cap // 2 - self._share.head, len(data))
        if taken <= 0:
            return data
        self._head += self._kept.write(data[:taken])
        self._share.head += taken
        return data[taken:]

    def _write_tail(self, data: memoryview) -> None:
        """Make room first, so that never more than the cap is held, and drop what finds none: the oldest bytes."""
        tail, other = self._tail, self._other
        room = self._share.cap - self._share.head
        other.drop_to(max(room // 2, room - tail.size - len(data)))
        room -= other.size
        kept = min(len(data), room)
        tail.drop_to(room - kept)
        tail.dropped += len(data) - kept
        tail.append(data[len(data) - kept :])

    def value(self) -> bytes:
        """Return what was kept, head and tail joined. Only once the program has ended."""
        self._tail.move_to(self._kept)
        return self._kept.getvalue()

    def gap(self) -> Gap | None:
        return Gap(self._head, self._tail.dropped) if self._tail.dropped else None


def capture_outputs(budget: Gauge, *, discard: bool) -> tuple[CapturedOutput, CapturedOutput]:
    """Return files for standard output and error. `budget` is max_log_bytes; `discard` keeps their heads and tails
    once it is spent, instead of refusing with ENOSPC."""
    if not discard:
        return CapturedOutput(budget), CapturedOutput(budget)
    share, one, two = _Share(budget), _Tail(), _Tail()
    return HeadAndTail(share, one, two), HeadAndTail(share, two, one)
