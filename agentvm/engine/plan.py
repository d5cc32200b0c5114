"""What a start of a process needs to know, and what can be known of it afterwards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentvm.engine.linked import Linked, TablePlan
    from agentvm.engine.process_time import ProcessTime

__all__ = ["ExecutionStatistics", "Plan"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a start needs to know, decided before the runner has it."""

    linked: "Linked"
    tables: "TablePlan"
    #: "_start" runs and ends; anything else is called if it is exported, and then the guest stays for `call`.
    entry: str
    time: "ProcessTime"


@dataclass(frozen=True, slots=True)
class ExecutionStatistics:
    """What one process used. CPU time includes its host calls; fuel is as of its last look at the clock."""

    cpu_time_ns: int
    wall_time_ns: int
    fuel_used: int
    memory_bytes: int
    peak_memory_bytes: int
    is_computing: bool
