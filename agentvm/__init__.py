"""Run untrusted WebAssembly programs in a small Linux-like VM inside this process, with hard caps on everything.

Names are loaded when they are first used: `import agentvm` itself loads next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentvm.api.aio import AsyncAgentVM, AsyncProcess
    from agentvm.api.connection import Connection
    from agentvm.api.events import on_host_limit
    from agentvm.api.guest_file import GuestFile
    from agentvm.api.mounts import Tmpfs
    from agentvm.api.process import Process
    from agentvm.api.processes import GuestProcess, ProcessInfo
    from agentvm.api.reactor import Instance
    from agentvm.api.result import Result, Usage
    from agentvm.api.vm import AgentVM
    from agentvm.clock import Clock, ManualClock, SystemClock
    from agentvm.config.config import Config
    from agentvm.engine.capacity import configure_host, host_usage
    from agentvm.errno import Errno, KernelError
    from agentvm.errors import AgentVMError
    from agentvm.host.directory import HostDirectory
    from agentvm.kernel.captured import Gap
    from agentvm.kernel.outcome import Cause, CauseKind, Signal
    from agentvm.kernel.stalls import Stall, Waits
    from agentvm.limits.catalogue import Limits
    from agentvm.limits.events import EventKind, LimitEvent
    from agentvm.limits.host_catalogue import HostLimits
    from agentvm.limits.usage import LimitUsage, UsageSnapshot

__all__ = [
    "AgentVM",
    "AgentVMError",
    "AsyncAgentVM",
    "AsyncProcess",
    "Cause",
    "CauseKind",
    "Clock",
    "Config",
    "Connection",
    "Errno",
    "EventKind",
    "Gap",
    "GuestFile",
    "GuestProcess",
    "HostDirectory",
    "HostLimits",
    "Instance",
    "KernelError",
    "LimitEvent",
    "LimitUsage",
    "Limits",
    "ManualClock",
    "Process",
    "ProcessInfo",
    "Result",
    "Signal",
    "Stall",
    "SystemClock",
    "Tmpfs",
    "Usage",
    "UsageSnapshot",
    "Waits",
    "configure_host",
    "host_usage",
    "on_host_limit",
]

_HOME = {
    "AgentVM": "agentvm.api.vm",
    "AgentVMError": "agentvm.errors",
    "AsyncAgentVM": "agentvm.api.aio",
    "AsyncProcess": "agentvm.api.aio",
    "Cause": "agentvm.kernel.outcome",
    "CauseKind": "agentvm.kernel.outcome",
    "Clock": "agentvm.clock",
    "Config": "agentvm.config.config",
    "Connection": "agentvm.api.connection",
    "Errno": "agentvm.errno",
    "EventKind": "agentvm.limits.events",
    "Gap": "agentvm.kernel.captured",
    "GuestFile": "agentvm.api.guest_file",
    "GuestProcess": "agentvm.api.processes",
    "HostDirectory": "agentvm.host.directory",
    "HostLimits": "agentvm.limits.host_catalogue",
    "Instance": "agentvm.api.reactor",
    "KernelError": "agentvm.errno",
    "LimitEvent": "agentvm.limits.events",
    "LimitUsage": "agentvm.limits.usage",
    "Limits": "agentvm.limits.catalogue",
    "ManualClock": "agentvm.clock",
    "Process": "agentvm.api.process",
    "ProcessInfo": "agentvm.api.processes",
    "Result": "agentvm.api.result",
    "Signal": "agentvm.kernel.outcome",
    "Stall": "agentvm.kernel.stalls",
    "SystemClock": "agentvm.clock",
    "Tmpfs": "agentvm.api.mounts",
    "Usage": "agentvm.api.result",
    "UsageSnapshot": "agentvm.limits.usage",
    "Waits": "agentvm.kernel.stalls",
    "configure_host": "agentvm.engine.capacity",
    "host_usage": "agentvm.engine.capacity",
    "on_host_limit": "agentvm.api.events",
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
