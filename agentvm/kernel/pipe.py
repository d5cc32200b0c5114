"""Pipes: a bounded byte queue with a reading and a writing end. A full pipe blocks its writer, nothing is dropped.

Source: pipe(7): a write of PIPE_BUF bytes is atomic, EOF when the last writer is gone, EPIPE when the last reader is.
"""

from collections.abc import Callable

from agentvm.bounded import ByteQueue, Full
from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.lending import Lent, copy, remaining
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.wait import HostThread, Lock, Readiness, WaitQueue, block_until
from agentvm.limits.registry import Registry

__all__ = ["PIPE_BUF", "HostPipeEnd", "Pipe", "PipeReader", "PipeWriter"]

#: A write of at most this many bytes goes in whole or not at all. No pipe has a lower cap.
PIPE_BUF = 4096


class Pipe(ByteQueue):
    """The queue itself, of at most max_pipe_bytes, and how many ends it has. Guarded by the kernel lock.

    The registry knows its gauge for as long as both ends are there: without one of them nothing more goes in.
    """

    __slots__ = ("_gauge", "_hungry", "_registry", "_stuck", "is_full", "readers", "room_waiters", "waiters", "writers")

    #: Whether an end that is gone can come back: that of a FIFO. What was written then waits for it.
    reopens = False

    def __init__(self, registry: Registry, waiters: WaitQueue | None = None) -> None:
        """`waiters` lets two pipes wake the same threads, as the two directions of a socket do."""
        #: Who waits for bytes, or the end; and who waits for room, or an error.
        self.waiters = waiters if waiters is not None else WaitQueue("a pipe")
        self.room_waiters = waiters if waiters is not None else WaitQueue("room in a pipe")
        self._registry = registry
        self._gauge = registry.open_object("max_pipe_bytes", self.room_waiters.notify)
        super().__init__(self._gauge, full=Full.BLOCKS, whole=PIPE_BUF)
        self.readers = 0
        self.writers = 0
        #: Whether it was full when its last reader went, and what was in it with that: poll(2) goes on to say so.
        self.is_full = False
        # Who sleeps in a read or a write, first come first served: as many as there are running processes at most.
        self._hungry: list[Lent] = []
        self._stuck: list[Lent] = []

    def write_nowait(self, buffers: Buffers) -> int:
        """Move bytes in, as many as fit; EAGAIN if none do, EPIPE if no reader is left. No bytes always fit."""
        if self.readers == 0 and any(len(buffer) for buffer in buffers):
            raise KernelError(Errno.EPIPE, "no reader is left")
        if self.data:
            return self.put(buffers)
        fed = self._feed(buffers) if self._hungry else 0
        if fed:
            buffers = remaining(buffers, fed)
            if not buffers:
                return fed
        done = self.put(buffers)
        if done:
            self.waiters.notify()
        return fed + done

    def read_nowait(self, buffers: Buffers) -> int:
        """Move bytes out, and in what sleeping writers have; 0 when empty and no writer is left; EAGAIN when empty."""
        if not self.data:
            if self.writers == 0 or not any(len(buffer) for buffer in buffers):
                return 0
            raise KernelError(Errno.EAGAIN, "the pipe is empty")
        had_room = self.has_room()
        done = self.take(buffers)
        if self._stuck:
            while self._relieve() and (rest := remaining(buffers, done)):
                done += self.take(rest)
        if not had_room and self.has_room():
            self.room_waiters.notify()
        return done

    def read_bytes(self, size: int) -> bytes:
        """Take at most `size` bytes out, and return them."""
        had_room = self.has_room()
        data = self.take_bytes(size)
        if self._stuck:
            self._relieve()
        if not had_room and self.has_room():
            self.room_waiters.notify()
        return data

    # -- sleepers -----------------------------------------------------------------------------------------------------
    def lend(self, lent: Lent, *, reads: bool) -> None:
        """A reader, or a writer, sleeps, and lends its buffers."""
        (self._hungry if reads else self._stuck).append(lent)

    def take_back(self, lent: Lent) -> None:
        """It is awake; it may have been served, and so forgotten, before."""
        for sleepers in (self._hungry, self._stuck):
            if lent in sleepers:
                sleepers.remove(lent)

    def _feed(self, buffers: Buffers) -> int:
        """Copy straight to the readers that sleep, and return how much."""
        fed = 0
        for lent in [lent for lent in self._hungry if lent.is_usable]:
            left = remaining(buffers, fed) if fed else buffers
            if not left:
                break
            count = copy(left, lent.rest)
            lent.advance(count)
            fed += count
            self._hungry.remove(lent)
            lent.wake()
        return fed

    def _relieve(self) -> int:
        """Take in what the writers have that sleep, and return how much. Those that have nothing left are woken."""
        moved = 0
        for lent in [lent for lent in self._stuck if lent.is_usable]:
            left, room = sum(map(len, lent.rest)), int(self.level.cap) - len(self.data)
            if room <= 0 or (left <= PIPE_BUF and left > room):
                break
            count = self.put(lent.rest)
            lent.advance(count)
            moved += count
            if not lent.rest:
                self._stuck.remove(lent)
                lent.wake()
        return moved

    # -- ends ---------------------------------------------------------------------------------------------------------
    def lose(self, *, reader: bool) -> None:
        """A reading or writing end is gone. What nobody can read any more is let go of."""
        if reader:
            self.readers -= 1
        else:
            self.writers -= 1
        if self._is_over():
            self._registry.close_object(self._gauge)
        if self.readers == 0 and not (self.reopens and self.writers):
            self.is_full = self.is_full or not self.has_room()
            self.clear()
        self.waiters.notify()
        if self.room_waiters is not self.waiters:
            self.room_waiters.notify()

    def _is_over(self) -> bool:
        return not (self.readers or self.writers) if self.reopens else not (self.readers and self.writers)


class _PipeEnd(OpenFile):
    __slots__ = ("_filetype", "pipe")

    is_stream = True

    def __init__(self, pipe: Pipe, filetype: Filetype = Filetype.UNKNOWN, flags: FdFlags = FdFlags(0)) -> None:
        super().__init__(flags)
        self.pipe = pipe
        self._filetype = filetype

    @property
    def filetype(self) -> Filetype:  # type: ignore[override]
        return self._filetype

    def take_back(self, lent: Lent) -> None:
        self.pipe.take_back(lent)

    def stat(self) -> FileStat:
        return FileStat(0, 0, self._filetype, 0, 0, 0, 0, 0, 0o600)


class PipeReader(_PipeEnd):
    """The reading end."""

    __slots__ = ()

    def __init__(self, pipe: Pipe, filetype: Filetype = Filetype.UNKNOWN, flags: FdFlags = FdFlags(0)) -> None:
        super().__init__(pipe, filetype, flags)
        pipe.readers += 1

    @property
    def waiters(self) -> WaitQueue | None:
        return self.pipe.waiters

    def read_nowait(self, buffers: Buffers) -> int:
        """Move bytes out; 0 when empty and no writer is left; EAGAIN when empty."""
        return self.pipe.read_nowait(buffers)

    def lend(self, lent: Lent, ready: int) -> None:
        self.pipe.lend(lent, reads=True)

    def readiness(self) -> int:
        ready = Readiness.READ if self.pipe.data else Readiness.NONE
        return ready if self.pipe.writers else ready | Readiness.HANGUP

    def readable_bytes(self) -> int:
        return len(self.pipe.data)

    def on_last_close(self) -> None:
        self.pipe.lose(reader=True)


class PipeWriter(_PipeEnd):
    """The writing end."""

    __slots__ = ()

    def __init__(self, pipe: Pipe, filetype: Filetype = Filetype.UNKNOWN, flags: FdFlags = FdFlags(0)) -> None:
        super().__init__(pipe, filetype, flags)
        pipe.writers += 1

    @property
    def waiters(self) -> WaitQueue | None:
        return self.pipe.room_waiters

    def write_nowait(self, buffers: Buffers) -> int:
        return self.pipe.write_nowait(buffers)

    def lend(self, lent: Lent, ready: int) -> None:
        self.pipe.lend(lent, reads=False)

    def readiness(self) -> int:
        pipe = self.pipe
        ready = Readiness.WRITE if pipe.has_room() and not pipe.is_full else Readiness.NONE
        return ready if pipe.readers else ready | Readiness.ERROR

    def on_last_close(self) -> None:
        self.pipe.lose(reader=False)


class HostPipeEnd:
    """The host's end of a guest's standard stream: a file-like object whose calls block, and end when it is closed.

    Any thread of the host may use it. Two that write at once mix their bytes, in pieces that fit into the pipe.
    """

    def __init__(self, pipe: Pipe, lock: Lock, clock: Clock, *, reads: bool) -> None:
        self._pipe = pipe
        self._lock = lock
        self._clock = clock
        self._reads = reads
        # guarded by _lock, which is the kernel's
        self._open = True
        #: Who waits for this end to do something.
        self._others = pipe.room_waiters if reads else pipe.waiters
        self._others.host_ends += 1
        if reads:
            pipe.readers += 1
        else:
            pipe.writers += 1

    @property
    def closed(self) -> bool:
        return not self._open

    def read(self, size: int = 1 << 16) -> bytes:
        """Return at least one byte and at most `size`; b"" at the end of the stream, or once closed."""
        pipe = self._pipe
        with self._lock:
            self._wait(lambda: bool(pipe.data) or pipe.writers == 0)
            if not self._open:
                return b""
            return pipe.read_bytes(size)

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`, waiting for room. Returns how much was taken: less if no reader is left, or closed."""
        pipe, rest = self._pipe, memoryview(data)
        done = 0
        with self._lock:
            while done < len(rest) and self._open and pipe.readers:
                try:
                    done += pipe.write_nowait([rest[done:]])
                except KernelError:  # EAGAIN, counted as a wait
                    self._wait(lambda: pipe.has_room() or pipe.readers == 0)
        return done

    def close(self) -> None:
        """Close this end; calls that wait on it return. Idempotent."""
        with self._lock:
            self.close_locked()

    def close_locked(self) -> None:
        """As `close`, with the kernel lock held."""
        if self._open:
            self._open = False
            self._others.host_ends -= 1
            self._pipe.lose(reader=self._reads)

    def _wait(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        block_until(
            HostThread(),
            self._lock,
            self._clock,
            [self._pipe.waiters if self._reads else self._pipe.room_waiters],
            lambda: not self._open or condition(),
        )
