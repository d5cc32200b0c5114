"""Pipes: a bounded byte queue with a reading and a writing end. A full pipe blocks its writer, nothing is dropped.

Source: pipe(7): a write of PIPE_BUF bytes is atomic, EOF when the last writer is gone, EPIPE when the last reader is.
"""

from collections.abc import Callable

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.wait import HostThread, Lock, Readiness, WaitQueue, block_until

__all__ = ["PIPE_BUF", "HostPipeEnd", "Pipe", "PipeReader", "PipeWriter"]

#: A write of at most this many bytes goes in whole or not at all.
PIPE_BUF = 4096


class Pipe:
    """The queue itself, of at most `capacity` bytes. Guarded by the kernel lock."""

    __slots__ = ("capacity", "data", "readers", "waiters", "writers")

    def __init__(self, capacity: int, waiters: WaitQueue | None = None) -> None:
        """`waiters` lets two pipes wake the same threads, as the two directions of a socket do."""
        self.capacity = capacity
        self.data = bytearray()
        self.readers = 0
        self.writers = 0
        self.waiters = waiters if waiters is not None else WaitQueue()

    def read_nowait(self, buffers: Buffers) -> int:
        """Move bytes out; 0 when empty and no writer is left; EAGAIN when empty."""
        data = self.data
        if not data:
            if self.writers == 0 or not sum(map(len, buffers)):
                return 0
            raise KernelError(Errno.EAGAIN, "the pipe is empty")
        done = 0
        for buffer in buffers:
            chunk = data[done : done + len(buffer)]
            buffer[: len(chunk)] = chunk
            done += len(chunk)
            if done == len(data):
                break
        del data[:done]
        self.waiters.notify()
        return done

    def write_nowait(self, buffers: Buffers) -> int:
        """Move bytes in, as many as fit; EAGAIN if none do, EPIPE if no reader is left. No bytes always fit."""
        total = sum(map(len, buffers))
        if self.readers == 0 and total:
            raise KernelError(Errno.EPIPE, "no reader is left")
        room = self.capacity - len(self.data)
        if total > room and (room == 0 or total <= PIPE_BUF):
            raise KernelError(Errno.EAGAIN, "the pipe is full")
        done = 0
        for buffer in buffers:
            taken = min(len(buffer), room - done)
            self.data += buffer[:taken]
            done += taken
            if done == room:
                break
        if done:
            self.waiters.notify()
        return done


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

    @property
    def waiters(self) -> WaitQueue | None:
        return self.pipe.waiters

    def stat(self) -> FileStat:
        return FileStat(0, 0, self._filetype, 0, 0, 0, 0, 0, 0o600)


class PipeReader(_PipeEnd):
    """The reading end."""

    __slots__ = ()

    def __init__(self, pipe: Pipe, filetype: Filetype = Filetype.UNKNOWN, flags: FdFlags = FdFlags(0)) -> None:
        super().__init__(pipe, filetype, flags)
        pipe.readers += 1

    def read_nowait(self, buffers: Buffers) -> int:
        return self.pipe.read_nowait(buffers)

    def readiness(self) -> int:
        ready = Readiness.NONE
        if self.pipe.data:
            ready |= Readiness.READ
        if self.pipe.writers == 0:
            ready |= Readiness.READ | Readiness.HANGUP
        return ready

    def readable_bytes(self) -> int:
        return len(self.pipe.data)

    def on_last_close(self) -> None:
        self.pipe.readers -= 1
        self.pipe.waiters.notify()


class PipeWriter(_PipeEnd):
    """The writing end."""

    __slots__ = ()

    def __init__(self, pipe: Pipe, filetype: Filetype = Filetype.UNKNOWN, flags: FdFlags = FdFlags(0)) -> None:
        super().__init__(pipe, filetype, flags)
        pipe.writers += 1

    def write_nowait(self, buffers: Buffers) -> int:
        return self.pipe.write_nowait(buffers)

    def readiness(self) -> int:
        ready = Readiness.NONE
        if self.pipe.readers == 0:
            ready |= Readiness.WRITE | Readiness.ERROR
        elif self.pipe.capacity - len(self.pipe.data) >= min(PIPE_BUF, self.pipe.capacity):
            ready |= Readiness.WRITE
        return ready

    def on_last_close(self) -> None:
        self.pipe.writers -= 1
        self.pipe.waiters.notify()


class HostPipeEnd:
    """The host's end of a guest's standard stream: a file-like object whose calls block, and end when it is closed.

    One thread of the host may use it at a time; `close` may come from any.
    """

    def __init__(self, pipe: Pipe, lock: Lock, clock: Clock, *, reads: bool) -> None:
        self._pipe = pipe
        self._lock = lock
        self._clock = clock
        self._reads = reads
        self._thread = HostThread()
        self._open = True
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
            data = bytes(pipe.data[:size])
            del pipe.data[:size]
            pipe.waiters.notify()
            return data

    def write(self, data: bytes | memoryview) -> int:
        """Write all of `data`, waiting for room. Returns how much was taken: less if no reader is left, or closed."""
        pipe, rest = self._pipe, memoryview(data)
        done = 0
        with self._lock:
            while done < len(rest):
                self._wait(lambda: len(pipe.data) < pipe.capacity or pipe.readers == 0)
                if not self._open or pipe.readers == 0:
                    break
                taken = min(pipe.capacity - len(pipe.data), len(rest) - done)
                pipe.data += rest[done : done + taken]
                done += taken
                pipe.waiters.notify()
        return done

    def close(self) -> None:
        """Close this end; a call that waits on it returns. Idempotent."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            if self._reads:
                self._pipe.readers -= 1
            else:
                self._pipe.writers -= 1
            self._pipe.waiters.notify()
            self._thread.cancel()

    def _wait(self, condition: Callable[[], bool]) -> None:
        block_until(
            self._thread,
            self._lock,
            self._clock,
            [self._pipe.waiters],
            lambda: self._thread.cancelled or condition(),
        )
