"""What is done where agentvm itself failed: the one process ends, and the host's log gets the traceback."""

from collections.abc import Callable

from agentvm import log
from agentvm.errors import HostLimit
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import GuestExit, GuestKilled, Process

__all__ = ["do_all", "note_bug", "note_left"]


def note_bug(process: Process, vm: str | None, error: BaseException) -> None:
    """End `process` for `error`. What the host refused is a limit; anything else a bug, of which no guest hears."""
    if isinstance(error, HostLimit):
        process.kill(Signal.SIGKILL, Cause(CauseKind.LIMIT, str(error), limit=str(error.values.get("limit"))))
        return
    text = f"agentvm failed with {type(error).__name__}: killed by SIGKILL; the host's log has the details"
    process.kill(Signal.SIGKILL, Cause(CauseKind.HOST_BUG, text))
    log.error("serving a process failed", vm=vm, pid=process.pid, exc_info=error)


def note_left(process: Process, vm: str | None, error: BaseException) -> None:
    """A host call met `error`, for which the guest is left: note what it means for the process."""
    if type(error) is GuestExit:
        process.exit(error.code)
    elif type(error) is not GuestKilled:
        note_bug(process, vm, error)


def do_all(process: Process, vm: str | None, *steps: Callable[[], None]) -> None:
    """Take every step, also where one fails."""
    for step in steps:
        try:
            step()
        except BaseException as error:  # noqa: BLE001 - partly somebody else's code, on our thread
            log.error("ending a process failed", vm=vm, pid=process.pid, exc_info=error)
