"""Bounded queues of bytes and of items. What a full one does to its producer is decided where it is made.

No policy drops anything: see docs/rationale.md, "Why no queue drops". A queue's gauge knows how full it is and ever
was, warns, and counts how often there was no room.
"""

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Generic, Protocol, TypeVar

from agentvm.errno import Errno, KernelError

__all__ = ["ByteQueue", "Full", "ItemQueue", "Level"]

T = TypeVar("T")

#: Up to so many bytes a copy of a piece costs less than a view of it.
_SHORT = 4096


class Full(Enum):
    """What a queue without room does to its producer."""

    BLOCKS = "blocks"  # EAGAIN: the producer waits until there is room, and tries again
    REFUSES = "refuses"  # the gauge's own refusal, with the limit and its values, for good


class Level(Protocol):
    """How full one queue is, and may become. `agentvm.limits.gauge.Gauge` is one."""

    cap: int | float
    used: int | float
    #: Up to `top` and above `low` a change of `used` needs no look: see `Gauge`.
    top: int | float
    low: int | float

    def acquire(self, amount: int = 1) -> None:
        """Take `amount`; raises a `KernelError` that names the limit if it passes the cap, and counts a refusal."""

    def release(self, amount: int = 1) -> None:
        """Give `amount` back."""

    def refuse(self, observed: int) -> None:
        """Note that a producer found no room."""

    def set(self, used: int) -> None:
        """Note that so much is held now."""

    def rise(self) -> None:
        """To be called once `used` has passed `top`."""

    def recover(self) -> None:
        """To be called once `used` has fallen to `low`."""


def _turned_away(level: Level, full: Full, amount: int) -> KernelError:
    """Count a producer that finds no room for `amount`, and return, or raise, what it is told."""
    if full is Full.REFUSES:
        level.acquire(amount)  # raises
    level.refuse(int(level.used) + amount)
    return KernelError(Errno.EAGAIN, "the queue is full")


class ByteQueue:
    """Bytes, first in, first out. Whoever shares one guards it."""

    __slots__ = ("_full", "_whole", "data", "level")

    def __init__(self, level: Level, *, full: Full, whole: int = 1) -> None:
        """`level` is the queue's own. A `put` of at most `whole` bytes, which the cap allows, goes in whole or not."""
        self.level = level
        self._full = full
        self._whole = whole
        self.data = bytearray()

    def __len__(self) -> int:
        return len(self.data)

    def has_room(self) -> bool:
        """Whether a `put` would take something, whatever its size."""
        return self.level.cap - len(self.data) >= self._whole

    def put(self, buffers: Sequence[memoryview]) -> int:
        """Take the bytes of `buffers`, as many as fit, and return how many. No bytes always fit.

        Where none do, or where not all do of a few that belong together, EAGAIN or a refusal.
        """
        data, level = self.data, self.level
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        held = len(data) + total
        if held > level.cap:
            return self._put_some(buffers, total)
        for buffer in buffers:
            data += buffer
        level.used = held
        if held > level.top:
            level.rise()
        return total

    def _put_some(self, buffers: Sequence[memoryview], total: int) -> int:
        room = int(self.level.cap) - len(self.data)
        if room <= 0 or total <= self._whole:
            raise _turned_away(self.level, self._full, total)
        left = room
        for buffer in buffers:
            self.data += buffer[:left]
            left -= min(left, len(buffer))
        self.level.set(len(self.data))
        return room - left

    def take(self, buffers: Sequence[memoryview]) -> int:
        """Move bytes into `buffers`, as many as there are, and return how many."""
        data, level = self.data, self.level
        if len(buffers) == 1:  # nearly every read: worth its own lines, and those of `_drop`
            (buffer,) = buffers
            done = len(buffer)
            if done <= _SHORT:
                chunk = data[:done]
                done = len(chunk)
                buffer[:done] = chunk
            else:
                done = min(done, len(data))
                with memoryview(data) as view:
                    buffer[:done] = view[:done]
        else:
            done = self.peek(buffers)
        del data[:done]
        held = level.used = len(data)
        if held <= level.low:
            level.recover()
        return done

    def take_bytes(self, size: int) -> bytes:
        """Take at most `size` bytes out, and return them."""
        with memoryview(self.data)[:size] as taken:
            result = bytes(taken)
        self._drop(len(result))
        return result

    def peek(self, buffers: Sequence[memoryview]) -> int:
        """Copy bytes into `buffers`, and leave them there."""
        done = 0
        with memoryview(self.data) as data:
            for buffer in buffers:
                size = min(len(buffer), len(data) - done)
                buffer[:size] = data[done : done + size]
                done += size
                if done == len(data):
                    break
        return done

    def clear(self) -> None:
        """Let go of what nobody will take any more."""
        self._drop(len(self.data))

    def _drop(self, size: int) -> None:
        del self.data[:size]
        level = self.level
        held = level.used = len(self.data)
        if held <= level.low:
            level.recover()


class ItemQueue(Generic[T]):
    """Items, first in, first out. Whoever shares one guards it."""

    __slots__ = ("_full", "_items", "level")

    def __init__(self, level: Level, *, full: Full) -> None:
        """`level` is the queue's own."""
        self.level = level
        self._full = full
        self._items: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Take an item; where there is no room, EAGAIN or a refusal."""
        level = self.level
        if len(self._items) >= level.cap:
            raise _turned_away(level, self._full, 1)
        self._items.append(item)
        level.acquire()

    @property
    def first(self) -> T:
        """The item that has waited longest; IndexError if there is none."""
        return self._items[0]

    def take(self) -> T:
        """Return the item that has waited longest; IndexError if there is none."""
        item = self._items.popleft()
        self.level.release()
        return item
