"""Where this process is among the control groups: what /proc says of hosts, containers and version 1."""

import errno
import os
from pathlib import Path

import pytest

from agentvm.errors import CgroupUnavailable
from agentvm.host.cgroup_fs import Hierarchy, HostCgroupFs, find_hierarchy
from tests.support.cgroup_tree import FakeCgroups

UNIFIED = "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
VERSION_1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
BIND = "99 98 0:26 /docker/c0ffee /sys/fs/cgroup ro master:4 - cgroup2 cgroup rw"
OUTSIDE = "99 98 0:26 /../../.. /sys/fs/cgroup rw - cgroup2 cgroup rw"
SPACES = "29 22 0:26 / /odd\\040place\\011x rw - cgroup2 cgroup2 rw"


def place(tmp_path: Path, groups: str, *mounts: str) -> tuple[str, str]:
    (tmp_path / "cgroup").write_text(groups)
    (tmp_path / "mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    found = find_hierarchy(proc=tmp_path)
    return found.fs.mount, found.own


def test_a_host_with_cgroup_v2(tmp_path: Path) -> None:
    assert place(tmp_path, "0::/user.slice/a.scope\n", UNIFIED) == ("/sys/fs/cgroup", "/user.slice/a.scope")


def test_the_root_group_is_written_without_a_name(tmp_path: Path) -> None:
    assert place(tmp_path, "0::/\n", UNIFIED) == ("/sys/fs/cgroup", "")


def test_a_hybrid_host_has_version_2_beside_version_1(tmp_path: Path) -> None:
    groups = "9:memory:/other\n1:name=systemd:/x\n0::/x\n"
    assert place(tmp_path, groups, VERSION_1, HYBRID) == ("/sys/fs/cgroup/unified", "/x")


def test_a_container_sees_a_part_of_the_tree(tmp_path: Path) -> None:
    assert place(tmp_path, "0::/docker/c0ffee\n", BIND) == ("/sys/fs/cgroup", "")
    assert place(tmp_path, "0::/docker/c0ffee/app\n", BIND) == ("/sys/fs/cgroup", "/app")


def test_a_mount_point_may_have_any_name(tmp_path: Path) -> None:
    assert place(tmp_path, "0::/x\n", SPACES) == ("/odd place\tx", "/x")


@pytest.mark.parametrize(
    ("groups", "mounts", "why"),
    [
        ("9:memory:/other\n", [VERSION_1], "only version 1"),
        ("0::/x\n", [VERSION_1], "not mounted"),
        ("0::/x\n", [], "not mounted"),
        ("0::/elsewhere\n", [BIND], "not mounted where our own group, /elsewhere"),
        ("0::/docker/c0ffee2\n", [BIND], "not mounted"),
        ("0::/\n", [OUTSIDE], "not mounted"),
        ("0::/../outside\n", [UNIFIED], "not mounted"),
    ],
)
def test_what_cannot_be_seen_is_unavailable(tmp_path: Path, groups: str, mounts: list[str], why: str) -> None:
    with pytest.raises(CgroupUnavailable, match=why):
        place(tmp_path, groups, *mounts)


def test_a_kernel_without_cgroups_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(CgroupUnavailable, match="no cgroups here"):
        find_hierarchy(proc=tmp_path)


def test_another_place_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/x\n")
    (tmp_path / "mountinfo").write_text("")
    assert find_hierarchy(mount="/elsewhere/", proc=tmp_path).fs.mount == "/elsewhere"


def test_writing_makes_no_files(tmp_path: Path) -> None:
    fs = HostCgroupFs(str(tmp_path))
    fs.mkdir("/leaf")
    with pytest.raises(FileNotFoundError):
        fs.write("/leaf/memory.max", "1")
    (tmp_path / "leaf" / "memory.max").write_text("max\n")
    fs.write("/leaf/memory.max", "123\n")
    assert fs.read("/leaf/memory.max") == "123\n"
    assert (fs.groups("/"), fs.groups("/leaf")) == (["leaf"], [])
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        fs.rmdir("/leaf")


def test_a_group_of_threads_is_no_place_for_a_wall() -> None:
    class Threaded(FakeCgroups):
        def read(self, path: str) -> str:
            return "threaded\n" if path.endswith("/cgroup.type") else super().read(path)

    tree = Threaded("/app", [os.getpid()])
    assert "'threaded'" in Hierarchy(tree, "/app").obstacle()


def test_a_process_of_another_pid_namespace_counts_as_another() -> None:
    tree = FakeCgroups("/app", [os.getpid(), 0])
    assert "other processes" in Hierarchy(tree, "/app").obstacle()
