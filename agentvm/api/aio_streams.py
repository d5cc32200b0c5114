"""Streams for asyncio: calls that wait do so on threads of their own, and one that is cancelled loses nothing."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, ParamSpec, TypeVar

from agentvm.api.connection import Connection
from agentvm.api.process import StreamReader, StreamWriter

__all__ = ["AsyncConnection", "AsyncStreamReader", "AsyncStreamWriter", "off_loop"]

P = ParamSpec("P")
T = TypeVar("T")

_CHUNK_BYTES = 1 << 16


async def off_loop(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call `function` on a daemon thread of its own, so that a call that never returns does not hold up the exit."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(set_outcome: Callable[[Any], None], outcome: object) -> None:
        if not future.done():
            set_outcome(outcome)

    def work() -> None:
        try:
            settled = functools.partial(settle, future.set_result, function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - it is raised again where the call is awaited
            settled = functools.partial(settle, future.set_exception, error)
        try:
            loop.call_soon_threadsafe(settled)
        except RuntimeError:
            pass  # the loop was closed meanwhile: nobody waits any more

    threading.Thread(target=work, name="agentvm-async", daemon=True).start()
    return await future


class _Source:
    """Reads pieces off the loop, one call at a time. What a cancelled call was about to return comes with the next."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._reading: asyncio.Task[bytes] | None = None
        self._rest = b""  # at most what one call asked for

    async def read(self, size: int) -> bytes:
        while not self._rest and size:
            if self._reading is None:
                self._reading = asyncio.create_task(off_loop(self._read, size))
            reading = self._reading
            data = await asyncio.shield(reading)
            if self._reading is reading:  # or another call was told first
                self._reading, self._rest = None, data
                if not data:
                    break
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    async def read_all(self) -> bytes:
        parts: list[bytes] = []
        try:
            while data := await self.read(_CHUNK_BYTES):
                parts.append(data)
        except asyncio.CancelledError:
            self._rest = b"".join(parts) + self._rest
            raise
        return b"".join(parts)


class _Sink:
    """Writes off the loop, in the order of the calls. One that is cancelled goes on, and the next one waits for it."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        self._write = write
        self._last: asyncio.Task[int] | None = None

    async def write(self, data: bytes) -> int:
        self._last = writing = asyncio.create_task(self._after(self._last, data))
        return await asyncio.shield(writing)

    async def _after(self, before: "asyncio.Task[int] | None", data: bytes) -> int:
        if before is not None and not before.done():
            await asyncio.wait([before])
        return await off_loop(self._write, data)


class AsyncStreamWriter:
    """A process's standard input."""

    def __init__(self, stream: StreamWriter) -> None:
        self._stream = stream
        self._sink = _Sink(stream.write)

    async def write(self, data: bytes) -> int:
        """Write all of `data`, waiting for room; raises BrokenPipeError if the process no longer reads it.

        A write that is cancelled goes on: `close` ends it.
        """
        return await self._sink.write(data)

    def close(self) -> None:
        """Let the process read the end of the stream."""
        self._stream.close()


class AsyncStreamReader:
    """A process's standard output or error."""

    def __init__(self, stream: StreamReader) -> None:
        self._stream = stream
        self._source = _Source(stream.read)

    async def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes as soon as there are any, b"" at the end; with -1, all up to the end.

        A read that is cancelled loses nothing: the next one returns what it would have.
        """
        return await (self._source.read(size) if size >= 0 else self._source.read_all())

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.read(_CHUNK_BYTES):
            yield data

    def close(self) -> None:
        """Read no more; the process gets EPIPE when it prints."""
        self._stream.close()


class AsyncConnection:
    """A connection to a socket on which a process listens; see `Connection`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._source = _Source(connection.recv)
        self._sink = _Sink(connection.send)

    async def send(self, data: bytes) -> int:
        """Send all of `data`, waiting for room; raises BrokenPipeError. One that is cancelled goes on."""
        return await self._sink.write(data)

    async def recv(self, size: int = _CHUNK_BYTES) -> bytes:
        """Return at most `size` bytes as soon as there are any, b"" at the end. One that is cancelled loses nothing."""
        return await self._source.read(size)

    def shutdown(self) -> None:
        """Send no more."""
        self._connection.shutdown()

    def close(self) -> None:
        """Close both directions. Idempotent."""
        self._connection.close()
