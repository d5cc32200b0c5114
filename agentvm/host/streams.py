"""Pumps between descriptors of the host and a guest's standard streams: one thread each, stoppable at once."""

import os
import select
import stat
import threading
from collections.abc import Callable

from agentvm.kernel.pipe import HostPipeEnd

__all__ = ["StreamPump", "pump_in", "pump_out"]

_CHUNK_BYTES = 1 << 16


class StreamPump:
    """Moves bytes until one side ends, then closes the guest's end. The host's descriptor stays its owner's.

    It waits for the host in poll(2), next to a descriptor of its own that `stop` makes readable, so it never sits in a
    read or write that cannot be given up. Only where another process empties the same terminal between poll and read
    does the (daemon) thread stay behind; `stop` does not wait for it.
    """

    def __init__(
        self, fd: int, end: HostPipeEnd, *, to_guest: bool, when_over: Callable[[], None] | None = None
    ) -> None:
        """Use `pump_in` and `pump_out`, which also start it."""
        # immutable
        self._when_over = when_over
        self._fd = fd
        self._end = end
        self._thread = threading.Thread(
            target=self._run,
            args=(self._move_in if to_guest else self._move_out,),
            name=f"agentvm-{'stdin' if to_guest else 'output'}-{fd}",
            daemon=True,
        )
        # written by the pump's thread, read once it has ended
        self._error: OSError | None = None
        # set by the pump's thread, once
        self._is_over = False
        # guarded by _lock
        self._lock = threading.Lock()
        self._stopped = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # owned by the pump's thread
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(fd, select.POLLIN if to_guest else select.POLLOUT)

    @property
    def error(self) -> OSError | None:
        """What the host's descriptor refused with: EPIPE if its reader is gone; None while all is well."""
        return self._error

    @property
    def is_over(self) -> bool:
        """Whether it moves nothing any more: both streams have ended, or one was refused."""
        return self._is_over

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End it now; what was not moved yet is dropped. Any thread, without the kernel lock. Idempotent."""
        with self._lock:
            self._stopped = True
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)
        self._end.close()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until all is moved; return whether it is. An output pump ends when its writers have closed."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- the pump's thread --------------------------------------------------------------------------------------------
    def _run(self, move: Callable[[], None]) -> None:
        try:
            move()
        except OSError as error:
            self._error = error
        finally:
            # A guest that writes on gets EPIPE; one that reads, the end of the stream.
            self._end.close()
            with self._lock:
                os.close(self._wake)
                self._wake = -1
            self._is_over = True
            if self._when_over is not None:
                self._when_over()

    def _move_in(self) -> None:
        while self._wait():
            try:
                data = os.read(self._fd, _CHUNK_BYTES)
            except BlockingIOError:
                continue
            if not data or self._end.write(data) < len(data):
                return

    def _move_out(self) -> None:
        # Only for so much does poll promise that a write does not block; a regular file's never does.
        piece = _CHUNK_BYTES if stat.S_ISREG(os.fstat(self._fd).st_mode) else select.PIPE_BUF
        while data := self._end.read(_CHUNK_BYTES):
            rest = memoryview(data)
            while rest:
                if not self._wait():
                    return
                try:
                    rest = rest[os.write(self._fd, rest[:piece]) :]
                except BlockingIOError:
                    continue

    def _wait(self) -> bool:
        """Sleep until the host's descriptor is ready and return True, or return False once stopped."""
        self._poll.poll()
        return not self._stopped


def pump_in(fd: int, end: HostPipeEnd) -> StreamPump:
    """Feed what comes from `fd` to a guest's standard input; its end, or an error, ends that input."""
    return _started(StreamPump(fd, end, to_guest=True))


def pump_out(end: HostPipeEnd, fd: int, when_over: Callable[[], None] | None = None) -> StreamPump:
    """Write what a guest puts out to `fd`; an error, such as a closed pipe, is EPIPE for its next write.

    `when_over` is called on the pump's thread once it `is_over`.
    """
    return _started(StreamPump(fd, end, to_guest=False, when_over=when_over))


def _started(pump: StreamPump) -> StreamPump:
    pump.start()
    return pump
