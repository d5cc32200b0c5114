"""The outer wall on a real kernel, in a group that is really delegated: what reads back, what it stops, what is left.

Where this machine delegates none, the same tests run on a kernel of their own, if there is one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentvm.host.block_device import BlockDevice
from agentvm.host.cgroup_fs import Hierarchy, HostCgroupFs, find_hierarchy
from agentvm.host.cgroup_limits import derive_wall, wall_files
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from tests.support.delegated_cgroup import delegated_cgroup, some_disk
from tests.support.own_kernel import find_kernel, run_in_own_kernel

HERE = Path(__file__).parent
NOBODY = 65534
LIMITS = {
    "max_memory_bytes": "64MiB",
    "max_processes": 2,
    "max_cpu_percent": 30,
    "max_disk_read_bytes_per_second": "1MiB/s",
    "max_disk_write_operations_per_second": 100,
}
_START = """
import json, os, sys, threading, time
mount, group, user, disk, limits = json.loads(sys.argv[1])
with open(f"{mount}{group}/cgroup.procs", "w") as procs:
    procs.write(str(os.getpid()))
from agentvm.host.block_device import BlockDevice, Disks
from agentvm.host.cgroup import Cgroup
from agentvm.host.cgroup_fs import find_hierarchy
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
if user is not None:  # only now: it may not be allowed to read our code
    os.setgroups([])
    os.setresuid(user, user, user)
disks = Disks((BlockDevice(disk, "/dev/disk"),) if disk else (), ())
warnings = []
def enter(mode="required"):
    return Cgroup.enter(Caps(Limits(**limits)), mode, disks=disks, warn=warnings.append)
def tell(**facts):
    print(json.dumps(facts))
"""


@pytest.fixture
def delegated() -> Iterator[Hierarchy]:
    with delegated_cgroup() as hierarchy:
        yield hierarchy


def run_in(delegated: Hierarchy, body: str, *, user: int | None = None, **more: object) -> dict[str, Any]:
    """Run a program that starts in the delegated group; return the facts that it tells."""
    assert isinstance(delegated.fs, HostCgroupFs)
    facts = [delegated.fs.mount, delegated.own, user, some_disk(), LIMITS | more]
    script = [sys.executable, "-c", _START + body, json.dumps(facts)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert delegated.fs.groups(delegated.own) == []
    assert delegated.enabled() == frozenset()
    assert delegated.processes(delegated.own) == []
    return dict(json.loads(done.stdout))


_READ_BACK = """
with enter() as wall:
    place = find_hierarchy()
    files = {file.name: place.fs.read(f"{wall.path}/{file.name}").strip() for file in wall.files}
    tell(files=files, inside=place.own, path=wall.path, pid=os.getpid(), warnings=warnings)
after = find_hierarchy()
assert after.own == group, after.own
assert after.processes(after.own) == [os.getpid()]
assert after.fs.groups(after.own) == []
"""


def check_read_back(facts: dict[str, Any], delegated: Hierarchy) -> None:
    disk = some_disk()
    wall = derive_wall(Caps(Limits.of(LIMITS)), cores=os.cpu_count() or 1)  # type: ignore[arg-type]
    expected = {file.name: file.value for file in wall_files(wall, [BlockDevice(disk, "")] if disk else [])}
    if disk:
        expected["io.max"] = f"{disk} rbps=1048576 wbps=max riops=max wiops=100"
    if "memory.swap.max" not in facts["files"]:  # a kernel without swap
        del expected["memory.swap.max"]
    assert facts["files"] == expected
    assert facts["inside"] == facts["path"] == f"{delegated.own}/agentvm.{facts['pid']}"
    assert facts["warnings"] == []


def test_the_kernel_has_every_limit_and_afterwards_nothing_is_left(delegated: Hierarchy) -> None:
    check_read_back(run_in(delegated, _READ_BACK), delegated)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can hand a group to another user")
def test_an_unprivileged_user_can_use_what_was_delegated_to_it(delegated: Hierarchy) -> None:
    assert isinstance(delegated.fs, HostCgroupFs)
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control", "/cgroup.threads"):
        os.chown(f"{delegated.fs.mount}{delegated.own}{name}", NOBODY, NOBODY)
    check_read_back(run_in(delegated, _READ_BACK, user=NOBODY), delegated)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can keep a group from another user")
def test_an_unprivileged_user_is_told_that_nothing_was_delegated(delegated: Hierarchy) -> None:
    body = """
wall = enter("auto")
tell(path=wall.path, missed=sorted({record.cap for record in wall.not_enforced}), warnings=warnings)
"""
    facts = run_in(delegated, body, user=NOBODY)
    assert facts["path"] is None
    assert {"max_memory_bytes", "max_cpu_percent", "max_processes"} <= set(facts["missed"])
    assert "is not delegated to us" in facts["warnings"][0]


def test_threads_beyond_the_wall_are_refused_by_the_kernel(delegated: Hierarchy) -> None:
    body = """
threading.stack_size(65536)
over, count = threading.Event(), 0
with enter() as wall:
    cap = int(find_hierarchy().fs.read(f"{wall.path}/pids.max"))
    try:
        for count in range(cap + 10):
            threading.Thread(target=over.wait, daemon=True).start()
    except RuntimeError as error:
        refused = str(error)
    over.set()
tell(cap=cap, count=count, refused=refused)
"""
    facts = run_in(delegated, body)
    assert facts["count"] == facts["cap"] - 1, "the main thread is one of them"
    assert "can't start" in facts["refused"]


def test_computing_beyond_the_wall_is_throttled_by_the_kernel(delegated: Hierarchy) -> None:
    body = """
with enter() as wall:
    start = time.process_time()
    while time.process_time() < start + 0.2:
        pass
    stat = dict(line.split() for line in find_hierarchy().fs.read(f"{wall.path}/cpu.stat").splitlines())
tell(throttled=int(stat["nr_throttled"]))
"""
    assert run_in(delegated, body)["throttled"] > 0


def test_processes_started_behind_the_wall_are_brought_out_again(delegated: Hierarchy) -> None:
    body = """
import subprocess
with enter() as wall:
    child = subprocess.Popen(["sleep", "100"])
    inside = find_hierarchy().processes(wall.path)
outside = find_hierarchy().processes(group)
child.kill(); child.wait()
tell(inside=sorted(inside) == sorted([os.getpid(), child.pid]), outside=sorted(outside) == sorted(inside))
"""
    assert run_in(delegated, body) == {"inside": True, "outside": True}


def test_the_end_of_the_program_takes_the_wall_down(delegated: Hierarchy) -> None:
    assert run_in(delegated, "wall = enter(); tell(path=wall.path)")["path"]


def test_another_process_in_the_group_is_named_and_stays(delegated: Hierarchy) -> None:
    body = """
import subprocess
child = subprocess.Popen(["sleep", "100"])
wall = enter("auto")
own = find_hierarchy().own
child.kill(); child.wait()
tell(path=wall.path, own=own == group, named=f"{child.pid} " in warnings[0] and "other processes" in warnings[0])
"""
    assert run_in(delegated, body) == {"path": None, "own": True, "named": True}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_this_holds_on_a_kernel_of_its_own(tmp_path: Path) -> None:
    kernel = find_kernel()
    if kernel is None:
        pytest.skip("no linux.uml on the path (Debian: user-mode-linux), nor AGENTVM_TEST_UML")
    suites = [HERE / "test_cgroup_kernel.py", HERE / "test_cgroup_tree.py"]
    options = ["-p", "no:cacheprovider", "--basetemp=/run/tests", "-k", "not of_its_own", "--strict-markers"]
    status, output = run_in_own_kernel(kernel, tmp_path, sys.executable, "-m", "pytest", *options, *map(str, suites))
    assert status == 0, output
    assert " passed" in output
    assert "skipped" not in output


def test_where_this_process_is_can_be_found() -> None:
    """On any Linux machine, whatever it delegates."""
    try:
        place = find_hierarchy()
    except Exception as error:
        pytest.skip(f"{error}")
    assert os.getpid() in place.processes(place.own)
    assert isinstance(place.obstacle(), str)
