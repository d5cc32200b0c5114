"""Gauges and ceilings: one counter for each limit in force, with its peak, its warnings and its refusals.

The ways that run at every call compare with one number, `top`, up to which there is nothing to do; whatever else a
counter does happens beyond it.
"""

import math
from functools import lru_cache
from typing import NamedTuple, Protocol

from agentvm.errno import Errno, KernelError
from agentvm.limits.amount import format_amount
from agentvm.limits.spec import UNLIMITED, Cap, Kind, LimitSpec, Unit

__all__ = ["NOBODY", "Ceiling", "Counter", "Gauge", "LimitExceeded", "Thresholds", "Watch"]


class Thresholds(NamedTuple):
    """From which share of a cap on it warns, and down to which it must fall to warn again. In percent."""

    warn_percent: int = 80
    rearm_percent: int = 50

    def warn_at(self, cap: Cap) -> Cap:
        """The lowest amount that is a warning; infinity where there is no cap, or none that could be approached."""
        if cap == UNLIMITED or cap <= 0:
            return UNLIMITED
        amount = cap * self.warn_percent / 100
        return math.ceil(amount) if isinstance(cap, int) else amount

    def rearm_at(self, cap: Cap) -> Cap:
        """The highest amount at which the next warning can come."""
        return cap * self.rearm_percent / 100


class Watch(Protocol):
    """Who hears of a counter. Called under the counter's lock, on any thread: it must neither block nor raise."""

    @property
    def thresholds(self) -> Thresholds:
        """When to warn."""

    def warn(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        """The use of a limit has come near its cap."""

    def refuse(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        """Something was refused, or made to wait, for a cap."""


class _Nobody:
    thresholds = Thresholds()

    def warn(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        pass

    def refuse(self, spec: LimitSpec, observed: Cap, cap: Cap) -> None:
        pass


#: Hears nothing of importance.
NOBODY: Watch = _Nobody()


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


class Counter:
    """What gauges and ceilings have in common: a cap, and warnings before it is reached. The owner's lock guards it.

    Made a dozen times for each program that starts, so what few of them ever need is worked out when it is needed.
    """

    __slots__ = ("_highest", "_marked", "_warned", "cap", "refused", "spec", "top", "used", "warnings", "watch")

    def __init__(self, spec: LimitSpec, cap: Cap, watch: Watch = NOBODY) -> None:
        self.spec = spec
        self.cap = cap
        self.watch = watch
        self.used: Cap = 0
        self.refused = 0
        self.warnings = 0
        #: Up to this amount nothing needs to be done.
        self.top: Cap = 0
        self._highest: Cap = 0
        self._warned = False
        self._marked: tuple[Cap, Cap] | None = None

    @property
    def warned(self) -> bool:
        """Whether the limit has warned, and not yet recovered."""
        return self._warned

    @property
    def warn_at(self) -> Cap:
        """The lowest amount that is a warning."""
        return self._marks()[0]

    @property
    def rearm_at(self) -> Cap:
        """The highest amount at which the next warning can come."""
        return self.watch.thresholds.rearm_at(self.cap)

    def _marks(self) -> tuple[Cap, Cap]:
        """Return the lowest amount that is a warning, and the highest that is none."""
        marked = self._marked
        if marked is None:
            marked = self._marked = _marks(self.watch.thresholds, self.cap, self.spec.unit is Unit.SECONDS)
        return marked

    def _warn(self, amount: Cap) -> None:
        self._warned = True
        self.warnings += 1
        self.watch.warn(self.spec, amount, self.cap)

    def refuse(self, observed: Cap) -> None:
        """Note that an amount was refused, or had to wait."""
        self.refused += 1
        self.watch.refuse(self.spec, observed, self.cap)

    def set_cap(self, cap: Cap) -> None:
        """Change the cap, and with it when to warn."""
        if cap != self.cap:
            self.cap = cap
            self._marked = None
            self._look_again()

    def _look_again(self) -> None:
        raise NotImplementedError


class Gauge(Counter):
    """How much of a limit is held (GAUGE) or spent (BUDGET)."""

    __slots__ = ("low",)

    def __init__(self, spec: LimitSpec, cap: Cap, watch: Watch = NOBODY) -> None:
        super().__init__(spec, cap, watch)
        #: Down to this amount nothing needs to be done: below it the next warning can come.
        self.low: Cap = -1

    @property
    def peak(self) -> Cap:
        """The most that was ever held."""
        if self.spec.kind is Kind.BUDGET:
            return self.used
        return self.top if self.top > self._highest else self._highest

    def _look_again(self) -> None:
        """Have the next change looked at, whatever it is."""
        self._highest = self.peak
        self.top = 0
        if self._warned:
            self.low = self.rearm_at
            self._warned = self.used > self.low
        if not self._warned:
            self.low = -1

    def acquire(self, amount: Cap = 1) -> None:
        """Take `amount`; raises `LimitExceeded`, and takes nothing, if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refuse(used)
            raise LimitExceeded(self.spec, used, self.cap)
        self.used = used
        if used > self.top:
            self.rise()

    def try_acquire(self, amount: Cap = 1) -> bool:
        """Take `amount` and return True, or return False if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refuse(used)
            return False
        self.used = used
        if used > self.top:
            self.rise()
        return True

    def acquire_up_to(self, amount: int) -> int:
        """Take as much of `amount` as fits, and return it; raises `LimitExceeded` if nothing does."""
        room = self.cap - self.used
        if room >= amount:
            taken = amount
        else:
            self.refuse(self.used + amount)
            taken = int(room)
            if taken <= 0:
                raise LimitExceeded(self.spec, self.used + amount, self.cap)
        self.used += taken
        if self.used > self.top:
            self.rise()
        return taken

    def release(self, amount: Cap = 1) -> None:
        """Give `amount` back."""
        used = self.used = self.used - amount
        if used <= self.low:
            self.recover()
        assert used >= 0, f"{self.spec.name}: more released than held"

    def set(self, used: Cap) -> None:
        """Note that `used` is held now; the cap is the caller's business."""
        self.used = used
        if used > self.top:
            self.rise()
        elif used <= self.low:
            self.recover()

    def rise(self) -> None:
        """To be called once `used` has passed `top`."""
        used = self.used
        warn_at, calm = self._marks()
        if used >= warn_at and not self._warned:
            self._warn(used)
            self.low = self.rearm_at
        if self.spec.kind is Kind.BUDGET:
            # It only rises: its peak is what is spent.
            self.top = UNLIMITED if self._warned else calm
        else:
            self.top = used

    def recover(self) -> None:
        """To be called once `used` has fallen to `low`."""
        self._look_again()


class Ceiling(Counter):
    """The cap of a single call. `peak` is the most that a call asked for, and got."""

    __slots__ = ()

    @property
    def peak(self) -> Cap:
        """The most that a call asked for, and got."""
        return self._highest

    def _look_again(self) -> None:
        """Have the next call looked at, whatever it asks for."""
        self.top = -1

    def check(self, amount: Cap) -> None:
        """Raise `LimitExceeded` if one call asks for more than the cap."""
        if amount > self.top and not self.observe(amount):
            raise LimitExceeded(self.spec, amount, self.cap)

    def observe(self, amount: Cap) -> bool:
        """Note what one call asks for; return whether the cap lets it."""
        if amount > self.cap:
            self.refuse(amount)
            return False
        if amount > self._highest:
            self._highest = amount
        warn_at, calm = self._marks()
        if self._warned:
            self._warned = amount > self.rearm_at
        elif amount >= warn_at:
            self._warn(amount)
        # After a warning every call is looked at, for one that is small again.
        self.top = -1 if self._warned else min(self._highest, calm)
        return True


@lru_cache(maxsize=1024, typed=True)
def _marks(thresholds: Thresholds, cap: Cap, fractions: bool) -> tuple[Cap, Cap]:
    """Return the lowest amount that is a warning, and the highest that is none. Each start of a process asks for the
    same ones again."""
    # Seconds pass in fractions, also where the cap has none: 0.8 s are a warning of 1 s.
    warn_at = thresholds.warn_at(float(cap) if fractions else cap)
    if warn_at == UNLIMITED:
        return UNLIMITED, UNLIMITED
    return warn_at, warn_at - 1 if isinstance(warn_at, int) else math.nextafter(warn_at, 0)
