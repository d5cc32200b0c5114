"""What a check is: one limit, taken past its cap by one guest or by the operator's own call, and what came of it.

A check opens its VMs through its `Trial`, which also counts what they record: a refusal that nobody could see is no
promise kept. Nothing that a check raises, and no time that it takes, keeps the others from running.
See docs/rationale.md, "Why the doctor takes a guest past every cap".
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol, TextIO

from agentvm.api.vm import AgentVM
from agentvm.clock import Clock
from agentvm.doctor.finding import name_of
from agentvm.doctor.seen import Seen
from agentvm.engine.capacity import configure_host, host_usage
from agentvm.limits.catalogue import SPECS, Limits
from agentvm.limits.host_catalogue import HOST_SPECS, HostLimits
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["PATIENCE_SECONDS", "Check", "CheckResult", "Rig", "Trial", "check", "run_check"]

#: How long a check may take, on a slow machine. A few milliseconds are usual.
PATIENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.001


class OpenVM(Protocol):
    """How a VM is opened."""

    def __call__(self, limits: Limits | None = None, *, clock: Clock | None = None) -> AgentVM: ...


class Configure(Protocol):
    """How process-wide caps are set."""

    def __call__(self, limits: HostLimits) -> None: ...


@dataclass(frozen=True, slots=True)
class Rig:
    """Where checks get their VMs and their caps on the host from. Tests of the doctor hand in some that drop a cap."""

    open_vm: OpenVM = AgentVM
    configure: Configure = configure_host
    #: The caps of parts of the host that a check makes for itself.
    host_limits: Callable[..., HostLimits] = HostLimits
    patience_seconds: float = PATIENCE_SECONDS
    #: Where the log goes, for a check that takes it away for a moment; None for where it goes by itself.
    log_sink: TextIO | None = None


class Trial:
    """One check under way."""

    def __init__(self, spec: LimitSpec, rig: Rig) -> None:
        self.spec = spec
        self.rig = rig
        #: How often the limit's own counter has refused, or made somebody wait.
        self.recorded = 0
        #: Set once nobody waits for the check any more.
        self.given_up = threading.Event()

    @contextmanager
    def vm(self, cap: Cap | str, *, clock: Clock | None = None, **others: Cap | str) -> Iterator[AgentVM]:
        """Open a VM in which the limit has this cap, and others theirs."""
        with self.rig.open_vm(Limits.of({self.spec.name: cap, **others}), clock=clock) as vm:
            yield vm
            self.recorded += vm.usage()[self.spec.name].refused

    @contextmanager
    def host(self, cap: Cap) -> Iterator[None]:
        """Give a limit of the host process this cap for a while. Programs that run beside the doctor would feel it."""
        name = self.spec.name
        before = host_usage()[name]
        self.rig.configure(HostLimits(**{name: cap}))
        try:
            yield
            self.recorded += host_usage()[name].refused - before.refused
        finally:
            configure_host(HostLimits(**{name: before.cap}))

    def used(self, vm: AgentVM) -> int:
        """Return how much of the limit is used now."""
        return int(vm.usage()[self.spec.name].used)

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that another thread does. Raises TimeoutError once the check is given up."""
        while not condition():
            if self.given_up.wait(_LOOK_SECONDS):
                raise TimeoutError


@dataclass(frozen=True, slots=True)
class Check:
    """The check of one limit, or of a setting of what happens at it."""

    #: The limit, or the setting.
    name: str
    spec: LimitSpec
    #: The part of agentvm that enforces it.
    by: str
    promised: str
    attempt: Callable[[Trial], Seen]


def check(
    limit: str, *, by: str, setting: str | None = None, promised: str | None = None
) -> Callable[[Callable[[Trial], Seen]], Check]:
    """Make a function the check of a limit; or of a `setting`, with what is `promised` where it is as in the check."""
    spec = SPECS[limit] if limit in SPECS else HOST_SPECS[limit]
    return lambda attempt: Check(setting or limit, spec, by, promised or spec.guest_sees, attempt)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One row of the self-test."""

    #: The limit, or the setting.
    name: str
    #: The part of agentvm that enforces the limit.
    by: str
    promised: str
    reported: str
    is_kept: bool
    seconds: float

    def fields(self) -> Mapping[str, object]:
        """Return it as plain values for JSON."""
        return {
            "name": self.name,
            "enforced_by": self.by,
            "promised": self.promised,
            "reported": self.reported,
            "ok": self.is_kept,
            "seconds": round(self.seconds, 4),
        }


@dataclass(slots=True)
class _Outcome:
    seen: Seen | None = None
    done: threading.Event = field(default_factory=threading.Event)


def run_check(one: Check, rig: Rig) -> CheckResult:
    """Run a check. It has a thread of its own: one that hangs is a promise broken, and is left behind."""
    outcome, trial, begun = _Outcome(), Trial(one.spec, rig), monotonic()

    def attempt() -> None:
        try:
            seen = one.attempt(trial)
            if seen.is_kept and not trial.recorded:
                seen = Seen(f"{seen.reported}, but no refusal was recorded", False)
            outcome.seen = seen
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's failure
            outcome.seen = Seen(name_of(error), False)
        finally:
            outcome.done.set()

    try:
        threading.Thread(target=attempt, name=f"doctor-{one.name}", daemon=True).start()
        outcome.done.wait(rig.patience_seconds)
        seen = outcome.seen or Seen(f"nothing within {rig.patience_seconds:g} s", False)
    except RuntimeError as error:  # the host refuses a thread
        seen = Seen(name_of(error), False)
    trial.given_up.set()
    return CheckResult(one.name, one.by, one.promised, seen.reported, seen.is_kept, monotonic() - begun)
