"""The caps of one process where they are tighter than those of its VM: `vm.run(..., limits=...)`."""

from collections.abc import Mapping

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import Amount, format_amount
from agentvm.limits.catalogue import SPECS, Limits
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["OwnLimits", "own_caps"]

#: What a start takes as its own limits.
OwnLimits = Limits | Mapping[str, Amount] | None


def own_caps(limits: OwnLimits, caps: Mapping[str, Cap]) -> dict[str, Cap]:
    """Return the caps that `limits` sets for one process of a VM with `caps`.

    Raises `InvalidLimit` for a limit that is no process's own, and for a cap above the VM's.
    """
    if limits is None:
        return {}
    limits = limits if isinstance(limits, Limits) else Limits.of(limits)
    for name, _ in limits.settings_given():
        raise InvalidLimit(f"{name} is a setting of the whole VM: give it to AgentVM(limits=...)", limit=name)
    own = dict(limits.given())
    for name, cap in own.items():
        spec = SPECS[name]
        if not spec.can_be_tightened:
            raise _refusal(spec)
        if cap > caps[name]:
            raise InvalidLimit(
                f"{name} of one process may only tighten the VM's, which is {format_amount(spec.unit, caps[name])}: "
                f"{format_amount(spec.unit, cap)} is more; raise the VM's first",
                limit=name,
                cap=caps[name],
                observed=cap,
            )
    return own


def _refusal(spec: LimitSpec) -> InvalidLimit:
    ours = [other.name for other in SPECS.values() if other.can_be_tightened]
    near = [name for name in ours if SPECS[name].within == spec.name]
    way_out = f"for one process there is {near[0]}" if near else f"a process can have {', '.join(ours)} of its own"
    return InvalidLimit(
        f"{spec.name} cannot be set for one process, as its scope is {spec.scope.value!r}; {way_out}", limit=spec.name
    )
