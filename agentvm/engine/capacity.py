"""How much of the host all VMs of this process may use together: the process-wide caps, derived or configured.

A quarter of what the operating system allows is left to the embedding program.
"""

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

from agentvm.errors import HostLimit, InvalidLimit
from agentvm.limits.amount import format_amount
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS, HostLimits
from agentvm.limits.spec import Cap

__all__ = ["HostCapacity", "configure_host", "host_capacity"]

#: Mappings of a running process: up to three for a memory with an image, for up to two memories, and its stack.
_MAPS_PER_PROCESS = 8
#: What an idle VM may take of the host's memory.
_BYTES_PER_VM = 64 * 1024
_MOST = 1 << 20
_CGROUPS = Path("/sys/fs/cgroup")


def _number(path: Path) -> float:
    """Read one number from a file of the kernel; infinity if there is none."""
    try:
        return float(path.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return float("inf")


def _cgroup_numbers(name: str) -> float:
    """Return the lowest value of a cgroup file, from our own group up to the root."""
    lowest = _number(_CGROUPS / name)
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return lowest
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    group = _CGROUPS / own.lstrip("/")
    while group != _CGROUPS and _CGROUPS in group.parents:
        lowest = min(lowest, _number(group / name))
        group = group.parent
    return lowest


def _resource_limit(which: int) -> float:
    soft, _ = resource.getrlimit(which)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)


def _memory_bytes() -> float:
    pages = float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    return min(pages, _cgroup_numbers("memory.max"), _resource_limit(resource.RLIMIT_AS))


def _threads() -> float:
    return min(
        _resource_limit(getattr(resource, "RLIMIT_NPROC", resource.RLIMIT_NOFILE)),
        _cgroup_numbers("pids.max"),
        _number(Path("/proc/sys/kernel/threads-max")),
        _number(Path("/proc/sys/vm/max_map_count")) / _MAPS_PER_PROCESS,
    )


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _share(amount: float, least: int, most: int = _MOST) -> int:
    return int(min(max(amount * 0.75, least), most))


_DERIVED: dict[str, Callable[[], Cap]] = {
    "max_open_vms": lambda: _share(_memory_bytes() / _BYTES_PER_VM, 16),
    "max_running_processes": lambda: _share(_threads(), 4, 32_768),
    "max_computing_processes": _cores,
    "max_compile_jobs": _cores,
    "max_host_fds": lambda: _share(_resource_limit(resource.RLIMIT_NOFILE), 16),
    "max_resident_memory_bytes": lambda: _share(_memory_bytes(), 64 << 20, 1 << 50),
}


class HostCapacity:
    """The process-wide gauges. `acquire` and `release` may be called from any thread."""

    def __init__(self, limits: HostLimits) -> None:
        given = dict(limits.given())
        # Reentrant: a VM that the cyclic collector finds gives its place back on whatever thread that runs.
        self._lock = threading.RLock()
        self._gauges = {name: Gauge(spec, given.get(name, self._default(name))) for name, spec in HOST_SPECS.items()}
        self._running: set[object] = set()  # guarded by _lock; bounded by max_running_processes
        #: Called with the new cap when max_computing_processes changes.
        self.on_cores: Callable[[int], None] = lambda _cores: None

    @staticmethod
    def _default(name: str) -> Cap:
        default = HOST_SPECS[name].default
        return default if default is not None else _DERIVED[name]()

    def gauge(self, name: str) -> Gauge:
        """Return a gauge, to read it. max_resident_memory_bytes belongs to the memory ledger, under its lock."""
        return self._gauges[name]

    def cap(self, name: str) -> Cap:
        """Return a cap."""
        return self._gauges[name].cap

    def hold_place(self, owner: object) -> None:
        """Take a place among max_running_processes, unless `owner` has one. Raises `HostLimit` (EAGAIN)."""
        gauge = self._gauges["max_running_processes"]
        with self._lock:
            if owner not in self._running and len(self._running) >= gauge.cap:
                gauge.refused += 1
                raise _refusal(gauge, len(self._running) + 1)
            self._running.add(owner)
            gauge.used = len(self._running)
            gauge.peak = max(gauge.peak, gauge.used)

    def give_place_back(self, owner: object) -> None:
        """Idempotent, so that it can be made again if Ctrl-C interrupts it."""
        with self._lock:
            self._running.discard(owner)
            self._gauges["max_running_processes"].used = len(self._running)

    def place_owners(self) -> list[object]:
        """Return who has a place among max_running_processes now."""
        with self._lock:
            return list(self._running)

    def acquire(self, name: str, amount: int = 1) -> None:
        """Take `amount` of a limit. Raises `HostLimit`, which a guest sees as that limit's errno."""
        gauge = self._gauges[name]
        with self._lock:
            if gauge.try_acquire(amount):
                return
        raise _refusal(gauge, gauge.used + amount)

    def release(self, name: str, amount: int = 1) -> None:
        """Give `amount` back."""
        with self._lock:
            self._gauges[name].release(amount)

    def configure(self, limits: HostLimits) -> None:
        """Set caps. A cap below what is held now refuses more until enough was given back."""
        for name, cap in limits.given():
            self._gauges[name].cap = cap
            if name == "max_computing_processes":
                self.on_cores(int(min(cap, _MOST)))

    def statistics(self) -> dict[str, tuple[Cap, Cap, Cap, int]]:
        """Return use, peak, cap and refusals of every limit, by name."""
        return {name: (g.used, g.peak, g.cap, g.refused) for name, g in self._gauges.items()}


def _refusal(gauge: Gauge, observed: Cap) -> HostLimit:
    name, unit = gauge.spec.name, gauge.spec.unit
    return HostLimit(
        f"{name}: {format_amount(unit, observed)} asked by all VMs of this process, "
        f"{format_amount(unit, gauge.cap)} allowed; raise it with configure_host({name}=...)",
        limit=name,
        observed=observed,
        cap=gauge.cap,
    )


_creating = threading.Lock()
_capacity: HostCapacity | None = None


def host_capacity() -> HostCapacity:
    """Return the capacity of this process; derived from the host when first asked for."""
    global _capacity  # noqa: PLW0603 - there is one host
    if _capacity is None:
        with _creating:
            if _capacity is None:
                _capacity = HostCapacity(HostLimits())
    return _capacity


def configure_host(limits: HostLimits | None = None, **values: int | float | str) -> None:
    """Set process-wide caps, for instance `configure_host(max_running_processes=100)`. Raises `InvalidLimit`."""
    unknown = sorted(values.keys() - HOST_SPECS.keys())
    if unknown:
        raise InvalidLimit(f"there is no process-wide limit {unknown[0]!r}; there are {', '.join(HOST_SPECS)}")
    capacity = host_capacity()
    if limits is not None:
        capacity.configure(limits)
    capacity.configure(HostLimits(**values))
