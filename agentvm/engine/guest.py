"""A store with one instance in it, and every way into it. Used on the guest's runner thread only."""

from typing import TYPE_CHECKING, Any

from agentvm import log
from agentvm.engine import bind
from agentvm.engine.current import current
from agentvm.engine.ledger import MemoryAccount
from agentvm.engine.memory import GuestMemories
from agentvm.engine.meter import FuelMeter
from agentvm.engine.public_calls import forget_exception
from agentvm.engine.reactor import CallRequest
from agentvm.engine.stack_depth import StackDepth
from agentvm.engine.trap import OUT_OF_FUEL, STACK_OVERFLOW, STOPPED_EXACTLY, ending_of_error, ending_of_trap
from agentvm.kernel.outcome import Cause, CauseKind, ExitStatus, Signal
from agentvm.kernel.process import Ending, Process

if TYPE_CHECKING:
    from agentvm.engine.linked import Linked, TablePlan

__all__ = ["Guest"]

_ENDED = b"the process ends"
_KILLED = ExitStatus.signalled(Signal.SIGKILL)


class Guest:
    """One guest's code and data. Whoever makes it calls `close`, whatever happened in between."""

    __slots__ = ("_account", "_instance", "_linked", "_memories", "_meter", "_process", "_store", "context", "depth")

    def __init__(
        self,
        linked: "Linked",
        process: Process,
        memories: GuestMemories,
        *,
        account: MemoryAccount,
        meter: FuelMeter,
        depth: StackDepth,
    ) -> None:
        self._linked = linked
        self._process = process
        self._memories = memories
        self._account = account
        self._meter = meter
        #: How deep its calls are nested.
        self.depth = depth
        self._store = 0
        self._instance: Any = None
        #: The store's context, for fuel and deadlines; 0 when it is closed.
        self.context = 0

    def open(self, engine: int, tables: "TablePlan") -> None:
        """Make the store, with its caps. It has no fuel yet."""
        info = self._linked.info
        self.depth.open(current.stack_pointer)
        self._store = bind.new_store(engine)
        self.context = bind.context_of(self._store)
        bind.set_epoch_callback(self._store, _EPOCH_CALLBACK, 0, 0)
        bind.set_epoch_deadline(self.context, 1)
        bind.limit_store(
            self._store,
            table_elements=tables.elements_each,
            tables=len(info.tables),
            memories=len(info.memories),
        )

    def close(self) -> None:
        """Free everything. Idempotent."""
        store, self._store = self._store, 0
        self._instance = None
        self.context = 0
        if store:
            bind.delete_store(store)

    def instantiate(self) -> bool:
        """Make the instance, running its start function. False if that ended the process."""
        linked = self._linked
        self._memories.use_image(linked.image)
        self._instance, outcome = bind.instantiate(linked.pre, self.context)
        if not self._went_well(outcome):
            return False
        if linked.exported_memory is not None and not self._memories.settle():
            memory = bind.find_export(self.context, self._instance, b"memory")
            self._memories.resolve(bind.memory_base(self.context, memory))
        return True

    def run_entry(self, name: str) -> bool:
        """Call a function without parameters and results, if it is exported. False if that ended the process."""
        if not self._linked.has_entry(name):
            return True
        function = bind.find_export(self.context, self._instance, name.encode())
        return self._went_well(bind.invoke_unchecked(self.context, bind.CallFunction(function)))

    def answer(self, request: CallRequest) -> None:
        """Call what `request` names; if it returns, the request is answered, else the process is ending."""
        function = bind.CallFunction(bind.find_export(self.context, self._instance, request.name.encode()))
        bind.set_epoch_deadline(self.context, 1)
        outcome = bind.invoke(self.context, function, request.arguments, request.results)
        # A function without loops and calls returns even where the process was killed on its way.
        request.answered = self._went_well(outcome) and self._process.ending is None

    def _went_well(self, outcome: bind.Outcome) -> bool:
        """Free what a call into the guest returned; if it failed, see to it that the process has an ending."""
        error, trap = outcome
        if trap or error:
            forget_exception()
        if trap:
            ending, code = ending_of_trap(trap)
            self._meter.is_exact = code in STOPPED_EXACTLY
            if code is None and current.execution.is_leaving:
                return False
            if code == OUT_OF_FUEL:
                self._process.kill(Signal.SIGXCPU, Cause.of_limit(*self._meter.run_out()))
            elif code == STACK_OVERFLOW:
                self.depth.overflow()
            self._decide(ending)
            return False
        if error:
            ending = ending_of_error(error)
            if self._process.ending is None and not current.execution.is_leaving:
                self._decide(self._memory_ending() or ending)
            return False
        self._meter.is_exact = True
        return True

    def _decide(self, ending: Ending) -> None:
        signal = ending.status.signal
        assert signal is not None
        if self._process.kill(signal, ending.cause) and ending.cause.kind is CauseKind.HOST_BUG:
            log.error(ending.cause.message, vm=current.execution.machine.name, pid=self._process.pid)

    def _memory_ending(self) -> Ending | None:
        """The ending of a process that could not get the memory to start, or to throw an exception with."""
        refused, refusal = self._memories.host_refused, self._account.refusal
        if refused:
            text = f"the host refused {refused:,} bytes of address space (ENOMEM): killed by SIGKILL"
            return Ending(_KILLED, Cause(CauseKind.LIMIT, text, limit="max_resident_memory_bytes"))
        if refusal is not None:
            return Ending(_KILLED, Cause.of_spec(refusal.spec, refusal.observed, refusal.capacity))
        return None


def _tick(_context: int, _data: int | None, delta: int, _kind: int) -> int:
    """The epoch callback of every store: an int on every path, whatever happens."""
    try:
        bind.write_u64(delta, 1)
        return current.execution.tick(delta)
    except BaseException as error:  # noqa: BLE001 - a callback must return
        try:
            return current.execution.fail_callback(error)
        except BaseException:  # noqa: BLE001 - a callback must return
            return bind.new_error(_ENDED)


_EPOCH_CALLBACK = bind.EpochCallback(_tick)
