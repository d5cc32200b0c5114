"""At AGENTVM_LOG=debug: what each VM uses, once a second while it runs programs."""

import threading
from time import monotonic
from typing import TYPE_CHECKING

from agentvm import log
from agentvm.background import Background
from agentvm.limits.amount import format_amount
from agentvm.limits.spec import UNLIMITED
from agentvm.limits.usage import LimitUsage

if TYPE_CHECKING:
    from agentvm.api.vm import AgentVM

__all__ = ["INTERVAL_SECONDS", "UsageLog", "usage_log"]

INTERVAL_SECONDS = 1.0


class UsageLog:
    """Logs the usage of VMs at the level "debug". Any thread; its own exists only while a VM in it runs programs."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._vms: dict[AgentVM, None] = {}  # guarded by _lock; bounded by max_open_vms
        self._due = 0.0  # guarded by _lock
        self._thread = Background(self._step)

    @property
    def is_running(self) -> bool:
        """Whether its thread exists."""
        return self._thread.is_running

    def add(self, vm: "AgentVM") -> None:
        """Log what a VM uses until it runs no program any more."""
        with self._lock:
            if not self._vms:
                self._due = monotonic() + INTERVAL_SECONDS
            self._vms[vm] = None
        self._thread.wake()

    def _step(self) -> float | None:
        with self._lock:
            for vm in list(self._vms):
                if not vm.is_running or not log.enabled("debug"):
                    del self._vms[vm]
            vms, left = list(self._vms), self._due - monotonic()
            if not vms:
                return None
            if left > 0:
                return left
            self._due = max(self._due + INTERVAL_SECONDS, monotonic())
        for vm in vms:
            _write(vm)
        return 0.0


def _write(vm: "AgentVM") -> None:
    used = [usage for usage in vm.usage() if usage.used]
    fields = {usage.name: {"used": usage.used, "cap": usage.fields()["cap"]} for usage in used}
    log.write("debug", f"uses {', '.join(map(_amount, used))}", vm=vm.name, usage=fields)


def _amount(usage: LimitUsage) -> str:
    unit = usage.spec.unit
    cap = "" if usage.cap == UNLIMITED else f" of {format_amount(unit, usage.cap)}"
    return f"{usage.name} {format_amount(unit, usage.used)}{cap}"


usage_log = UsageLog()
