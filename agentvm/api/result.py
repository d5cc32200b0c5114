"""What a run came to: how it ended, what it printed, what it used."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from agentvm.errors import GuestFailed
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.limits.registry import LimitUsage, UsageSnapshot

__all__ = ["Result", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used: of every limit, and by the processes as such. Times in seconds, sizes in bytes."""

    snapshot: UsageSnapshot = field(repr=False)
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    fuel: int = 0
    peak_memory_bytes: int = 0
    compile_seconds: float = 0.0

    @property
    def limits(self) -> tuple[LimitUsage, ...]:
        """Every limit, in the order of the catalogue."""
        return self.snapshot.limits

    def __getitem__(self, name: str) -> LimitUsage:
        """Return one limit's usage by name."""
        return self.snapshot[name]

    def __iter__(self) -> Iterator[LimitUsage]:
        return iter(self.limits)


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended. `exit_code` is None if a signal ended it, `signal` is None if it exited.

    `stdout` and `stderr` are what was captured; `truncated` says that it printed more than was kept.
    """

    exit_code: int | None
    signal: Signal | None
    stdout: bytes
    stderr: bytes
    truncated: bool
    cause: Cause
    usage: Usage

    @property
    def ok(self) -> bool:
        """Whether the program exited with 0."""
        return self.exit_code == 0

    @property
    def shell_code(self) -> int:
        """The status as a shell shows it: 128 + signal, or the low 8 bits of the exit code."""
        return 128 + self.signal if self.signal is not None else (self.exit_code or 0) & 0xFF

    @property
    def stdout_text(self) -> str:
        """`stdout` as text; what is not UTF-8 is replaced."""
        return self.stdout.decode(errors="replace")

    @property
    def stderr_text(self) -> str:
        """`stderr` as text; what is not UTF-8 is replaced."""
        return self.stderr.decode(errors="replace")

    def describe(self) -> str:
        """Say in one sentence how the program ended, and what raises the limit that ended it."""
        if self.cause.kind is CauseKind.EXIT:
            return f"exited with code {self.exit_code}"
        signal = f" ({self.signal.name})" if self.signal is not None else ""
        hint = f"; raise it with {self.cause.setting}" if self.cause.setting else ""
        return f"ended by {self.cause.kind.value.replace('_', ' ')}{signal}: {self.cause.message}{hint}"

    def check(self) -> "Result":
        """Return this result if the program exited with 0; else raise `GuestFailed`, which carries it."""
        if self.ok:
            return self
        tail = self.stderr_text[-2000:].rstrip()
        raise GuestFailed(f"the program {self.describe()}" + (f"\n{tail}" if tail else ""), result=self)
