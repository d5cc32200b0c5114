"""How often the host may act: programs that it starts, and calls of loaded reactors, under max_actions_per_hour."""

from typing import TYPE_CHECKING

from agentvm.errors import RateLimited
from agentvm.limits.catalogue import SPECS
from agentvm.limits.spec import UNLIMITED

if TYPE_CHECKING:
    from agentvm.kernel.kernel import Kernel

__all__ = ["count_action"]

_NAME = "max_actions_per_hour"
_SECOND_NS = 1_000_000_000


def count_action(kernel: "Kernel") -> None:
    """Count one action of the host, by the VM's clock. Takes the kernel lock. Raises `RateLimited`."""
    if kernel.registry.caps.now[_NAME] == UNLIMITED:
        return  # no look at the clock, which may be one that each look moves
    with kernel.lock:
        window = kernel.registry.actions
        retry_after = window.take(kernel.clock.monotonic_ns() / _SECOND_NS)
        cap = window.cap
    if retry_after:
        raise RateLimited(
            f"{_NAME} is {cap:,}, and that many were done in the last hour: try again in {retry_after:,.1f} s, or "
            f"raise it with {SPECS[_NAME].raised(cap)}",
            limit=_NAME,
            cap=cap,
            retry_after=retry_after,
        )
