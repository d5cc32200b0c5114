"""What a limit is: its kind, its scope, its unit, and the declaration from which everything else is derived."""

from dataclasses import dataclass
from enum import Enum

from agentvm.errno import Errno

__all__ = ["UNBOUNDED", "UNLIMITED", "Cap", "Kind", "LimitSpec", "Scope", "Unit"]

#: A cap in force: an integer (seconds may be fractions), or `UNLIMITED`.
Cap = int | float

UNLIMITED = float("inf")

#: The largest cap that every door can carry exactly, JSON included.
UNBOUNDED = 2**53 - 1


class Kind(Enum):
    """How a limit is used up."""

    GAUGE = "gauge"  # held and released
    BUDGET = "budget"  # only spent
    CEILING = "ceiling"  # asked anew by each call
    RATE = "rate"  # refilled as time passes


class Scope(Enum):
    """What one cap covers."""

    CALL = "call"
    FILE = "file"
    MODULE = "module"
    COMPILE = "compile"
    PROCESS = "process"
    VM = "VM"
    HOST = "all VMs"


class Unit(Enum):
    """What a cap counts."""

    BYTES = "bytes"
    COUNT = "count"
    FUEL = "fuel"
    PERCENT = "percent"
    SECONDS = "seconds"


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One declared limit. `follows` names the limit whose cap this one has by default; `within` names the wider one
    to which an unset default is lowered; `errno` is what the guest gets, None where that is no errno (`guest_sees`
    says what then)."""

    name: str
    kind: Kind
    scope: Scope
    unit: Unit
    default: Cap | None
    errno: Errno | None
    guest_sees: str
    summary: str
    follows: str | None = None
    within: str | None = None
    aliases: tuple[str, ...] = ()
    minimum: Cap = 0
    maximum: Cap = UNBOUNDED
    warn_percent: int = 80
    rearm_percent: int = 50

    @property
    def can_be_unlimited(self) -> bool:
        """Whether "none" is a value: not for what the host must reserve or loop over."""
        return self.maximum == UNBOUNDED

    @property
    def flag(self) -> str:
        """The command-line spelling: `--max-open-fds`."""
        return "--" + self.name.replace("_", "-")

    def setting(self, value: Cap | str) -> str:
        """Say how an operator raises this cap to `value`, in Python and on the command line."""
        return f"Limits({self.name}={value!r}) or --limit {self.name}={value}"
