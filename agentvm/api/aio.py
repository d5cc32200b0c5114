"""The asyncio twin of the API: the same names, and nothing in it holds the event loop.

What may wait (compiling, a full pipe, a host's disk) runs on a thread of its own; the end of a process costs none.
"""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

from agentvm.api.aio_streams import AsyncConnection, AsyncStreamReader, AsyncStreamWriter, off_loop
from agentvm.api.events import Forget
from agentvm.api.loop_callback import AsyncCallback, LoopCallback
from agentvm.api.process import Process
from agentvm.api.processes import GuestProcess, ProcessInfo
from agentvm.api.reactor import Instance, Number
from agentvm.api.result import Result, Usage
from agentvm.api.vm import AgentVM, Mountable
from agentvm.kernel.stalls import Stall
from agentvm.limits.amount import Amount
from agentvm.limits.events import LimitEvent
from agentvm.limits.outlet import Collector
from agentvm.limits.view import LimitsView

__all__ = [
    "AsyncAgentVM",
    "AsyncConnection",
    "AsyncFiles",
    "AsyncInstance",
    "AsyncProcess",
    "AsyncStreamReader",
    "AsyncStreamWriter",
]


class AsyncInstance:
    """A loaded reactor; see `Instance`."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance

    async def call(self, export: str, *arguments: Number) -> Number | tuple[Number, ...] | None:
        """Call an export, and return its result."""
        return await off_loop(self._instance.call, export, *arguments)

    def read_memory(self, pointer: int, size: int) -> bytes:
        """Return bytes of the guest's memory. Not during a call."""
        return self._instance.read_memory(pointer, size)

    def write_memory(self, pointer: int, data: bytes) -> None:
        """Write to the guest's memory. Not during a call."""
        self._instance.write_memory(pointer, data)

    def connect(self, listener: int = 0) -> AsyncConnection:
        """Connect to one of the instance's listeners."""
        return AsyncConnection(self._instance.connect(listener))

    async def close(self) -> Result:
        """End the instance, and return how it ended and what it printed."""
        return await off_loop(self._instance.close)

    async def __aenter__(self) -> "AsyncInstance":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncProcess:
    """A process that the host started; see `Process`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.stdin = AsyncStreamWriter(process.stdin) if process.stdin else None
        self.stdout = AsyncStreamReader(process.stdout) if process.stdout else None
        self.stderr = AsyncStreamReader(process.stderr) if process.stderr else None

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.running

    async def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end of the process, reap it and return how it ended. Raises TimeoutError."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            try:
                loop.call_soon_threadsafe(ended.set)
            except RuntimeError:
                pass  # the loop was closed meanwhile: nobody waits any more

        self._process.add_done_callback(tell)
        await asyncio.wait_for(ended.wait(), timeout)
        return self._process.wait()

    def kill(self) -> None:
        """End the process at once, as by SIGKILL."""
        self._process.kill()

    def send_signal(self, signal: int, *, group: bool = False) -> None:
        """Send a signal; see `Process.send_signal`."""
        self._process.send_signal(signal, group=group)

    def connect(self, listener: int = 0) -> AsyncConnection:
        """Connect to one of the process's listeners."""
        return AsyncConnection(self._process.connect(listener))

    def usage(self) -> Usage:
        """Return what the process has used so far."""
        return self._process.usage()

    async def close(self) -> None:
        """Kill the process if it runs, reap it, and close its streams."""
        await off_loop(self._process.close)

    def abandon(self) -> None:
        """Kill and reap the process without waiting for it."""
        threading.Thread(target=self._process.close, name="agentvm-async", daemon=True).start()

    async def __aenter__(self) -> "AsyncProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncFiles:
    """The VM's files: the methods of `AgentVM.fs`, as coroutines."""

    def __init__(self, vm: AgentVM) -> None:
        self._files = vm.fs

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._files, name)

        @functools.wraps(method)
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await off_loop(method, *args, **kwargs)

        return call


def _abandon_started(starting: "asyncio.Future[Process]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        AsyncProcess(starting.result()).abandon()


class AsyncAgentVM:
    """A VM for asyncio programs; see `AgentVM` for what its methods and parameters mean."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._vm = AgentVM(*args, **kwargs)
        self.fs = AsyncFiles(self._vm)

    async def run(self, program: Any, *args: Any, stdin: bytes = b"", **kwargs: Any) -> Result:
        """Run a program to its end. Cancelling the task kills the program."""
        process = await self.spawn(program, *args, stdin=stdin, capture=True, **kwargs)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            process.abandon()
            raise

    async def spawn(self, program: Any, *args: Any, **kwargs: Any) -> AsyncProcess:
        """Start a program, and return a handle of it."""
        starting = asyncio.ensure_future(off_loop(self._vm.spawn, program, *args, **kwargs))
        try:
            return AsyncProcess(await asyncio.shield(starting))
        except asyncio.CancelledError:
            starting.add_done_callback(_abandon_started)  # it may have started all the same
            raise

    async def instantiate(self, program: Any, *args: Any, **kwargs: Any) -> AsyncInstance:
        """Load a reactor, and run its `_initialize`."""
        return AsyncInstance(await off_loop(self._vm.instantiate, program, *args, **kwargs))

    async def mount(self, path: str, source: Mountable) -> None:
        """Make a directory of the host, or an empty filesystem, visible at `path`."""
        await off_loop(self._vm.mount, path, source)

    def connect(self, address: int | str | bytes) -> AsyncConnection:
        """Connect to a process that listens at a TCP port or a path; see `AgentVM.connect`. It waits for nothing."""
        return AsyncConnection(self._vm.connect(address))

    def usage(self) -> Usage:
        """Return how far every limit is used."""
        return self._vm.usage()

    def processes(self) -> tuple[ProcessInfo, ...]:
        """Return all processes of this VM by number."""
        return self._vm.processes()

    def process(self, pid: int) -> GuestProcess:
        """Return a handle of one process. Raises `NoSuchProcess`."""
        return self._vm.process(pid)

    @property
    def is_running(self) -> bool:
        """Whether any program of this VM runs, one that another has started too."""
        return self._vm.is_running

    @property
    def name(self) -> str:
        """The VM's name in the log and in events."""
        return self._vm.name

    @property
    def limits(self) -> LimitsView:
        """Every limit's cap in force now."""
        return self._vm.limits

    def on_limit(self, callback: AsyncCallback[LimitEvent]) -> Forget:
        """Have `callback`, a function or a coroutine function, called on this event loop with each `LimitEvent`.

        The next one comes when it has ended; events that come meanwhile become one of each limit and kind.
        """
        return self._vm.on_limit(LoopCallback(callback))

    def on_stall(self, callback: AsyncCallback[Stall]) -> Forget:
        """Have `callback`, a function or a coroutine function, called on this event loop with each `Stall`."""
        return self._vm.on_stall(LoopCallback(callback))

    def collect_events(self) -> Collector:
        """Keep the events that happen from now on."""
        return self._vm.collect_events()

    def raise_limit(self, **limits: Amount) -> None:
        """Raise caps of this VM, for running programs too."""
        self._vm.raise_limit(**limits)

    def kill(self) -> None:
        """End every program of this VM at once."""
        self._vm.kill()

    async def close(self) -> None:
        """End every program, and give everything back. Idempotent."""
        await off_loop(self._vm.close)

    async def __aenter__(self) -> "AsyncAgentVM":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
