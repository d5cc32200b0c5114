"""Rates: token buckets that slow a guest down, and a window that bounds how often the host may act.

The bucket is Firecracker's: it holds at most `size` tokens, refills at `rate` a second, and starts with a one-time
`burst` on top that never comes back. A request larger than what is left is let through, and its debt is waited for
after. Source: Firecracker, docs/api_requests/patch-network-interface.md and its rate limiter.
"""

from collections import deque

from agentvm.limits.gauge import NOBODY, Watch
from agentvm.limits.spec import UNLIMITED, Cap, LimitSpec

__all__ = ["REFILL_SECONDS", "Bucket", "Rate", "Window"]

#: In what time an empty bucket is full again, where nothing else was asked for.
REFILL_SECONDS = 0.1
_HOUR = 3600.0


class Rate(float):
    """A cap on a rate, per second: the number itself, and the shape of its bucket.

    `size` is how much may pass at once after a pause (default: what comes in a tenth of a second), `burst` how much may
    pass once, at the start, before the rate is in force.
    """

    size: float
    burst: float

    def __new__(cls, per_second: float, *, size: float | None = None, burst: float = 0.0) -> "Rate":
        rate = super().__new__(cls, per_second)
        rate.size = per_second * REFILL_SECONDS if size is None else float(size)
        rate.burst = float(burst)
        return rate

    def __repr__(self) -> str:
        return f"Rate({float(self)!r}, size={self.size!r}, burst={self.burst!r})"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rate):
            return (float(self), self.size, self.burst) == (float(other), other.size, other.burst)
        return float(self) == other

    def __ne__(self, other: object) -> bool:
        return not self == other  # float has one of its own, which would not look at the shape

    def __hash__(self) -> int:
        return float.__hash__(self)


class Bucket:
    """One rate in force. The owner's lock guards it; times are in monotonic seconds.

    It counts like a gauge: `used` is the share of the bucket that is drained, in units of the cap; `refused` how often
    somebody had to wait. It warns when it first runs dry, and again once it was full in between.
    """

    __slots__ = ("_balance", "_burst", "_lowest", "_rate", "_scale", "_size", "_stamp", "_warned", "cap", "is_wanted",
                 "refused", "spec", "taken", "warnings", "watch")  # fmt: skip

    def __init__(self, spec: LimitSpec, cap: Cap, now: float, watch: Watch = NOBODY, *, scale: float = 1.0) -> None:
        """`scale` turns the cap into tokens a second: 0.01 for percent of one core, in seconds of CPU time."""
        self.spec = spec
        self.watch = watch
        self.refused = self.warnings = 0
        #: All that was ever taken, the burst aside: it tells a debt from those that came after.
        self.taken = 0.0
        #: Whether somebody waits: a bucket that fills meanwhile, as the host is busy, has not recovered.
        self.is_wanted = False
        self._warned = False
        self._stamp = now
        self._scale = scale
        self._burst = getattr(cap, "burst", 0.0) * scale
        self._shape(cap)
        self._balance = self._lowest = self._size

    def _shape(self, cap: Cap) -> None:
        self.cap = cap
        self._rate = float(cap) * self._scale
        self._size = getattr(cap, "size", float(cap) * REFILL_SECONDS) * self._scale

    def set_cap(self, cap: Cap) -> None:
        """Change the rate from now on. What is owed is owed at the new rate."""
        if cap != self.cap:
            size = self._size
            self._shape(cap)
            self._balance = min(self._balance, self._size)
            self._lowest += self._size - size  # as many tokens below full as before

    @property
    def used(self) -> Cap:
        """How far the bucket is drained, as a part of the cap: the whole cap when it is dry."""
        return self._drained(self._balance)

    @property
    def peak(self) -> Cap:
        """How far the bucket was ever drained."""
        return self._drained(self._lowest)

    def tally(self) -> tuple[Cap, Cap, int, int]:
        """Return `used`, `peak`, `refused` and `warnings`."""
        if self._lowest >= self._size or self._rate == UNLIMITED:
            return 0, 0, self.refused, self.warnings
        return self.used, self.peak, self.refused, self.warnings

    def _drained(self, balance: float) -> Cap:
        if self._rate == UNLIMITED or not self._size:
            return 0
        return self.cap * min(1.0, max(0.0, 1.0 - balance / self._size))

    def refill(self, now: float) -> None:
        """Put in what came since the last look."""
        if self._rate == UNLIMITED:
            self._balance = 0.0
            return
        self._balance = min(self._size, self._balance + (now - self._stamp) * self._rate)
        self._stamp = now
        if self._warned and self._balance >= self._size and not self.is_wanted:
            self._warned = False

    def spend(self, amount: float, now: float) -> float:
        """Take `amount`, and return for how many seconds to wait before the next, 0 if there is no debt."""
        if self._rate == UNLIMITED:
            return 0.0
        self.refill(now)
        self._take(amount)
        return self.debt(now) if self._balance < 0 else 0.0

    def charge(self, amount: float, now: float) -> float:
        """As `spend`, of what was used little by little since the last look: what came in meanwhile pays for it first,
        and only what is left of that has to fit into the bucket."""
        if self._rate == UNLIMITED:
            return 0.0
        self._balance += (now - self._stamp) * self._rate
        self._stamp = now
        self._take(amount)
        return self.debt(now)

    def _take(self, amount: float) -> None:
        if self._burst:
            free = min(self._burst, amount)
            self._burst -= free
            amount -= free
        self._balance -= amount
        self.taken += amount
        if self._balance < self._lowest:
            self._lowest = self._balance
        if amount and self._balance <= 0 and not self._warned:
            self._warned = True
            self.warnings += 1
            self.watch.warn(self.spec, self.cap, self.cap)

    def debt(self, now: float, since: float | None = None) -> float:
        """Return in how many seconds all that was taken will have come in; 0 if it has.

        With `since`, a former `taken`: what was taken until then.
        """
        if self._rate == UNLIMITED:
            return 0.0
        self.refill(now)
        owed = -self._balance if since is None else since - self.taken - self._balance
        if owed <= 0:
            return 0.0
        return owed / self._rate if self._rate else UNLIMITED

    def until(self, balance: float, now: float) -> float:
        """Return in how many seconds the bucket will hold `balance`, or be full, where it holds less than that."""
        if self._rate == UNLIMITED:
            return 0.0
        self.refill(now)
        missing = min(balance, self._size) - self._balance
        return missing / self._rate if missing > 0 else 0.0

    @property
    def is_overdrawn(self) -> bool:
        """Whether more was taken than had come in, at the last look."""
        return self._balance < 0

    def throttled(self) -> None:
        """Note that somebody waits now."""
        self.refused += 1
        self.watch.refuse(self.spec, self.cap, self.cap)


class Window:
    """At most `cap` actions in any hour. Holds the time of each that counts, so at most `cap` of them."""

    __slots__ = ("_taken", "_warned", "cap", "peak", "refused", "spec", "warnings", "watch")

    def __init__(self, spec: LimitSpec, cap: Cap, watch: Watch = NOBODY) -> None:
        self.spec = spec
        self.cap = cap
        self.watch = watch
        self.refused = self.warnings = 0
        self.peak: Cap = 0
        self._warned = False
        self._taken: deque[float] = deque()

    def set_cap(self, cap: Cap) -> None:
        """Change how many actions an hour may have."""
        self.cap = cap
        if cap == UNLIMITED:
            self._taken.clear()

    @property
    def used(self) -> int:
        """How many actions counted when the last one was asked for."""
        return len(self._taken)

    def tally(self) -> tuple[Cap, Cap, int, int]:
        """Return `used`, `peak`, `refused` and `warnings`."""
        return self.used, self.peak, self.refused, self.warnings

    def take(self, now: float) -> float:
        """Count one action and return 0, or return in how many seconds there is room for it, and count nothing."""
        if self.cap == UNLIMITED:
            return 0.0
        taken = self._taken
        while taken and taken[0] <= now - _HOUR:
            taken.popleft()
        if not taken:
            self._warned = False
        if len(taken) >= self.cap:
            self.refused += 1
            self.watch.refuse(self.spec, len(taken) + 1, self.cap)
            return taken[0] + _HOUR - now if taken else _HOUR
        taken.append(now)
        self.peak = max(self.peak, len(taken))
        if len(taken) >= self.cap and not self._warned:
            self._warned = True
            self.warnings += 1
            self.watch.warn(self.spec, len(taken), self.cap)
        return 0.0
