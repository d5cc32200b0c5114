"""Rigs for the doctor's checks that break one cap: its VMs have all that the check asks for, but that one."""

from dataclasses import fields, replace

from agentvm import AgentVM, Clock, HostLimits, Limits, configure_host
from agentvm.doctor.check import Rig
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.spec import UNLIMITED

__all__ = ["PATIENCE_SECONDS", "without"]

#: How long a check waits that is to fail.
PATIENCE_SECONDS = 6.0


def without(name: str) -> Rig:
    """Return a rig without the limit or setting `name`: it has its default, or, for the host, the highest cap."""

    def open_vm(limits: Limits | None = None, *, clock: Clock | None = None) -> AgentVM:
        limits = limits or Limits()
        if name in {field.name for field in fields(limits)}:
            limits = replace(limits, **{name: None})
        return AgentVM(limits, clock=clock)

    def configure(limits: HostLimits) -> None:
        configure_host(_widened(name, limits))

    def host_limits(**caps: int) -> HostLimits:
        return _widened(name, HostLimits(**caps))

    return Rig(open_vm=open_vm, configure=configure, host_limits=host_limits, patience_seconds=PATIENCE_SECONDS)


def _widened(name: str, limits: HostLimits) -> HostLimits:
    if name not in HOST_SPECS:
        return limits
    spec = HOST_SPECS[name]
    return replace(limits, **{name: UNLIMITED if spec.can_be_unlimited else spec.maximum})
