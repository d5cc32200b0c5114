"""What a thread that sleeps in a read or a write lends to the other end meanwhile: its buffers.

A reader's are filled, and a writer's emptied, by whoever comes along, so that bytes are copied once and a thread is
woken once for them. A sleeper leaves its sleep only with the kernel lock held, so its memory is there for as long as it
is lent.
"""

from collections.abc import Sequence

from agentvm.kernel.process import Process

__all__ = ["Lent", "copy", "remaining"]


class Lent:
    """The buffers of one sleeping process, and how far they were filled or emptied. Guarded by the kernel lock."""

    __slots__ = ("_process", "done", "rest")

    def __init__(self, process: Process, buffers: Sequence[memoryview]) -> None:
        self._process = process
        #: What nobody has touched yet.
        self.rest = buffers
        self.done = 0

    @property
    def is_usable(self) -> bool:
        """Whether the process goes on: what is stopped or must end gets nothing, and gives nothing."""
        return self._process.stopped_by is None and self._process.ending is None

    def advance(self, count: int) -> None:
        """Note that the first `count` bytes of the rest were moved."""
        self.done += count
        self.rest = remaining(self.rest, count)

    def wake(self) -> None:
        """Have the process look at what was done."""
        self._process.waiter.wake()


def remaining(buffers: Sequence[memoryview], done: int) -> Sequence[memoryview]:
    """Return what is left of `buffers` after the first `done` bytes."""
    if len(buffers) == 1:
        return [buffers[0][done:]] if done < len(buffers[0]) else []
    rest = []
    for buffer in buffers:
        if done < len(buffer):
            rest.append(buffer[done:])
            done = 0
        else:
            done -= len(buffer)
    return rest


def copy(source: Sequence[memoryview], target: Sequence[memoryview]) -> int:
    """Copy as many bytes as there are and fit, and return how many."""
    done = 0
    while source and target:
        size = min(len(source[0]), len(target[0]))
        target[0][:size] = source[0][:size]
        done += size
        source, target = remaining(source, size), remaining(target, size)
    return done
