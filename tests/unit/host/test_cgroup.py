"""Entering and leaving the outer wall, on a tree that refuses as the kernel does: what is written, in which order, and
that nothing stays behind, whatever goes wrong."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest

from agentvm.errors import CgroupUnavailable, InvalidArgument, UnsupportedOnPlatform
from agentvm.host.block_device import BlockDevice, Disks
from agentvm.host.cgroup import Cgroup, Mode
from agentvm.host.cgroup_fs import Hierarchy
from agentvm.host.cgroup_limits import NotEnforced, derive_wall, wall_files
from agentvm.host.cgroup_plan import plan_wall
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from agentvm.limits.spec import Cap
from tests.support.cgroup_tree import DISK, FakeCgroups

PID = os.getpid()
GROUP, HOST = f"/app/agentvm.{PID}", f"/app/agentvm.{PID}.host"
SDA = BlockDevice(DISK, "/dev/sda")
CAPS = Caps(Limits(max_disk_read_bytes_per_second="1MiB/s"))
ALL_CAPS = {"max_memory_bytes", "max_cpu_percent", "max_processes", "max_disk_read_bytes_per_second"}


def enter(
    fake: FakeCgroups,
    mode: Mode | str = Mode.AUTO,
    *,
    caps: Mapping[str, Cap] = CAPS,
    warn: Callable[[str], None] = print,
) -> Cgroup:
    return Cgroup.enter(caps, mode, disks=Disks((SDA,), ()), hierarchy=Hierarchy(fake, fake.own), warn=warn)


def delegated(**more: object) -> FakeCgroups:
    return FakeCgroups("/app", [PID], **more)  # type: ignore[arg-type]


def missed(group: Cgroup) -> set[str]:
    return {record.cap for record in group.not_enforced}


def test_the_order_is_group_controllers_limits_and_only_then_the_process() -> None:
    fake = delegated()
    wall = enter(fake, Mode.REQUIRED)
    limits = wall_files(derive_wall(CAPS, cores=os.cpu_count() or 1), [SDA])
    assert fake.log == [
        (HOST, "mkdir"),
        (f"{HOST}/cgroup.procs", str(PID)),
        ("/app/cgroup.subtree_control", "+memory"),
        ("/app/cgroup.subtree_control", "+cpu"),
        ("/app/cgroup.subtree_control", "+pids"),
        ("/app/cgroup.subtree_control", "+io"),
        (GROUP, "mkdir"),
        *((f"{GROUP}/{file.name}", file.value) for file in limits),
        (f"{GROUP}/cgroup.procs", str(PID)),
    ]
    assert fake.home(PID) == GROUP == wall.path
    assert wall.files == limits
    assert wall.not_enforced == ()
    wall.leave()


def test_the_limits_are_in_force_while_inside() -> None:
    fake = delegated()
    with enter(fake) as wall:
        read = {file.name: fake.read(f"{wall.path}/{file.name}").strip() for file in wall.files}
    assert read["memory.oom.group"] == "1"
    assert read["memory.swap.max"] == "0"
    assert read["io.max"] == f"{DISK} rbps=1048576 wbps=max riops=max wiops=max"
    assert read["cpu.max"] == "24000 20000"
    assert int(read["memory.max"]) > 512 << 20
    assert int(read["pids.max"]) > 64


def test_leaving_puts_everything_back() -> None:
    fake = delegated()
    before = fake.tree()
    wall = enter(fake)
    wall.leave()
    assert fake.tree() == before
    assert (wall.path, wall.files) == (None, ())
    log = len(fake.log)
    wall.leave()
    assert len(fake.log) == log, "a second time there is nothing to do"


def test_an_exception_inside_leaves_nothing() -> None:
    fake = delegated()
    before = fake.tree()
    with pytest.raises(KeyError), enter(fake):
        raise KeyError
    assert fake.tree() == before


def test_processes_started_inside_come_along_on_the_way_out() -> None:
    fake = delegated()
    with enter(fake) as wall:
        assert wall.path
        fake.place(wall.path, 77)
    assert (fake.home(PID), fake.home(77)) == ("/app", "/app")
    assert fake.groups("/app") == []


def test_a_controller_that_was_on_before_stays_on() -> None:
    fake = FakeCgroups("", [PID, 1])
    fake.write("/cgroup.subtree_control", "+memory")
    with enter(fake):
        assert fake.tree()[""][1] == {"cpu", "io", "memory", "pids"}
    assert fake.tree() == {"": ([1, PID], {"memory"})}


def test_in_the_root_of_all_the_process_needs_no_place_to_wait() -> None:
    fake = FakeCgroups("", [1, PID])
    with enter(fake, Mode.REQUIRED) as wall:
        assert wall.path == f"/agentvm.{PID}"
        assert set(fake.tree()) == {"", wall.path}
    assert fake.tree() == {"": ([1, PID], set())}


def test_in_the_root_a_controller_that_others_use_by_now_stays_on() -> None:
    fake = FakeCgroups("", [1, PID])
    with enter(fake):
        fake.mkdir("/other")
    assert fake.tree() == {"": ([1, PID], {"cpu", "io", "memory", "pids"}), "/other": ([], set())}


@pytest.mark.parametrize("missing", ["memory", "cpu", "pids", "io"])
def test_auto_goes_on_without_a_controller_that_is_not_delegated(missing: str) -> None:
    fake = delegated(controllers={"memory", "cpu", "pids", "io"} - {missing})
    before, lines = fake.tree(), list[str]()
    lost = {
        "memory": "max_memory_bytes",
        "cpu": "max_cpu_percent",
        "pids": "max_processes",
        "io": "max_disk_read_bytes_per_second",
    }[missing]
    with enter(fake, "auto", warn=lines.append) as wall:
        why = f"the controller '{missing}' is not delegated to the group /app"
        assert wall.not_enforced == (NotEnforced(lost, why),)
        assert lines == [f"the host does not enforce {lost}: {why}"]
        assert {cap for file in wall.files for cap in file.caps} == ALL_CAPS - {lost}
        assert fake.home(PID) == GROUP
    assert fake.tree() == before


def test_required_refuses_before_anything_is_changed() -> None:
    fake = delegated(controllers={"memory", "cpu"})
    with pytest.raises(CgroupUnavailable, match=r"max_processes.*'pids'.*cgroup=auto") as caught:
        enter(fake, "required")
    assert fake.log == []
    records = caught.value.values["not_enforced"]
    assert isinstance(records, tuple)
    assert {record.cap for record in records} == {"max_processes", "max_disk_read_bytes_per_second"}


def test_other_processes_in_our_group_are_left_alone() -> None:
    fake = delegated()
    fake.place("/app", 4194303)
    lines: list[str] = []
    wall = enter(fake, warn=lines.append)
    assert fake.log == []
    assert wall.path is None
    assert missed(wall) == ALL_CAPS
    (line,) = lines
    assert "max_memory_bytes, max_cpu_percent, max_processes" in line
    assert line.endswith("other processes are in the group /app (4194303), and would have to leave it")
    with pytest.raises(CgroupUnavailable, match="other processes"):
        enter(fake, Mode.REQUIRED)
    assert fake.log == []


def test_a_read_only_tree_is_said_and_not_tried() -> None:
    fake = delegated()
    fake.writable = False
    wall = enter(fake, warn=lambda _line: None)
    assert missed(wall) == ALL_CAPS
    assert "not writable" in wall.not_enforced[0].why
    with pytest.raises(CgroupUnavailable, match="not writable"):
        enter(fake, Mode.REQUIRED)
    assert fake.log == []


def test_a_kernel_without_swap_accounting_lacks_one_file_and_no_cap() -> None:
    fake = delegated()
    fake.absent = {"memory.swap.max", "memory.oom.group"}
    with enter(fake, Mode.REQUIRED) as wall:
        assert wall.not_enforced == ()
        assert [file.name for file in wall.files] == ["memory.max", "cpu.max", "pids.max", "io.max"]


#: Every change on the way in, as the file or group that is changed.
CHANGES = [
    HOST,
    f"{HOST}/cgroup.procs",
    "/app/cgroup.subtree_control",
    GROUP,
    f"{GROUP}/memory.max",
    f"{GROUP}/memory.swap.max",
    f"{GROUP}/memory.oom.group",
    f"{GROUP}/cpu.max",
    f"{GROUP}/pids.max",
    f"{GROUP}/io.max",
    f"{GROUP}/cgroup.procs",
]


@pytest.mark.parametrize("failing", CHANGES)
@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.EINVAL], ids=["EACCES", "EBUSY", "EINVAL"])
def test_required_undoes_all_where_any_step_fails(failing: str, number: int) -> None:
    fake = delegated()
    before = fake.tree()
    fake.broken = {failing: number}
    with pytest.raises(CgroupUnavailable, match=os.strerror(number)):
        enter(fake, Mode.REQUIRED)
    assert fake.tree() == before


@pytest.mark.parametrize("failing", CHANGES)
def test_auto_says_what_failed_and_keeps_the_rest(failing: str) -> None:
    fake = delegated()
    before, lines = fake.tree(), list[str]()
    fake.broken = {failing: errno.EACCES}
    wall = enter(fake, warn=lines.append)
    assert len(lines) == 1
    assert os.strerror(errno.EACCES) in lines[0]
    if failing.endswith((".max", ".group")):
        assert fake.home(PID) == GROUP
        assert missed(wall) < ALL_CAPS
        assert failing.rsplit("/", 1)[1] not in {file.name for file in wall.files}
    else:
        assert fake.tree() == before
        assert (wall.path, wall.files) == (None, ())
        assert missed(wall) == ALL_CAPS
    wall.leave()
    assert fake.tree() == before


class Interrupted(FakeCgroups):
    """Ctrl-C comes right before, or right after, the change with the number `at`."""

    at, late = -1, False

    def write(self, path: str, text: str) -> None:
        self._change(super().write, path, text)

    def mkdir(self, path: str) -> None:
        self._change(super().mkdir, path)

    def _change(self, change: Callable[..., None], *arguments: str) -> None:
        self.at -= 1
        if self.at == -1 and not self.late:
            raise KeyboardInterrupt
        change(*arguments)
        if self.at == -1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(len(CHANGES) + 3))
def test_an_interrupt_at_any_step_leaves_nothing(at: int, late: bool) -> None:
    fake = Interrupted("/app", [PID])
    before = fake.tree()
    fake.at, fake.late = at, late
    with pytest.raises(KeyboardInterrupt):
        enter(fake)
    assert fake.tree() == before


def test_what_cannot_be_removed_is_said_and_the_rest_is() -> None:
    fake = delegated()
    lines: list[str] = []
    wall = enter(fake, warn=lines.append)
    fake.broken = {GROUP: errno.EACCES}
    wall.leave()
    assert lines == [f"the group {GROUP} stays behind: Permission denied"]
    assert fake.home(PID) == "/app"
    assert fake.groups("/app") == [f"agentvm.{PID}"]


def test_groups_of_programs_that_were_killed_are_swept_up() -> None:
    fake = delegated()
    for name in ("agentvm.4194303", "agentvm.4194303.host", "agentvm.4194302", "agentvm.1", "agentvm.x", "other"):
        fake.mkdir(f"/app/{name}")
    fake.place("/app/agentvm.4194302", 5)  # its child lives on
    with enter(fake):
        pass
    assert set(fake.groups("/app")) == {"agentvm.4194302", "agentvm.1", "agentvm.x", "other"}


def test_off_does_nothing() -> None:
    fake = delegated()
    with enter(fake, "off") as wall:
        assert (wall.path, wall.files, wall.not_enforced) == (None, (), ())
    assert fake.log == []


def test_an_unknown_mode_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgument, match=r"'always'.*off, auto, required"):
        enter(delegated(), "always")


def test_caps_that_are_not_set_are_neither_enforced_nor_missed() -> None:
    fake = delegated(controllers=())
    free = Caps(Limits(max_memory_bytes="none", max_cpu_percent="none", max_processes="none"))
    wall = enter(fake, Mode.REQUIRED, caps=free)
    assert (wall.path, wall.not_enforced, fake.log) == (None, (), [])


def test_a_rate_on_a_path_without_a_disk_is_said() -> None:
    plan = plan_wall(CAPS, disks=Disks((), ("/dev/shm",)), hierarchy=Hierarchy(delegated(), "/app"))
    (record,) = plan.not_enforced
    assert record.cap == "max_disk_read_bytes_per_second"
    assert "/dev/shm" in record.why
    without_rates = plan_wall(Caps(Limits()), disks=Disks((), ("/dev/shm",)), hierarchy=Hierarchy(delegated(), "/app"))
    assert without_rates.not_enforced == ()


def test_elsewhere_than_on_linux_there_is_no_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    lines: list[str] = []
    wall = Cgroup.enter(Caps(Limits()), Mode.AUTO, warn=lines.append)
    assert wall.path is None
    assert missed(wall) == {"max_memory_bytes", "max_cpu_percent", "max_processes"}
    assert len(lines) == 1
    assert "only Linux" in lines[0]
    with pytest.raises(UnsupportedOnPlatform, match="only Linux"):
        Cgroup.enter(Caps(Limits()), Mode.REQUIRED)


_AT_EXIT = """
import os, sys
from agentvm.host.cgroup import Cgroup
from agentvm.host.cgroup_fs import Hierarchy
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from tests.support.cgroup_tree import FakeCgroups
import atexit
fake = FakeCgroups("/app", [os.getpid()])
atexit.register(lambda: print(sorted(fake.tree())))
Cgroup.enter(Caps(Limits()), "required", hierarchy=Hierarchy(fake, "/app"))
if os.fork() == 0:
    sys.exit()
os.wait()
{}
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "raise ValueError"])
def test_the_end_of_the_program_leaves_nothing_and_that_of_a_fork_changes_nothing(end: str) -> None:
    script = [sys.executable, "-c", _AT_EXIT.format(end)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    child, parent = map(eval, done.stdout.splitlines())
    assert len(child) == 4, "the fork found the wall standing, and left it so"
    assert parent == ["", "/app"]
