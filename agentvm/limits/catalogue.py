"""The catalogue: every limit of a VM, declared once, and the settings of what happens at them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentvm.errno import Errno
from agentvm.errors import InvalidLimit
from agentvm.limits.amount import Amount, parse_amount, parse_setting
from agentvm.limits.call_catalogue import CallLimits
from agentvm.limits.declare import KIB, MIB, collect, collect_settings, limit, mib, milliseconds, setting
from agentvm.limits.module_catalogue import ModuleLimits
from agentvm.limits.object_catalogue import ObjectLimits
from agentvm.limits.rate_catalogue import RateLimits
from agentvm.limits.spec import UNLIMITED, Alias, Cap, Kind, LimitSpec, Past, Scope, SettingSpec, Unit

__all__ = ["SETTINGS", "SPECS", "Limits", "Setting"]

#: What an operator may give for a setting; None means "the default".
Setting = int | str | None


@dataclass(frozen=True, kw_only=True)
class Limits(CallLimits, ModuleLimits, ObjectLimits, RateLimits):
    """The caps that an operator sets. Each field takes a number, text such as "64MiB" or "1.5s", "none" for no limit,
    or None (the default) for the secure default. Raises `InvalidLimit` for a value that the limit does not take."""

    max_processes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 64, Errno.EAGAIN, "spawn: EAGAIN",
        "Processes in the VM's table, zombies included.",
        aliases=("max_subprocesses", Alias("pids_limit", is_flag=True)), minimum=1,
    )  # fmt: skip
    max_open_fds_per_process: Amount = limit(
        Kind.GAUGE, Scope.PROCESS, Unit.COUNT, 256, Errno.EMFILE, "EMFILE",
        "Descriptors that one process may hold.", within="max_open_fds",
    )  # fmt: skip
    max_open_fds: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 1024, Errno.ENFILE, "ENFILE (EMFILE where the process is full too)",
        "Descriptors of all processes together.", aliases=("max_open_files",),
    )  # fmt: skip
    max_sockets: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 128, Errno.ENFILE, "socket, socketpair, accept: ENFILE",
        "Sockets of all processes, and connections of the host that wait to be accepted.",
    )  # fmt: skip
    max_filesystem_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, 64 * MIB, Errno.ENOSPC, "ENOSPC",
        "What the in-memory filesystem may hold: data, and a constant for each inode and name.",
    )  # fmt: skip
    max_inodes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 16_384, Errno.ENOSPC, "ENOSPC",
        "Files, directories and links in the in-memory filesystem.", aliases=("max_inode_count",),
    )  # fmt: skip
    max_temp_storage_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, None, Errno.ENOSPC, "ENOSPC",
        "The part of the in-memory filesystem that may lie under /tmp.", follows="max_filesystem_bytes",
        within="max_filesystem_bytes", widens=True, aliases=(mib("max_temp_storage_mb"),),
    )  # fmt: skip
    max_file_bytes: Amount = limit(
        Kind.CEILING, Scope.FILE, Unit.BYTES, UNLIMITED, Errno.EFBIG, "written up to the cap, then EFBIG",
        "Size of one file.",
    )  # fmt: skip
    max_host_write_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, None, Errno.ENOSPC, "ENOSPC",
        "Growth of files through read-write host mounts.", follows="max_filesystem_bytes",
    )  # fmt: skip
    max_host_inodes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 16_384, Errno.ENOSPC, "ENOSPC",
        "Files, directories and links made through read-write host mounts.",
    )  # fmt: skip
    max_log_bytes: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.BYTES, 16 * MIB, Errno.ENOSPC,
        "ENOSPC, or its middle is dropped; the result is marked truncated",
        "Captured standard output and error together.",
        aliases=(mib("max_log_size_mb"), "captured_output_limit_bytes", "max_captured_output_bytes"),
    )  # fmt: skip
    max_output_bytes: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.BYTES, UNLIMITED, Errno.ENOSPC, "ENOSPC",
        "Streamed output. Where it goes to a regular file, max_log_bytes is the default.",
    )  # fmt: skip
    max_memory_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, 512 * MIB, Errno.ENOMEM, "memory.grow -1 (ENOMEM)",
        "Linear memories, tables and GC heaps of all processes.",
        aliases=(mib("max_memory_mb"), Alias("memory", is_flag=True)), minimum=64 * KIB,
    )  # fmt: skip
    max_memory_per_process_bytes: Amount = limit(
        Kind.GAUGE, Scope.PROCESS, Unit.BYTES, 128 * MIB, Errno.ENOMEM, "memory.grow -1 (ENOMEM)",
        "Linear memories, tables and GC heaps of one process.", within="max_memory_bytes",
        aliases=(mib("max_memory_per_command_mb"), "max_wasm_memory_bytes", Alias("memory", is_flag=True)),
        minimum=64 * KIB,
    )  # fmt: skip
    max_wasm_stack_bytes: Amount = limit(
        Kind.CEILING, Scope.PROCESS, Unit.BYTES, 1 * MIB, None, "stack overflow: SIGSEGV",
        "The call stack of a process.", minimum=64 * KIB, maximum=256 * MIB,
    )  # fmt: skip
    max_fuel: Amount = limit(
        Kind.BUDGET, Scope.VM, Unit.FUEL, UNLIMITED, None, "SIGXCPU",
        "Instructions of all processes together, as wasmtime counts them.",
    )  # fmt: skip
    max_fuel_per_process: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.FUEL, 10**12, None, "SIGXCPU",
        "Instructions of one process, as wasmtime counts them.", within="max_fuel", aliases=("deterministic_fuel",),
    )  # fmt: skip
    max_cpu_time_seconds: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.SECONDS, 60, None, "SIGXCPU",
        "CPU time of one process, host calls included.", minimum=0.001,
        aliases=(milliseconds("active_cpu_time_limit_ms"), milliseconds("runner_cpu_time_limit_ms")),
    )  # fmt: skip
    max_wall_time_seconds: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.SECONDS, UNLIMITED, None, "SIGKILL",
        "Time from the start of a process to its end.", aliases=(milliseconds("wall_clock_limit_ms"),), minimum=0.001,
    )  # fmt: skip
    max_pipe_bytes: Amount = limit(
        Kind.GAUGE, Scope.FILE, Unit.BYTES, 64 * KIB, Errno.EAGAIN, "blocks; EAGAIN if non-blocking",
        "Bytes held in one standard stream or pipe between its two ends.", past=Past.WAITS, minimum=4096,
        maximum=16 * MIB,
    )  # fmt: skip
    max_listener_backlog: Amount = limit(
        Kind.GAUGE, Scope.FILE, Unit.COUNT, 16, Errno.EAGAIN, "connect waits; the host's is refused",
        "Connections that wait to be accepted on one listening socket.", minimum=1, maximum=4096,
    )  # fmt: skip
    max_waiting_calls: Amount = limit(
        Kind.GAUGE, Scope.FILE, Unit.COUNT, 64, None, "nothing; the host's call is refused",
        "Calls of the host that wait for one loaded reactor.", minimum=1, maximum=65_536,
    )  # fmt: skip

    on_output_full: Setting = setting(
        "error", "What happens when captured output reaches max_log_bytes: ENOSPC for the program, or its head and "
        "tail are kept and the rest is dropped and counted.", "error", "discard",
    )  # fmt: skip
    on_memory_full: Setting = setting(
        "enomem", "What happens when memory would pass its cap: the grow is refused with -1 (ENOMEM), or the process "
        "that asked is killed.", "enomem", "kill",
    )  # fmt: skip
    on_stall: Setting = setting(
        "warn", "What happens when every process waits for ever for the others: the operator is told, or they are "
        "killed, too.", "warn", "kill",
    )  # fmt: skip
    warn_percent: Setting = setting(
        80, "The share of a cap from which on its use is a warning, in percent.", minimum=1, maximum=100
    )
    rearm_percent: Setting = setting(
        50, "The share of a cap to which its use must fall before it can warn again, in percent.", maximum=99
    )

    def __post_init__(self) -> None:
        for name, spec in SPECS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_amount(spec, value))
        for name, declared in SETTINGS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_setting(declared, value))
        warn, rearm = (self.setting(name) for name in ("warn_percent", "rearm_percent"))
        if int(rearm) >= int(warn):
            raise InvalidLimit(f"rearm_percent is {rearm} and must be lower than warn_percent, which is {warn}")

    @classmethod
    def of(cls, values: Mapping[str, Amount]) -> "Limits":
        """Make limits from names as an operator may spell them. Raises `InvalidLimit` for an unknown one."""
        return cls.parse(values)

    @classmethod
    def parse(cls, given: Mapping[str, Any] | str | bytes) -> "Limits":
        """Make limits from a mapping, or from the text of a JSON object, in any spelling that is accepted.

        `max_open_fds`, `max-open-fds`, `maxOpenFds`, every alias (`max_memory_mb`, `cpus` ...), settings, `preset`, and
        the groups of agentOS: `{"limits": {"resources": {"maxProcesses": 64}}}`. See docs/configuration.md.

        Raises `InvalidLimit`: an unknown name, with the nearest one; a value that a limit does not take, with the range
        that it takes; one limit set twice under two names; a limit of agentOS that has no counterpart here.
        """
        from agentvm.limits.parse import parse_limits

        return parse_limits(given)

    @classmethod
    def preset(cls, name: str, **given: Amount) -> "Limits":
        """Return the caps for a kind of guest, "tiny" or "compiler", under those that are `given`.

        Raises `InvalidLimit`.
        """
        from agentvm.limits.parse import preset_limits

        return preset_limits(name, given)

    def replace(self, **changes: Amount) -> "Limits":
        """Return these limits with some changed."""
        return Limits.of({**dict(self.given()), **dict(self.settings_given()), **changes})

    def given(self) -> Iterator[tuple[str, Cap]]:
        """Iterate over the limits that were set, by name."""
        for name in SPECS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def settings_given(self) -> Iterator[tuple[str, str | int]]:
        """Iterate over the settings that were set, by name."""
        for name in SETTINGS:
            value = getattr(self, name)
            if value is not None:
                yield name, value

    def setting(self, name: str) -> str | int:
        """Return a setting, or its default."""
        value: str | int | None = getattr(self, name)
        return SETTINGS[name].default if value is None else value


#: Every limit by its canonical name, in the order of the catalogue.
SPECS: Mapping[str, LimitSpec] = collect(Limits)
#: Every setting by its name.
SETTINGS: Mapping[str, SettingSpec] = collect_settings(Limits)
