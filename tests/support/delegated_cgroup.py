"""A real control group that is delegated to us, with every controller that the wall needs; or a skip that says why."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from agentvm.errors import AgentVMError
from agentvm.host.cgroup_fs import Hierarchy, find_hierarchy
from tests.support.cgroup_tree import CONTROLLERS

__all__ = ["delegated_cgroup", "some_disk"]


@contextmanager
def delegated_cgroup() -> Iterator[Hierarchy]:
    """Yield the hierarchy, with a fresh group for `own` that has the controllers and no process; skip without one."""
    hierarchy = _find()
    fs, own, pid = hierarchy.fs, hierarchy.own, os.getpid()
    with ExitStack() as undo:
        if not hierarchy.is_root:
            undo.callback(fs.rmdir, f"{own}/test.{pid}.host")
            fs.mkdir(f"{own}/test.{pid}.host")
            undo.callback(fs.write, f"{own}/cgroup.procs", str(pid))
            fs.write(f"{own}/test.{pid}.host/cgroup.procs", str(pid))
        for controller in set(CONTROLLERS) - hierarchy.enabled():
            undo.callback(fs.write, f"{own}/cgroup.subtree_control", f"-{controller}")
            fs.write(f"{own}/cgroup.subtree_control", f"+{controller}")
        undo.callback(fs.rmdir, f"{own}/test.{pid}")
        fs.mkdir(f"{own}/test.{pid}")
        yield Hierarchy(fs, f"{own}/test.{pid}")


def some_disk() -> str | None:
    """Return the number of a disk of this machine, if it has one."""
    numbers = [(place / "dev").read_text().strip() for place in sorted(Path("/sys/block").iterdir())]
    return numbers[-1] if numbers else None


def _find() -> Hierarchy:
    try:
        hierarchy = find_hierarchy()
    except AgentVMError as error:
        pytest.skip(str(error))
    missing = set(CONTROLLERS) - hierarchy.controllers()
    if missing:
        pytest.skip(f"no real cgroup: cgroup v2 has no {', '.join(sorted(missing))} here")
    if hierarchy.obstacle():
        pytest.skip(f"no real cgroup: {hierarchy.obstacle()}")
    return hierarchy
