"""Gauges: one counter for each limit in force, with its peak and how often it refused."""

from agentvm.errno import Errno, KernelError
from agentvm.limits.amount import format_amount
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["Ceiling", "Gauge", "LimitExceeded"]


class LimitExceeded(KernelError):
    """A cap was hit. The guest gets the limit's errno; `limit`, `observed` and `capacity` say which and by how much."""

    __slots__ = ("capacity", "observed", "spec")

    def __init__(self, spec: LimitSpec, observed: Cap, capacity: Cap) -> None:
        asked, cap = format_amount(spec.unit, observed), format_amount(spec.unit, capacity)
        errno = spec.errno if spec.errno is not None else Errno.EAGAIN
        super().__init__(errno, f"{spec.name}: {asked} asked, {cap} allowed", limit=spec.name)
        self.spec = spec
        self.observed = observed
        self.capacity = capacity


class Gauge:
    """How much of a limit is held (GAUGE) or spent (BUDGET). The owner's lock guards it."""

    __slots__ = ("cap", "peak", "refused", "spec", "used")

    def __init__(self, spec: LimitSpec, cap: Cap) -> None:
        self.spec = spec
        self.cap = cap
        self.used: Cap = 0
        self.peak: Cap = 0
        self.refused = 0

    def acquire(self, amount: Cap = 1) -> None:
        """Take `amount`; raises `LimitExceeded`, and takes nothing, if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refused += 1
            raise LimitExceeded(self.spec, used, self.cap)
        self.used = used
        if used > self.peak:
            self.peak = used

    def try_acquire(self, amount: Cap = 1) -> bool:
        """Take `amount` and return True, or return False if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refused += 1
            return False
        self.used = used
        if used > self.peak:
            self.peak = used
        return True

    def acquire_up_to(self, amount: int) -> int:
        """Take as much of `amount` as fits, and return it; raises `LimitExceeded` if nothing does."""
        room = self.cap - self.used
        if room >= amount:
            taken = amount
        else:
            self.refused += 1
            taken = int(room)
            if taken <= 0:
                raise LimitExceeded(self.spec, self.used + amount, self.cap)
        self.used += taken
        if self.used > self.peak:
            self.peak = self.used
        return taken

    def release(self, amount: Cap = 1) -> None:
        """Give `amount` back."""
        self.used -= amount
        assert self.used >= 0, f"{self.spec.name}: more released than held"


class Ceiling:
    """The cap of a single call. `peak` is the most that a call asked for."""

    __slots__ = ("cap", "peak", "refused", "spec")

    def __init__(self, spec: LimitSpec, cap: Cap) -> None:
        self.spec = spec
        self.cap = cap
        self.peak: Cap = 0
        self.refused = 0

    def check(self, amount: Cap) -> None:
        """Raise `LimitExceeded` if one call asks for more than the cap."""
        if amount > self.peak:
            self.peak = amount
            if amount > self.cap:
                self.peak = self.cap
        if amount > self.cap:
            self.refused += 1
            raise LimitExceeded(self.spec, amount, self.cap)
