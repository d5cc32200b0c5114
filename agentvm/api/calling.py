"""Who makes the current call: a process of a VM, or the host."""

from agentvm.engine.current import current
from agentvm.kernel.process import Process

__all__ = ["calling_pid", "calling_process", "stop_if_killed"]


def calling_process() -> Process | None:
    """Return the process whose call this thread serves; None for the host's own threads."""
    context = getattr(current, "context", None)
    return None if context is None else context.process


def calling_pid() -> int | None:
    """Return the number of that process."""
    process = calling_process()
    return None if process is None else process.pid


def stop_if_killed() -> None:
    """Let a kill through in the middle of a long transfer; the host's own calls on files are not a guest's."""
    process = calling_process()
    if process is not None:
        process.raise_if_killed()
