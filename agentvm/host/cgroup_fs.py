"""The kernel's control groups (version 2) as a tree of files, and where in it this process is.

Sources: the kernel's Documentation/admin-guide/cgroup-v2.rst, cgroups(7), proc_pid_mountinfo(5).
"""

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agentvm.errors import CgroupUnavailable, UnsupportedOnPlatform

__all__ = ["CgroupFs", "Hierarchy", "HostCgroupFs", "find_hierarchy"]

_PROC = Path("/proc/self")


class CgroupFs(Protocol):
    """A mounted hierarchy. Paths start with a slash, its root. All methods raise `OSError` as the kernel does."""

    #: Where it is mounted, to be told.
    mount: str

    def read(self, path: str) -> str: ...

    def write(self, path: str, text: str) -> None:
        """Write all of `text` at once into a file that is there."""

    def mkdir(self, path: str) -> None: ...

    def rmdir(self, path: str) -> None: ...

    def groups(self, path: str) -> list[str]:
        """Return the names of the groups right below `path`."""

    def is_writable(self, path: str) -> bool: ...


class HostCgroupFs:
    """The hierarchy that is mounted at `mount`."""

    def __init__(self, mount: str) -> None:
        self.mount = mount.rstrip("/")

    def read(self, path: str) -> str:
        return Path(self.mount + path).read_text()

    def write(self, path: str, text: str) -> None:
        fd = os.open(self.mount + path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def mkdir(self, path: str) -> None:
        os.mkdir(self.mount + path)

    def rmdir(self, path: str) -> None:
        os.rmdir(self.mount + path)

    def groups(self, path: str) -> list[str]:
        with os.scandir(self.mount + path) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]

    def is_writable(self, path: str) -> bool:
        return os.access(self.mount + path, os.W_OK)


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The mounted tree, and our own group in it; "" is its root."""

    fs: CgroupFs
    own: str

    def controllers(self) -> frozenset[str]:
        """Return the controllers that our group may hand on to groups below it."""
        return frozenset(self.fs.read(f"{self.own}/cgroup.controllers").split())

    def enabled(self) -> frozenset[str]:
        """Return the controllers that it hands on now."""
        return frozenset(self.fs.read(f"{self.own}/cgroup.subtree_control").split())

    def processes(self, group: str) -> list[int]:
        """Return the processes right in `group`; 0 stands for one that we may not see."""
        return [int(line) for line in self.fs.read(f"{group}/cgroup.procs").split()]

    @property
    def is_root(self) -> bool:
        """Whether our group is the root of all, which may have processes and groups below it at the same time."""
        try:
            self.fs.read(f"{self.own}/cgroup.type")
        except FileNotFoundError:
            return True
        return False

    def obstacle(self) -> str:
        """Say why no group can be made below our own, as far as one can tell without trying; "" if it may work."""
        name = self.own or "/"
        if not self.fs.is_writable(f"{self.own}/") or not self.fs.is_writable(f"{self.own}/cgroup.procs"):
            return f"the group {name} is not delegated to us: it is not writable"
        if self.is_root:
            return ""
        kind = self.fs.read(f"{self.own}/cgroup.type").strip()
        if kind != "domain":
            return f"the group {name} is of type {kind!r}"
        others = [pid for pid in self.processes(self.own) if pid != os.getpid()]
        if others:
            return f"other processes are in the group {name} ({_names(others)}), and would have to leave it"
        return ""


def _names(pids: list[int]) -> str:
    shown = []
    for pid in pids[:3]:
        try:
            shown.append(f"{pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
        except OSError:
            shown.append(str(pid))
    return ", ".join(shown) + (" ..." if len(pids) > len(shown) else "")


def find_hierarchy(*, mount: str | None = None, proc: Path = _PROC) -> Hierarchy:
    """Return the hierarchy of version 2, at `mount` or where it is mounted, and our own group in it.

    Raises `CgroupUnavailable`, and `UnsupportedOnPlatform` where there can be none.
    """
    if sys.platform != "linux":
        raise UnsupportedOnPlatform("the outer wall is made of control groups, which only Linux has")
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = (proc / "mountinfo").read_text().splitlines()
    except OSError as error:
        raise CgroupUnavailable(f"there are no cgroups here: {error.strerror}") from error
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        raise CgroupUnavailable("there is no cgroup v2 here, only version 1")
    if mount is not None:
        return Hierarchy(HostCgroupFs(mount), own.rstrip("/"))
    for line in mounts:
        place = _visible(line, own)
        if place is not None:
            return place
    raise CgroupUnavailable(f"cgroup v2 is not mounted where our own group, {own}, can be seen")


def _visible(line: str, own: str) -> Hierarchy | None:
    """Return where a line of mountinfo shows our group, if it is a mount of version 2 that does."""
    fields = line.split()
    if "-" not in fields or fields[fields.index("-") + 1] != "cgroup2":
        return None
    root, mount = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), text) for text in fields[3:5])
    root = root.rstrip("/")
    if own.startswith("/..") or root.startswith("/..") or not (own + "/").startswith(root + "/"):
        return None
    return Hierarchy(HostCgroupFs(mount), own.removeprefix(root).rstrip("/"))
