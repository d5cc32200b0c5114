"""The process-wide registry: how much of the host all VMs of this process may use together, and how much they do.

What is not configured is derived; a quarter of what the operating system allows is left to the embedding program.
"""

import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

from agentvm.errors import HostLimit, InvalidLimit
from agentvm.limits.amount import format_amount
from agentvm.limits.announcer import Announcer, Listener
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS, SHARE_OF_VMS, HostLimits
from agentvm.limits.spec import Cap
from agentvm.limits.usage import UsageSnapshot

__all__ = ["HostCapacity", "Meter", "configure_host", "host_capacity", "host_usage"]

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
    return int(min(max(amount * SHARE_OF_VMS, least), most))


_DERIVED: dict[str, Callable[[], Cap]] = {
    "max_open_vms": lambda: _share(_memory_bytes() / _BYTES_PER_VM, 16),
    "max_running_processes": lambda: _share(_threads(), 4, 32_768),
    "max_computing_processes": _cores,
    "max_compile_jobs": _cores,
    "max_host_fds": lambda: _share(_resource_limit(resource.RLIMIT_NOFILE), 16),
    "max_resident_memory_bytes": lambda: _share(_memory_bytes(), 64 << 20, 1 << 50),
}


class HostCapacity(Announcer):
    """The process-wide gauges. Its methods may be called from any thread."""

    def __init__(self, limits: HostLimits) -> None:
        super().__init__()
        given, listener = dict(limits.given()), Listener(self)
        #: Guards every gauge but that of max_computing_processes, which the run slots guard. Reentrant: a VM that the
        #: cyclic collector finds gives its place back on whatever thread that runs.
        self.lock = threading.RLock()
        self._gauges = {
            name: Gauge(spec, given.get(name, self._default(name)), listener) for name, spec in HOST_SPECS.items()
        }
        self._running: set[object] = set()  # guarded by lock; bounded by max_running_processes
        self._managers: dict[str, Callable[[Cap], None]] = {}  # one for a limit at most

    @staticmethod
    def _default(name: str) -> Cap:
        default = HOST_SPECS[name].default
        return default if default is not None else _DERIVED[name]()

    def gauge(self, name: str) -> Gauge:
        """Return a gauge. Whoever changes it holds `lock`."""
        return self._gauges[name]

    def cap(self, name: str) -> Cap:
        """Return a cap."""
        return self._gauges[name].cap

    def hold_place(self, owner: object) -> None:
        """Take a place among max_running_processes, unless `owner` has one. Raises `HostLimit` (EAGAIN)."""
        gauge = self._gauges["max_running_processes"]
        with self.lock:
            if owner not in self._running and len(self._running) >= gauge.cap:
                gauge.refuse(len(self._running) + 1)
                raise _refusal(gauge, len(self._running) + 1)
            self._running.add(owner)
            gauge.set(len(self._running))

    def give_place_back(self, owner: object) -> None:
        """Idempotent, so that it can be made again if Ctrl-C interrupts it."""
        with self.lock:
            self._running.discard(owner)
            self._gauges["max_running_processes"].set(len(self._running))

    def place_owners(self) -> list[object]:
        """Return who has a place among max_running_processes now."""
        with self.lock:
            return list(self._running)

    def acquire(self, name: str, amount: int = 1) -> None:
        """Take `amount` of a limit. Raises `HostLimit`, which a guest sees as that limit's errno."""
        gauge = self._gauges[name]
        with self.lock:
            if gauge.try_acquire(amount):
                return
        raise _refusal(gauge, gauge.used + amount)

    def release(self, name: str, amount: int = 1) -> None:
        """Give `amount` back."""
        with self.lock:
            self._gauges[name].release(amount)

    def note(self, name: str, used: Cap) -> None:
        """Note how much of a limit is used now; its cap is the caller's business."""
        with self.lock:
            self._gauges[name].set(used)

    def refuse(self, name: str, observed: Cap) -> None:
        """Note that an amount was refused, had to wait, or made others give way."""
        with self.lock:
            self._gauges[name].refuse(observed)

    def meter(self, name: str) -> "Meter":
        """Return a limit as somebody counts it who knows nothing of limits."""
        return Meter(self, name)

    def manage(self, name: str, set_cap: Callable[[Cap], None]) -> None:
        """Have changes of a cap made by `set_cap`, which also does what follows from them."""
        self._managers[name] = set_cap

    def configure(self, limits: HostLimits) -> None:
        """Set caps. A cap below what is held now refuses more until enough was given back."""
        for name, cap in limits.given():
            set_cap = self._managers.get(name)
            if set_cap is not None:
                set_cap(cap)
                continue
            with self.lock:
                self._gauges[name].set_cap(cap)

    def usage(self) -> UsageSnapshot:
        """Return how far every process-wide limit is used now."""
        with self.lock:
            caps = {name: gauge.cap for name, gauge in self._gauges.items()}
            counted = [(name, (g.used, g.peak, g.refused, g.warnings)) for name, g in self._gauges.items()]
            return UsageSnapshot(HOST_SPECS, caps, counted)


class Meter:
    """One process-wide limit; see `HostCapacity.meter`."""

    __slots__ = ("_capacity", "_name")

    def __init__(self, capacity: HostCapacity, name: str) -> None:
        self._capacity = capacity
        self._name = name

    @property
    def cap(self) -> Cap:
        """The cap in force."""
        return self._capacity.cap(self._name)

    def set(self, used: Cap) -> None:
        """Note how much is used now."""
        self._capacity.note(self._name, used)

    def refuse(self, observed: Cap) -> None:
        """Note that an amount was refused."""
        self._capacity.refuse(self._name, observed)


def _refusal(gauge: Gauge, observed: Cap) -> HostLimit:
    spec = gauge.spec
    return HostLimit(
        f"{spec.name}: {format_amount(spec.unit, observed)} asked by all VMs of this process, "
        f"{format_amount(spec.unit, gauge.cap)} allowed; raise it with {spec.raised(gauge.cap, observed)}",
        errno=spec.errno.name if spec.errno is not None else None,
        limit=spec.name,
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
    changes, capacity = HostLimits(**values), host_capacity()
    if limits is not None:
        capacity.configure(limits)
    capacity.configure(changes)


def host_usage() -> UsageSnapshot:
    """Return how far every process-wide limit is used now, and at most so far.

    What is said of the cache on disk is as of the last look at its directory: a module stored, or `cache_info`.
    """
    return host_capacity().usage()
