"""preview1 descriptors: closing, renumbering, flags, rights, preopens."""

import pytest

from agentvm import AgentVM, Errno
from agentvm.abi.rights import ALL, DIRECTORY_BASE, DIRECTORY_INHERITING, FILE_BASE, STDIN, STDOUT, Rights
from agentvm.kernel.stat import Filetype
from tests.abi.rig import Boot, Rig

APPEND, DSYNC, NONBLOCK, RSYNC, SYNC = 1, 2, 4, 8, 16


def _make_directories(vm: AgentVM) -> None:
    vm.fs.mkdir("/data")


def _fdstat(rig: Rig, fd: int) -> tuple[int, int, int, int]:
    rig.ok("fd_fdstat_get", fd, 64, writes=[(64, 24)])
    return rig.number(64, 1), rig.number(66, 2), rig.number(72, 8), rig.number(80, 8)


# -- fd_close ---------------------------------------------------------------------------------------------------------
def test_fd_close_frees_the_number_for_the_next_open(rig: Rig) -> None:
    first, second = rig.create("/tmp/a"), rig.create("/tmp/b")
    assert (first, second) == (4, 5)
    rig.trace.clear()
    rig.ok("fd_close", first, writes=[])
    assert rig.call("fd_close", first) is Errno.EBADF
    assert rig.trace == ["fd_close(fd=4) -> OK", "fd_close(fd=4) -> EBADF"]
    assert rig.open("tmp/b") == first


def test_fd_close_works_on_standard_streams_and_preopens(rig: Rig) -> None:
    for fd in (0, 1, 2, 3):
        rig.ok("fd_close", fd)
    assert rig.open_fds() == []


# -- fd_renumber ------------------------------------------------------------------------------------------------------
def test_fd_renumber_moves_a_descriptor_and_closes_what_was_there(rig: Rig) -> None:
    a, b = rig.create("/tmp/a", b"aaaa"), rig.create("/tmp/b", b"bbbb")
    assert rig.read_fd(a, 1) == b"a"
    rig.trace.clear()
    rig.ok("fd_renumber", a, b, writes=[])
    assert rig.trace == ["fd_renumber(fd=4, to=5) -> OK"]
    assert rig.open_fds() == [0, 1, 2, 3, b]
    assert rig.read_fd(b, 9) == b"aaa"
    assert rig.open("tmp/a") == a


def test_fd_renumber_to_itself_changes_nothing(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"a")
    rig.ok("fd_renumber", fd, fd)
    assert rig.read_fd(fd, 9) == b"a"


def test_fd_renumber_asks_that_both_are_open(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"a")
    assert rig.call("fd_renumber", fd, 9) is Errno.EBADF
    assert rig.call("fd_renumber", 9, fd) is Errno.EBADF
    assert rig.call("fd_renumber", 9, 9) is Errno.EBADF
    assert rig.call("fd_renumber", fd, 0x7FFF_FFFF) is Errno.EBADF
    assert rig.read_fd(fd, 9) == b"a"


def test_fd_renumber_onto_a_stream_redirects_it(boot: Boot) -> None:
    rig = boot(setup=lambda vm: vm.fs.write("/tmp/out", b""))
    rig.ok("fd_renumber", rig.open("tmp/out"), 1)
    rig.write(1, b"to the file")
    assert rig.vm.fs.read("/tmp/out") == b"to the file"
    assert rig.instance.close().stdout == b""


def test_fd_renumber_keeps_the_name_of_a_preopen(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    rig.ok("fd_renumber", 3, fd)
    rig.ok("fd_prestat_get", fd, 64)
    assert rig.call("fd_prestat_get", 3, 64) is Errno.EBADF


def test_fd_renumber_gives_the_place_of_the_closed_descriptor_back(boot: Boot) -> None:
    rig = boot(vm={"limits": _limits(max_open_fds_per_process=6)})
    rig.ok("fd_renumber", rig.create("/tmp/a"), rig.create("/tmp/b"))
    rig.open("tmp/a")
    assert rig.call("path_open", 3, 0, *rig.text("tmp/a"), 0, FILE_BASE, 0, 0, 64) is Errno.EMFILE


def _limits(**caps: int) -> object:
    from agentvm import Limits

    return Limits(**caps)


# -- fd_fdstat_get, fd_fdstat_set_flags -------------------------------------------------------------------------------
def test_fd_fdstat_get_of_each_kind_of_file(boot: Boot) -> None:
    rig = boot(listeners=1)
    assert _fdstat(rig, 0) == (Filetype.UNKNOWN, 0, STDIN, 0)
    assert _fdstat(rig, 1) == (Filetype.UNKNOWN, 0, STDOUT, 0)
    assert _fdstat(rig, 3) == (Filetype.DIRECTORY, 0, DIRECTORY_BASE, DIRECTORY_INHERITING)
    assert _fdstat(rig, 4)[0] == Filetype.SOCKET_STREAM
    assert _fdstat(rig, rig.create("/tmp/a")) == (Filetype.REGULAR_FILE, 0, FILE_BASE, 0)
    null = _fdstat(rig, rig.open("dev/null"))
    assert null[0] == Filetype.CHARACTER_DEVICE
    assert null[2] & Rights.FD_SEEK  # so that isatty(3) of wasi-libc says no
    assert rig.trace[0] == "fd_fdstat_get(fd=0, result=64) -> OK"


def test_fd_fdstat_get_of_a_stream_opened_by_its_path_has_no_right_to_seek(rig: Rig) -> None:
    rights = _fdstat(rig, rig.open("dev/stdin", rights=FILE_BASE & ~int(Rights.FD_WRITE)))[2]
    assert rights & Rights.FD_READ
    assert not rights & (Rights.FD_SEEK | Rights.FD_TELL)


@pytest.mark.parametrize("flags", [0, APPEND, NONBLOCK, APPEND | NONBLOCK])
def test_fd_fdstat_set_flags_sets_append_and_nonblock(rig: Rig, flags: int) -> None:
    fd = rig.create("/tmp/a")
    rig.ok("fd_fdstat_set_flags", fd, flags, writes=[])
    assert _fdstat(rig, fd)[1] == flags
    rig.ok("fd_fdstat_set_flags", fd, 0)
    assert _fdstat(rig, fd)[1] == 0


def test_fd_fdstat_set_flags_append_moves_writes_to_the_end(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"123")
    rig.set_flags(fd, APPEND)
    rig.write(fd, b"4")
    assert rig.vm.fs.read("/tmp/a") == b"1234"


@pytest.mark.parametrize("flags", [DSYNC, RSYNC, SYNC, 32, 0x8000_0000])
def test_fd_fdstat_set_flags_refuses_sync_flags_and_unknown_bits(rig: Rig, flags: int) -> None:
    assert rig.call("fd_fdstat_set_flags", rig.create("/tmp/a"), flags) is Errno.EINVAL


def test_fd_fdstat_set_flags_keeps_the_sync_flags_of_the_open(rig: Rig) -> None:
    rig.vm.fs.write("/tmp/a", b"")
    fd = rig.open("tmp/a", fdflags=DSYNC)
    rig.set_flags(fd, APPEND | DSYNC)
    rig.set_flags(fd, 0)
    assert _fdstat(rig, fd)[1] == DSYNC


def test_fd_fdstat_set_flags_of_a_directory_is_ebadf(rig: Rig) -> None:
    assert rig.call("fd_fdstat_set_flags", 3, 0) is Errno.EBADF


# -- fd_fdstat_set_rights ---------------------------------------------------------------------------------------------
def test_fd_fdstat_set_rights_only_takes_away(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    rig.ok("fd_fdstat_set_rights", fd, int(Rights.FD_READ), 0, writes=[])
    assert rig.rights(fd) == (Rights.FD_READ, 0)
    rig.trace.clear()
    assert rig.call("fd_fdstat_set_rights", fd, FILE_BASE, 0) is Errno.ENOTCAPABLE
    assert rig.call("fd_fdstat_set_rights", fd, 0, int(Rights.FD_READ)) is Errno.ENOTCAPABLE
    assert rig.rights(fd) == (Rights.FD_READ, 0)
    assert (
        rig.trace[0] == f"fd_fdstat_set_rights(fd=4, fs_rights_base={FILE_BASE}, fs_rights_inheriting=0) -> ENOTCAPABLE"
    )


def test_fd_fdstat_set_rights_ignores_bits_that_are_no_rights(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    rig.ok("fd_fdstat_set_rights", fd, 1 << 63 | int(Rights.FD_READ), 1 << 40)
    assert rig.rights(fd) == (Rights.FD_READ, 0)
    assert rig.call("fd_fdstat_set_rights", fd, ALL, 0) is Errno.ENOTCAPABLE


def test_fd_fdstat_set_rights_of_one_descriptor_leaves_others_alone(rig: Rig) -> None:
    first, second = rig.create("/tmp/a"), rig.open("tmp/a")
    rig.drop(first, Rights.FD_WRITE)
    assert rig.write(second, b"x") == 1


# -- fd_prestat_get, fd_prestat_dir_name ------------------------------------------------------------------------------
def test_fd_prestat_get_tells_the_length_of_the_name(boot: Boot) -> None:
    rig = boot(setup=_make_directories, preopens=("/", "/data"))
    for fd, length in ((3, 1), (4, 5)):
        rig.ok("fd_prestat_get", fd, 64, writes=[(64, 8)])
        assert (rig.number(64, 1), rig.number(68)) == (0, length)
    assert rig.call("fd_prestat_get", 5, 64) is Errno.EBADF


def test_fd_prestat_get_of_what_was_not_preopened_is_ebadf(rig: Rig) -> None:
    for fd in (0, rig.create("/tmp/a"), rig.open_dir("tmp")):
        assert rig.call("fd_prestat_get", fd, 64) is Errno.EBADF


def test_fd_prestat_dir_name_writes_the_name_without_nul(boot: Boot) -> None:
    rig = boot(setup=_make_directories, preopens=("/data",))
    rig.ok("fd_prestat_dir_name", 3, 64, 5, writes=[(64, 5)])
    assert rig.read(63, 7) == b"?/data?"
    rig.ok("fd_prestat_dir_name", 3, 64, 20, writes=[(64, 5)])
    assert rig.call("fd_prestat_dir_name", 3, 64, 4) is Errno.ENAMETOOLONG


def test_fd_prestat_dir_name_of_what_was_not_preopened_is_enotdir(rig: Rig) -> None:
    for fd in (0, rig.open_dir("tmp")):
        assert rig.call("fd_prestat_dir_name", fd, 64, 8) is Errno.ENOTDIR
