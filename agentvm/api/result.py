"""What a run came to: how it ended, what it printed, what it used."""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass, field

from agentvm.errors import GuestFailed
from agentvm.kernel.captured import Gap
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.usage import LimitUsage, UsageSnapshot

__all__ = ["Gap", "Result", "Usage", "text_of"]

_LIMIT = SPECS["max_log_bytes"]


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

    `stdout` and `stderr` are what was captured, and nothing else. Where that is not all that the program printed, the
    result is `truncated`: `stdout_gap` and `stderr_gap` say where bytes are missing and how many were dropped, and the
    texts have a line there that says so.
    """

    exit_code: int | None
    signal: Signal | None
    stdout: bytes
    stderr: bytes
    stdout_gap: Gap | None
    stderr_gap: Gap | None
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
    def truncated(self) -> bool:
        """Whether the program printed more than was kept."""
        return self.stdout_gap is not None or self.stderr_gap is not None

    @property
    def kept_bytes(self) -> int:
        """How much output was kept."""
        return len(self.stdout) + len(self.stderr)

    @property
    def dropped_bytes(self) -> int:
        """How much output was dropped (`on_output_full="discard"`). Where the program got ENOSPC instead, nothing."""
        return sum(gap.dropped_bytes for gap in (self.stdout_gap, self.stderr_gap) if gap is not None)

    @property
    def stdout_text(self) -> str:
        """`stdout` as text; what is not UTF-8 is replaced, and what is missing is marked."""
        return text_of(self.stdout, self.stdout_gap)

    @property
    def stderr_text(self) -> str:
        """`stderr` as text; what is not UTF-8 is replaced, and what is missing is marked."""
        return text_of(self.stderr, self.stderr_gap)

    def describe(self) -> str:
        """Say in one sentence how the program ended, what raises the limit that ended it, and whether output lacks."""
        return self._ending() + self._missing()

    def _ending(self) -> str:
        if self.cause.kind is CauseKind.EXIT:
            return f"exited with code {self.exit_code}"
        signal = f" ({self.signal.name})" if self.signal is not None else ""
        hint = f"; raise it with {self.cause.setting}" if self.cause.setting else ""
        return f"ended by {self.cause.kind.value.replace('_', ' ')}{signal}: {self.cause.message}{hint}"

    def _missing(self) -> str:
        if not self.truncated:
            return ""
        kept, dropped = self.kept_bytes, self.dropped_bytes
        rest = f"{dropped:,} bytes were dropped" if dropped else "the rest was refused with ENOSPC"
        return (
            f"; its output is truncated: {format_amount(_LIMIT.unit, kept)} kept ({_LIMIT.name}), {rest}; "
            f"raise it with {_LIMIT.raised(kept, kept + dropped)}"
        )

    def check(self) -> "Result":
        """Return this result if the program exited with 0; else raise `GuestFailed`, which carries it."""
        if self.ok:
            return self
        tail = self.stderr_text[-2000:].rstrip()
        raise GuestFailed(f"the program {self.describe()}" + (f"\n{tail}" if tail else ""), result=self)


def text_of(data: bytes, gap: Gap | None, errors: str = "replace") -> str:
    """Return captured output as text, with a line where something is missing.

    A character of which the gap took a part is left out. Raises UnicodeDecodeError if `errors` is "strict" and the rest
    is not UTF-8.
    """
    if gap is None:
        return data.decode(errors=errors)
    head = getincrementaldecoder("utf-8")(errors).decode(data[: gap.at])
    tail = data[gap.at :]
    start = next((at for at in range(min(4, len(tail))) if tail[at] & 0xC0 != 0x80), 0)
    what = f"{gap.dropped_bytes:,} bytes dropped" if gap.dropped_bytes else f"output refused: {_LIMIT.name}"
    line_end = "" if not head or head.endswith("\n") else "\n"
    return f"{head}{line_end}[... {what} ...]\n{tail[start:].decode(errors=errors)}"
