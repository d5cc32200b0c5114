"""What a limit is: its kind, its scope, its unit, and the declaration from which everything else is derived."""

from dataclasses import dataclass
from enum import Enum

from agentvm.errno import Errno

__all__ = ["UNBOUNDED", "UNLIMITED", "Alias", "Cap", "Kind", "LimitSpec", "Past", "Scope", "SettingSpec", "Unit"]

#: A cap in force: an integer (seconds and rates may be fractions), or `UNLIMITED`.
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
    BYTES_PER_SECOND = "bytes a second"
    PER_SECOND = "count a second"
    PER_HOUR = "count an hour"


class Past(Enum):
    """What happens past the cap. Only a refusal is worth a person's attention by itself; see docs/rationale.md,
    "Why a full queue is no warning"."""

    REFUSED = "refused"  # an errno, a typed error, or the end of the process
    WAITS = "waits"  # the producer waits until there is room
    SLOWER = "slower"  # time is added
    EVICTED = "evicted"  # what was used longest ago makes room


@dataclass(frozen=True, slots=True)
class Alias:
    """Another spelling of a limit, whose plain numbers count `factor` units each: `max_memory_mb` counts MiB.

    `is_flag` makes it a flag of the command line too. Limits that share an alias are set together by it: `memory`.
    """

    name: str
    factor: int | float = 1
    is_flag: bool = False

    @property
    def flag(self) -> str:
        """The command-line spelling: `--pids-limit`."""
        return "--" + self.name.replace("_", "-")


@dataclass(frozen=True, slots=True)
class LimitSpec:
    """One declared limit. `follows` names the limit whose cap this one has by default; `within` names the wider one
    to which an unset default is lowered, or which an explicit value raises where it `widens` and that one is unset;
    `errno` is what the guest gets, None where that is no errno (`guest_sees` says what then)."""

    name: str
    kind: Kind
    scope: Scope
    unit: Unit
    default: Cap | None
    errno: Errno | None
    guest_sees: str
    summary: str
    past: Past = Past.REFUSED
    follows: str | None = None
    within: str | None = None
    widens: bool = False
    aliases: tuple[Alias, ...] = ()
    minimum: Cap = 0
    maximum: Cap = UNBOUNDED

    @property
    def can_be_unlimited(self) -> bool:
        """Whether "none" is a value: not for what the host must reserve or loop over."""
        return self.maximum == UNBOUNDED or self.default == UNLIMITED

    @property
    def can_be_tightened(self) -> bool:
        """Whether one process can be given a lower cap than the VM's others: `vm.run(..., limits=...)`."""
        return self.scope is Scope.PROCESS and self.kind in (Kind.GAUGE, Kind.BUDGET)

    @property
    def flag(self) -> str:
        """The command-line spelling: `--max-open-fds`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment's spelling: `AGENTVM_LIMIT_MAX_OPEN_FDS`."""
        return "AGENTVM_LIMIT_" + self.name.upper()

    def setting(self, value: Cap | str) -> str:
        """Say how an operator raises this cap to `value`, in Python and on the command line."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if self.scope is Scope.HOST:
            return f"configure_host({self.name}={value!r}) or --limit {self.name}={value}"
        return f"Limits({self.name}={value!r}) or --limit {self.name}={value}"

    def raised(self, capacity: Cap, observed: Cap = 0) -> str:
        """Say how an operator doubles this cap, or more where `observed` asks for it; at most to its maximum."""
        return self.setting(min(max(capacity * 2, observed), self.maximum))


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """One declared setting of the limits: a choice of words, or a whole number in a range."""

    name: str
    default: str | int
    summary: str
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0

    @property
    def flag(self) -> str:
        """The command-line spelling: `--on-output-full`."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment's spelling: `AGENTVM_LIMIT_ON_OUTPUT_FULL`."""
        return "AGENTVM_LIMIT_" + self.name.upper()

    @property
    def accepts(self) -> str:
        """The values that it takes, in words."""
        return " or ".join(map(repr, self.choices)) if self.choices else f"{self.minimum} to {self.maximum}"
