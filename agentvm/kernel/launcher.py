"""What the kernel asks of the engine when a program starts another one. The engine's side hands itself in."""

from collections.abc import Hashable
from typing import NoReturn, Protocol

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.process import Process

__all__ = ["Executable", "Launcher", "Loaded", "NoLauncher"]


class Executable:
    """An open program file. `is_operators`: no guest can have written it. Equal `identity` means equal bytes."""

    __slots__ = ("file", "identity", "is_operators", "path", "size_bytes")

    def __init__(self, file: OpenFile, path: bytes, *, is_operators: bool, identity: Hashable) -> None:
        self.file = file
        self.path = path
        self.is_operators = is_operators
        self.identity = identity
        self.size_bytes = file.stat().size


class Loaded(Protocol):
    """A module that is ready to be started."""

    @property
    def has_host_abi(self) -> bool:
        """Whether it imports anything but WASI."""

    @property
    def uses_files(self) -> bool:
        """Whether it imports any call on paths."""


class Launcher(Protocol):
    """Loads and starts programs. No method may be called with the kernel lock held, as compiling takes long."""

    def load(self, program: Executable) -> Loaded:
        """Return the module, compiling it if need be. ENOEXEC, ENOMEM, EAGAIN; raises `GuestKilled`."""

    def start(self, process: Process, loaded: Loaded) -> None:
        """Start a process that is made up to the last. EAGAIN, ENOMEM: it never ran."""

    def replace(self, process: Process, loaded: Loaded) -> object:
        """Return what `GuestExec` carries for the calling process to go on as another program. ENOEXEC, ENOMEM."""


class NoLauncher:
    """For kernels without an engine: nothing can be started."""

    def load(self, program: Executable) -> Loaded:
        raise KernelError(Errno.ENOSYS, f"nothing can start {program.path!r} here")

    def start(self, process: Process, loaded: Loaded) -> NoReturn:
        raise KernelError(Errno.ENOSYS)

    def replace(self, process: Process, loaded: Loaded) -> NoReturn:
        raise KernelError(Errno.ENOSYS)
