"""What came of an attempt to pass a cap: in the words of the guest or of the error, and whether it was promised."""

from collections.abc import Callable, Container
from typing import NamedTuple

from agentvm.api.result import Result
from agentvm.doctor.finding import name_of
from agentvm.doctor.probe import Probe
from agentvm.errno import Errno
from agentvm.errors import GuestFailed
from agentvm.kernel.outcome import Signal
from agentvm.limits.amount import format_amount
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["Seen", "answered", "ended", "errno_name", "refused"]


class Seen(NamedTuple):
    """What was reported, and whether it is what was promised."""

    reported: str
    is_kept: bool


def answered(probe: Probe, line: str, errno: str, counts: Container[int]) -> Seen:
    """Tell the probe a line, which must be refused with `errno` after as many as one of `counts`."""
    found, done = probe.do(line)
    return Seen(f"{found} after {done:,}", found == errno and done in counts)


def ended(probe: Probe, line: str, signal: Signal, limit: str) -> Seen:
    """Tell the probe a line, during which `limit` must end it with `signal`."""
    try:
        found, done = probe.do(line)
    except (GuestFailed, BrokenPipeError):
        result = probe.process.wait()
    else:
        return Seen(f"{found} after {done:,}", False)
    if result.signal is signal and limit in result.cause.message:
        return Seen(signal.name, True)
    return Seen(f"it {result.describe()}", False)


def refused(
    action: Callable[[], object],
    kind: type[Exception],
    spec: LimitSpec,
    *,
    errno: str | None = None,
    cap: Cap | None = None,
) -> Seen:
    """Do something for which the host must get an error of this kind that names the limit; and, if given, its errno
    and its cap."""
    try:
        outcome = action()
    except kind as error:
        values = getattr(error, "values", {"limit": spec.name})  # an error of Python's own has none
        wanted = {"limit": spec.name, "errno": errno, "cap": cap}
        if any(value not in (None, values.get(name)) for name, value in wanted.items()):
            return Seen(name_of(error), False)
        observed = values.get("observed")
        at = f" at {format_amount(spec.unit, observed)}" if observed is not None else ""
        return Seen(" ".join(filter(None, (kind.__name__, errno))) + at, True)
    return Seen(f"nothing: it {outcome.describe()}" if isinstance(outcome, Result) else "nothing", False)


def errno_name(code: int | None) -> str:
    """Name an errno with which the probe has exited."""
    return Errno(code).name if code else "OK"
