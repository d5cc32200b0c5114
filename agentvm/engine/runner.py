"""Runner threads: the only threads on which guests run, are instantiated, or grow. Reused, few when idle.

A Python exception at a callback's entry would kill the host, and only the main thread gets such (Ctrl-C); see
docs/rationale.md, "Why guests never run on the caller's thread".
"""

import threading
from typing import Protocol

from agentvm import log
from agentvm.engine import stack
from agentvm.engine.current import current
from agentvm.engine.stack_depth import stack_pointer

__all__ = ["IDLE_SECONDS", "Job", "RunnerPool", "runner_pool", "runner_threads"]

#: How long a runner waits for its next guest before it ends.
IDLE_SECONDS = 2.0


class Job(Protocol):
    """What a runner does."""

    def run(self) -> None:
        """Run to the end. Must not raise."""


class _Runner:
    """One thread and its hand-over gate."""

    __slots__ = ("gate", "job")

    def __init__(self, job: Job) -> None:
        self.job: Job | None = job
        self.gate = threading.Lock()
        self.gate.acquire()


class RunnerPool:
    """Runners with stacks of one size. Any thread. Bounded by max_running_processes, which callers acquire first."""

    def __init__(self, stack_bytes: int) -> None:
        self._stack_bytes = stack_bytes
        self._lock = threading.Lock()
        # guarded by _lock; a dict, because it is both a stack and a set
        self._idle: dict[_Runner, None] = {}
        self.threads = 0

    def submit(self, job: Job) -> None:
        """Have `job` run at once. Raises `HostLimit` where the host refuses a thread."""
        with self._lock:
            if self._idle:
                runner, _ = self._idle.popitem()
                runner.job = job
                runner.gate.release()
                return
        runner = _Runner(job)
        stack.start_thread(lambda: self._serve(runner), self._stack_bytes)

    def _serve(self, runner: _Runner) -> None:
        current.stack_pointer = stack_pointer()
        with self._lock:
            self.threads += 1
        try:
            while True:
                job, runner.job = runner.job, None
                if job is not None:
                    self._do(job)
                    del job
                if not self._wait(runner):
                    return
        finally:
            with self._lock:
                self.threads -= 1

    @staticmethod
    def _do(job: Job) -> None:
        try:
            job.run()
        except BaseException:  # noqa: BLE001 - a runner outlives what it runs
            log.error("a guest's runner failed", exc_info=True)

    def _wait(self, runner: _Runner) -> bool:
        """Wait for the next job; False when the runner has ended."""
        with self._lock:
            self._idle[runner] = None
        if runner.gate.acquire(timeout=IDLE_SECONDS):
            return True
        with self._lock:
            # Neither idle nor handed a job: the hand-over was interrupted (Ctrl-C), and nobody will come.
            self._idle.pop(runner, None)
            return runner.gate.acquire(blocking=False)

    @property
    def idle(self) -> int:
        """How many runners wait for a guest."""
        return len(self._idle)


_pools: dict[int, RunnerPool] = {}  # bounded by MAX_ENGINES
_pools_lock = threading.Lock()


def runner_pool(max_wasm_stack_bytes: int) -> RunnerPool:
    """Return the pool of runners for guests with that much wasm stack."""
    pool = _pools.get(max_wasm_stack_bytes)
    if pool is None:
        with _pools_lock:
            pool = _pools.setdefault(max_wasm_stack_bytes, RunnerPool(max_wasm_stack_bytes + stack.EXTRA_BYTES))
    return pool


def runner_threads() -> int:
    """Return how many runner threads there are."""
    return sum(pool.threads for pool in _pools.values())
