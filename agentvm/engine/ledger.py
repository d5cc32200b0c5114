"""The exact account of guest memory: every byte of every memory, GC heap and table, for the process, VM and host."""

from agentvm.engine.capacity import host_capacity
from agentvm.errors import VMClosed
from agentvm.kernel.outcome import Cause, Signal
from agentvm.kernel.process import Process
from agentvm.limits.gauge import Gauge, LimitExceeded

__all__ = ["HEAP_RESERVE_BYTES", "MemoryAccount", "MemoryLedger"]

#: Charged from the start to a guest that can throw: the first page of its GC heap.
HEAP_RESERVE_BYTES = 64 << 10


class MemoryLedger:
    """What the processes of one VM hold together."""

    __slots__ = ("_kills", "_vm")

    def __init__(self, vm: Gauge, *, kills: bool = False) -> None:
        """`kills`: a process that would pass a cap is killed (on_memory_full)."""
        self._vm = vm
        self._kills = kills

    def open(self, process: Process) -> "MemoryAccount":
        """Return an empty account for a process, which has a cap of its own."""
        gauge = process.gauges.gauge("max_memory_per_process_bytes")
        return MemoryAccount(self._vm, gauge, process if self._kills else None)


class MemoryAccount:
    """What one process holds. It takes from three gauges at once, or from none."""

    __slots__ = ("_closed", "_heap_reserve", "_host", "_lock", "_prepaid", "_process", "_victim", "_vm", "held",
                 "peak", "refusal")  # fmt: skip

    def __init__(self, vm: Gauge, process: Gauge, victim: Process | None = None) -> None:
        """`victim` is killed when it asks for more than there is; None: it is refused, and goes on."""
        capacity = host_capacity()
        self._vm = vm
        self._process = process
        self._host = capacity.gauge("max_resident_memory_bytes")
        self._victim = victim
        # One lock for all VMs: grows run on any thread, are rare, and also count for the host.
        self._lock = capacity.lock
        # guarded by _lock
        self._closed = False
        self._prepaid = 0
        self._heap_reserve = 0
        self.held = 0
        self.peak = 0
        #: The last refusal, for the message when a start fails for want of memory.
        self.refusal: LimitExceeded | None = None

    def try_acquire(self, size_bytes: int) -> bool:
        """Take `size_bytes`, out of what was prepaid first; False, and nothing taken, if that passes a cap."""
        with self._lock:
            fits = self._take(size_bytes)
        return fits or self._refuse()

    def _refuse(self) -> bool:
        """Return False, after killing the process where that is what it gets."""
        victim, refusal = self._victim, self.refusal
        if victim is not None and refusal is not None:
            victim.kill(Signal.SIGKILL, Cause.of_spec(refusal.spec, refusal.observed, refusal.capacity))
        return False

    def _take(self, size_bytes: int) -> bool:
        more = size_bytes - self._prepaid
        if more <= 0:
            self._prepaid -= size_bytes
            return True
        fits = True
        for gauge in (self._process, self._vm, self._host):
            if gauge.used + more > gauge.cap:
                gauge.refuse(gauge.used + more)
                # The widest of them is named: raising a narrower one alone would not help.
                self.refusal = LimitExceeded(gauge.spec, gauge.used + more, gauge.cap)
                fits = False
        if fits:
            self._prepaid = 0
            self._move(more)
        return fits

    def _move(self, more: int) -> None:
        process, vm, host = self._process, self._vm, self._host
        # No call and no jump between the first of these and the last: Ctrl-C cannot come in between.
        process.used += more
        vm.used += more
        host.used += more
        self.held += more
        if self.held > self.peak:
            self.peak = self.held
        for gauge in (process, vm, host):
            if gauge.used > gauge.top:
                gauge.rise()
            elif gauge.used <= gauge.low:
                gauge.recover()

    def try_acquire_heap(self, size_bytes: int) -> bool:
        """As `try_acquire` for a GC heap, which may use what was set aside for it."""
        with self._lock:
            spare = min(self._heap_reserve, size_bytes)
            fits = self._take(size_bytes - spare)
            if fits:
                self._heap_reserve -= spare
        return fits or self._refuse()

    def open(self, memories_bytes: int, tables_bytes: int, *, throws: bool = False) -> None:
        """Take what a start will need, so that one that cannot work is refused before it begins.

        For a guest that `throws` the first bytes of its GC heap are set aside: they are asked for at the first throw,
        which may well be of "out of memory". Raises `LimitExceeded` (ENOMEM), `VMClosed`.
        """
        with self._lock:
            if self._closed:
                raise VMClosed("the VM was closed while a process started")
            heap_bytes = HEAP_RESERVE_BYTES if throws else 0
            if not self._take(memories_bytes + tables_bytes + heap_bytes):
                assert self.refusal is not None
                raise self.refusal
            self._prepaid = memories_bytes
            self._heap_reserve = heap_bytes

    def release(self, size_bytes: int) -> None:
        """Give `size_bytes` back."""
        with self._lock:
            self._move(-size_bytes)

    def close(self) -> None:
        """Give everything back: the process is gone, and its memories with it. Idempotent."""
        with self._lock:
            self._closed = True
            self._prepaid = 0
            self._heap_reserve = 0
            self._move(-self.held)
