"""The process-wide limits: what all VMs of one host process share. Declared like those of a VM, in `catalogue`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentvm.errno import Errno
from agentvm.limits.amount import Amount, parse_amount
from agentvm.limits.declare import GIB, MIB, collect, limit
from agentvm.limits.spec import Cap, Kind, LimitSpec, Past, Scope, Unit

__all__ = ["HOST_SPECS", "SHARE_OF_VMS", "HostLimits"]

#: What all VMs together get of what the operating system allows; the rest is the embedding program's.
SHARE_OF_VMS = 0.75


@dataclass(frozen=True, kw_only=True)
class HostLimits:
    """The caps of the host process, in the spellings that `Limits` takes. What is not given is derived at the first
    use from what the host allows, a quarter left to the embedding program. Raises `InvalidLimit`."""

    max_open_vms: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, None, None, "typed error HostLimit to the operator",
        "VMs open at once.", minimum=1,
    )  # fmt: skip
    max_running_processes: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, None, Errno.EAGAIN, "spawn: EAGAIN",
        "Processes of all VMs; each has a thread of the host.", minimum=1,
    )  # fmt: skip
    max_computing_processes: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, None, None, "waits for its turn",
        "Processes of all VMs that compute at the same time; by default one for each core.", minimum=1, past=Past.WAITS,
    )  # fmt: skip
    max_host_fds: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, None, Errno.ENFILE, "ENFILE",
        "Descriptors of the host held by all VMs, for mounts and module images.", minimum=8,
    )  # fmt: skip
    max_resident_memory_bytes: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.BYTES, None, Errno.ENOMEM, "memory.grow -1 (ENOMEM)",
        "Linear memories, tables and GC heaps of all VMs.", minimum=1 * MIB,
    )  # fmt: skip
    max_compile_jobs: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, None, None, "waits for its turn",
        "Modules compiled at the same time; by default one a core.", minimum=1, past=Past.WAITS,
    )  # fmt: skip
    max_cached_module_bytes: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.BYTES, 512 * MIB, None, "nothing; the module used longest ago is dropped",
        "Compiled modules kept in memory, for programs that start again.", past=Past.EVICTED,
    )  # fmt: skip
    max_cached_modules: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, 256, None, "nothing; the module used longest ago is dropped",
        "Compiled modules kept in memory, by their number; each may hold a descriptor.", past=Past.EVICTED,
        maximum=65_536,
    )  # fmt: skip
    max_known_module_files: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, 1024, None, "nothing; the file met longest ago is read again",
        "Files of modules whose contents are known by their identity, for programs that start again.",
        past=Past.EVICTED, minimum=1, maximum=1_000_000,
    )  # fmt: skip
    max_known_bad_modules: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, 256, None, "nothing; the module refused longest ago is looked at again",
        "Modules that are known to be no good, with the reason, so that none is looked at twice.",
        past=Past.EVICTED, minimum=1, maximum=65_536,
    )  # fmt: skip
    max_cache_bytes: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.BYTES, 4 * GIB, None, "nothing; the module used longest ago is removed",
        "Compiled modules on disk. One that is larger is not kept.", past=Past.EVICTED,
    )  # fmt: skip
    max_cache_files: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, 10_000, None, "nothing; the module used longest ago is removed",
        "Compiled modules on disk, by their number.", past=Past.EVICTED, minimum=1, maximum=1_000_000,
    )  # fmt: skip
    max_waiting_log_lines: Amount = limit(
        Kind.GAUGE, Scope.HOST, Unit.COUNT, 1000, None, "nothing; the line is lost, and counted",
        "Lines of the log about agentvm itself that wait until stderr takes them.", minimum=1, maximum=1_000_000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, spec in HOST_SPECS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_amount(spec, value))

    def given(self) -> Iterator[tuple[str, Cap]]:
        """Iterate over the limits that were set, by name."""
        for name in HOST_SPECS:
            value = getattr(self, name)
            if value is not None:
                yield name, value


#: Every process-wide limit by its canonical name.
HOST_SPECS: Mapping[str, LimitSpec] = collect(HostLimits)
