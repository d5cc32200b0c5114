"""What the host process as a whole may use, derived from the caps of the VM in it: the outer wall. Pure.

The wall is for what escapes the limits, so nothing that they allow may ever reach it: see docs/rationale.md,
"Why the outer wall is wider than the limits". Formats: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agentvm.host.block_device import BlockDevice
from agentvm.limits.declare import MIB
from agentvm.limits.host_catalogue import HOST_SPECS, SHARE_OF_VMS
from agentvm.limits.spec import UNLIMITED, Cap

__all__ = [
    "CPU_PERIOD_MICROSECONDS",
    "HOST_CPU_PERCENT",
    "HOST_MEMORY_BYTES",
    "HOST_TASKS",
    "TASKS_PER_CORE",
    "TASKS_PER_PROCESS",
    "NotEnforced",
    "OuterWall",
    "WallFile",
    "derive_wall",
    "wall_files",
]

#: The interpreter, the engine with its code, the compiler process while it is idle, and buffers of calls under way.
HOST_MEMORY_BYTES = 512 * MIB
#: What the host holds for a process beyond what its caps name: the interpreter's frames, the thread's own stack.
_BYTES_PER_PROCESS = 1 * MIB
#: An overflow's notes on a stack, of it; see docs/rationale.md, "Why a large stack sets the allocator".
_NOTES_SHARE = 1 / 3
#: The main thread, the ticker, the deliverer of events, threads that hash modules, and some for the embedding program.
HOST_TASKS = 64
#: A process's runner, and a thread for each of its standard streams.
TASKS_PER_PROCESS = 4
#: Each core may compile a module, on several threads.
TASKS_PER_CORE = 16
#: What the host itself may compute, in percent of one core, so that it can always kill a guest that escapes its cap.
HOST_CPU_PERCENT = 20
#: Short, because a group that used its share stands still until the period ends, its killer too.
CPU_PERIOD_MICROSECONDS = 20_000
#: From here on a number is as good as none, and the kernel does not take it for sure.
_MOST_BYTES, _MOST_TASKS, _MOST_PERCENT = 1 << 60, 1 << 22, 1 << 20
_MEMORY_FACTORS = (
    "max_memory_bytes", "max_filesystem_bytes", "max_processes", "max_log_bytes", "max_wasm_stack_bytes",
    "max_argv_bytes", "max_env_bytes", "max_open_fds", "max_pipe_bytes", "max_compile_memory_bytes",
    "max_cached_module_bytes",
)  # fmt: skip
_HOST_DEFAULTS = {name: spec.default for name, spec in HOST_SPECS.items() if spec.default is not None}
#: The keys of a line of io.max, and the cap that each stands for.
_DISK_CAPS = {
    "rbps": "max_disk_read_bytes_per_second",
    "wbps": "max_disk_write_bytes_per_second",
    "riops": "max_disk_read_operations_per_second",
    "wiops": "max_disk_write_operations_per_second",
}


@dataclass(frozen=True, slots=True)
class NotEnforced:
    """A cap that the host does not enforce, and why. The VM itself still does."""

    cap: str
    why: str


@dataclass(frozen=True, slots=True)
class OuterWall:
    """What one process may use, its children included; None where nothing is set.

    `memory_parts` says what its memory is for, in bytes; `disk` has the keys of io.max.
    """

    memory_bytes: int | None
    memory_parts: Mapping[str, int]
    cpu_percent: int | None
    tasks: int | None
    disk: Mapping[str, int]
    not_enforced: tuple[NotEnforced, ...] = ()

    @property
    def disk_caps(self) -> tuple[str, ...]:
        """The caps for which `disk` stands."""
        return tuple(_DISK_CAPS[key] for key in self.disk)


@dataclass(frozen=True, slots=True)
class WallFile:
    """One write into a cgroup: which file of which controller, and the caps for which it stands.

    `may_be_missing` is for files that kernels have only with certain features.
    """

    controller: str
    name: str
    value: str
    caps: tuple[str, ...]
    may_be_missing: bool = False


def derive_wall(caps: Mapping[str, Cap], *, cores: int) -> OuterWall:
    """Return the wall around a process that holds one VM with `caps`, on a machine with that many cores.

    `caps` may have those of the host process too; what is not there has its default.
    """
    parts, why = _memory_parts({**_HOST_DEFAULTS, **caps})
    percent = caps["max_cpu_percent"] + HOST_CPU_PERCENT
    tasks = caps["max_processes"] * TASKS_PER_PROCESS + HOST_TASKS + cores * TASKS_PER_CORE
    return OuterWall(
        memory_bytes=-(-sum(parts.values()) // MIB) * MIB or None,
        memory_parts=parts,
        cpu_percent=int(percent) if percent < _MOST_PERCENT else None,
        tasks=int(tasks) if tasks < _MOST_TASKS else None,
        disk={key: max(1, int(caps[cap])) for key, cap in _DISK_CAPS.items() if caps[cap] != UNLIMITED},
        not_enforced=(NotEnforced("max_memory_bytes", why),) if why else (),
    )


def _memory_parts(caps: Mapping[str, Cap]) -> tuple[dict[str, int], str]:
    """Return what the process may hold at most, by what it is for; or nothing, and why there is no such sum."""
    if caps["max_memory_bytes"] == UNLIMITED:
        return {}, ""
    endless = [name for name in _MEMORY_FACTORS if caps[name] == UNLIMITED]
    if endless:
        return {}, f"memory.max is derived from {' and '.join(endless)} too, without a limit now: set it"
    factors = {name: int(caps[name]) for name in _MEMORY_FACTORS}
    memory = factors["max_memory_bytes"]
    per_process = ("max_log_bytes", "max_wasm_stack_bytes", "max_argv_bytes", "max_env_bytes")
    parts = {
        "guests' memories": memory,
        "files in memory": factors["max_filesystem_bytes"],
        "output, stacks and arguments of processes": factors["max_processes"]
        * (sum(factors[name] for name in per_process) + _BYTES_PER_PROCESS)
        + int(factors["max_processes"] * factors["max_wasm_stack_bytes"] * _NOTES_SHARE),
        "pipes and sockets": factors["max_open_fds"] * factors["max_pipe_bytes"],
        "compiling a module": factors["max_compile_memory_bytes"],
        "compiled modules": factors["max_cached_module_bytes"],
        "the host process": HOST_MEMORY_BYTES,
    }
    # The engine leaves a share of what it finds in memory.max to the embedding program, and would refuse guests.
    parts["the embedding program"] = max(0, int(memory / SHARE_OF_VMS) - sum(parts.values()))
    if sum(parts.values()) >= _MOST_BYTES:
        return {}, "the caps that memory.max is derived from add up to more than any machine has: lower them"
    return parts, ""


def wall_files(wall: OuterWall, devices: Sequence[BlockDevice]) -> tuple[WallFile, ...]:
    """Return what to write into the files of a cgroup, in this order. Disk rates apply to each of `devices`."""
    files = []
    if wall.memory_bytes is not None:
        caps = ("max_memory_bytes",)
        files += [
            WallFile("memory", "memory.max", str(wall.memory_bytes), caps),
            WallFile("memory", "memory.swap.max", "0", caps, may_be_missing=True),
            WallFile("memory", "memory.oom.group", "1", caps, may_be_missing=True),
        ]
    if wall.cpu_percent is not None:
        quota = wall.cpu_percent * CPU_PERIOD_MICROSECONDS // 100
        files.append(WallFile("cpu", "cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}", ("max_cpu_percent",)))
    if wall.tasks is not None:
        files.append(WallFile("pids", "pids.max", str(wall.tasks), ("max_processes",)))
    if wall.disk:
        rates = " ".join(f"{key}={rate}" for key, rate in wall.disk.items())
        files += [WallFile("io", "io.max", f"{device.number} {rates}", wall.disk_caps) for device in devices]
    return tuple(files)
