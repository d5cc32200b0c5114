"""A tree of control groups in memory that refuses as the kernel does: `test_cgroup_tree.py` holds it to the real one.

Sources: Linux, kernel/cgroup/cgroup.c (cgroup_subtree_control_write, cgroup_migrate_vet_dst, cgroup_destroy_locked),
block/blk-throttle.c (tg_set_limit), kernel/sched/core.c (cpu_max_write), mm/page_counter.c, kernel/cgroup/pids.c.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable

__all__ = ["CONTROLLERS", "DISK", "FakeCgroups"]

CONTROLLERS = ("cpu", "io", "memory", "pids")
#: The one disk that there is.
DISK = "8:0"
_PIDS_MAX = 4 * 1024 * 1024


def _refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _memory(text: str, _before: str) -> str:
    if text == "max":
        return text
    if not text.isdecimal():
        raise _refuse(errno.EINVAL)
    return str(int(text) // 4096 * 4096)


def _pids(text: str, _before: str) -> str:
    if text == "max":
        return text
    if not text.isdecimal() or int(text) > _PIDS_MAX:
        raise _refuse(errno.EINVAL)
    return text


def _flag(text: str, _before: str) -> str:
    if text not in ("0", "1"):
        raise _refuse(errno.EINVAL)
    return text


def _cpu(text: str, before: str) -> str:
    quota, _, period = text.partition(" ")
    period = period or before.split()[1]
    if not period.isdecimal() or not 1_000 <= int(period) <= 1_000_000:
        raise _refuse(errno.EINVAL)
    if quota != "max" and (not quota.isdecimal() or int(quota) < 1_000):
        raise _refuse(errno.EINVAL)
    return f"{quota} {period}"


def _io(text: str, before: str) -> str:
    number, *settings = text.split()
    if not re.fullmatch(r"\d+:\d+", number):
        raise _refuse(errno.EINVAL)
    if number != DISK:
        raise _refuse(errno.ENODEV)
    rates = dict.fromkeys(("rbps", "wbps", "riops", "wiops"), "max")
    rates.update(item.split("=") for item in before.split()[1:])
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in rates or not (value == "max" or value.isdecimal()):
            raise _refuse(errno.EINVAL)
        if value == "0":
            raise _refuse(errno.ERANGE)
        rates[key] = value
    return " ".join([number, *(f"{key}={value}" for key, value in rates.items())])


#: The files of each controller: their first content, and what a write makes of it.
_FILES: dict[str, dict[str, tuple[str, Callable[[str, str], str]]]] = {
    "memory": {
        "memory.max": ("max", _memory),
        "memory.swap.max": ("max", _memory),
        "memory.oom.group": ("0", _flag),
    },
    "cpu": {"cpu.max": ("max 100000", _cpu)},
    "pids": {"pids.max": ("max", _pids)},
    "io": {"io.max": ("", _io)},
}


class _Group:
    def __init__(self) -> None:
        self.processes: list[int] = []
        self.enabled: set[str] = set()
        self.values: dict[str, str] = {}


class FakeCgroups:
    """A hierarchy with `controllers`, in which the group `own` is delegated and has `processes`; "" is the root.

    `log` records every change that was asked for. `broken` maps a file or group to the errno with which changing it
    fails; a file that is in `absent` was not built into this kernel.
    """

    mount = "in memory"

    def __init__(
        self, own: str = "/app", processes: Iterable[int] = (), controllers: Iterable[str] = CONTROLLERS
    ) -> None:
        self._groups = {"": _Group()}
        self._controllers = set(controllers)
        self.own = own
        self.writable = True
        self.broken: dict[str, int] = {}
        self.absent: set[str] = set()
        self.log: list[tuple[str, str]] = []
        path = ""
        for name in own.split("/")[1:]:
            self._groups[path].enabled |= self._controllers
            path = f"{path}/{name}"
            self._groups[path] = _Group()
        self._groups[own].processes += processes

    # What tests look at

    def tree(self) -> dict[str, tuple[list[int], set[str]]]:
        """Return each group's processes and the controllers that it hands on."""
        return {path: (list(group.processes), set(group.enabled)) for path, group in self._groups.items()}

    def place(self, group: str, pid: int) -> None:
        """Start a process in a group, as a fork there does."""
        self._groups[group].processes.append(pid)

    def end(self, pid: int) -> None:
        """End a process."""
        for group in self._groups.values():
            if pid in group.processes:
                group.processes.remove(pid)

    def home(self, pid: int) -> str:
        """Return the group that a process is in."""
        return next(path for path, group in self._groups.items() if pid in group.processes)

    # What the kernel offers

    def read(self, path: str) -> str:
        group_path, name = path.rsplit("/", 1)
        group = self._group(group_path)
        if name == "cgroup.procs":
            return "".join(f"{pid}\n" for pid in group.processes)
        if name == "cgroup.controllers":
            return " ".join(sorted(self._available(group_path))) + "\n"
        if name == "cgroup.subtree_control":
            return " ".join(sorted(group.enabled)) + "\n"
        if name == "cgroup.type" and group_path:
            return "domain\n"
        first, _ = self._file(group_path, name)
        return group.values.get(name, first) + "\n"

    def write(self, path: str, text: str) -> None:
        self.log.append((path, text))
        self._check(path)
        group_path, name = path.rsplit("/", 1)
        group = self._group(group_path)
        if name == "cgroup.procs":
            self._move(int(text), group_path)
        elif name == "cgroup.subtree_control":
            self._control(group_path, text)
        else:
            first, accept = self._file(group_path, name)
            group.values[name] = accept(text, group.values.get(name, first))

    def mkdir(self, path: str) -> None:
        self.log.append((path, "mkdir"))
        self._check(path)
        self._group(path.rsplit("/", 1)[0])
        if path in self._groups:
            raise _refuse(errno.EEXIST)
        self._groups[path] = _Group()

    def rmdir(self, path: str) -> None:
        self.log.append((path, "rmdir"))
        group = self._group(path)
        self._check(path)
        if group.processes or self.groups(path):
            raise _refuse(errno.EBUSY)
        del self._groups[path]

    def groups(self, path: str) -> list[str]:
        self._group(path)
        return [other.rsplit("/", 1)[1] for other in self._groups if other and other.rsplit("/", 1)[0] == path]

    def is_writable(self, path: str) -> bool:
        return self.writable

    # Its rules

    def _check(self, path: str) -> None:
        if not self.writable:
            raise _refuse(errno.EROFS)
        if path in self.broken:
            raise _refuse(self.broken[path])

    def _group(self, path: str) -> _Group:
        if path not in self._groups:
            raise _refuse(errno.ENOENT)
        return self._groups[path]

    def _available(self, path: str) -> set[str]:
        return self._groups[path.rsplit("/", 1)[0]].enabled if path else self._controllers

    def _file(self, group: str, name: str) -> tuple[str, Callable[[str, str], str]]:
        """The root has no limits, a group those of the controllers that its parent hands on."""
        for controller in self._available(group) if group else ():
            if name in _FILES.get(controller, {}) and name not in self.absent:
                return _FILES[controller][name]
        raise _refuse(errno.ENOENT)

    def _move(self, pid: int, target: str) -> None:
        if not any(pid in group.processes for group in self._groups.values()):
            raise _refuse(errno.ESRCH)
        if target and self._groups[target].enabled:
            raise _refuse(errno.EBUSY)
        self.end(pid)
        self._groups[target].processes.append(pid)

    def _control(self, path: str, text: str) -> None:
        group, enabled = self._groups[path], set(self._groups[path].enabled)
        for word in text.split():
            sign, controller = word[0], word[1:]
            if sign not in "+-" or controller not in CONTROLLERS:
                raise _refuse(errno.EINVAL)
            if sign == "+" and controller not in self._available(path):
                raise _refuse(errno.ENOENT)
            if sign == "-" and any(controller in self._groups[f"{path}/{name}"].enabled for name in self.groups(path)):
                raise _refuse(errno.EBUSY)
            (enabled.add if sign == "+" else enabled.discard)(controller)
        if path and enabled - group.enabled and group.processes:
            raise _refuse(errno.EBUSY)
        group.enabled = enabled
        for name in self.groups(path):
            child = self._groups[f"{path}/{name}"]
            lost = [file for controller, files in _FILES.items() if controller not in enabled for file in files]
            child.values = {file: value for file, value in child.values.items() if file not in lost}
