"""Programs that programs start: the engine's side of spawn and exec."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from agentvm.abi.context import CallContext
from agentvm.api.module_facts import has_host_abi, uses_files
from agentvm.engine.cache import LoadedModule
from agentvm.engine.current import current
from agentvm.engine.program import GuestProgram
from agentvm.errno import Errno, KernelError
from agentvm.errors import AgentVMError, HostLimit, MemoryTooLarge, VMClosed
from agentvm.kernel.launcher import Executable, Loaded
from agentvm.kernel.process import Ending, GuestKilled, Process, ProcessState
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentvm.abi.trace import CallTrace
    from agentvm.api.machine import VMMachine
    from agentvm.kernel.kernel import Kernel

__all__ = ["GuestLauncher"]

_READ_BYTES = 1 << 20


class _Loaded:
    """A module that a program asked for, and what compiling it took."""

    __slots__ = ("compile_seconds", "has_host_abi", "module", "uses_files")

    def __init__(self, module: LoadedModule, compile_seconds: float) -> None:
        self.module = module
        self.compile_seconds = compile_seconds
        self.has_host_abi = has_host_abi(module.info)
        self.uses_files = uses_files(module.info)


class GuestLauncher:
    """Implements `agentvm.kernel.launcher.Launcher`. Called on the runner threads of the programs that ask."""

    def __init__(
        self, kernel: "Kernel", machine: "VMMachine", trace: "CallTrace | None", owner: Callable[[], object]
    ) -> None:
        """`owner` returns the VM, to which each program that runs holds on: a VM that was forgotten has none."""
        self._owner = owner
        self._kernel = kernel
        self._machine = machine
        self._trace = trace

    def load(self, program: Executable) -> _Loaded:
        execution = current.execution
        execution.pause()  # compiling is no reason to keep others from computing
        try:
            with _as_errno(program.path):
                module, seconds = self._machine.load_for_guest(
                    GuestProgram(
                        self._reader(program),
                        program.size_bytes,
                        program.identity,
                        is_operators=program.is_operators,
                    ),
                    process=execution.process,
                )
        finally:
            execution.resume()
        execution.process.raise_if_killed()
        return _Loaded(module, seconds)

    def _reader(self, program: Executable) -> Callable[[Cap], bytes]:
        def read(cap: Cap) -> bytes:
            data, piece = bytearray(), bytearray(_READ_BYTES)
            while True:
                with self._kernel.lock:
                    count = program.file.pread([memoryview(piece)], len(data))
                if not count:
                    return bytes(data)
                data += memoryview(piece)[:count]
                if len(data) > cap:
                    raise KernelError(Errno.ENOEXEC, f"{program.path!r} has more than {cap} bytes")

        return read

    def start(self, process: Process, loaded: Loaded) -> None:
        assert isinstance(loaded, _Loaded)
        context, finish = CallContext(self._kernel, process, self._trace), partial(self._finish, process, self._owner())
        with _as_errno(process.image.argv[:1]):
            self._machine.start_for_guest(process, loaded.module, context, loaded.compile_seconds, finish)

    def _finish(self, process: Process, _owner: object, ending: Ending) -> None:
        kernel = self._kernel
        with kernel.lock:
            if process.state is ProcessState.RUNNING:
                kernel.processes.exit(process, ending)

    def replace(self, process: Process, loaded: Loaded) -> object:
        assert isinstance(loaded, _Loaded)
        with _as_errno(process.image.argv[:1]):
            return self._machine.plan_exec(loaded.module)


@contextmanager
def _as_errno(what: object) -> "Iterator[None]":
    """Turn what the operator is told as an error into the errno that the asking program gets."""
    try:
        yield
    except VMClosed:
        raise GuestKilled from None
    except MemoryTooLarge as error:
        raise KernelError(Errno.ENOMEM, f"{what!r}: {error}") from None
    except HostLimit as error:
        name = error.values.get("errno")
        errno = Errno[name] if isinstance(name, str) and name in Errno.__members__ else Errno.EAGAIN
        raise KernelError(errno, f"{what!r}: {error}") from None
    except AgentVMError as error:
        raise KernelError(Errno.ENOEXEC, f"{what!r}: {error}") from None
