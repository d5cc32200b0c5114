"""One guest process on one runner thread: start, checks on the way, end. Nothing here holds the kernel lock."""

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, cast

from agentvm import log
from agentvm.engine import bind, failure, own_limits, stack
from agentvm.engine.current import current
from agentvm.engine.end import End
from agentvm.engine.guest import Guest
from agentvm.engine.handlers import Handlers
from agentvm.engine.memory import GuestMemories
from agentvm.engine.meter import FuelMeter
from agentvm.engine.plan import ExecutionStatistics, Plan
from agentvm.engine.reactor import CallRequest, Mailbox, Number
from agentvm.engine.slots import Ticket
from agentvm.engine.ticker import TICK_SECONDS
from agentvm.engine.turn import Turn
from agentvm.errors import GuestFailed
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import Ending, GuestExec, GuestKilled, Process
from agentvm.kernel.wait import NoScheduler
from agentvm.limits.gauge import LimitExceeded

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.engine.machine import Machine

__all__ = ["RUNNER", "STARTER", "Execution", "OnEnd"]

_NOW = float("-inf")
RUNNER, STARTER = "runner", "starter"
_ENDED = b"the process ends"
#: Told how a process ended, on its runner thread.
OnEnd = Callable[[Ending], None]

#: The scheduler of a process that has ended: it waits for nothing any more.
_NO_SCHEDULER = NoScheduler()


class Execution:
    """A running process. `wait`, `kill`, `call`, `finish` and `statistics` may be used from any thread."""

    def __init__(self, machine: "Machine", process: Process, context: "CallContext", plan: Plan) -> None:
        # immutable
        self.process = process
        self.context = context
        self.machine = machine
        self._plan = plan
        self._on_end: OnEnd = _nobody
        self._turn = Turn(process, machine.slots, Ticket(machine.engine_address, machine), machine.cpu_rate)
        self.time = plan.time
        self.meter = FuelMeter(machine.fuel, process)
        self.account = machine.ledger.open(process)
        self._depth = machine.stack_depth()
        self.memories, self._guest = self._prepare(plan)
        self._mailbox = None if plan.entry == "_start" else machine.mailbox()
        # any thread
        self._owner: dict[str, str] = {}
        self._end = End()
        # owned by the runner thread
        #: The program to go on with, once the one that asked for it has been left.
        self._next: Plan | None = None
        self._handlers = Handlers(self)

    def _prepare(self, plan: Plan) -> tuple[GuestMemories, Guest]:
        linked = plan.linked
        memories = GuestMemories(self.account, linked.minimums, linked.exported_memory)
        self.process.has_trampoline = Handlers.are_exported_by(linked)
        return memories, Guest(
            linked, self.process, memories, account=self.account, meter=self.meter, depth=self._depth
        )

    def connect(self, on_end: OnEnd) -> None:
        """Connect the process, right before a runner gets it. From here on `on_end` is told."""
        self._on_end, process = on_end, self.process
        process.scheduler = self
        process.on_kill = self.interrupt
        process.on_alarm = partial(own_limits.watch, self)
        process.cpu_time_ns = self.time.cpu_time_ns
        process.check_at = monotonic() + TICK_SECONDS
        if process.ending is not None:
            process.check_at = _NOW

    # ---- any thread ----

    @property
    def ending(self) -> Ending | None:
        """How it ended, once everything that the process held is given back."""
        return self._end.ending

    def wait(self, timeout_seconds: float | None = None) -> Ending | None:
        """Wait for the end, and return it; None if it has not come in time."""
        return self._end.wait(timeout_seconds)

    def kill(self, signal: Signal = Signal.SIGKILL, cause: Cause | None = None) -> bool:
        """End the process as if by `signal`; False if it was ending already. Does not wait."""
        killed = self.process.kill(signal, cause)
        self.interrupt()
        return killed

    def interrupt(self) -> None:
        """Make a process that is ending notice, wherever it computes, waits or queues. Idempotent, never blocks."""
        self.process.waiter.wake()
        self.meter.wake()
        if self._mailbox is not None:
            self._mailbox.wake()
        self._turn.cancel()

    def call(self, name: str, arguments: Sequence[Number] = ()) -> tuple[Number, ...]:
        """Call an exported function of a guest that stays, and wait for its results.

        Raises `MissingExport`, `InvalidArgument`, or `GuestFailed` (with `values["ending"]`) if the guest ends first.
        """
        request = CallRequest(name, self._plan.linked.signature(name), arguments)
        if self._mailbox is not None and self._mailbox.put(request):
            request.done.wait()
        if not request.answered:
            ending = self.wait()
            text = ending.cause.message if ending else ""
            raise GuestFailed(f"{name} did not return, because the guest has ended: {text}", ending=ending)
        return request.values()

    def wait_ready(self) -> bool:
        """Wait until a guest that stays has run its entry and takes calls. False if it has ended instead."""
        if self._mailbox is not None:
            self._mailbox.ready.wait()
        return self.ending is None and self.process.ending is None

    def finish(self) -> None:
        """Let a guest that stays end with exit code 0, once all calls are answered."""
        if self._mailbox is not None:
            self._mailbox.finish()

    def cpu_time_ns(self) -> int:
        """Return the CPU time of the process in ns, host calls included."""
        return self.time.cpu_time_ns()

    def statistics(self) -> ExecutionStatistics:
        """Return a snapshot."""
        return ExecutionStatistics(
            cpu_time_ns=self.time.cpu_time_ns(),
            wall_time_ns=self.time.wall_time_ns(),
            fuel_used=self.meter.used,
            memory_bytes=self.account.held,
            peak_memory_bytes=self.account.peak,
            is_computing=self._turn.is_held,
        )

    def look(self) -> float:
        """Called by the ticker when the time is nearly over, or over, or an alarm due. Returns when to call again."""
        return min(self.time.look(), own_limits.look_at_alarm(self.process, self.context))

    # ---- in host calls, on the runner thread ----

    def checkpoint(self) -> None:
        """Do what is due; called by a host call once `process.check_at` has passed. Raises `GuestKilled`."""
        process = self.process
        if process.ending is not None:
            raise GuestKilled
        if self.time.check():
            self.meter.pause()
            self._turn.wait()
            self._resume_fuel()
        own_limits.look(process, self.context, self.time)
        if process.is_signalled:
            self._handlers.run()
        self.meter.look()
        self._turn.share()
        process.check_at = min(monotonic() + self._turn.next_look(self.meter.used), self.time.deadline)
        # Whoever wants something wrote it down before check_at, which was just overwritten: look again.
        if self.meter.due or process.is_signalled or own_limits.is_due_always(process, self.context):
            process.check_at = _NOW
        if process.ending is not None:
            process.check_at = _NOW
            raise GuestKilled

    def give_way(self) -> None:
        """sched_yield: let guests run that wait for a slot."""
        self._turn.give_way()

    def pause(self) -> None:
        """About to sleep in a host call: hold neither a slot nor fuel, nor a turn."""
        self.process.is_asleep = True
        if self.machine.cpu_rate.takes_turns:
            self.time.pay()
        self.meter.pause()
        self._turn.leave()

    def resume(self) -> None:
        """Awake again: wait for a slot, and for fuel."""
        self.process.is_asleep = False
        self._turn.come_back()
        self._resume_fuel()

    def _resume_fuel(self) -> None:
        self.meter.resume(self._turn.leave, self._turn.enter)

    @property
    def is_reactor(self) -> bool:
        """Whether the guest stays for calls."""
        return self._mailbox is not None

    @property
    def is_leaving(self) -> bool:
        """Whether the guest was left for another program: the trap that did it is no ending."""
        return self._next is not None

    def handle_signals(self) -> bool:
        """In a host call: run the handlers that are due. False if one of them wants the call to fail with EINTR."""
        return self._handlers.run()

    def reenter(self, name: str, arguments: Sequence[Number] = ()) -> tuple[Number, ...]:
        """In a host call: call an exported function of the guest. Raises `GuestKilled` if that ends the process."""
        request = CallRequest(name, self._plan.linked.signature(name), arguments)
        with self._handlers.nested():
            self._guest.answer(request)
        if not request.answered:
            raise GuestKilled
        return request.values()

    # ---- in callbacks ----

    def tick(self, stack_address: int) -> int:
        """Called in the guest's loops and function entries, on a tick or a kill; an error makes it leave.

        `stack_address` lies on the native stack, below the guest's frames.
        """
        process = self.process
        if process.ending is None:
            self._guest.depth.look(stack_address)
            self.meter.glance()
            if self.time.check():
                self._turn.wait()
            own_limits.look_in_tick(process, self.context, self.time)
            if process.stopped_by is not None:
                self._turn.leave()
                process.rest()
                self._turn.enter()
            self._turn.share()
        if process.ending is None:
            return 0
        self.meter.is_exact = False
        return bind.new_error(_ENDED)

    def fail(self, error: BaseException) -> int:
        """A host call met `error`: note what it means for the process, and return the trap that leaves the guest."""
        try:
            self.meter.is_exact = True
            if type(error) is GuestExec:
                self._next = cast(Plan, error.program)
            else:
                failure.note_left(self.process, self.machine.name, error)
        except BaseException:  # noqa: BLE001, S110 - the caller is a callback, which must return
            pass
        return bind.new_trap(_ENDED)

    def fail_callback(self, error: BaseException) -> int:
        """A memory or epoch callback met `error`: end the process, and return the error that leaves the guest."""
        self.note_bug(error)
        return bind.new_error(_ENDED)

    def note_bug(self, error: BaseException) -> None:
        """agentvm itself failed: the process ends, and the host's log gets the traceback; the guest never does."""
        failure.note_bug(self.process, self.machine.name, error)

    # ---- the runner thread's way through ----

    def claim(self, who: str) -> bool:
        """Whether `who` has the execution: a RUNNER, or the STARTER that gives it up, whoever was first."""
        return self._owner.setdefault("is", who) == who

    @property
    def owner(self) -> str | None:
        """Who claimed it."""
        return self._owner.get("is")

    def run(self) -> None:
        """Run to the end, on a runner thread."""
        if self.owner is not None or not self.claim(RUNNER):
            return
        current.execution, current.context = self, self.context
        try:
            self.time.open()
            self._turn.start()
            self._live()
        except GuestKilled:
            pass
        except BaseException as error:  # noqa: BLE001 - a runner outlives what it runs
            self.note_bug(error)
        try:
            self._close()
        finally:
            del current.execution, current.context

    def _live(self) -> None:
        while True:
            self._live_once()
            if self._next is None or self.process.ending is not None:
                return
            self._change_to(self._next)

    def _live_once(self) -> None:
        guest, plan = self._guest, self._plan
        try:
            guest.open(self.machine.engine_address, plan.tables)
            self.meter.open(guest.context, self._turn.leave, self._turn.enter)
            self.context.memory.attach(self.memories)
            # A kill before the epoch deadline was set moved an epoch that nobody watched.
            self.process.raise_if_killed()
            if guest.instantiate() and self._handlers.begin(guest, plan) and guest.run_entry(plan.entry):
                if self._mailbox is not None:
                    self._serve(self._mailbox)
                self.process.exit(0)
        finally:
            if guest.context:
                self.meter.close(self.machine.engine)
            self.context.memory.detach()
            guest.close()

    def _change_to(self, plan: Plan) -> None:
        """The old program is gone, with its memory: make room for the new one, which cannot fail any more."""
        self.memories.unmap_rest()
        linked = plan.linked
        try:
            self.account.open(sum(linked.minimums), plan.tables.size_bytes, throws=linked.info.has_tags)
        except LimitExceeded as refusal:
            self.process.kill(Signal.SIGKILL, Cause.of_spec(refusal.spec, refusal.observed, refusal.capacity))
            raise GuestKilled from None
        self._plan, self._next = plan, None
        self.memories, self._guest = self._prepare(plan)

    def _serve(self, mailbox: Mailbox) -> None:
        """Answer calls until the guest is told to finish, or ends."""
        process = self.process
        while True:
            self.pause()
            request = mailbox.get(lambda: process.ending is not None)
            self.resume()
            if self.time.check():
                self._turn.wait()
            if request is None:
                process.raise_if_killed()
                return
            try:
                if process.ending is None:
                    self._guest.answer(request)
            finally:
                request.done.set()
            process.raise_if_killed()

    def _close(self) -> None:
        """Give everything back, and tell whoever waits. One step that fails does not keep the others from it."""
        process = self.process
        try:
            self.time.close()
            self._give_back()
        except BaseException:  # noqa: BLE001 - the rest must go on
            failure.do_all(self.process, self.machine.name, self._turn.leave, self.memories.unmap_rest, self.give_up)
        if process.ending is None:
            process.kill(Signal.SIGKILL, Cause(CauseKind.HOST_BUG, "the process ended without an ending"))
        ending = process.ending
        assert ending is not None
        try:
            self._on_end(ending)
        except BaseException as error:  # noqa: BLE001 - somebody else's code, on our thread
            log.error("the end of a process was not reported", vm=self.machine.name, pid=process.pid, exc_info=error)
        self._disconnect(self.time.cpu_time_ns())
        self._end.come(ending)

    def _give_back(self) -> None:
        self._turn.leave()
        self.memories.unmap_rest()
        stack.give_back(getattr(current, "stack_pointer", None), self.machine.wasm_stack_bytes)
        self.give_up()

    def _disconnect(self, cpu_time_ns: int) -> None:
        """Let go of what points back here, so that all is freed now and not by the garbage collector."""
        process = self.process
        process.scheduler = _NO_SCHEDULER
        process.on_kill = process.on_alarm = _NO_SCHEDULER.pause
        process.cpu_time_ns = lambda: cpu_time_ns
        self._on_end = _nobody

    def give_up(self) -> None:
        """Give memory and place back, and let callers go; all that a start holds which failed before a runner had it.
        Idempotent."""
        self.account.close()
        if self._mailbox is not None:
            self._mailbox.close()
        self.machine.forget(self)


def _nobody(_ending: Ending) -> None:
    pass
