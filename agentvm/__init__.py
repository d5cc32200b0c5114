"""Run untrusted WebAssembly programs in a small Linux-like VM inside this process, with hard caps on everything.

Names are loaded when they are first used: `import agentvm` itself loads next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentvm.api.aio import AsyncAgentVM, AsyncProcess
    from agentvm.api.connection import Connection
    from agentvm.api.mounts import Tmpfs
    from agentvm.api.process import Process
    from agentvm.api.reactor import Instance
    from agentvm.api.result import Result, Usage
    from agentvm.api.vm import AgentVM
    from agentvm.clock import Clock, ManualClock, SystemClock
    from agentvm.engine.capacity import configure_host
    from agentvm.errno import Errno, KernelError
    from agentvm.errors import AgentVMError
    from agentvm.host.directory import HostDirectory
    from agentvm.kernel.outcome import Cause, CauseKind, Signal
    from agentvm.limits.catalogue import Limits
    from agentvm.limits.host_catalogue import HostLimits
    from agentvm.limits.registry import LimitUsage

__all__ = [
    "AgentVM",
    "AgentVMError",
    "AsyncAgentVM",
    "AsyncProcess",
    "Cause",
    "CauseKind",
    "Clock",
    "Connection",
    "Errno",
    "HostDirectory",
    "HostLimits",
    "Instance",
    "KernelError",
    "LimitUsage",
    "Limits",
    "ManualClock",
    "Process",
    "Result",
    "Signal",
    "SystemClock",
    "Tmpfs",
    "Usage",
    "configure_host",
]

_HOME = {
    "AgentVM": "agentvm.api.vm",
    "AgentVMError": "agentvm.errors",
    "AsyncAgentVM": "agentvm.api.aio",
    "AsyncProcess": "agentvm.api.aio",
    "Cause": "agentvm.kernel.outcome",
    "CauseKind": "agentvm.kernel.outcome",
    "Clock": "agentvm.clock",
    "Connection": "agentvm.api.connection",
    "Errno": "agentvm.errno",
    "HostDirectory": "agentvm.host.directory",
    "HostLimits": "agentvm.limits.host_catalogue",
    "Instance": "agentvm.api.reactor",
    "KernelError": "agentvm.errno",
    "LimitUsage": "agentvm.limits.registry",
    "Limits": "agentvm.limits.catalogue",
    "ManualClock": "agentvm.clock",
    "Process": "agentvm.api.process",
    "Result": "agentvm.api.result",
    "Signal": "agentvm.kernel.outcome",
    "SystemClock": "agentvm.clock",
    "Tmpfs": "agentvm.api.mounts",
    "Usage": "agentvm.api.result",
    "configure_host": "agentvm.engine.capacity",
}


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'agentvm' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
