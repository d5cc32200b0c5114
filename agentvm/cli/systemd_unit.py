"""The outer wall as a systemd service. Sources: systemd.resource-control(5), systemd.service(5), "Command lines"."""

import re
from collections.abc import Sequence

from agentvm.host.block_device import Disks
from agentvm.host.cgroup_limits import CPU_PERIOD_MICROSECONDS, OuterWall
from agentvm.limits.amount import format_amount
from agentvm.limits.declare import MIB
from agentvm.limits.spec import Unit

__all__ = ["memory_text", "unit_text"]

_IO_SETTINGS = {
    "rbps": "IOReadBandwidthMax",
    "wbps": "IOWriteBandwidthMax",
    "riops": "IOReadIOPSMax",
    "wiops": "IOWriteIOPSMax",
}
#: What must be quoted in a word of a command line: all but what is plain in any context.
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n", "\t": r"\t", "%": "%%", "$": "$$"})


def unit_text(wall: OuterWall, disks: Disks, command: Sequence[str], *, delegate: bool) -> str:
    """Return a unit that runs `command` behind `wall`; only what is set is in it. `delegate` lets the command make
    groups of its own below the service's."""
    lines = [
        "[Unit]",
        "Description=agentvm: WebAssembly programs under hard limits",
        "",
        "[Service]",
        "Type=exec",
        f"ExecStart={' '.join(map(_quote, command))}",
        *_settings(wall, disks),
    ]
    lines += [f"# Not enforced by systemd: {record.cap}: {record.why}" for record in wall.not_enforced]
    if wall.disk and disks.without:
        caps, paths = ", ".join(wall.disk_caps), ", ".join(map(ascii, disks.without))
        lines.append(f"# Not enforced by systemd: {caps}: there is no disk under {paths}")
    if delegate:
        lines.append("Delegate=cpu io memory pids")
    return "\n".join([*lines, "", "[Install]", "WantedBy=multi-user.target", ""])


def memory_text(wall: OuterWall) -> str:
    """Say what the wall's memory is for."""
    return ", ".join(f"{format_amount(Unit.BYTES, size)} {what}" for what, size in wall.memory_parts.items() if size)


def _settings(wall: OuterWall, disks: Disks) -> list[str]:
    lines = []
    if wall.memory_bytes is not None:
        lines.append(f"# MemoryMax: {memory_text(wall)}")
        lines += [f"MemoryMax={wall.memory_bytes // MIB}M", "MemorySwapMax=0", "OOMPolicy=kill"]
    if wall.cpu_percent is not None:
        lines += [f"CPUQuota={wall.cpu_percent}%", f"CPUQuotaPeriodSec={CPU_PERIOD_MICROSECONDS // 1000}ms"]
    if wall.tasks is not None:
        lines.append(f"TasksMax={wall.tasks}")
    for key, rate in wall.disk.items():
        lines += [f"{_IO_SETTINGS[key]}={disk.node} {rate}" for disk in disks.found]
    return lines


def _quote(word: str) -> str:
    """Write a word so that systemd reads it as it is: without specifiers, variables and escapes."""
    escaped = word.translate(_ESCAPES)
    return escaped if _PLAIN.fullmatch(word) else f'"{escaped}"'
