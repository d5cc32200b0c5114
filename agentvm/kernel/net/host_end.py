"""The host's end of a connection: two file-like directions whose calls block, and end when they are closed."""

from collections.abc import Callable, Iterable

from agentvm.clock import Clock
from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.incoming import ByteStream
from agentvm.kernel.net.stream import StreamSocket
from agentvm.kernel.wait import HostThread, Lock, Readiness, WaitQueue, block_until

__all__ = ["HostEnd"]


class HostEnd:
    """One direction of the host's end. Any thread of the host may use it. The socket goes with the second direction."""

    def __init__(self, socket: StreamSocket, lock: Lock, clock: Clock, *, reads: bool) -> None:
        self._socket = socket
        self._lock = lock
        self._clock = clock
        self._reads = reads
        # guarded by _lock, which is the kernel's
        self._open = True
        socket.references += 1

    @property
    def closed(self) -> bool:
        return not self._open

    def read(self, size: int = 1 << 16) -> bytes:
        """Return at least one byte and at most `size`; b"" at the end of the stream, or once closed."""
        socket = self._socket
        with self._lock:
            self._wait(Readiness.READ, lambda: bool(socket.readiness() & Readiness.READ))
            incoming = socket.incoming
            return incoming.take_bytes(size) if self._open and isinstance(incoming, ByteStream) else b""

    def write(self, data: bytes | memoryview) -> int:
        """Send all of `data`, waiting for room. Returns how much was taken: less if nobody receives it, or closed."""
        socket, rest, done = self._socket, memoryview(data), 0
        with self._lock:
            while done < len(rest) and self._open:
                try:
                    done += socket.send_nowait([rest[done:]])
                except KernelError as error:
                    if error.errno is not Errno.EAGAIN:
                        break
                    self._wait(Readiness.WRITE, lambda: bool(socket.readiness() & Readiness.WRITE))
        return done

    def close(self) -> None:
        """Close this direction; calls that wait on it return. Idempotent."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            socket = self._socket
            socket.shutdown(read=self._reads, write=not self._reads)
            for queue in socket.queues(Readiness.READ if self._reads else Readiness.WRITE):
                queue.notify()
            socket.references -= 1
            if not socket.references:
                socket.on_last_close()

    def _wait(self, ready: int, condition: Callable[[], bool]) -> None:
        if condition():
            return
        queues: Iterable[WaitQueue] = self._socket.queues(ready)
        block_until(HostThread(), self._lock, self._clock, queues, lambda: not self._open or condition())
