"""News of stalls: to the log, and to callbacks, on a thread that holds no guest up."""

import threading
from collections.abc import Callable

from agentvm import log
from agentvm.background import Background
from agentvm.kernel.stalls import Stall

__all__ = ["StallCallback", "StallNews"]

#: Told of each stall. What it returns is ignored, what it raises is logged.
StallCallback = Callable[[Stall], object]


class StallNews:
    """One slot for each VM: a stall that comes before the last one was told takes its place."""

    def __init__(self, vm: str) -> None:
        self._vm = vm
        self._thread = Background(self._tell)
        self._lock = threading.Lock()
        # guarded by _lock; how many callbacks there are is the embedding program's business
        self._callbacks: tuple[StallCallback, ...] = ()
        self._next: Stall | None = None

    def post(self, stall: Stall) -> None:
        """Have a stall told. Any thread, under any lock; never blocks."""
        with self._lock:
            self._next = stall
        self._thread.wake()

    def call(self, callback: StallCallback) -> Callable[[], None]:
        """Have `callback` called with each stall from now on; returns what takes it back."""
        with self._lock:
            self._callbacks = (*self._callbacks, callback)

        def forget() -> None:
            with self._lock:
                self._callbacks = tuple(other for other in self._callbacks if other is not callback)

        return forget

    def _tell(self) -> float | None:
        with self._lock:
            stall, self._next = self._next, None
            callbacks = self._callbacks
        if stall is None:
            return None
        pids = [waits.pid for waits in stall.processes]
        log.warn(
            f"the VM is stalled: {stall.describe()}; close it, kill one of them, or give it on_stall='kill'",
            vm=self._vm,
            pids=pids,
        )
        for callback in callbacks:
            try:
                callback(stall)
            except BaseException as error:  # noqa: BLE001 - the embedding program's code, on our thread
                log.error("a callback for stalls failed", vm=self._vm, exc_info=error)
        return 0
