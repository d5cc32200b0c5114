"""Descriptors of the host that guests make us hold: counted against one cap for all VMs, closed exactly once."""

import os
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass

from agentvm.host.inodes import OpenInodes
from agentvm.limits.gauge import Gauge

__all__ = ["HostFd", "HostFds", "HostFdsStatistics"]


@dataclass(frozen=True, slots=True)
class HostFdsStatistics:
    """How many descriptors are held, the most that ever were, the cap, and how often it refused."""

    used: int
    peak: int
    cap: int
    refused: int


class HostFds:
    """The process-wide counter behind `max_host_fds`. One object is shared by all VMs; every method takes its lock."""

    def __init__(self, gauge: Gauge, lock: AbstractContextManager[object] | None = None) -> None:
        """`gauge` is max_host_fds of the process, `lock` what guards it where others count there too.

        It must be reentrant: a HostFd that the cyclic collector finds may be closed while this very thread is counting.
        """
        self._lock = lock if lock is not None else threading.RLock()
        self._gauge = gauge
        #: The files that those descriptors stand for.
        self.inodes = OpenInodes()

    def acquire(self) -> None:
        """Count one descriptor; raises ENFILE, and counts nothing, at the cap."""
        with self._lock:
            self._gauge.acquire()

    def release(self) -> None:
        """Count one descriptor less."""
        with self._lock:
            self._gauge.release()

    def statistics(self) -> HostFdsStatistics:
        with self._lock:
            gauge = self._gauge
            return HostFdsStatistics(int(gauge.used), int(gauge.peak), int(gauge.cap), gauge.refused)


class HostFd:
    """One open descriptor. Whoever needs it keeps a reference; the last one to let go closes it.

    `number` is -1 once it is closed, which every system call refuses with EBADF (AT_FDCWD is another number).
    """

    __slots__ = ("_pool", "number")

    def __init__(self, number: int, pool: HostFds) -> None:
        self.number = number
        self._pool = pool

    def close(self) -> None:
        """Close it now, whoever still refers to it. Idempotent."""
        number, self.number = self.number, -1
        if number >= 0:
            try:
                os.close(number)
            except OSError:
                pass  # the descriptor is gone all the same; a late write error has nobody left to hear of it
            self._pool.release()

    def __del__(self) -> None:
        self.close()
