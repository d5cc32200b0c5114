"""preview1 attributes of open files."""

import struct
from pathlib import Path

import pytest

from agentvm import Errno, HostDirectory, Limits, ManualClock
from agentvm.abi.rights import FILE_BASE, Rights
from agentvm.kernel.stat import Filetype
from tests.abi.rig import Boot, Rig

ATIM, ATIM_NOW, MTIM, MTIM_NOW = 1, 2, 4, 8
LARGEST = (1 << 63) - 1
READ_ONLY = FILE_BASE & ~int(Rights.FD_WRITE)


def _stat(rig: Rig, fd: int) -> dict[str, int]:
    rig.ok("fd_filestat_get", fd, 128, writes=[(128, 64)])
    names = ("dev", "ino", "filetype", "nlink", "size", "atim", "mtim", "ctim")
    return dict(zip(names, struct.unpack("<QQB7xQQQQQ", rig.read(128, 64)), strict=True))


# -- fd_filestat_get --------------------------------------------------------------------------------------------------
def test_fd_filestat_get_of_a_file(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"12345")
    found = _stat(rig, fd)
    assert (found["filetype"], found["nlink"], found["size"]) == (Filetype.REGULAR_FILE, 1, 5)
    rig.ok("path_link", 3, 0, *rig.text("tmp/a"), 3, *rig.text("tmp/b"))
    assert _stat(rig, fd)["nlink"] == 2
    assert _stat(rig, rig.open("tmp/b"))["ino"] == found["ino"]


@pytest.mark.parametrize(
    ("fd", "kind"), [(0, Filetype.UNKNOWN), (1, Filetype.UNKNOWN), (3, Filetype.DIRECTORY), (4, Filetype.SOCKET_STREAM)]
)
def test_fd_filestat_get_tells_the_kind(boot: Boot, fd: int, kind: Filetype) -> None:
    assert _stat(boot(listeners=1), fd)["filetype"] == kind


def test_fd_filestat_get_of_an_unlinked_file_still_works(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"12345")
    rig.ok("path_unlink_file", 3, *rig.text("tmp/a"))
    assert (_stat(rig, fd)["nlink"], _stat(rig, fd)["size"]) == (0, 5)
    assert rig.read_fd(fd, 9) == b"12345"


# -- fd_filestat_set_size ---------------------------------------------------------------------------------------------
def test_fd_filestat_set_size_cuts_and_extends_with_zeros(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"12345")
    rig.trace.clear()
    rig.ok("fd_filestat_set_size", fd, 2, writes=[])
    rig.ok("fd_filestat_set_size", fd, 4)
    assert rig.vm.fs.read("/tmp/a") == b"12\0\0"
    assert rig.trace[0] == "fd_filestat_set_size(fd=4, size=2) -> OK"


def test_fd_filestat_set_size_refusals(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_file_bytes=100)})
    fd = rig.create("/tmp/a", b"12345")
    assert rig.call("fd_filestat_set_size", fd, 101) is Errno.EFBIG
    assert rig.call("fd_filestat_set_size", fd, 1 << 63) is Errno.EINVAL
    assert rig.call("fd_filestat_set_size", 3, 0) is Errno.EBADF
    assert rig.call("fd_filestat_set_size", 1, 0) is Errno.EINVAL
    assert rig.call("fd_filestat_set_size", rig.open("tmp/a", rights=READ_ONLY), 0) is Errno.EINVAL
    assert rig.vm.fs.read("/tmp/a") == b"12345"


# -- fd_filestat_set_times --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "flags", [0, ATIM, MTIM, ATIM | MTIM, ATIM_NOW, MTIM_NOW, ATIM_NOW | MTIM_NOW, ATIM | MTIM_NOW]
)
def test_fd_filestat_set_times_sets_what_the_flags_say(boot: Boot, flags: int) -> None:
    clock = ManualClock(realtime_ns=5_000)
    rig = boot(vm={"clock": clock})
    fd = rig.create("/tmp/a")
    before = _stat(rig, fd)
    clock.advance(1_000)
    rig.ok("fd_filestat_set_times", fd, 111, 222, flags, writes=[])
    found = _stat(rig, fd)
    now = clock.realtime_ns()
    assert found["atim"] == (111 if flags & ATIM else now if flags & ATIM_NOW else before["atim"])
    assert found["mtim"] == (222 if flags & MTIM else now if flags & MTIM_NOW else before["mtim"])


@pytest.mark.parametrize("flags", [ATIM | ATIM_NOW, MTIM | MTIM_NOW, 15, 16, 0x8000_0000])
def test_fd_filestat_set_times_refuses_contradictions_and_unknown_bits(rig: Rig, flags: int) -> None:
    assert rig.call("fd_filestat_set_times", rig.create("/tmp/a"), 1, 2, flags) is Errno.EINVAL


def test_fd_filestat_set_times_works_on_a_directory_and_not_on_a_stream(rig: Rig) -> None:
    rig.ok("fd_filestat_set_times", rig.open_dir("tmp"), 1, 2, ATIM | MTIM)
    assert rig.call("fd_filestat_set_times", 0, 1, 2, ATIM) is Errno.EINVAL


@pytest.mark.parametrize("time", [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_fd_filestat_set_times_takes_the_largest_time(boot: Boot, tmp_path: Path, time: int) -> None:
    """A host's file may not hold it; the call then says so, and nothing breaks."""
    rig = boot(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path)))
    fd = rig.create("/tmp/a")
    rig.ok("fd_filestat_set_times", fd, time, time, ATIM | MTIM)
    assert _stat(rig, fd)["mtim"] == time
    fd = rig.create("/mnt/a")
    assert rig.call("fd_filestat_set_times", fd, time, time, ATIM | MTIM) in (Errno.SUCCESS, Errno.EINVAL)
    _stat(rig, fd)


# -- fd_advise, fd_allocate -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("advice", range(6))
def test_fd_advise_takes_every_advice(rig: Rig, advice: int) -> None:
    fd = rig.create("/tmp/a", b"12345")
    rig.ok("fd_advise", fd, 0, 0, advice, writes=[])
    rig.ok("fd_advise", fd, 3, 1000, advice)


def test_fd_advise_refusals(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    assert rig.call("fd_advise", fd, 0, 1, 6) is Errno.EINVAL
    assert rig.call("fd_advise", fd, 0, 1, 0xFFFF_FFFF) is Errno.EINVAL
    assert rig.call("fd_advise", fd, 0, 1 << 63, 0) is Errno.EINVAL
    assert rig.call("fd_advise", 3, 0, 1, 0) is Errno.EBADF
    assert rig.call("fd_advise", 0, 0, 1, 0) is Errno.ESPIPE


def test_fd_allocate_grows_the_file_to_the_end_of_the_range(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"12345")
    rig.ok("fd_allocate", fd, 0, 3, writes=[])
    assert rig.vm.fs.read("/tmp/a") == b"12345"
    rig.ok("fd_allocate", fd, 6, 2)
    assert rig.vm.fs.read("/tmp/a") == b"12345\0\0\0"


def test_fd_allocate_refusals(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_file_bytes=1_000, max_filesystem_bytes=100_000)})
    fd = rig.create("/tmp/a", b"12345")
    assert rig.call("fd_allocate", fd, 0, 0) is Errno.EINVAL
    assert rig.call("fd_allocate", fd, 1 << 63, 1) is Errno.EINVAL
    assert rig.call("fd_allocate", fd, 0, 1 << 63) is Errno.EINVAL
    assert rig.call("fd_allocate", fd, LARGEST, LARGEST) is Errno.EFBIG
    assert rig.call("fd_allocate", fd, 0, 1_001) is Errno.EFBIG
    assert rig.call("fd_allocate", 3, 0, 1) is Errno.EBADF
    assert rig.call("fd_allocate", 1, 0, 1) is Errno.ESPIPE
    assert rig.vm.fs.read("/tmp/a") == b"12345"


def test_fd_allocate_past_the_vm_s_space_is_enospc_and_changes_nothing(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_filesystem_bytes=200_000)})
    fd = rig.create("/tmp/a", b"12345")
    assert rig.call("fd_allocate", fd, 0, 1_000_000) is Errno.ENOSPC
    assert _stat(rig, fd)["size"] == 5


# -- fd_sync, fd_datasync ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ["fd_sync", "fd_datasync"])
def test_fd_sync_and_datasync_of_files_and_directories(rig: Rig, call: str) -> None:
    rig.ok(call, rig.create("/tmp/a"), writes=[])
    rig.ok(call, 3)
    assert rig.call(call, 0) is Errno.EINVAL


def test_fd_sync_of_a_host_file(boot: Boot, tmp_path: Path) -> None:
    rig = boot(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path)))
    rig.ok("fd_sync", rig.create("/mnt/a"))


def test_fd_datasync_needs_one_of_the_rights_to_sync(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    rig.drop(fd, Rights.FD_DATASYNC)
    rig.ok("fd_datasync", fd)
    rig.drop(fd, Rights.FD_SYNC)
    assert rig.call("fd_datasync", fd) is Errno.ENOTCAPABLE
