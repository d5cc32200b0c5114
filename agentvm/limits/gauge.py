"""Gauges and ceilings: one counter for each limit in force, with its peak, its warnings and its refusals.

The ways that run at every call compare with one number, `top`, up to which there is nothing to do; whatever else a
counter does happens beyond it.
"""

from typing import NamedTuple, Protocol

from agentvm.errno import Errno, KernelError
from agentvm.limits.amount import format_amount
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec

__all__ = ["NOBODY", "Ceiling", "Counter", "Gauge", "LimitExceeded", "Thresholds", "Watch"]


class Thresholds(NamedTuple):
    """From which share of a cap on it warns, and down to which it must fall to warn again. In percent."""

    warn_percent: int = 80
    rearm_percent: int = 50


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

    A dozen are made for each program that starts, and most of them count very little: what costs a call there shows.
    """

    __slots__ = ("cap", "highest", "refused", "spec", "top", "trigger", "used", "warned", "warnings", "watch")

    def __init__(self, spec: LimitSpec, cap: Cap, watch: Watch = NOBODY) -> None:
        self.spec = spec
        self.cap = cap
        self.watch = watch
        self.used: Cap = 0
        self.refused = self.warnings = 0
        #: Up to this amount nothing needs to be done.
        self.top: Cap = 0
        #: From this amount on more is to be done than to note it: infinity once it has warned.
        self.trigger: Cap = cap * watch.thresholds.warn_percent / 100 or UNLIMITED
        #: The most there was when it recovered, or its cap was changed.
        self.highest: Cap = 0
        #: Whether it has warned, and not yet recovered.
        self.warned = False

    @property
    def warn_at(self) -> Cap:
        """The lowest amount that is a warning."""
        return self.cap * self.watch.thresholds.warn_percent / 100 or UNLIMITED

    @property
    def rearm_at(self) -> Cap:
        """The highest amount at which the next warning can come."""
        return self.cap * self.watch.thresholds.rearm_percent / 100

    def _warn(self, amount: Cap) -> None:
        self.warned = True
        self.warnings += 1
        self.watch.warn(self.spec, amount, self.cap)

    def refuse(self, observed: Cap) -> None:
        """Note that an amount was refused, or had to wait."""
        self.refused += 1
        self.watch.refuse(self.spec, observed, self.cap)


class Gauge(Counter):
    """How much of a limit is held (GAUGE) or spent (BUDGET)."""

    __slots__ = ("low",)

    def __init__(self, spec: LimitSpec, cap: Cap, watch: Watch = NOBODY) -> None:
        # Not through super(): see above.
        self.spec = spec
        self.cap = cap
        self.watch = watch
        self.used = self.top = self.highest = 0
        self.refused = self.warnings = 0
        self.trigger = cap * watch.thresholds.warn_percent / 100 or UNLIMITED
        self.warned = False
        #: Down to this amount nothing needs to be done: below it the next warning can come.
        self.low: Cap = -1

    @property
    def peak(self) -> Cap:
        """The most that was ever held."""
        return self.top if self.top > self.highest else self.highest

    def set_cap(self, cap: Cap) -> None:
        """Change the cap, and with it when to warn."""
        if cap != self.cap:
            self.cap = cap
            if self.warned and self.used > self.rearm_at:
                self.low = self.rearm_at
            else:
                self.recover()

    def acquire(self, amount: Cap = 1) -> None:
        """Take `amount`; raises `LimitExceeded`, and takes nothing, if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refuse(used)
            raise LimitExceeded(self.spec, used, self.cap)
        self.used = used
        if used > self.top:
            self.top = used
            if used >= self.trigger:
                self.rise()

    def try_acquire(self, amount: Cap = 1) -> bool:
        """Take `amount` and return True, or return False if that passes the cap."""
        used = self.used + amount
        if used > self.cap:
            self.refuse(used)
            return False
        self.used = used
        if used > self.top:
            self.top = used
            if used >= self.trigger:
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
            self.top = used
            if used >= self.trigger:
                self.rise()
        elif used <= self.low:
            self.recover()

    def rise(self) -> None:
        """To be called once `used` has passed `top`."""
        used = self.top = self.used
        if used >= self.trigger:
            self._warn(used)
            self.trigger = UNLIMITED
            self.low = self.rearm_at

    def recover(self) -> None:
        """To be called once `used` has fallen to `low`."""
        self.highest = self.peak
        # Not `used`: what is held may be a warning under a cap that was lowered, at the next change.
        self.top = 0
        self.warned = False
        self.trigger = self.warn_at
        self.low = -1


class Ceiling(Counter):
    """The cap of a single call. `peak` is the most that a call asked for, and got."""

    __slots__ = ()

    @property
    def peak(self) -> Cap:
        """The most that a call asked for, and got."""
        return self.highest

    def set_cap(self, cap: Cap) -> None:
        """Change the cap; the next call is looked at anew, whatever it asks for."""
        if cap != self.cap:
            self.cap = cap
            self.trigger = self.warn_at
            self.warned = False
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
        if amount > self.highest:
            self.highest = amount
        if self.warned:
            self.warned = amount > self.rearm_at
        elif amount >= self.trigger:
            self._warn(amount)
        # After a warning every call is looked at, for one that is small again.
        self.top = -1 if self.warned else self.highest if self.highest < self.trigger else self.trigger - 1
        return True
