"""The outer wall: a control group (version 2) of our own around this process, with limits derived from a VM's caps.

    with Cgroup.enter(Caps(Limits(max_memory_bytes="512MiB")), "auto", warn=print) as wall:
        ...  # wall.files is in force; wall.not_enforced says what is not, and why

Enter before other processes are started. What was allocated before stays charged to the group that it came from: see
docs/rationale.md, "Why the wall is entered last". Source: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

import atexit
import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from enum import Enum
from types import TracebackType

from agentvm.errors import AgentVMError, CgroupUnavailable, InvalidArgument, UnsupportedOnPlatform
from agentvm.host.block_device import Disks
from agentvm.host.cgroup_fs import Hierarchy
from agentvm.host.cgroup_limits import NotEnforced, WallFile
from agentvm.host.cgroup_plan import not_enforced, plan_wall
from agentvm.limits.spec import Cap

__all__ = ["Cgroup", "Mode"]

#: How often to look again for processes that were started while others were moved out of a group, and how long to wait
#: in between: the kernel takes a moment to forget a process that ends.
_ROUNDS, _PAUSE_SECONDS = 50, 0.01
_OURS = re.compile(r"agentvm\.([0-9]+)(?:\.host)?")


class Mode(Enum):
    """How much the wall matters."""

    OFF = "off"
    AUTO = "auto"  # what can be enforced is, and the rest is said
    REQUIRED = "required"  # all of it, or nothing runs


class Cgroup:
    """The group that this process is in until `leave`. One thread at a time."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """Use `enter`."""
        self._warn = warn
        self._undo = ExitStack()
        self._pid = os.getpid()
        #: The group that we are in, as the mounted hierarchy calls it; None where there is no wall.
        self.path: str | None = None
        #: What is in force, in the order in which it was written.
        self.files: tuple[WallFile, ...] = ()
        #: The caps that the host does not enforce.
        self.not_enforced: tuple[NotEnforced, ...] = ()

    @classmethod
    def enter(
        cls,
        caps: Mapping[str, Cap],
        mode: Mode | str = Mode.AUTO,
        *,
        disks: Disks | None = None,
        hierarchy: Hierarchy | None = None,
        warn: Callable[[str], None] = lambda _line: None,
    ) -> "Cgroup":
        """Move this process into a new group with limits that follow from `caps`, until `leave` or the program's end.

        Disk rates apply to `disks`, or else to the one under the working directory: see `disks_below`. `warn` gets one
        line about what the host does not enforce. Raises, with nothing changed, `InvalidArgument` for an unknown mode,
        and with `Mode.REQUIRED` `CgroupUnavailable` (on other systems than Linux `UnsupportedOnPlatform`).
        """
        group = cls(warn)
        mode = _mode(mode)
        if mode is Mode.OFF:
            return group
        plan = plan_wall(caps, disks=disks, hierarchy=hierarchy)
        group.not_enforced = plan.not_enforced
        if mode is Mode.REQUIRED and plan.not_enforced:
            raise _unavailable(plan.not_enforced)
        if plan.hierarchy is not None and plan.files:
            try:
                group._build(plan.hierarchy, plan.files, mode)
            except BaseException:
                group.leave()
                raise
        if group.not_enforced:
            warn(_sentence(group.not_enforced))
        return group

    def leave(self) -> None:
        """Go back into the group that we came from, and remove what was made. Idempotent, never raises.

        In a forked child nothing happens: the group is its parent's.
        """
        if os.getpid() == self._pid:
            atexit.unregister(self.leave)
            self._undo.close()
        self.path, self.files = None, ()

    def __enter__(self) -> "Cgroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _build(self, hierarchy: Hierarchy, files: tuple[WallFile, ...], mode: Mode) -> None:
        """Make the group, and move into it once its limits are in force. What fails is undone and noted."""
        steps = _Steps(hierarchy, self._undo, self._warn)
        atexit.register(self.leave)
        try:
            written = steps.make(files)
            if mode is Mode.REQUIRED and steps.refused:
                raise _unavailable(tuple(steps.refused))
            if written:
                self.path = steps.move_in()
                self.files = written
        except OSError as error:
            steps.refused += not_enforced(files, _reason(error))
            if mode is Mode.REQUIRED:
                raise _unavailable(tuple(steps.refused)) from error
        if self.path is None:
            self.leave()
        self.not_enforced += tuple(dict.fromkeys(steps.refused))


class _Steps:
    """The steps in. Each registers its way back before it is taken, so that an interrupt in between leaves nothing."""

    def __init__(self, hierarchy: Hierarchy, undo: ExitStack, warn: Callable[[str], None]) -> None:
        self._hierarchy, self._fs, self._own = hierarchy, hierarchy.fs, hierarchy.own
        self._undo, self._warn = undo, warn
        self._pid = os.getpid()
        self._group = f"{self._own}/agentvm.{self._pid}"
        #: Where the process waits while its own group must be empty; the root of all need not be.
        self._waiting = self._own if hierarchy.is_root else self._group + ".host"
        self.refused: list[NotEnforced] = []

    def make(self, files: tuple[WallFile, ...]) -> tuple[WallFile, ...]:
        """Make the group and write its limits; return those that the kernel took, `refused` has the others."""
        self._sweep()
        if self._waiting != self._own:
            self._make_group(self._waiting)
            self._move(self._waiting, back_to=self._own)
        present = self._hierarchy.enabled()
        for controller in dict.fromkeys(file.controller for file in files):
            if controller not in present:
                self._enable(controller, files)
        self._make_group(self._group)
        enabled = self._hierarchy.enabled()
        return tuple(file for file in files if file.controller in enabled and self._write_limit(file))

    def move_in(self) -> str:
        """Move the process behind the wall, and return the group's path."""
        self._move(self._group, back_to=self._waiting)
        return self._group

    def _make_group(self, group: str) -> None:
        self._undo.callback(self._attempt, f"the group {group} stays behind", self._remove, group)
        self._fs.mkdir(group)

    def _move(self, group: str, *, back_to: str) -> None:
        self._undo.callback(self._attempt, f"processes stay in {group}", self._empty, group, back_to)
        self._fs.write(f"{group}/cgroup.procs", str(self._pid))

    def _enable(self, controller: str, files: tuple[WallFile, ...]) -> None:
        self._undo.callback(self._attempt, f"the controller {controller!r} stays on", self._disable, controller)
        try:
            self._fs.write(f"{self._own}/cgroup.subtree_control", f"+{controller}")
        except OSError as error:
            lost = [file for file in files if file.controller == controller]
            self.refused += not_enforced(lost, f"the controller {controller!r} cannot be enabled: {_reason(error)}")

    def _write_limit(self, file: WallFile) -> bool:
        try:
            self._fs.write(f"{self._group}/{file.name}", file.value)
        except OSError as error:
            if not (file.may_be_missing and isinstance(error, FileNotFoundError)):
                self.refused += not_enforced([file], f"{file.name} does not take {file.value!r}: {_reason(error)}")
            return False
        return True

    # The way back

    def _attempt(self, failure: str, step: Callable[..., None], *arguments: str) -> None:
        """Take a step back, or tell of its failure: that must not keep the other steps from being taken."""
        try:
            step(*arguments)
        except FileNotFoundError:
            pass  # it was never made
        except OSError as error:
            self._warn(f"{failure}: {_reason(error)}")

    def _empty(self, group: str, target: str) -> None:
        """Move all processes of `group`, also those that we started in it, into `target`."""
        for _ in range(_ROUNDS):
            pids = [pid for pid in self._hierarchy.processes(group) if pid]
            if not pids:
                return
            for pid in pids:
                try:
                    self._fs.write(f"{target}/cgroup.procs", str(pid))
                except ProcessLookupError:
                    pass  # it has ended

    def _remove(self, group: str) -> None:
        for rest in reversed(range(_ROUNDS)):
            try:
                return self._fs.rmdir(group)
            except OSError as error:
                if error.errno != errno.EBUSY or not rest:
                    raise
            time.sleep(_PAUSE_SECONDS)

    def _disable(self, controller: str) -> None:
        """Take a controller back, unless we are in the root, where others may have come to rely on it."""
        is_ours = self._waiting != self._own or not self._fs.groups(self._own)
        if is_ours and controller in self._hierarchy.enabled():
            self._fs.write(f"{self._own}/cgroup.subtree_control", f"-{controller}")

    def _sweep(self) -> None:
        """Remove groups that programs left which were killed. One that is in use refuses to go."""
        for name in self._fs.groups(self._own):
            match = _OURS.fullmatch(name)
            if match and not os.path.exists(f"/proc/{match[1]}"):
                try:
                    self._fs.rmdir(f"{self._own}/{name}")
                except OSError:
                    pass


def _mode(mode: Mode | str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        choices = ", ".join(choice.value for choice in Mode)
        raise InvalidArgument(f"cgroup cannot be {mode!r}: it takes one of {choices}") from None


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _sentence(missing: Iterable[NotEnforced]) -> str:
    """Say in one line which caps the host does not enforce, those with the same reason together."""
    caps: dict[str, list[str]] = {}
    for record in missing:
        caps.setdefault(record.why, []).append(record.cap)
    return "the host does not enforce " + "; ".join(f"{', '.join(names)}: {why}" for why, names in caps.items())


def _unavailable(missing: tuple[NotEnforced, ...]) -> AgentVMError:
    text = f"{_sentence(missing)}; take cgroup=auto to go on without"
    if sys.platform != "linux":
        return UnsupportedOnPlatform(text, not_enforced=missing)
    return CgroupUnavailable(
        f"{text}, or start in a group of its own: systemd-run --user --scope -p Delegate=yes ...", not_enforced=missing
    )
