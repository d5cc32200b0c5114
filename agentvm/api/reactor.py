"""Reactors: modules without `_start`, whose exports the host calls one by one."""

from typing import TYPE_CHECKING

from agentvm.api.actions import count_action
from agentvm.api.connection import Connection, connect_to_listener
from agentvm.api.launch import Launched
from agentvm.api.process import StreamReader, StreamWriter
from agentvm.api.result import Result
from agentvm.errno import Errno, KernelError
from agentvm.errors import GuestFailed, VMClosed

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext

__all__ = ["Instance", "Number"]

#: What goes into and comes out of a wasm function: i32 and i64 as int (results signed), f32 and f64 as float.
Number = int | float


class Instance:
    """A loaded reactor. It is one process of its VM, and lives until `close`, a trap, or a limit."""

    def __init__(self, launched: Launched, context: "CallContext") -> None:
        self._launched = launched
        self._context = context
        #: The pipes to the instance's standard streams; None for a stream that has none: see `AgentVM.instantiate`.
        self.stdin = StreamWriter(launched.stdin) if launched.stdin else None
        self.stdout = StreamReader(launched.stdout) if launched.stdout else None
        self.stderr = StreamReader(launched.stderr) if launched.stderr else None

    @property
    def pid(self) -> int:
        return self._launched.record.pid

    def wait_ready(self) -> None:
        """Wait until `_initialize` has run; raises `GuestFailed` if it ended the process."""
        execution = self._launched.execution
        assert execution is not None
        if not execution.wait_ready():
            result = self.close()
            raise GuestFailed(f"_initialize ended the instance: {result.describe()}", result=result)

    def call(self, export: str, *arguments: Number) -> Number | tuple[Number, ...] | None:
        """Call an export, and return its result: None, a number, or a tuple of them.

        Raises `RateLimited`, `MissingExport`, `InvalidArgument` for arguments that do not fit, and `GuestFailed` when
        the call ends the process (a trap, a limit, proc_exit): the instance is then over.
        """
        execution = self._launched.execution
        if execution is None or self._launched.ended.is_set():
            raise VMClosed(f"the instance is over: {self._launched.result().describe()}")
        count_action(self._launched.kernel)
        try:
            results = execution.call(export, arguments)
        except GuestFailed:
            self._launched.ended.wait()
            result = self._launched.result()
            raise GuestFailed(f"calling {export!r} ended the instance: {result.describe()}", result=result) from None
        return results[0] if len(results) == 1 else tuple(results) or None

    def read_memory(self, pointer: int, size: int) -> bytes:
        """Return bytes of the memory exported as "memory"; KernelError EFAULT outside it. Not during a call."""
        self._check_range(pointer, size)
        return bytes(self._context.memory.span(pointer, size))

    def write_memory(self, pointer: int, data: bytes) -> None:
        """Write to the memory exported as "memory"; KernelError EFAULT outside it. Not during a call."""
        self._check_range(pointer, len(data))
        self._context.memory.span(pointer, len(data))[:] = data

    def connect(self, listener: int = 0) -> Connection:
        """Connect to a socket on which the instance listens; see `Process.connect`."""
        return connect_to_listener(self._launched, listener)

    def close(self) -> Result:
        """End the instance, and return how it ended and what it printed. Idempotent."""
        if self._launched.execution is not None:
            self._launched.execution.finish()
        self._launched.ended.wait()
        return self._launched.result()

    def __enter__(self) -> "Instance":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_range(self, pointer: int, size: int) -> None:
        if pointer < 0 or size < 0:
            raise KernelError(Errno.EFAULT, f"{size} bytes at {pointer}")
        if self._launched.ended.is_set():
            raise VMClosed("the instance is over: its memory is gone")
