"""A guest at each cap sees the errno that Linux would give, goes on, and is counted; nobody else notices."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentvm import AgentVM, HostDirectory, Result
from tests.limits.harness import MIB, TIGHT, beside_a_sibling, drives, opened
from tests.limits.texts import write_nonblocking
from tests.support.fixtures import guest

PAGE = 65_536
EAGAIN = 6


@dataclass(frozen=True)
class Case:
    """A guest that runs into one limit: what it is called with, and the lines that it must print."""

    limit: str
    guest: str
    args: Sequence[str]
    says: Sequence[str]
    limits: dict[str, int | float | str] = field(default_factory=dict)
    #: Whether a directory of the host is mounted at /mnt.
    mounted: bool = False
    why: str = ""

    def __str__(self) -> str:
        return f"{self.limit}{' ' if self.why else ''}{self.why}"


CASES = (
    Case(
        "max_open_fds_per_process",
        "fds",
        ["open"],
        ["opened 16", "errno EMFILE", "after one close: same fd"],
        {"max_open_fds_per_process": 20},
    ),
    Case("max_open_fds_per_process", "fds", ["renumber"], ["2000 rounds"], {}, why="renumber frees its slot"),
    Case("max_filesystem_bytes", "fsbytes", ["fill", "/f"], ["errno ENOSPC", "unlink OK", "again the same"]),
    Case(
        "max_filesystem_bytes",
        "fsbytes",
        ["fill", "/f", "99999999", "1"],
        ["errno ENOSPC"],
        {"max_filesystem_bytes": "64KiB"},
        why="byte by byte",
    ),
    Case("max_filesystem_bytes", "fsbytes", ["many", "/f"], ["removed"], why="many files"),
    Case(
        "max_filesystem_bytes",
        "fsbytes",
        ["held", "/f", "3000000"],
        ["wrote 3000000", "while held: errno ENOSPC", "after close: wrote 3000000"],
        why="unlinked and open",
    ),
    Case(
        "max_filesystem_bytes",
        "fsbytes",
        ["allocate", "/f", "1099511627776"],
        ["allocate ENOSPC", "size 0"],
        why="allocate",
    ),
    Case(
        "max_filesystem_bytes",
        "inodes",
        ["links", "/", "100000"],
        ["errno ENOSPC", "removed", "again the same"],
        {"max_filesystem_bytes": "128KiB"},
        why="names",
    ),
    Case("max_inodes", "inodes", ["files", "/"], ["errno ENOSPC", "removed", "again the same"], {"max_inodes": 300}),
    Case(
        "max_inodes",
        "inodes",
        ["dirs", "/"],
        ["errno ENOSPC", "removed", "again the same"],
        {"max_inodes": 300},
        why="directories",
    ),
    Case(
        "max_inodes",
        "inodes",
        ["symlinks", "/"],
        ["errno ENOSPC", "removed", "again the same"],
        {"max_inodes": 300},
        why="symlinks",
    ),
    Case(
        "max_temp_storage_bytes",
        "fsbytes",
        ["fill", "/tmp/f"],
        ["errno ENOSPC", "again the same"],
        {"max_temp_storage_bytes": "512KiB"},
    ),
    Case(
        "max_file_bytes",
        "fsbytes",
        ["fill", "/f"],
        ["wrote 100001", "errno EFBIG", "size 100001", "again the same"],
        {"max_file_bytes": 100_001},
    ),
    Case(
        "max_file_bytes",
        "fsbytes",
        ["truncate", "/f", "100002"],
        ["ftruncate EFBIG", "size 0"],
        {"max_file_bytes": 100_001},
        why="truncate",
    ),
    Case(
        "max_file_bytes",
        "fsbytes",
        ["fill", "/mnt/f"],
        ["wrote 100001", "errno EFBIG", "size 100001"],
        {"max_file_bytes": 100_001},
        mounted=True,
        why="on a host mount",
    ),
    Case(
        "max_host_write_bytes",
        "fsbytes",
        ["fill", "/mnt/f"],
        ["wrote 1048576", "errno ENOSPC", "size 1048576", "unlink OK", "again the same"],
        {"max_host_write_bytes": "1MiB"},
        mounted=True,
    ),
    Case(
        "max_host_write_bytes",
        "fsbytes",
        ["truncate", "/mnt/f", "1048577"],
        ["ftruncate ENOSPC", "size 0"],
        {"max_host_write_bytes": "1MiB"},
        mounted=True,
        why="truncate",
    ),
    Case(
        "max_host_inodes",
        "inodes",
        ["files", "/mnt"],
        ["created 40", "errno ENOSPC", "removed", "again the same"],
        {"max_host_inodes": 40},
        mounted=True,
    ),
    Case("max_path_bytes", "paths", ["path", "4096"], ["open ENAMETOOLONG"]),
    Case("max_path_bytes", "paths", ["path", "100000"], ["open ENAMETOOLONG"], why="100,000 bytes"),
    Case("max_path_bytes", "paths", ["target", "4096"], ["symlink ENAMETOOLONG"], why="symlink target"),
    Case("max_name_bytes", "paths", ["name", "256"], ["create ENAMETOOLONG"]),
    Case("max_symlinks", "paths", ["chain", "41"], ["open ELOOP"]),
    Case("max_symlinks", "paths", ["self", "0"], ["symlink OK", "open ELOOP"], why="a loop"),
    Case("max_iovecs", "iovecs", ["writev", "1025"], ["writev EINVAL", "readv EINVAL"]),
    Case("max_poll_subscriptions", "polls", ["clocks", "1025"], ["poll EINVAL"]),
    Case(
        "max_memory_per_process_bytes",
        "memory",
        ["malloc", "65536"],
        ["errno ENOMEM"],
        {"max_memory_per_process_bytes": "4MiB", "max_memory_bytes": "8MiB"},
    ),
    Case("max_memory_bytes", "memory", ["malloc", "65536"], ["errno ENOMEM"], {"max_memory_bytes": "4MiB"}),
)


@drives(*(case.limit for case in CASES))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_guest_at_a_cap_sees_its_errno_and_goes_on(case: Case, tmp_path: Path) -> None:
    def scenario(vm: AgentVM) -> Result:
        if case.mounted:
            vm.mount("/mnt", HostDirectory(tmp_path))
        return vm.run(guest(case.guest), args=case.args)

    result = beside_a_sibling(scenario, **case.limits)
    assert result.exit_code == 0, result.describe()
    lines = result.stdout_text.splitlines()
    assert not set(case.says) - set(lines), lines
    use = result.usage[case.limit]
    assert use.peak <= use.cap
    assert use.refused >= 1 or case.why == "renumber frees its slot"


AT_THE_CAP = (
    Case("max_name_bytes", "paths", ["name", "255"], ["create OK", "unlink OK"]),
    Case("max_path_bytes", "paths", ["path", "4095"], ["open OK"]),
    Case("max_path_bytes", "paths", ["target", "4095"], ["symlink OK", "readlink 4095 the same"], why="symlink target"),
    Case("max_symlinks", "paths", ["chain", "40"], ["open OK"]),
    Case("max_iovecs", "iovecs", ["writev", "1024"], ["writev OK 1024", "readv OK 1024", "content the same"]),
    Case("max_poll_subscriptions", "polls", ["clocks", "1024"], ["poll OK", "events 1024"]),
    Case("max_file_bytes", "fsbytes", ["fill", "/f", "100001"], ["wrote 100001"], {"max_file_bytes": 100_001}),
)


@pytest.mark.parametrize("case", AT_THE_CAP, ids=str)
def test_what_just_fits_is_not_refused(case: Case) -> None:
    with opened(**case.limits) as vm:
        result = vm.run(guest(case.guest), args=case.args)
    lines = result.stdout_text.splitlines()
    assert not set(case.says) - set(lines), lines
    assert result.usage[case.limit].refused == 0


# -- descriptors of several processes ---------------------------------------------------------------------------------


@drives("max_open_fds")
def test_second_process_gets_enfile_when_the_first_holds_the_rest() -> None:
    def scenario(vm: AgentVM) -> Result:
        with vm.spawn(guest("fds"), args=["hold"]) as holder:
            said = b""
            while b"errno" not in said:
                said += holder.stdout.read(100)
            assert said.startswith(b"opened 8\nerrno EMFILE"), said
            beside = vm.run(guest("fds"), args=["open", "/other"])
            holder.stdin.close()
            assert holder.wait(60).exit_code == 0
        return beside

    result = beside_a_sibling(scenario, max_open_fds=20, max_open_fds_per_process=12)
    assert result.stdout_text.splitlines() == ["opened 4", "errno ENFILE", "after one close: same fd"]
    assert result.usage["max_open_fds"].refused >= 1
    assert result.usage["max_open_fds"].peak == 20


def test_cap_of_the_vm_alone_lowers_that_of_the_process_and_emfile_wins() -> None:
    with opened(max_open_fds=20) as vm:
        assert "errno EMFILE" in vm.run(guest("fds")).stdout_text


# -- output -----------------------------------------------------------------------------------------------------------


@drives("max_log_bytes")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_captured_output_past_the_cap_is_enospc_and_marked(stream: str) -> None:
    def scenario(vm: AgentVM) -> tuple[Result, str]:
        result = vm.run(guest("output"), args=[stream, str(8 * MIB), "5000"])
        return result, vm.fs.read("/output.report").decode()

    result, report = beside_a_sibling(scenario, max_log_bytes="3MiB")
    assert report.splitlines() == [f"wrote {3 * MIB}", "errno ENOSPC", "short 1"]
    assert len(getattr(result, stream)) == 3 * MIB
    assert result.truncated
    assert result.exit_code == 1
    use = result.usage["max_log_bytes"]
    assert (use.peak, use.refused >= 1) == (3 * MIB, True)


def test_captured_output_is_held_once() -> None:
    """Its peak in memory is what was printed, not twice that."""
    result = beside_a_sibling(
        lambda vm: vm.run(guest("output"), args=["stdout", str(64 * MIB), "60000"]), max_log_bytes="64MiB"
    )
    assert len(result.stdout) == 64 * MIB


@drives("max_output_bytes")
def test_streamed_output_past_the_cap_is_enospc() -> None:
    def scenario(vm: AgentVM) -> tuple[int, str]:
        with vm.spawn(guest("output"), args=["stdout", str(8 * MIB), "5000"], stdin=b"") as process:
            arrived = sum(map(len, process.stdout))
            assert process.wait(60).exit_code == 1
        return arrived, vm.fs.read("/output.report").decode()

    arrived, report = beside_a_sibling(scenario, max_output_bytes=1_000_001)
    assert arrived == 1_000_001
    assert report.splitlines()[:2] == ["wrote 1000001", "errno ENOSPC"]


@drives("max_pipe_bytes")
def test_full_pipe_holds_no_more_than_its_cap_and_loses_nothing() -> None:
    def scenario(vm: AgentVM) -> tuple[list[int], str]:
        with vm.spawn(guest("output"), args=["stdout", "300000", "60000"], stdin=b"") as process:
            pieces = []
            while piece := process.stdout.read(1 << 20):
                pieces.append(len(piece))
            assert process.wait(60).exit_code == 0
        return pieces, vm.fs.read("/output.report").decode()

    pieces, report = beside_a_sibling(scenario, max_pipe_bytes=4096)
    assert sum(pieces) == 300_000
    assert max(pieces) <= 4096
    assert report.splitlines() == ["wrote 300000", "errno OK", "short 0"]


def test_full_pipe_is_eagain_for_a_guest_that_does_not_wait() -> None:
    with opened(max_pipe_bytes=4096) as vm, vm.spawn(write_nonblocking(), stdin=b"") as process:
        assert process.wait(60).exit_code == EAGAIN
        assert len(process.stdout.read()) == 4096


@drives("max_io_bytes")
def test_one_call_moves_no_more_than_the_cap() -> None:
    def scenario(vm: AgentVM) -> tuple[int, str, Result]:
        with vm.spawn(guest("output"), args=["stdout", "100000", "10000"], stdin=b"") as process:
            arrived = sum(map(len, process.stdout))
            result = process.wait(60)
        return arrived, vm.fs.read("/output.report").decode(), result

    arrived, report, result = beside_a_sibling(scenario, max_io_bytes=1000)
    assert arrived == 100_000
    wrote, errno, short = report.splitlines()
    assert (wrote, errno) == ("wrote 100000", "errno OK")
    assert int(short.split()[1]) >= 90
    assert result.usage["max_io_bytes"].refused >= 90


def test_one_call_on_a_host_file_moves_no_more_than_the_cap(tmp_path: Path) -> None:
    with opened(max_io_bytes=1000) as vm:
        vm.mount("/mnt", HostDirectory(tmp_path))
        result = vm.run(guest("fsbytes"), args=["fill", "/mnt/f", "100000", "10000"])
    assert {"wrote 100000", "again the same"} <= set(result.stdout_text.splitlines())
    assert result.usage["max_io_bytes"].refused >= 90


# -- memory -----------------------------------------------------------------------------------------------------------


def pages(limits: dict[str, int | float | str]) -> int:
    with opened(TIGHT, **limits) as vm:
        result = vm.run(guest("memory"), args=["grow"]).check()
    assert result.stdout_text.startswith("pages ")
    return int(result.stdout_text.split()[1])


def overhead_bytes() -> int:
    """What the guest is charged beside its pages: its table."""
    with opened() as vm:
        result = vm.run(guest("memory"), args=["peak"]).check()
    return result.usage.peak_memory_bytes - PAGE * int(result.stdout_text.split()[1])


@pytest.mark.parametrize("limit", ["max_memory_bytes", "max_memory_per_process_bytes"])
def test_memory_is_exact_to_the_page(limit: str) -> None:
    cap = 40 * PAGE + overhead_bytes()
    assert pages({limit: cap}) == 40
    assert pages({limit: cap - 1}) == 39
    assert pages({limit: cap + PAGE - 1}) == 40


def test_second_process_is_refused_the_memory_that_the_first_holds() -> None:
    def scenario(vm: AgentVM) -> tuple[Result, Result]:
        with vm.spawn(guest("memory"), args=["hold", "50"]) as holder:
            said = b""
            while b"touched 50" not in said:
                said += holder.stdout.read(100)
            refused = vm.run(guest("memory"), args=["single", "60"])
            holder.stdin.close()
            assert holder.wait(60).exit_code == 0
        return refused, vm.run(guest("memory"), args=["single", "60"])

    refused, later = beside_a_sibling(scenario, max_memory_bytes=100 * PAGE)
    assert refused.stdout_text.splitlines() == ["grow refused", "pages more 0"]
    assert refused.usage["max_memory_bytes"].refused >= 1
    assert later.stdout_text.splitlines() == ["grow OK", "pages more 60"]


@pytest.mark.parametrize("mode", ["touch", "malloc"])
def test_touched_memory_costs_the_host_no_more_than_its_cap(mode: str) -> None:
    args = [mode, "990" if mode == "touch" else "1000000"]
    result = beside_a_sibling(lambda vm: vm.run(guest("memory"), args=args), max_memory_bytes="64MiB")
    assert result.exit_code == 0
    assert result.usage["max_memory_bytes"].peak > 60 * MIB
