"""The texts of /proc, from plain values. Source: proc(5)."""

from collections.abc import Mapping, Sequence

from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.open_process import OpenProcess
from agentvm.limits.spec import UNLIMITED, Cap
from agentvm.limits.usage import LimitUsage

__all__ = [
    "descriptor_target",
    "limits_json",
    "meminfo",
    "mounts",
    "process_limits",
    "process_stat",
    "process_status",
    "uptime",
    "usage_json",
]

_STATES = {"R": "running", "S": "sleeping", "T": "stopped", "Z": "zombie"}
_TICKS_PER_SECOND = 100
_NS = 1_000_000_000

#: The rows of /proc/[pid]/limits: Linux's name, the unit, and the limit of ours that says how much.
_ROWS = (
    ("Max cpu time", "seconds", "max_cpu_time_seconds"),
    ("Max file size", "bytes", "max_file_bytes"),
    ("Max stack size", "bytes", "max_wasm_stack_bytes"),
    ("Max processes", "processes", "max_processes"),
    ("Max open files", "files", "max_open_fds_per_process"),
    ("Max address space", "bytes", "max_memory_per_process_bytes"),
)


def meminfo(total_bytes: int, used_bytes: int) -> bytes:
    """Return /proc/meminfo; sizes in KiB."""
    free = max(0, total_bytes - used_bytes)
    rows = (("MemTotal", total_bytes), ("MemFree", free), ("MemAvailable", free), ("SwapTotal", 0), ("SwapFree", 0))
    return "".join(f"{name + ':':<16}{size >> 10:>8} kB\n" for name, size in rows).encode()


def uptime(uptime_ns: int) -> bytes:
    """Return /proc/uptime; idle time is not known, and given as 0."""
    return b"%.2f 0.00\n" % (uptime_ns / _NS)


def mounts(mounted: Sequence[tuple[bytes, str, bool]]) -> bytes:
    """Return /proc/mounts. Space, tab, newline and backslash in a path are octal, as fstab(5) asks."""
    lines = []
    for path, kind, is_read_only in mounted:
        escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in path)
        lines.append(b"%s %s %s %s 0 0\n" % (kind.encode(), escaped, kind.encode(), b"ro" if is_read_only else b"rw"))
    return b"".join(lines)


def process_limits(caps: Mapping[str, Cap]) -> bytes:
    """Return /proc/[pid]/limits: what the guest may know under Linux's names. Soft and hard caps are the same."""
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for title, unit, name in _ROWS:
        cap = caps.get(name, UNLIMITED)
        text = "unlimited" if cap == UNLIMITED else str(int(cap))
        lines.append(f"{title:<25} {text:<20} {text:<20} {unit:<10}\n")
    return "".join(lines).encode()


def process_status(process: OpenProcess) -> bytes:
    """Return /proc/[pid]/status: the fields that mean something here."""
    rows = (
        ("Name", process.name),
        ("Umask", f"{process.umask:04o}"),
        ("State", f"{process.state} ({_STATES.get(process.state, 'unknown')})"),
        ("Tgid", process.pid),
        ("Pid", process.pid),
        ("PPid", process.ppid),
        ("FDSize", len(process.files)),
        ("VmSize", f"{process.memory_bytes >> 10:>8} kB"),
        ("Threads", 1),
    )
    return "".join(f"{name}:\t{value}\n" for name, value in rows).encode()


def process_stat(process: OpenProcess) -> bytes:
    """Return /proc/[pid]/stat up to field 24, rss; fields that mean nothing here are 0."""
    ticks = process.cpu_time_ns * _TICKS_PER_SECOND // _NS
    fields: list[object] = [process.pid, f"({process.name[:15]})", process.state, process.ppid]
    fields += [0] * 9  # pgrp to cmajflt
    fields += [ticks, 0, 0, 0, 20, 0, 1, 0, 0, process.memory_bytes, process.memory_bytes >> 12]
    return (" ".join(map(str, fields)) + "\n").encode()


def descriptor_target(file: OpenFile) -> bytes:
    """Return what a link in /proc/[pid]/fd shows: the kind of file, for none remembers its path."""
    kind = "pipe" if file.filetype is Filetype.UNKNOWN else file.filetype.name.lower()
    status = file.stat()
    return f"{kind}:[{status.dev}:{status.ino}]".encode()


def limits_json(usage: Sequence[LimitUsage]) -> bytes:
    """Return /proc/agentvm/limits: each cap by its name, null where there is none."""
    return _json({limit.name: _cap(limit.cap) for limit in usage})


def usage_json(usage: Sequence[LimitUsage]) -> bytes:
    """Return /proc/agentvm/usage: for each limit what is used, the peak, the cap, and how often it refused."""
    return _json({limit.name: limit.fields() for limit in usage})


def _cap(cap: Cap) -> Cap | None:
    return None if cap == UNLIMITED else cap


def _json(value: object) -> bytes:
    import json  # only here: few programs ask for it

    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
