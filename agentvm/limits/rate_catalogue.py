"""The limits on rates: what a VM may use of the processor and the disk as time passes, and how often the host acts."""

from dataclasses import dataclass

from agentvm.limits.amount import Amount
from agentvm.limits.declare import limit
from agentvm.limits.spec import UNLIMITED, Alias, Kind, Past, Scope, Unit

__all__ = ["RateLimits"]

_SLOWER = "slower, never failed"


# `Limits` has the methods that a dataclass gets; making them here too would take as long as starting a VM.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class RateLimits:
    """The part of `Limits` that is about rates. Those of the disk take a bucket's shape too: see `Rate`."""

    max_cpu_percent: Amount = limit(
        Kind.RATE, Scope.VM, Unit.PERCENT, 100, None, _SLOWER,
        "CPU time of all processes together, in percent of one core.", past=Past.SLOWER,
        aliases=(Alias("cpus", 100, is_flag=True),), minimum=1,
    )  # fmt: skip
    max_disk_read_bytes_per_second: Amount = limit(
        Kind.RATE, Scope.VM, Unit.BYTES_PER_SECOND, UNLIMITED, None, _SLOWER,
        "Bytes read from files, in memory and on the host.", past=Past.SLOWER, minimum=1,
    )  # fmt: skip
    max_disk_write_bytes_per_second: Amount = limit(
        Kind.RATE, Scope.VM, Unit.BYTES_PER_SECOND, UNLIMITED, None, _SLOWER,
        "Bytes written to files, in memory and on the host.", past=Past.SLOWER, minimum=1,
    )  # fmt: skip
    max_disk_read_operations_per_second: Amount = limit(
        Kind.RATE, Scope.VM, Unit.PER_SECOND, UNLIMITED, None, _SLOWER,
        "Calls that read files, directories and their attributes.", past=Past.SLOWER, minimum=1,
    )  # fmt: skip
    max_disk_write_operations_per_second: Amount = limit(
        Kind.RATE, Scope.VM, Unit.PER_SECOND, UNLIMITED, None, _SLOWER,
        "Calls that change files, directories and their attributes.", past=Past.SLOWER, minimum=1,
    )  # fmt: skip
    max_actions_per_hour: Amount = limit(
        Kind.RATE, Scope.VM, Unit.PER_HOUR, UNLIMITED, None, "nothing; the host gets RateLimited with retry_after",
        "Programs started, and calls of loaded reactors, by the host.", minimum=1, maximum=100_000,
    )  # fmt: skip
