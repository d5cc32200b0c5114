"""The caps in force: what an operator asked for, the defaults for the rest, and what follows from them."""

from collections.abc import Iterator, Mapping

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS, Limits
from agentvm.limits.spec import Cap, LimitSpec

__all__ = ["DEFAULT_LIMITS", "Caps", "resolve"]


class Caps(Mapping[str, Cap]):
    """The caps in force: every limit has one. Only the operator changes them, through `raise_to`."""

    def __init__(self, limits: Limits) -> None:
        """Raises `InvalidLimit` if an explicit cap lies above the wider one that contains it."""
        self._given = dict(limits.given()) if limits is not DEFAULT_LIMITS else {}
        #: The caps by name. Never changed: replaced as a whole when one is raised, and shared by all default VMs.
        self.now: Mapping[str, Cap] = resolve(self._given) if self._given else _DEFAULT_CAPS

    def __getitem__(self, name: str) -> Cap:
        return self.now[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.now)

    def __len__(self) -> int:
        return len(self.now)

    def echoes(self, spec: LimitSpec, cap: Cap) -> bool:
        """Whether `cap` is that of the wider limit, to which an unset one was lowered: it says nothing of its own."""
        return spec.within is not None and spec.name not in self._given and cap == self.now[spec.within]

    def raise_to(self, limits: Limits) -> None:
        """Raise the caps that `limits` gives, and with them those that follow or lie within them.

        Raises `InvalidLimit` for one that would fall, and for one above the wider cap that contains it.
        """
        for name, cap in limits.given():
            if cap < self.now[name]:
                unit = SPECS[name].unit
                raise InvalidLimit(
                    f"{name} can only be raised: it is {format_amount(unit, self.now[name])}, "
                    f"not more than {format_amount(unit, cap)}"
                )
        given = self._given | dict(limits.given())
        self.now = resolve(given)
        self._given = given


_DEFAULTS: dict[str, Cap] = {name: spec.default for name, spec in SPECS.items() if spec.default is not None}


def resolve(given: Mapping[str, Cap]) -> dict[str, Cap]:
    """Return a cap for every limit. Raises `InvalidLimit` for one that lies above the wider one that contains it."""
    caps = {**_DEFAULTS, **given}
    for name, spec in SPECS.items():
        if spec.widens and name in given and spec.within is not None and spec.within not in given:
            caps[spec.within] = max(caps[spec.within], caps[name])
    for name, spec in SPECS.items():
        if name not in caps:
            assert spec.follows is not None
            caps[name] = caps[spec.follows]
    for name, spec in SPECS.items():
        if spec.within is not None and caps[name] > caps[spec.within]:
            if name in given:
                raise _too_wide(spec, caps[name], caps[spec.within])
            caps[name] = caps[spec.within]
    return caps


def _too_wide(spec: LimitSpec, cap: Cap, wide: Cap) -> InvalidLimit:
    return InvalidLimit(
        f"{spec.name} is {format_amount(spec.unit, cap)}, above {spec.within}, which is "
        f"{format_amount(spec.unit, wide)}: raise {spec.within} too"
    )


#: What a VM gets that asks for nothing; resolved once, as most VMs do.
DEFAULT_LIMITS = Limits()
_DEFAULT_CAPS = resolve({})
