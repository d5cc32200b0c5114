"""Which guest the calling runner thread serves. Host calls, memories and ticks find their process here."""

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.engine.execution import Execution

__all__ = ["Current", "current"]


class Current(threading.local):
    """Set by the runner for as long as it runs a process; unset attributes raise `AttributeError` elsewhere."""

    context: "CallContext"
    execution: "Execution"
    #: Set once for each runner thread: see `engine.stack_depth`.
    stack_pointer: int | None


current = Current()
