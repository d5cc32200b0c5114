"""Which process makes the call that a thread serves: what the kernel asks, which knows of no threads."""

from agentvm.engine.current import current
from agentvm.kernel.process import Process as Record

__all__ = ["calling_pid", "calling_process", "stop_if_killed"]


def calling_process() -> Record | None:
    """Return the process whose call this thread serves; None for the host's own threads."""
    context = getattr(current, "context", None)
    return None if context is None else context.process


def calling_pid() -> int | None:
    process = calling_process()
    return None if process is None else process.pid


def stop_if_killed() -> None:
    """Let a kill through in the middle of a long transfer; the host's own calls on files are not a guest's."""
    process = calling_process()
    if process is not None:
        process.raise_if_killed()
