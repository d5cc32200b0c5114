"""Waiting for the first of many descriptors: what poll_oneoff, net_poll and proc_ppoll_v1 have in common.

Nothing is looked at again before one of the objects says that it changed. Source: poll(2).
"""

from collections.abc import Sequence
from typing import NamedTuple

from agentvm.abi.context import CallContext
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.wait import Interrupted, Readiness, block_until

__all__ = ["Interest", "is_over", "wait_for_any"]


class Interest(NamedTuple):
    """A file, and with which bits of `Readiness` it is an event."""

    file: OpenFile
    ready: int


def is_over(ctx: CallContext, deadline_ns: int | None) -> bool:
    """Whether there is no time to wait; a signal is heard all the same. Raises `Interrupted`, and `GuestKilled`."""
    if deadline_ns is None or deadline_ns > ctx.clock.monotonic_ns():
        return False
    ctx.process.raise_if_killed()
    if ctx.process.is_interrupted:
        raise Interrupted
    return True


def wait_for_any(ctx: CallContext, interests: Sequence[Interest], deadline_ns: int | None) -> None:
    """Sleep until one of `interests`, none of which is an event yet, is one, or until `deadline_ns` (monotonic; None:
    for ever). Raises `Interrupted`, and `GuestKilled`."""

    def is_any_ready() -> bool:
        return any(file.readiness() & ready for file, ready in interests)

    queues = {id(queue): queue for file, ready in interests for queue in file.queues(ready | Readiness.ERROR)}
    block_until(ctx.process, ctx.lock, ctx.clock, queues.values(), is_any_ready, deadline_ns)
