"""The ticker: one thread that makes computing guests look up every 10 ms, and looks itself when the time of one is
nearly over, or over, whatever the guest is at.

It sleeps while nothing computes and no such moment is near, and ends when no guest is left.
"""

import sys
import threading
from time import monotonic
from typing import Protocol

from agentvm import log
from agentvm.engine import bind, host_signals, stack
from agentvm.engine.slots import RunSlots

__all__ = ["TICK_SECONDS", "Ticker", "Watched"]

TICK_SECONDS = 0.010
#: Ticks without a computing guest after which the ticker stops ticking: starting again costs more than a few ticks.
_LINGER_TICKS = 20
_STACK_BYTES = 512 * 1024
#: How long a thread may keep the interpreter from others while guests run. At Python's own 5 ms a guest that does
#: nothing but host calls leaves a neighbour an eighth of its speed; see docs/rationale.md, "Why guests take turns".
_SWITCH_SECONDS = 0.0005
_FOREVER = float("inf")


class Watched(Protocol):
    """What the ticker knows of an execution."""

    def look(self) -> float:
        """Called on the ticker's thread at, or soon after, the moment that is watched for; returns the next one, or
        infinity. Must neither block nor raise."""


class _SwitchInterval:
    """The interpreter's switch interval, which is the embedding program's: shortened while guests run, no longer."""

    def __init__(self) -> None:
        self._before = self._ours = 0.0

    def shorten(self) -> None:
        """Shorten it, unless it is short already."""
        self._before = sys.getswitchinterval()
        if self._before > _SWITCH_SECONDS:
            sys.setswitchinterval(_SWITCH_SECONDS)
        self._ours = sys.getswitchinterval()

    def restore(self) -> None:
        """Put back what was there, unless somebody else has changed it meanwhile."""
        if sys.getswitchinterval() == self._ours:
            sys.setswitchinterval(self._before)


class Ticker:
    """The ticker of the whole process. Any thread."""

    def __init__(self) -> None:
        #: Set once, right after construction: whose holders are made to look up.
        self.slots: RunSlots
        self._gate = threading.Lock()
        self._gate.acquire()
        self._sleeping = False
        self._lock = threading.Lock()
        # guarded by _lock
        self._moments: dict[Watched, float] = {}  # bounded by max_running_processes
        self._next = _FOREVER
        self._running = False
        self._switch = _SwitchInterval()

    def watch(self, execution: Watched, moment: float) -> None:
        """Have an execution look at `moment` (monotonic seconds, or infinity), until `unwatch`. Again: move the moment.

        Raises `HostLimit` if the ticker's own thread cannot be started.
        """
        with self._lock:
            if not self._running:
                stack.start_thread(self._run, _STACK_BYTES)
                self._running = True
                self._switch.shorten()
            self._moments[execution] = moment
            sooner = moment < self._next
            if sooner:
                self._next = moment
        if sooner:
            self.wake()

    def unwatch(self, execution: Watched) -> None:
        """Forget an execution. Idempotent."""
        with self._lock:
            self._moments.pop(execution, None)

    def wake(self) -> None:
        """Tick from now on: a guest computes, or an earlier moment was set. Does nothing while it ticks anyway."""
        if self._sleeping and self._gate.locked():
            try:
                self._gate.release()
            except RuntimeError:
                pass  # two threads woke it at once

    def _run(self) -> None:
        idle = 0
        while True:
            try:
                idle = 0 if self._tick() else idle + 1
                if idle <= _LINGER_TICKS:
                    self._gate.acquire(timeout=max(0.0, min(TICK_SECONDS, self._next - monotonic())))
                elif self._sleep():
                    return
            except BaseException:  # noqa: BLE001 - without the ticker no guest could be stopped
                log.error("the ticker failed, and goes on", exc_info=True)
                self._gate.acquire(timeout=TICK_SECONDS)

    def _tick(self) -> bool:
        """Return whether any guest computes."""
        engines = self.slots.busy_engines()
        if self._next <= monotonic():
            for execution in self._due():
                self._watch_on(execution, execution.look())
        for engine in engines:
            bind.increment_epoch(engine)
        if engines:
            host_signals.ensure()
        return bool(engines)

    def _due(self) -> list[Watched]:
        with self._lock:
            now = monotonic()
            due = [execution for execution, moment in self._moments.items() if moment <= now]
            for execution in due:
                self._moments[execution] = _FOREVER
            self._next = min(self._moments.values(), default=_FOREVER)
        return due

    def _watch_on(self, execution: Watched, moment: float) -> None:
        with self._lock:
            # It may have been moved, or forgotten, since it was due.
            if self._moments.get(execution) == _FOREVER:
                self._moments[execution] = moment
                self._next = min(self._next, moment)

    def _sleep(self) -> bool:
        """Sleep until something is to be done. Returns True if there is nothing left to watch, and the thread ends."""
        self._sleeping = True
        try:
            with self._lock:
                if not self._moments:
                    self._running = False
                    self._switch.restore()
                    return True
                pause = self._next - monotonic()
            # After `_sleeping` is set: who takes the first slot now either sees it, or is seen here.
            if not self.slots.busy_engines() and pause > 0:
                self._gate.acquire(timeout=min(pause, threading.TIMEOUT_MAX))
        finally:
            self._sleeping = False
        return False

    @property
    def is_running(self) -> bool:
        """Whether the thread exists."""
        return self._running

    def statistics(self) -> dict[str, int | bool]:
        """Return how many executions are watched, and whether the thread sleeps."""
        return {"watched": len(self._moments), "sleeping": self._sleeping, "running": self.is_running}
