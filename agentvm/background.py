"""Work that must not hold up whoever causes it: done on a daemon thread that exists only while there is some."""

import _thread
import os
import threading
from collections.abc import Callable

__all__ = ["Background", "forks"]

_forks = 0


def forks() -> int:
    """Return how often this process was forked off: what changed since then is a thread's that did not come along."""
    return _forks


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - one process
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)


class Background:
    """Calls `step` again and again for as long as it has something to do, on one thread.

    `wake` may be called from any thread, under any lock but one that `step` takes. Where the host refuses a thread,
    and after a fork, the next `wake` tries again.
    """

    __slots__ = ("_gate", "_lock", "_made_in", "_runner", "_settling", "_step", "_woken")

    def __init__(self, step: Callable[[], float | None]) -> None:
        """`step` returns for how many seconds it has nothing to do; None if the thread may end. It must not raise."""
        self._step = step
        self._reset()

    def _reset(self) -> None:
        self._made_in = _forks
        # Reentrant: a finalizer may run anywhere, and have something to say.
        self._lock = threading.RLock()
        self._gate = threading.Lock()
        self._gate.acquire()
        # guarded by _lock
        self._runner: object | None = None
        self._woken = False
        self._settling: list[_thread.LockType] = []  # one for each thread in `settle`

    @property
    def is_running(self) -> bool:
        """Whether the thread exists."""
        return self._runner is not None and self._made_in == _forks

    def wake(self) -> None:
        """Have `step` called soon. Never blocks."""
        self._look_for_fork()
        with self._lock:
            self._woken = True
            if self._runner is None:
                self._start()
        try:
            self._gate.release()
        except RuntimeError:
            pass  # it is awake, or was woken and has not yet gone back to sleep

    def settle(self, timeout_seconds: float) -> bool:
        """Wait until `step` had nothing to do; return whether it had not, within the timeout. Not for `step` itself."""
        self._look_for_fork()
        gate = threading.Lock()
        gate.acquire()
        with self._lock:
            self._settling.append(gate)
        try:
            self.wake()
            # Where there is no thread it has settled, and opened the gate, or could not be started.
            return gate.acquire(timeout=timeout_seconds if self.is_running else 0)
        finally:
            with self._lock:
                self._settling.remove(gate)

    def _look_for_fork(self) -> None:
        if self._made_in != _forks:
            self._reset()  # the thread did not survive it, and nobody will release its locks

    def _start(self) -> None:
        """Start the thread. Not a `threading.Thread`: its `start` waits for the thread, under our caller's locks."""
        runner = self._runner = object()
        try:
            _thread.start_new_thread(self._run, (runner,))
        except (RuntimeError, MemoryError):
            self._runner = None
        except BaseException:  # Ctrl-C: the thread may have been started; it ends when it finds another runner
            self._runner = None
            raise

    def _run(self, runner: object) -> None:
        gate = self._gate
        try:
            while self._goes_on(runner):
                pause = self._step()
                if pause == 0:
                    continue
                if self._rests(runner, ends=pause is None) and pause is None:
                    return
                if pause is not None:
                    gate.acquire(timeout=pause)
        finally:
            with self._lock:
                if self._runner is runner:
                    self._runner = None

    def _goes_on(self, runner: object) -> bool:
        with self._lock:
            self._woken = False
            return self._runner is runner

    def _rests(self, runner: object, *, ends: bool) -> bool:
        """Whether nobody called `wake` since `step` began. If the thread `ends`, the next `wake` starts another."""
        with self._lock:
            if self._woken:
                return False
            for gate in self._settling:
                if gate.locked():
                    gate.release()
            if ends and self._runner is runner:
                self._runner = None
            return True
