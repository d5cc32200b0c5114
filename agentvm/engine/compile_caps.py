"""What one compilation may take, and what it took. Apart from the compiler, which most programs never load."""

from typing import NamedTuple

from agentvm.limits.spec import Cap

__all__ = ["CompileCaps", "CompileCost"]


class CompileCaps(NamedTuple):
    """`seconds` of CPU time, and of wall time from the start; `memory_bytes` of address space. `seconds_limit` is the
    name of the cap on time."""

    seconds: Cap
    memory_bytes: Cap
    seconds_limit: str = "max_compile_seconds"

    def cover(self, other: "CompileCaps") -> bool:
        """Whether what fails under these caps fails under `other` too, and for the same limit."""
        fits = other.seconds <= self.seconds and other.memory_bytes <= self.memory_bytes
        return fits and other.seconds_limit == self.seconds_limit


class CompileCost(NamedTuple):
    """Times in seconds, and the most address space; 0 where that is not known, as for a compilation that failed."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int = 0

    @property
    def seconds(self) -> float:
        """What the cap on time bounds: the longer of the two."""
        return max(self.cpu_seconds, self.wall_seconds)
