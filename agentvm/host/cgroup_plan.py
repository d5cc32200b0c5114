"""What the outer wall of this process would be: which files, in which group, and which caps it would not enforce."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentvm.errors import CgroupUnavailable, UnsupportedOnPlatform
from agentvm.host.block_device import Disks, disks_below
from agentvm.host.cgroup_fs import Hierarchy, find_hierarchy
from agentvm.host.cgroup_limits import NotEnforced, WallFile, derive_wall, wall_files
from agentvm.limits.spec import Cap

__all__ = ["Plan", "not_enforced", "plan_wall"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What entering would write, below our own group in `hierarchy`, and the caps for which it would write nothing.

    `delegated` are the controllers that our own group has.
    """

    hierarchy: Hierarchy | None
    delegated: frozenset[str]
    files: tuple[WallFile, ...]
    not_enforced: tuple[NotEnforced, ...]


def plan_wall(caps: Mapping[str, Cap], *, disks: Disks | None = None, hierarchy: Hierarchy | None = None) -> Plan:
    """Return what `Cgroup.enter` would do, and change nothing. Never raises for what the host lacks."""
    wall = derive_wall(caps, cores=os.cpu_count() or 1)
    disks = disks or disks_below(os.curdir)
    files = wall_files(wall, disks.found)
    missing = [*wall.not_enforced]
    if wall.disk and disks.without:
        why = f"there is no disk that the kernel could throttle under {', '.join(disks.without)}"
        missing += [NotEnforced(cap, why) for cap in wall.disk_caps]
    delegated: frozenset[str] = frozenset()
    try:
        hierarchy = hierarchy or find_hierarchy()
        delegated, obstacle = hierarchy.controllers(), hierarchy.obstacle()
    except (CgroupUnavailable, UnsupportedOnPlatform) as error:
        obstacle = str(error)
    except OSError as error:
        obstacle = f"our own group cannot be read: {error}"
    if obstacle:
        return Plan(hierarchy, delegated, (), (*missing, *not_enforced(files, obstacle)))
    assert hierarchy is not None
    for file in files:
        if file.controller not in delegated:
            missing += not_enforced([file], _why_missing(file.controller, hierarchy))
    kept = tuple(file for file in files if file.controller in delegated)
    return Plan(hierarchy, delegated, kept, tuple(dict.fromkeys(missing)))


def _why_missing(controller: str, hierarchy: Hierarchy) -> str:
    if hierarchy.own:
        return f"the controller {controller!r} is not delegated to the group {hierarchy.own}"
    return f"cgroup v2 has no controller {controller!r} here: it is off, or belongs to version 1"


def not_enforced(files: Iterable[WallFile], why: str) -> tuple[NotEnforced, ...]:
    """Return one record for each cap that `files` stand for."""
    return tuple(NotEnforced(cap, why) for cap in dict.fromkeys(cap for file in files for cap in file.caps))
