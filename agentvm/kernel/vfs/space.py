"""What the in-memory filesystem costs: the published constants, and the account that charges them to limits."""

from collections.abc import Callable
from dataclasses import dataclass

from agentvm.errno import Errno, KernelError
from agentvm.limits.gauge import Ceiling, Gauge

__all__ = [
    "CHUNK_BYTES",
    "DIRECTORY_COST",
    "INODE_COST",
    "MAX_OFFSET",
    "NAME_COST",
    "PAGE_BYTES",
    "Space",
    "SpaceAccount",
]

#: Unit of copy-on-write, and of holes.
CHUNK_BYTES = 64 << 10
#: Data past the first page of a file is charged in these steps.
PAGE_BYTES = 4 << 10
#: The largest offset and size of a file (Linux's MAX_LFS_FILESIZE).
MAX_OFFSET = (1 << 63) - 1

# What an object of the tree takes in CPython, measured with tracemalloc: tests/unit/vfs/test_accounting.py compares.
#: Bytes charged for each file, directory or symlink, without its data and its names.
INODE_COST = 240
#: Bytes charged for each directory on top of `INODE_COST`.
DIRECTORY_COST = 80
#: Bytes charged for each name in a directory, on top of its length.
NAME_COST = 168


#: What is told of a cap that is none.
_BOUNDLESS = 1 << 60


def _go_on() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Space:
    """How much a filesystem may hold, holds, and has left: bytes, and inodes. Source: statfs(2)."""

    total_bytes: int = 0
    used_bytes: int = 0
    left_bytes: int = 0
    total_inodes: int = 0
    left_inodes: int = 0

    @classmethod
    def under(cls, inodes: Gauge, *gauges: Gauge) -> "Space":
        """Return what these gauges leave; of several for bytes, the tightest one says how many are left."""
        left = [max(0, int(min(gauge.cap, _BOUNDLESS) - gauge.used)) for gauge in gauges]
        tightest = gauges[left.index(min(left))]
        cap, most = int(min(tightest.cap, _BOUNDLESS)), int(min(inodes.cap, _BOUNDLESS))
        return cls(cap, int(tightest.used), min(left), most, max(0, most - int(inodes.used)))


class SpaceAccount:
    """Charges bytes to one gauge, or to two: /tmp counts against the filesystem and against its own cap.

    `between` is called in long transfers, about once a MiB; it may raise to stop them. Guarded by the kernel lock.
    """

    __slots__ = ("between", "ceiling", "extra", "gauge")

    def __init__(
        self,
        gauge: Gauge,
        ceiling: Ceiling,
        *,
        extra: Gauge | None = None,
        between: Callable[[], None] = _go_on,
    ) -> None:
        self.gauge = gauge
        self.extra = extra
        self.ceiling = ceiling
        self.between = between

    def acquire(self, amount: int) -> None:
        """Charge `amount` or nothing; ENOSPC."""
        extra = self.extra
        if extra is None:
            self.gauge.acquire(amount)
            return
        if extra.used + amount <= extra.cap:  # or it refuses, and nothing was taken of the other
            self.gauge.acquire(amount)
        extra.acquire(amount)

    def acquire_some(self, amount: int, step: int) -> int:
        """Charge `amount`, or as many whole `step`s of it as fit, and return that. ENOSPC if not one fits."""
        granted = self.gauge.acquire_up_to(amount)
        if self.extra is not None:
            try:
                fits = self.extra.acquire_up_to(granted)
            except KernelError:
                self.gauge.release(granted)
                raise
            self.gauge.release(granted - fits)
            granted = fits
        if granted == amount:
            return granted
        rest = granted % step
        if rest == granted:
            self.release(granted)
            self.acquire(min(step, amount))  # raises, with the values
            raise KernelError(Errno.ENOSPC)
        self.release(rest)
        return granted - rest

    def require(self, amount: int) -> None:
        """Raise ENOSPC if `amount` does not fit now."""
        self.acquire(amount)
        self.release(amount)

    def release(self, amount: int) -> None:
        self.gauge.release(amount)
        if self.extra is not None:
            self.extra.release(amount)
