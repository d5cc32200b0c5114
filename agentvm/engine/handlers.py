"""Signal handlers of one guest: they run inside its host calls, through a function that it exports for that.

Source of the exports' names: the agentOS host ABI.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agentvm.engine.module_info import Signature
from agentvm.engine.reactor import CallRequest
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.signalling import change_mask, unswap_mask
from agentvm.kernel.signals import Delivery
from agentvm.kernel.wait import block_until

if TYPE_CHECKING:
    from agentvm.engine.execution import Execution
    from agentvm.engine.guest import Guest
    from agentvm.engine.linked import Linked
    from agentvm.engine.plan import Plan

__all__ = ["MAX_DEPTH", "Handlers"]

#: How deep handlers may interrupt each other: each is a guest entered from within a host call.
MAX_DEPTH = 16
#: Handlers that one host call runs at most; the rest wait for the next.
_MOST_AT_ONCE = 64
_TRAMPOLINE, _TRAMPOLINE_TYPE = "__wasi_signal_trampoline", Signature(("i32",), ())
_INITIAL_MASK, _INITIAL_MASK_TYPE = "__agentos_set_initial_sigmask", Signature(("i32", "i32"), ("i32",))


def _as_signed(value: int) -> int:
    return (value & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000


class Handlers:
    """Used on the process's runner thread only."""

    __slots__ = ("_depth", "_execution")

    def __init__(self, execution: "Execution") -> None:
        self._execution = execution
        self._depth = 0

    @staticmethod
    def are_exported_by(linked: "Linked") -> bool:
        """Whether a module exports what runs its handlers."""
        export = linked.info.exports.get(_TRAMPOLINE)
        return export is not None and export.signature == _TRAMPOLINE_TYPE

    def begin(self, guest: "Guest", plan: "Plan") -> bool:
        """Tell a program that starts with signals blocked which. False if that ended the process."""
        blocked = self._execution.process.signals.blocked
        export = plan.linked.info.exports.get(_INITIAL_MASK)
        if not blocked or plan.entry != "_start" or export is None or export.signature != _INITIAL_MASK_TYPE:
            return True
        request = CallRequest(_INITIAL_MASK, _INITIAL_MASK_TYPE, [_as_signed(blocked), _as_signed(blocked >> 32)])
        guest.answer(request)
        return request.answered

    @contextmanager
    def nested(self) -> Iterator[None]:
        """The guest is entered from within a host call. Too deep, the process ends as by a stack overflow."""
        process = self._execution.process
        if self._depth >= MAX_DEPTH:
            text = f"signal handlers are nested {self._depth} deep: killed by SIGSEGV"
            process.kill(Signal.SIGSEGV, Cause(CauseKind.TRAP, text))
        process.raise_if_killed()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def run(self) -> bool:
        """Run the handlers that are due; a process that was stopped goes on first. False if one of them wants the call
        that it interrupted to fail with EINTR.

        Raises `GuestKilled` if a handler ends the process.
        """
        execution = self._execution
        process, lock = execution.process, execution.context.lock
        restarts = True
        if process.stopped_by is not None:
            self._stand_still()
        for _ in range(_MOST_AT_ONCE):
            with lock:
                delivery = process.signals.take()
            if delivery is None:
                break
            restarts = restarts and delivery.restarts
            self._call(delivery)
        with lock:
            unswap_mask(process)
        process.raise_if_killed()
        return restarts

    def _call(self, delivery: Delivery) -> None:
        execution = self._execution
        process = execution.process
        with execution.context.lock:
            saved, process.signals.saved = process.signals.saved, None
        execution.reenter(_TRAMPOLINE, [delivery.signal])
        with execution.context.lock:
            process.signals.saved = saved
            change_mask(process, delivery.mask_after)

    def _stand_still(self) -> None:
        """Sleep while the process is stopped, in a host call that has not begun, or is about to return."""
        context = self._execution.context
        with context.lock:
            block_until(context.process, context.lock, context.clock, (), _at_once, is_interruptible=False)


def _at_once() -> bool:
    return True
