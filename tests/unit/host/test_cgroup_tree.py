"""The rules of control groups on which the wall relies: the fake tree and, where there is one, the kernel's."""

import errno
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvm.host.cgroup_fs import Hierarchy
from tests.support.cgroup_tree import DISK, FakeCgroups
from tests.support.delegated_cgroup import delegated_cgroup, some_disk


class Ground:
    """A delegated group without processes, and a process outside that can be moved about."""

    def __init__(self, hierarchy: Hierarchy, pid: int, home: str, disk: str | None) -> None:
        self.fs, self.own, self.pid, self.home, self.disk = hierarchy.fs, hierarchy.own, pid, home, disk

    def write(self, path: str, text: str) -> None:
        self.fs.write(f"{self.own}/{path}", text)

    def read(self, path: str) -> str:
        return self.fs.read(f"{self.own}/{path}").strip()

    def mkdir(self, name: str) -> None:
        self.fs.mkdir(f"{self.own}/{name}")

    def rmdir(self, name: str) -> None:
        self.fs.rmdir(f"{self.own}/{name}")

    def refuses(self, path: str, text: str) -> int:
        with pytest.raises(OSError, match=r"Errno") as caught:
            self.write(path, text)
        assert caught.value.errno
        return caught.value.errno

    def clear(self) -> None:
        """Undo whatever a test left."""
        self.fs.write(f"{self.home}/cgroup.procs", str(self.pid))
        for name in self.fs.groups(self.own):
            self.rmdir(name)


@pytest.fixture(params=["fake", "kernel"])
def ground(request: pytest.FixtureRequest) -> Iterator[Ground]:
    if request.param == "fake":
        fake = FakeCgroups("/app")
        fake.place("", 42)
        yield Ground(Hierarchy(fake, "/app"), 42, "", DISK)
        return
    with delegated_cgroup() as hierarchy:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        home = next(line[3:] for line in lines if line.startswith("0::")).rstrip("/")
        sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        ground = Ground(hierarchy, sleeper.pid, home, some_disk())
        try:
            yield ground
        finally:
            ground.clear()
            sleeper.communicate(b"\n", timeout=60)


def test_a_group_with_a_process_enables_no_controllers(ground: Ground) -> None:
    ground.write("cgroup.procs", str(ground.pid))
    assert ground.refuses("cgroup.subtree_control", "+memory") == errno.EBUSY
    assert ground.read("cgroup.subtree_control") == ""


def test_a_group_that_hands_on_controllers_takes_no_process(ground: Ground) -> None:
    ground.write("cgroup.subtree_control", "+memory")
    assert ground.refuses("cgroup.procs", str(ground.pid)) == errno.EBUSY
    ground.write("cgroup.subtree_control", "-memory")
    ground.write("cgroup.procs", str(ground.pid))
    assert ground.read("cgroup.procs") == str(ground.pid)


def test_limits_are_there_once_their_controller_is_on(ground: Ground) -> None:
    ground.mkdir("leaf")
    for name, value in (("memory.max", "8192"), ("cpu.max", "5000 20000"), ("pids.max", "9"), ("io.max", "8:0 rbps=1")):
        assert ground.refuses(f"leaf/{name}", value) == errno.ENOENT
    ground.write("cgroup.subtree_control", "+memory")
    ground.write("leaf/memory.max", "8192")
    assert ground.read("leaf/memory.max") == "8192"
    ground.write("cgroup.subtree_control", "-memory")
    assert ground.refuses("leaf/memory.max", "8192") == errno.ENOENT


def test_a_limit_comes_back_without_memory_of_an_earlier_one(ground: Ground) -> None:
    ground.mkdir("leaf")
    ground.write("cgroup.subtree_control", "+pids")
    ground.write("leaf/pids.max", "9")
    ground.write("cgroup.subtree_control", "-pids")
    ground.write("cgroup.subtree_control", "+pids")
    assert ground.read("leaf/pids.max") == "max"
    ground.write("cgroup.subtree_control", "-pids")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("memory.max", "lots"),
        ("memory.max", "1 2"),
        ("memory.oom.group", "2"),
        ("cpu.max", "half"),
        ("cpu.max", "5000 999"),
        ("cpu.max", "5000 1000001"),
        ("cpu.max", "999 20000"),
        ("pids.max", "many"),
        ("pids.max", "4194305"),
        ("io.max", "rbps=1"),
    ],
)
def test_a_malformed_limit_is_refused(ground: Ground, name: str, line: str) -> None:
    controller = name.partition(".")[0]
    ground.mkdir("leaf")
    ground.write("cgroup.subtree_control", f"+{controller}")
    before = ground.read(f"leaf/{name}")
    assert ground.refuses(f"leaf/{name}", line) == errno.EINVAL
    assert ground.read(f"leaf/{name}") == before
    ground.write("cgroup.subtree_control", f"-{controller}")


def test_a_limit_on_a_disk_names_one_that_there_is_and_known_rates(ground: Ground) -> None:
    ground.mkdir("leaf")
    ground.write("cgroup.subtree_control", "+io")
    assert ground.refuses("leaf/io.max", "250:250 rbps=1") == errno.ENODEV
    if ground.disk:
        assert ground.refuses("leaf/io.max", f"{ground.disk} speed=1") == errno.EINVAL
        assert ground.refuses("leaf/io.max", f"{ground.disk} rbps=0") == errno.ERANGE
        ground.write("leaf/io.max", f"{ground.disk} rbps=1048576 wiops=10")
        assert ground.read("leaf/io.max") == f"{ground.disk} rbps=1048576 wbps=max riops=max wiops=10"
    ground.write("cgroup.subtree_control", "-io")


def test_limits_are_rounded_and_keep_what_a_line_leaves_out(ground: Ground) -> None:
    ground.mkdir("leaf")
    ground.write("cgroup.subtree_control", "+memory +cpu")
    ground.write("leaf/memory.max", "10000")
    assert ground.read("leaf/memory.max") == "8192"
    ground.write("leaf/cpu.max", "5000 20000")
    ground.write("leaf/cpu.max", "6000")
    assert ground.read("leaf/cpu.max") == "6000 20000"
    ground.write("cgroup.subtree_control", "-memory -cpu")


def test_a_controller_that_is_not_handed_down_cannot_be_handed_on(ground: Ground) -> None:
    ground.mkdir("leaf")
    assert ground.refuses("leaf/cgroup.subtree_control", "+memory") == errno.ENOENT
    assert ground.refuses("cgroup.subtree_control", "+teapot") == errno.EINVAL


def test_a_controller_stays_on_while_a_group_below_hands_it_on(ground: Ground) -> None:
    ground.mkdir("leaf")
    ground.write("cgroup.subtree_control", "+memory")
    ground.write("leaf/cgroup.subtree_control", "+memory")
    assert ground.refuses("cgroup.subtree_control", "-memory") == errno.EBUSY
    ground.write("leaf/cgroup.subtree_control", "-memory")
    ground.write("cgroup.subtree_control", "-memory")
    ground.write("cgroup.subtree_control", "-memory")  # nothing to do


def test_a_group_in_use_cannot_be_removed(ground: Ground) -> None:
    ground.mkdir("leaf")
    ground.write("leaf/cgroup.procs", str(ground.pid))
    with pytest.raises(OSError, match="busy"):
        ground.rmdir("leaf")
    ground.fs.write(f"{ground.home}/cgroup.procs", str(ground.pid))
    ground.mkdir("leaf/twig")
    with pytest.raises(OSError, match="busy"):
        ground.rmdir("leaf")
    ground.rmdir("leaf/twig")
    ground.rmdir("leaf")
    with pytest.raises(FileNotFoundError):
        ground.rmdir("leaf")


def test_a_name_is_taken_once(ground: Ground) -> None:
    ground.mkdir("leaf")
    with pytest.raises(FileExistsError):
        ground.mkdir("leaf")


def test_a_process_that_has_ended_cannot_be_moved(ground: Ground) -> None:
    assert ground.refuses("cgroup.procs", "4194303") == errno.ESRCH
