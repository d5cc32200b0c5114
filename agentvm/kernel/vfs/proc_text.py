"""The texts of /proc, from plain values. Source: proc(5)."""

from collections.abc import Mapping, Sequence

from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.rlimits import INFINITY, Resource
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.open_process import OpenProcess
from agentvm.limits.spec import UNLIMITED, Cap
from agentvm.limits.usage import LimitUsage

__all__ = [
    "descriptor_target",
    "limits_json",
    "loadavg",
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

#: The rows of /proc/[pid]/limits: Linux's name for each resource, and its unit.
_ROWS = {
    Resource.CPU: ("Max cpu time", "seconds"),
    Resource.FSIZE: ("Max file size", "bytes"),
    Resource.DATA: ("Max data size", "bytes"),
    Resource.STACK: ("Max stack size", "bytes"),
    Resource.CORE: ("Max core file size", "bytes"),
    Resource.RSS: ("Max resident set", "bytes"),
    Resource.NPROC: ("Max processes", "processes"),
    Resource.NOFILE: ("Max open files", "files"),
    Resource.MEMLOCK: ("Max locked memory", "bytes"),
    Resource.AS: ("Max address space", "bytes"),
    Resource.LOCKS: ("Max file locks", "locks"),
    Resource.SIGPENDING: ("Max pending signals", "signals"),
    Resource.MSGQUEUE: ("Max msgqueue size", "bytes"),
    Resource.NICE: ("Max nice priority", ""),
    Resource.RTPRIO: ("Max realtime priority", ""),
    Resource.RTTIME: ("Max realtime timeout", "us"),
}


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


def loadavg(states: Sequence[str], last_pid: int) -> bytes:
    """Return /proc/loadavg: how many processes run or wait to, now and not on average, of how many."""
    running = states.count("R")
    return f"{running}.00 {running}.00 {running}.00 {running}/{len(states)} {last_pid}\n".encode()


def process_limits(limits: Mapping[Resource, tuple[int, int]]) -> bytes:
    """Return /proc/[pid]/limits: what getrlimit(2) says, under Linux's names."""
    lines = [f"{'Limit':<25} {'Soft Limit':<20} {'Hard Limit':<20} {'Units':<10}\n"]
    for resource, (title, unit) in _ROWS.items():
        soft, hard = ("unlimited" if limit == INFINITY else str(limit) for limit in limits[resource])
        lines.append(f"{title:<25} {soft:<20} {hard:<20} " + (f"{unit:<10}\n" if unit else "\n"))
    return "".join(lines).encode()


def process_status(process: OpenProcess) -> bytes:
    """Return /proc/[pid]/status: the fields that mean something here."""
    own = process.credentials
    pending, blocked, ignored, handled = process.signals
    rows = (
        ("Name", process.name),
        ("Umask", f"{process.umask:04o}"),
        ("State", f"{process.state} ({_STATES.get(process.state, 'unknown')})"),
        ("Tgid", process.pid),
        ("Pid", process.pid),
        ("PPid", process.ppid),
        ("Uid", f"{own.uid}\t{own.euid}\t{own.suid}\t{own.euid}"),
        ("Gid", f"{own.gid}\t{own.egid}\t{own.sgid}\t{own.egid}"),
        ("FDSize", len(process.files)),
        ("Groups", " ".join(map(str, own.groups)) + " "),
        ("VmSize", f"{process.memory_bytes >> 10:>8} kB"),
        ("Threads", 1),
        ("SigPnd", f"{0:016x}"),  # what waits for one thread alone
        ("ShdPnd", f"{pending:016x}"),
        ("SigBlk", f"{blocked:016x}"),
        ("SigIgn", f"{ignored:016x}"),
        ("SigCgt", f"{handled:016x}"),
    )
    return "".join(f"{name}:\t{value}\n" for name, value in rows).encode()


def process_stat(process: OpenProcess) -> bytes:
    """Return /proc/[pid]/stat up to field 24, rss; fields that mean nothing here are 0."""
    ticks = process.cpu_time_ns * _TICKS_PER_SECOND // _NS
    fields: list[object] = [process.pid, f"({process.name[:15]})", process.state, process.ppid, process.pgid]
    fields += [process.sid, 0, -1]  # no terminal, and no foreground group
    fields += [0] * 5  # flags to cmajflt
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
