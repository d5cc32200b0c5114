"""The engine half of one VM: its budgets, and the executions that draw on them. Free until a process starts."""

import atexit
import os
import sys
import threading
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from agentvm.engine import bind, host_signals, own_limits
from agentvm.engine.capacity import host_capacity
from agentvm.engine.config import profile_at
from agentvm.engine.cpu_rate import CpuRate
from agentvm.engine.current import current
from agentvm.engine.execution import STARTER, Execution, OnEnd
from agentvm.engine.fuel import FuelPool, FuelStatistics
from agentvm.engine.ledger import MemoryLedger
from agentvm.engine.linked import Linked, Runnable, TablePlan, link, plan_tables
from agentvm.engine.plan import Plan
from agentvm.engine.process_time import ProcessTime
from agentvm.engine.reactor import Mailbox
from agentvm.engine.runner import runner_pool
from agentvm.engine.slots import RunSlots
from agentvm.engine.stack_depth import StackDepth
from agentvm.engine.ticker import Ticker
from agentvm.errno import Errno, KernelError
from agentvm.errors import HostLimit, MissingExport, VMClosed
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import Process
from agentvm.limits.registry import Registry
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    import wasmtime

    from agentvm.abi.context import CallContext

__all__ = ["EXIT_WAIT_SECONDS", "MIN_RECURSION_LIMIT", "Machine", "MachineStatistics", "check_fork"]

#: How long a Python process that ends waits for the guests that it kills.
EXIT_WAIT_SECONDS = 1.0
#: What the deepest nest of re-entered guests takes of it, twice.
MIN_RECURSION_LIMIT = 400
_FOREVER = float("inf")
_CLOSED = Cause(CauseKind.SIGNAL, "the VM was closed: killed by SIGKILL")


@dataclass(frozen=True, slots=True)
class MachineStatistics:
    """What the processes of one VM do now."""

    executions: int
    memory_bytes: Cap
    fuel: FuelStatistics


class Machine:
    """Starts the processes of one VM, and stops them all. Any thread."""

    __slots__ = ("_cpu_rate", "_executions", "_fuel", "_ledger", "_lock", "_registry", "closed", "engine",
                 "engine_address", "slots", "ticker")  # fmt: skip

    def __init__(self, registry: Registry) -> None:
        """Raises `VMClosed` in a fork of a process that had a VM open."""
        check_fork()
        self._registry = registry
        self._fuel: FuelPool | None = None
        self._ledger: MemoryLedger | None = None
        self._cpu_rate: CpuRate | None = None
        self._lock = threading.Lock()
        # guarded by _lock; bounded by max_processes
        self._executions: dict[Execution, None] = {}
        self.closed = False
        # set by the first start; all processes of a VM share one engine
        self.engine: wasmtime.Engine
        self.engine_address = 0
        self.slots, self.ticker = _shared()

    @property
    def name(self) -> str | None:
        """The VM's name in the log."""
        return self._registry.vm

    @property
    def fuel(self) -> FuelPool:
        """The VM's fuel, from which processes lease."""
        if self._fuel is None:
            with self._lock:  # two first programs at once must not get a pool each
                if self._fuel is None:
                    self._fuel = FuelPool(self._registry.gauge("max_fuel"))
        return self._fuel

    @property
    def ledger(self) -> MemoryLedger:
        """The VM's memory, to which all memories are charged."""
        if self._ledger is None:
            kills = self._registry.setting("on_memory_full") == "kill"
            self._ledger = MemoryLedger(self._registry.gauge("max_memory_bytes"), kills=kills)
        return self._ledger

    @property
    def cpu_rate(self) -> CpuRate:
        """The VM's share of the processor."""
        if self._cpu_rate is None:
            with self._lock:
                if self._cpu_rate is None:
                    self._cpu_rate = CpuRate(self._registry.bucket("max_cpu_percent", scale=0.01))
        return self._cpu_rate

    def stack_depth(self) -> StackDepth:
        """Make what watches how deep one guest's calls are nested."""
        return StackDepth(self._registry.ceiling("max_wasm_stack_bytes"))

    def mailbox(self) -> Mailbox:
        """Make the queue of the calls that wait for one guest."""
        return Mailbox(self._registry)

    def start(
        self,
        module: Runnable,
        process: Process,
        context: "CallContext",
        linker: bind.HostLinker,
        *,
        on_end: OnEnd,
        entry: str = "_start",
        timeout_seconds: float | None = None,
        cpu_time_ns: int = 0,
    ) -> Execution:
        """Start a process, and return at once. `on_end` is called on its runner thread when all is given back.

        Without "_start" as `entry` the guest stays for `Execution.call`. `timeout_seconds` is a wall time of its own,
        `cpu_time_ns` was spent for it before (compiling). Raises `VMClosed`, `MissingImport`, `MissingExport`,
        `ModuleLimit`, `HostLimit` (a guest's spawn: EAGAIN) and `LimitExceeded` (ENOMEM); nothing has happened then.
        """
        check_fork()
        _check_depth()
        host_signals.ensure()
        self._use(linker)
        linked, tables = self._link(module, linker, process, entry)
        clock = ProcessTime(process, timeout_seconds, cpu_time_ns, self.cpu_rate)
        plan = Plan(linked, tables, entry, clock)
        execution = Execution(self, process, context, plan)
        self._register(execution)
        try:
            execution.account.open(sum(linked.minimums), tables.size_bytes, throws=linked.info.has_tags)
            self._launch(execution, on_end)
        except BaseException:
            self._abandon(execution)
            raise
        return execution

    def plan_exec(self, module: Runnable, linker: bind.HostLinker) -> Plan:
        """Return the plan by which the calling process becomes another program: `GuestExec` carries it out.

        Raises what `start` raises of the module, and ENOTSUP for a reactor; the process goes on as it is then.
        """
        execution = current.execution
        if execution.is_reactor:
            raise KernelError(Errno.ENOTSUP, "a reactor cannot become another program: the host calls its exports")
        linked, tables = self._link(module, linker, execution.process, "_start")
        return Plan(linked, tables, "_start", execution.time)

    def _link(
        self, module: Runnable, linker: bind.HostLinker, process: Process, entry: str
    ) -> tuple[Linked, TablePlan]:
        linked = link(module, linker)
        if entry == "_start" and not linked.has_entry(entry):
            raise MissingExport("the module exports no function _start () -> (): it is no program", name=entry)
        memory = process.gauges.gauge("max_memory_per_process_bytes").cap
        return linked, plan_tables(linked.info.tables, self._registry.caps.now["max_table_elements"], memory)

    def _use(self, linker: bind.HostLinker) -> None:
        if not self.engine_address:
            self.engine, self.engine_address = linker.engine, linker.engine_address
        assert linker.engine_address == self.engine_address, "all processes of a VM share one engine"

    def _register(self, execution: Execution) -> None:
        """From here on `close` gives back what a start leaves behind that Ctrl-C interrupts, at any point."""
        with self._lock:
            if self.closed or _exiting:
                raise VMClosed("the VM was closed: it starts no more processes")
            self._executions[execution] = None

    def _launch(self, execution: Execution, on_end: OnEnd) -> None:
        host_capacity().hold_place(execution)
        own_limits.watch(execution)
        parent = getattr(current, "execution", None)
        if parent is not None and parent.machine is self and self.fuel.is_shared:
            parent.meter.share(execution.meter)
        execution.connect(on_end)
        self._submit(execution)
        if execution.ending is not None:  # over already: what it gave back may have been taken after
            self.forget(execution)

    @property
    def wasm_stack_bytes(self) -> int:
        """How much of its thread's stack a guest of this VM may use."""
        return profile_at(self.engine_address).max_wasm_stack_bytes

    def _submit(self, execution: Execution) -> None:
        runner_pool(self.wasm_stack_bytes).submit(execution)

    @staticmethod
    def _abandon(execution: Execution) -> None:
        """A start failed, or was interrupted: a runner may have the process, or not."""
        if execution.claim(STARTER):
            execution.give_up()
        else:
            execution.kill()

    def forget(self, execution: Execution) -> None:
        """An execution is over. Idempotent."""
        self.ticker.unwatch(execution)
        host_capacity().give_place_back(execution)
        with self._lock:
            self._executions.pop(execution, None)

    def refresh_limits(self) -> None:
        """Caps were raised: running processes get the new deadlines, and more fuel at their next host call; one that
        waits for its VM's share of the processor looks again."""
        self.cpu_rate.wake()
        for execution in self._running():
            execution.meter.ask_back()
            execution.meter.wake()
            execution.time.refresh()
            own_limits.watch(execution)

    def _running(self) -> list[Execution]:
        with self._lock:
            return list(self._executions)

    def kill_all(self) -> None:
        """Kill every process, and start no more. Does not wait."""
        self.closed = True
        for execution in self._running():
            execution.kill(Signal.SIGKILL, _CLOSED)

    def close(self, timeout_seconds: float | None = None) -> bool:
        """Kill every process and wait until all they held is given back. Idempotent. False: not done in time.

        From one of the VM's own runner threads (`on_end`) it does not wait for that one.
        """
        if os.getpid() != _owner:
            return True
        deadline = _FOREVER if timeout_seconds is None else monotonic() + timeout_seconds
        self.kill_all()
        own = getattr(current, "execution", None)
        for execution in self._running():
            if execution is own:
                continue
            if execution.owner == STARTER:
                execution.give_up()
                continue
            if execution.owner is None:
                self._submit_again(execution)
            left = None if deadline == _FOREVER else max(0.0, deadline - monotonic())
            if execution.wait(left) is None:
                return False
        return True

    def _submit_again(self, execution: Execution) -> None:
        """Its start is under way on another thread, or was interrupted. A runner ends it, if none has it yet."""
        try:
            self._submit(execution)
        except HostLimit:
            self._abandon(execution)

    def statistics(self) -> MachineStatistics:
        """Return a snapshot."""
        return MachineStatistics(
            len(self._executions), self._registry.gauge("max_memory_bytes").used, self.fuel.statistics()
        )


# ---- the process around all machines ----

_exiting = False
_owner = os.getpid()
_shared_lock = threading.Lock()
_slots: RunSlots | None = None
_ticker: Ticker | None = None


def _shared() -> tuple[RunSlots, Ticker]:
    """Return the run slots and the ticker of this process, made with the first machine."""
    global _slots, _ticker, _owner  # noqa: PLW0603 - one host
    if _slots is None or _ticker is None:
        with _shared_lock:
            if _slots is None or _ticker is None:
                capacity = host_capacity()
                _ticker = Ticker()
                slots = RunSlots(capacity.gauge("max_computing_processes"), _ticker.wake)
                _ticker.slots = slots
                capacity.manage("max_computing_processes", slots.resize)
                _owner = os.getpid()
                atexit.register(_kill_everything)
                _slots = slots
    return _slots, _ticker


def check_fork() -> None:
    """Raise `VMClosed` in a fork of a process that had opened a VM."""
    if os.getpid() != _owner and _slots is not None:
        raise VMClosed(
            f"process {os.getpid()} was forked from process {_owner} after that opened a VM; threads do not survive a "
            "fork, so no VM works here: open the first VM after the fork, or use multiprocessing's spawn method",
            owner=_owner,
        )


def _check_depth() -> None:
    """A callback that Python could not even enter would bring the process down, so there must be room for it."""
    if sys.getrecursionlimit() < MIN_RECURSION_LIMIT:
        raise HostLimit(
            f"sys.getrecursionlimit() is {sys.getrecursionlimit()}: guests need {MIN_RECURSION_LIMIT} or more",
            limit="recursion",
            cap=sys.getrecursionlimit(),
        )


def _kill_everything() -> None:
    """At the interpreter's exit: a guest's thread that wanted the interpreter then would bring the process down."""
    global _exiting  # noqa: PLW0603 - one process
    if os.getpid() != _owner:
        return
    _exiting = True
    deadline = monotonic() + EXIT_WAIT_SECONDS
    while True:
        try:
            executions = [owner for owner in host_capacity().place_owners() if isinstance(owner, Execution)]
            for execution in executions:
                execution.kill(Signal.SIGKILL, _CLOSED)
            for execution in executions:
                execution.wait(max(0.0, deadline - monotonic()))
        except KeyboardInterrupt:
            if monotonic() < deadline:
                continue
        return
