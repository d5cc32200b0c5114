"""What waits in a socket to be received: bytes of a stream, or messages with their bounds. Nothing is dropped.

Bytes are copied twice, from the sender's memory into the queue and from there into the receiver's.
"""

from collections import deque
from collections.abc import Sequence

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import Address
from agentvm.kernel.net.in_flight import Parcel
from agentvm.kernel.net.space import BufferSpace
from agentvm.kernel.wait import WaitQueue
from agentvm.limits.gauge import Gauge

__all__ = ["MESSAGE_COST", "ByteStream", "Incoming", "Message", "MessageQueue"]

#: Charged for each message on top of its bytes: what its objects take in CPython.
MESSAGE_COST = 192
#: Up to so many bytes a copy of a piece costs less than a view of it.
_SHORT = 4096


class Incoming:
    """What both kinds have: a share of the VM's budget, and who waits for room. Guarded by the kernel lock."""

    __slots__ = ("_asked", "floor", "held", "is_ended", "limit", "room_waiters", "space")

    def __init__(self, space: BufferSpace, limit: int) -> None:
        """`limit` is what the socket's owner lets it hold (SO_RCVBUF)."""
        self.space = space
        #: What it holds of the budget, and is sure to get of it.
        self.held = self.floor = 0
        self.set_limit(limit)
        #: Whether nothing more will come: the other end sends no more, or is gone.
        self.is_ended = False
        self.room_waiters = WaitQueue("room at the other end of a connection")

    def set_limit(self, limit: int) -> None:
        """Hold at most `limit` bytes from now on, and never more than the budget lets one socket have."""
        self._asked = limit
        self.limit = min(limit, self.space.most)

    def refresh(self) -> None:
        """The caps were raised."""
        self.set_limit(self._asked)
        self.room_waiters.notify()

    def room(self) -> int:
        """Return how much more it could hold, at most; less than nothing after caps have changed."""
        own = self.limit - self.held
        shared = self.space.room_for(self)
        if shared >= own:
            return own
        self.space.is_short = True
        return shared

    def has_room(self) -> bool:
        """Whether a sender that waits should be woken: half of it is free, so that threads take turns seldom."""
        return self.held * 2 <= self.limit and self.room() > 0

    def _refusal(self, amount: int) -> KernelError:
        """What a sender is told who finds no room for `amount`; counted where it is the budget that has none, or that
        lets no socket have more."""
        if self.space.room_for(self) < self.limit - self.held or self.limit == self.space.most:
            self.space.refuse(self, amount)
        return KernelError(Errno.EAGAIN, f"{self.held} bytes wait to be received, and there is no room for {amount}")

    def _leave(self, amount: int) -> None:
        """So much was taken out."""
        self.space.discharge(self, amount)
        if len(self.room_waiters) and self.has_room():
            self.room_waiters.notify()

    def clear(self) -> None:
        """Let go of what nobody will receive any more."""
        raise NotImplementedError

    def close(self) -> None:
        """The socket is gone. Whoever waits for room is told so by then."""
        self.clear()
        self.space.forget(self)
        self.room_waiters.notify()

    def statistics(self) -> int:
        """Return how many bytes it should hold of the budget, counted anew."""
        raise NotImplementedError


class ByteStream(Incoming):
    """Bytes in their order. Descriptors travel with the first byte of what was sent with them."""

    __slots__ = ("_marks", "_taken", "data")

    def __init__(self, space: BufferSpace, limit: int) -> None:
        super().__init__(space, limit)
        self.data = bytearray()
        #: How many bytes were ever taken out: what the marks count from.
        self._taken = 0
        #: Where parcels begin and end, as (first byte, byte after the last, parcel): one for each parcel.
        self._marks: deque[tuple[int, int, Parcel]] = deque()

    def __len__(self) -> int:
        return len(self.data)

    def put(self, buffers: Sequence[memoryview], parcel: Parcel | None = None) -> int:
        """Take bytes in, as many as fit, and return how many; EAGAIN if none do."""
        total = len(buffers[0]) if len(buffers) == 1 else sum(map(len, buffers))
        room = self.room()
        if total > room:
            if room <= 0:
                raise self._refusal(total)
            total = room
        data = self.data
        if len(buffers) == 1:
            data += buffers[0] if len(buffers[0]) == total else buffers[0][:total]
        else:
            left = total
            for buffer in buffers:
                data += buffer[:left]
                left -= min(left, len(buffer))
        self.space.charge(self, total)
        if parcel is not None:
            end = self._taken + len(data)
            self._marks.append((end - total, end, parcel))
        return total

    def take(self, buffers: Sequence[memoryview]) -> tuple[int, Parcel | None]:
        """Move bytes out, and return how many, and the descriptors that came with them. It stops behind those."""
        most = len(self.data)
        parcel = None
        if self._marks:
            most, parcel = self._up_to_mark(sum(map(len, buffers)))
            if parcel is not None:
                self._marks.popleft()
        done = self.peek(buffers, most)
        del self.data[:done]
        self._taken += done
        self._leave(done)
        return done, parcel

    def _up_to_mark(self, wanted: int) -> tuple[int, Parcel | None]:
        """Return how far a read of so many bytes may go, and the parcel that it comes upon."""
        first, end, parcel = self._marks[0]
        if self._taken + wanted <= first:
            return wanted, None
        return end - self._taken, parcel

    def peek(self, buffers: Sequence[memoryview], most: int | None = None) -> int:
        """Copy bytes, and leave them there; return how many."""
        data = self.data
        most = len(data) if most is None else min(most, len(data))
        if len(buffers) == 1 and len(buffers[0]) <= _SHORT:
            (buffer,) = buffers
            done = min(len(buffer), most)
            buffer[:done] = data[:done]
            return done
        done = 0
        with memoryview(data) as view:
            for buffer in buffers:
                size = min(len(buffer), most - done)
                buffer[:size] = view[done : done + size]
                done += size
        return done

    def take_bytes(self, size: int) -> bytes:
        """Move at most `size` bytes out, for the host; descriptors that came with them are dropped."""
        result = bytearray(min(size, len(self.data)))
        done, parcel = self.take([memoryview(result)])
        if parcel is not None:
            parcel.drop()
        return bytes(result[:done])

    def clear(self) -> None:
        held = len(self.data)
        self._taken += held
        self.data.clear()
        marks, self._marks = self._marks, deque()
        self._leave(held)
        for _, _, parcel in marks:
            parcel.drop()

    def statistics(self) -> int:
        return len(self.data)


class Message:
    """One message: its bytes, who sent it, and the descriptors that came with it."""

    __slots__ = ("data", "parcel", "source")

    def __init__(self, data: bytes, source: Address, parcel: Parcel | None) -> None:
        self.data = data
        self.source = source
        self.parcel = parcel

    @property
    def cost(self) -> int:
        return MESSAGE_COST + len(self.data)


class MessageQueue(Incoming):
    """Messages in their order, at most max_datagrams. `level` is the queue's own gauge of that."""

    __slots__ = ("level", "messages")

    def __init__(self, space: BufferSpace, limit: int, level: Gauge) -> None:
        super().__init__(space, limit)
        self.level = level
        self.messages: deque[Message] = deque()

    def __len__(self) -> int:
        return len(self.messages)

    @property
    def most(self) -> int:
        """The length of the longest message that could ever fit."""
        return self.limit - MESSAGE_COST

    def put(self, message: Message) -> None:
        """Take a message in; EAGAIN if it does not fit now, EMSGSIZE if it never will."""
        cost = message.cost
        if cost > self.limit:
            raise KernelError(Errno.EMSGSIZE, f"{len(message.data)} bytes, the socket takes {self.most}")
        if len(self.messages) >= self.level.cap:
            self.level.refuse(len(self.messages) + 1)
            raise KernelError(Errno.EAGAIN, f"{len(self.messages)} messages wait to be received")
        if self.room() < cost:
            raise self._refusal(cost)
        self.level.acquire()
        self.space.charge(self, cost)
        self.messages.append(message)

    def fits(self, size: int) -> bool:
        """Whether a message of so many bytes would not have to wait."""
        cost = size + MESSAGE_COST
        return cost > self.limit or (len(self.messages) < self.level.cap and self.room() >= cost)

    def take(self) -> Message:
        """Return the message that has waited longest; IndexError if there is none."""
        message = self.messages.popleft()
        self.level.release()
        self._leave(message.cost)
        return message

    def _leave(self, amount: int) -> None:
        self.space.discharge(self, amount)
        self.room_waiters.notify()

    def clear(self) -> None:
        while self.messages:
            message = self.take()
            if message.parcel is not None:
                message.parcel.drop()

    def statistics(self) -> int:
        return sum(message.cost for message in self.messages)
