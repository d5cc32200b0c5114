"""Every error that agentvm raises to the program that embeds it. Each carries its values and tells the way out.

`exit_status` is what `agentvm run` ends with. Errors of guests are never exceptions: see `Result.cause`.
"""

from typing import ClassVar

__all__ = [
    "AgentVMError",
    "CgroupUnavailable",
    "CompileLimit",
    "ComponentNotSupported",
    "EngineUnsupported",
    "FeatureDisabled",
    "GuestFailed",
    "HostLimit",
    "InvalidArgument",
    "InvalidConfig",
    "InvalidLimit",
    "MalformedModule",
    "MemoryTooLarge",
    "MissingExport",
    "MissingImport",
    "ModuleLimit",
    "MountFailed",
    "NoSuchProcess",
    "NotRunnable",
    "NotWasm",
    "ProcessLimit",
    "ProgramNotFound",
    "RateLimited",
    "UnsupportedOnPlatform",
    "VMClosed",
]


class AgentVMError(Exception):
    """The common base. The text is one sentence with the values, and the way out."""

    #: Exit status of `agentvm run` for this error: 125 is our own failure, 126 not runnable, 127 not found.
    exit_status: ClassVar[int] = 125

    def __init__(self, message: str, **values: object) -> None:
        super().__init__(message)
        #: The values that the message was made from, by name.
        self.values = values

    @property
    def code(self) -> str:
        """A stable name for programs: the class's."""
        return type(self).__name__


class InvalidLimit(AgentVMError, ValueError):
    """A limit that does not exist, or a value that it does not take."""


class InvalidConfig(AgentVMError, ValueError):
    """A configuration file that cannot be read or parsed, or has a section, key or mount that it cannot have."""


class InvalidArgument(AgentVMError, ValueError):
    """An argument of an API call or a flag that makes no sense: a NUL in argv, a cwd that is not absolute ..."""


class NotRunnable(AgentVMError):
    """The module cannot be run here. Subclasses say why."""

    exit_status = 126


class NotWasm(NotRunnable):
    """The file is not a WebAssembly module at all."""


class MalformedModule(NotRunnable):
    """The file starts like a module but is truncated, or not valid."""


class ComponentNotSupported(NotRunnable):
    """The file is a component (WASI 0.2 and later), not a core module."""


class MissingImport(NotRunnable):
    """The module imports something that the VM does not have, or has with another type."""


class MissingExport(NotRunnable):
    """The module lacks an export that is needed: `_start`, or one that the caller named."""


class FeatureDisabled(NotRunnable):
    """The module uses a WebAssembly feature that is off; `values["feature"]` names it."""


class MemoryTooLarge(NotRunnable):
    """The module asks for more memory at its start than its caps allow."""


class ModuleLimit(NotRunnable):
    """The module passes one of the caps on modules: bytes, imports, exports, tables ..."""


class CompileLimit(NotRunnable):
    """Compiling the module passed its caps on time or memory, or was interrupted."""


class ProgramNotFound(AgentVMError):
    """There is no such program file."""

    exit_status = 127


class EngineUnsupported(AgentVMError):
    """The installed wasmtime lacks something without which a cap would be weaker than it says."""


class UnsupportedOnPlatform(AgentVMError):
    """This platform cannot do it without giving up confinement."""


class CgroupUnavailable(AgentVMError):
    """The host cannot enforce caps from outside, and was required to; `values["not_enforced"]` says which and why."""


class HostLimit(AgentVMError):
    """A process-wide cap of the host refused: running processes, descriptors, resident memory."""


class ProcessLimit(AgentVMError):
    """The VM's process table is full (EAGAIN)."""


class NoSuchProcess(AgentVMError):
    """The VM has no process with this number."""


class RateLimited(AgentVMError):
    """The host has done as much in the last hour as max_actions_per_hour allows; nothing was loaded or started."""

    def __init__(self, message: str, *, retry_after: float, **values: object) -> None:
        super().__init__(message, retry_after=retry_after, **values)
        #: In how many seconds there is room for one action more.
        self.retry_after = retry_after


class MountFailed(AgentVMError):
    """A mount point or a host directory that cannot be used."""


class VMClosed(AgentVMError):
    """The VM, or the process handle, was closed before this call."""


class GuestFailed(AgentVMError):
    """Raised by `Result.check()`: the program did not end with exit code 0; `result` holds everything about it."""
