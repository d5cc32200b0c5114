"""Presets: sets of caps for a kind of guest, under everything that is set explicitly."""

from collections.abc import Mapping
from typing import NamedTuple

from agentvm.limits.declare import GIB, KIB, MIB
from agentvm.limits.spec import Cap, SettingSpec

__all__ = ["PRESET", "PRESETS", "Preset"]


class Preset(NamedTuple):
    """A set of caps. What it leaves out keeps its default."""

    name: str
    summary: str
    caps: Mapping[str, Cap]


_TINY = Preset(
    "tiny",
    "Small tools and many VMs at once: filters, parsers, plugins; no interpreter of a large language.",
    {
        "max_processes": 4,
        "max_open_fds": 32,
        "max_sockets": 8,
        "max_connections": 8,
        "max_socket_buffer_bytes": 1 * MIB,
        "max_filesystem_bytes": 4 * MIB,
        "max_inodes": 512,
        "max_host_inodes": 512,
        "max_log_bytes": 1 * MIB,
        "max_memory_bytes": 16 * MIB,
        "max_fuel_per_process": 10**11,
        "max_cpu_time_seconds": 10,
        "max_wall_time_seconds": 60,
        "max_argv_bytes": 64 * KIB,
        "max_env_bytes": 64 * KIB,
        "max_io_bytes": 1 * MIB,
        "max_module_bytes": 16 * MIB,
        "max_compile_seconds": 30,
        "max_compile_memory_bytes": 1 * GIB,
    },
)

_COMPILER = Preset(
    "compiler",
    "git, compilers, build tools and big interpreters: large modules, many files, minutes of computing.",
    {
        "max_processes": 256,
        "max_open_fds_per_process": 1024,
        "max_open_fds": 8192,
        "max_filesystem_bytes": 2 * GIB,
        "max_inodes": 500_000,
        "max_host_inodes": 500_000,
        "max_log_bytes": 128 * MIB,
        "max_memory_bytes": 8 * GIB,
        "max_memory_per_process_bytes": 4 * GIB,
        "max_wasm_stack_bytes": 8 * MIB,
        "max_fuel_per_process": 10**14,
        "max_cpu_time_seconds": 1800,
        "max_cpu_percent": 400,
        "max_argv_bytes": 2 * MIB,
        "max_table_elements": 10_000_000,
        "max_module_bytes": 512 * MIB,
        "max_guest_module_bytes": 128 * MIB,
        "max_functions": 1_000_000,
        "max_compile_seconds": 900,
        "max_guest_compile_seconds": 120,
        "max_compile_memory_bytes": 16 * GIB,
    },
)

#: Every preset by its name.
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (_TINY, _COMPILER)}

#: How a preset is chosen: spelt like a setting, wherever limits are set.
PRESET = SettingSpec(
    "preset", "none", "The caps that hold where nothing else is set: those of a preset.", ("none", *PRESETS)
)
