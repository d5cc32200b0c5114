"""The host's handle of a process in a VM: its streams, waiting for it, signalling it."""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from agentvm.api.result import Result, Usage
from agentvm.kernel.outcome import Signal
from agentvm.kernel.pipe import HostPipeEnd
from agentvm.kernel.process import Process as Record

if TYPE_CHECKING:
    from agentvm.api.connection import Connection
    from agentvm.api.launch import Launched

#: Python notices Ctrl-C late if it comes right before a wait that never ends: so waits look up, this often in seconds.
_LOOK_UP = 0.2

__all__ = ["Process", "StreamReader", "StreamWriter"]


class StreamWriter:
    """A process's standard input. Writing waits while its pipe is full."""

    def __init__(self, end: HostPipeEnd) -> None:
        #: The kernel's end of the pipe, for pumps.
        self.end = end

    def write(self, data: bytes) -> int:
        """Write all of `data`; raises BrokenPipeError if the process no longer reads it."""
        done = self.end.write(data)
        if done < len(data):
            raise BrokenPipeError(f"the process took {done} of {len(data)} bytes, and reads no more")
        return done

    def close(self) -> None:
        """Let the process read the end of the stream."""
        self.end.close()


class StreamReader:
    """A process's standard output or error. A process that prints waits while its pipe is full."""

    def __init__(self, end: HostPipeEnd) -> None:
        #: The kernel's end of the pipe, for pumps.
        self.end = end

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes as soon as there are any, b"" at the end; with -1, all up to the end."""
        if size >= 0:
            return self.end.read(size) if size else b""
        return b"".join(self)

    def __iter__(self) -> "StreamReader":
        return self

    def __next__(self) -> bytes:
        data = self.end.read()
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Read no more; the process gets EPIPE when it prints."""
        self.end.close()


class Process:
    """A process that the host started. `stdin`, `stdout` and `stderr` are None where it has no pipe to the host."""

    def __init__(self, launched: "Launched") -> None:
        self._launched = launched
        self._record: Record = launched.record
        self.stdin = StreamWriter(launched.stdin) if launched.stdin else None
        self.stdout = StreamReader(launched.stdout) if launched.stdout else None
        self.stderr = StreamReader(launched.stderr) if launched.stderr else None
        self._result: Result | None = None

    def __repr__(self) -> str:
        state = "running" if self.running else self.wait().describe()
        return f"<Process {self.pid} {self._record.image.name!r}: {state}>"

    @property
    def pid(self) -> int:
        return self._record.pid

    @property
    def running(self) -> bool:
        return not self._launched.ended.is_set()

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the process, reap it and return how it ended.

        Raises TimeoutError after `timeout` seconds; the process runs on then.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not self._launched.ended.wait(_LOOK_UP if deadline is None else min(_LOOK_UP, deadline - monotonic())):
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError(f"process {self.pid} still runs after {timeout} s")
        if self._result is None:
            self._result = self._launched.result()
        return self._result

    def kill(self) -> None:
        """End the process at once, as by SIGKILL. Does nothing if it has ended."""
        self.send_signal(Signal.SIGKILL)

    def send_signal(self, signal: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its process group, as a terminal does for Ctrl-C.

        It does what it does on Linux: a handler runs, SIGSTOP stops and SIGCONT continues, the default of most is to
        end the process. A preview1 program has no handlers. Raises `InvalidArgument`.
        """
        from agentvm.api.processes import send_signal

        send_signal(self._launched.kernel, self._record, signal, group=group)

    def connect(self, listener: int = 0) -> "Connection":
        """Connect to a socket on which the process listens: see `AgentVM.spawn(listeners=...)`.

        Raises `InvalidArgument` if it has no such listener; ConnectionRefusedError if the listener is closed, too many
        connections wait to be accepted, or max_sockets is reached.
        """
        from agentvm.api.connection import connect_to_listener

        return connect_to_listener(self._launched, listener)

    def add_done_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` from another thread once the process has ended; at once if it has."""
        self._launched.when_done(callback)

    def usage(self) -> Usage:
        """Return what the process has used so far."""
        return self._launched.usage()

    def close(self) -> None:
        """Kill the process if it runs, reap it, and close its streams."""
        self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
