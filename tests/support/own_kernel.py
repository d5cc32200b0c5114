"""A Linux kernel of our own, for tests that need what this machine's does not delegate: user-mode Linux.

It boots in a second as an ordinary process, with this machine's files as its own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["find_kernel", "run_in_own_kernel"]

_INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up 2>/dev/null
export HOME=/run TMPDIR=/run PYTHONDONTWRITEBYTECODE=1 PATH="{path}"
cd "{directory}"
{command} > "{scratch}/output" 2>&1
echo $? > "{scratch}/status"
halt -f
"""


def find_kernel() -> str | None:
    """Return the path of a user-mode kernel: `AGENTVM_TEST_UML`, or `linux.uml` of Debian's user-mode-linux."""
    return os.environ.get("AGENTVM_TEST_UML") or shutil.which("linux.uml")


def run_in_own_kernel(kernel: str, scratch: Path, *command: str) -> tuple[int, str]:
    """Run a command line as root, with all of cgroup v2 and one disk; return its exit status and output."""
    (scratch / "init").write_text(
        _INIT.format(
            path=os.pathsep.join([os.path.dirname(sys.executable), "/usr/sbin", "/usr/bin", "/sbin", "/bin"]),
            directory=os.getcwd(),
            command=" ".join(f"'{word}'" for word in command),
            scratch=scratch,
        )
    )
    (scratch / "init").chmod(0o755)
    with open(scratch / "disk", "wb") as disk:
        disk.truncate(1 << 20)
    boot = subprocess.run(
        [
            kernel,
            "mem=1024M",
            f"ubd0={scratch / 'disk'}",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "rw",
            f"init={scratch / 'init'}",
            "con=null",
            "con0=fd:0,fd:1",
            "quiet",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    status, output = scratch / "status", scratch / "output"
    if not status.exists():
        return -1, f"the kernel did not get to its end:\n{boot.stdout}\n{output.read_text() if output.exists() else ''}"
    return int(status.read_text()), output.read_text()
