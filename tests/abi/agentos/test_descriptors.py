"""host_process: pipes, duplicates, FD_CLOEXEC, and how preview1 sees them."""

import pytest

from agentvm import Errno, Limits
from agentvm.abi.agentos import AGENTOS
from agentvm.abi.rights import STDIN, STDOUT
from agentvm.abi.syscall import Support
from agentvm.kernel.fd_table import CWD_NUMBERS, FIRST_TAGGED
from agentvm.kernel.stat import Filetype
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.rig import WILD, Boot, Rig

APPEND, NONBLOCK = 1, 4
NOBODY = (99, 0xFFFF_FF00, 0x8000_0000)
PIPE_BUF, CAPACITY = 4096, 65536


def _pipe(rig: Rig) -> tuple[int, int]:
    first, second = rig.space(4), rig.space(4)
    rig.ok("fd_pipe", first, second, writes=[(first, 4), (second, 4)])
    return rig.number(first), rig.number(second)


def _flags(rig: Rig, fd: int) -> int:
    rig.ok("fd_fdstat_get", fd, 64, writes=[(64, 24)])
    return rig.number(66, 2)


# -- fd_pipe ----------------------------------------------------------------------------------------------------------
def test_fd_pipe_makes_two_ends_at_the_lowest_numbers(host: Rig) -> None:
    reader, writer = _pipe(host)
    assert (reader, writer) == (3, 4)
    assert host.rights(reader) == (STDIN, 0)
    assert host.rights(writer) == (STDOUT, 0)
    assert host.write(writer, b"ab", b"c") == 3
    assert host.read_fd(reader, 9) == b"abc"


def test_fd_pipe_ends_refuse_the_other_direction(host: Rig) -> None:
    reader, writer = _pipe(host)
    iovs = host.iovecs((host.put(b"x"), 1))
    assert host.call("fd_write", reader, *iovs, 64) is Errno.EBADF
    assert host.call("fd_read", writer, *iovs, 64) is Errno.EBADF
    assert host.call("fd_seek", reader, 0, 0, 64) is Errno.ESPIPE


def test_fd_pipe_reads_0_once_the_last_writer_is_gone(host: Rig) -> None:
    reader, writer = _pipe(host)
    other = host.made("fd_dup", writer)
    host.write(writer, b"x")
    host.ok("fd_close", writer)
    host.set_flags(reader, NONBLOCK)
    assert host.read_fd(reader, 9) == b"x"
    iovs = host.iovecs((host.space(4), 4))
    assert host.call("fd_read", reader, *iovs, 64) is Errno.EAGAIN
    host.ok("fd_close", other)
    assert host.read_fd(reader, 9) == b""


def test_a_write_that_nobody_can_read_is_epipe_and_sigpipe(host: Rig) -> None:
    reader, writer = _pipe(host)
    host.ok("proc_sigaction", 13, 2, 0, 0, 0)
    host.ok("fd_close", reader)
    assert host.call("fd_write", writer, *host.iovecs((host.put(b"x"), 1)), 64) is Errno.EPIPE
    assert host.instance.call("handled") == 1 << 12


def test_pipes_have_inode_numbers_of_their_own(host: Rig) -> None:
    numbers = set()
    for fd in (*_pipe(host), *_pipe(host)):
        host.ok("fd_filestat_get", fd, 64, writes=[(64, 64)])
        assert host.number(80, 1) == Filetype.UNKNOWN
        numbers.add((host.number(64, 8), host.number(72, 8)))
    assert len(numbers) == 2


@pytest.mark.parametrize(
    ("caps", "errno"),
    [
        ({"max_open_fds_per_process": 4}, Errno.EMFILE),
        ({"max_open_fds_per_process": 6, "max_open_fds": 6}, Errno.EMFILE),
        ({"max_pipes": 1}, Errno.ENFILE),
    ],
)
def test_fd_pipe_at_a_cap_takes_nothing(boot_host: Boot, caps: dict[str, int], errno: Errno) -> None:
    rig = boot_host(vm={"limits": Limits(**caps)})
    open_before = rig.open_fds()
    while (made := rig.call("fd_pipe", 64, 68)) is Errno.SUCCESS:
        open_before = rig.open_fds()
    assert made is errno
    assert rig.open_fds() == open_before


def test_a_pipe_gives_its_place_back_with_its_last_end(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_pipes=1)})
    reader, writer = _pipe(rig)
    rig.ok("fd_close", reader)
    assert rig.call("fd_pipe", 64, 68) is Errno.ENFILE
    rig.ok("fd_close", writer)
    assert _pipe(rig) == (reader, writer)


@pytest.mark.parametrize(("first", "second"), [(WILD, 64), (64, WILD), (MEMORY_BYTES - 3, 64), (64, MEMORY_BYTES)])
def test_fd_pipe_with_a_bad_pointer_makes_none(host: Rig, first: int, second: int) -> None:
    assert host.call("fd_pipe", first, second) is Errno.EFAULT
    assert host.open_fds() == [0, 1, 2]
    assert host.vm.usage()["max_pipes"].used == 0


# -- writing without waiting ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("held", "size", "written"),
    [
        (0, CAPACITY + 1, CAPACITY),
        (CAPACITY - PIPE_BUF, PIPE_BUF, PIPE_BUF),
        (CAPACITY - PIPE_BUF + 1, PIPE_BUF, None),
        (CAPACITY - PIPE_BUF + 1, PIPE_BUF + 1, PIPE_BUF - 1),
        (CAPACITY, 1, None),
        (CAPACITY, PIPE_BUF + 1, None),
        (CAPACITY, 0, 0),
    ],
)
def test_a_write_that_may_not_wait_is_whole_up_to_pipe_buf(
    boot_host: Boot, held: int, size: int, written: int | None
) -> None:
    rig = boot_host()
    _, writer = _pipe(rig)
    rig.set_flags(writer, NONBLOCK)
    data = rig.space(1)
    if held:
        rig.ok("fd_write", writer, *rig.iovecs((data, held)), 64)
    iovs = rig.iovecs((0, size))
    if written is None:
        assert rig.call("fd_write", writer, *iovs, 64) is Errno.EAGAIN
    else:
        rig.ok("fd_write", writer, *iovs, 64)
        assert rig.number(64) == written


# -- fd_dup, fd_dup2, fd_dup_min --------------------------------------------------------------------------------------
def test_duplicates_share_offset_and_flags_and_not_cloexec(host: Rig) -> None:
    first = host.create("/tmp/a", b"0123456789")
    host.ok("fd_setfd", first, 1)
    copies = [host.made("fd_dup", first), host.made("fd_dup_min", first, 9)]
    host.ok("fd_dup2", first, 7)
    assert copies == [first + 1, 9]
    assert host.read_fd(first, 2) == b"01"
    assert [host.read_fd(fd, 1) for fd in (*copies, 7)] == [b"2", b"3", b"4"]
    host.set_flags(copies[0], APPEND | NONBLOCK)
    assert [_flags(host, fd) for fd in (first, *copies, 7)] == [APPEND | NONBLOCK] * 4
    host.write(9, b"end")
    assert host.vm.fs.read("/tmp/a") == b"0123456789end"
    assert [host.made("fd_getfd", fd) for fd in (first, *copies, 7)] == [1, 0, 0, 0]


def test_fd_dup2_to_itself_changes_nothing(host: Rig) -> None:
    fd = host.create("/tmp/a", b"a")
    host.ok("fd_setfd", fd, 1)
    host.ok("fd_dup2", fd, fd)
    assert host.made("fd_getfd", fd) == 1
    assert host.read_fd(fd, 9) == b"a"


def test_fd_dup2_closes_what_was_there(host: Rig) -> None:
    reader, writer = _pipe(host)
    host.ok("fd_dup2", 0, writer)
    assert host.read_fd(reader, 9) == b""


def test_fd_dup2_over_a_full_table_needs_no_place(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_open_fds_per_process=5)})
    reader, writer = _pipe(rig)
    assert rig.call("fd_dup", reader, 64) is Errno.EMFILE
    rig.ok("fd_dup2", reader, writer)
    assert rig.read_fd(reader, 9) == b""


@pytest.mark.parametrize(("number", "errno"), [(256, Errno.EBADF), (1 << 20, Errno.EBADF), (FIRST_TAGGED, Errno.EBADF)])
def test_fd_dup2_to_a_number_that_none_can_have_is_ebadf(host: Rig, number: int, errno: Errno) -> None:
    assert host.call("fd_dup2", 0, number) is errno
    assert host.open_fds() == [0, 1, 2]


@pytest.mark.parametrize("lowest", [256, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_fd_dup_min_past_every_number_is_einval(host: Rig, lowest: int) -> None:
    assert host.call("fd_dup_min", 0, lowest, 64) is Errno.EINVAL


def test_fd_dup_min_is_emfile_where_all_numbers_from_there_on_are_taken(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_open_fds_per_process=6)})
    rig.ok("fd_dup2", 0, 5)
    assert rig.call("fd_dup_min", 0, 5, 64) is Errno.EMFILE
    assert rig.made("fd_dup_min", 0, 4) == 4
    assert rig.made("fd_dup", 0) == 3
    assert rig.call("fd_dup_min", 0, 0, 64) is Errno.EMFILE


def test_a_preopened_directory_has_duplicates_among_the_ordinary_numbers(host: Rig) -> None:
    host.vm.fs.write("/tmp/a", b"there")
    fd = host.made("fd_dup", FIRST_TAGGED)
    assert fd == 3
    assert host.read_fd(host.open("tmp/a", base=fd), 9) == b"there"
    host.ok("fd_close", fd)
    assert host.read_fd(host.open("tmp/a"), 9) == b"there"


# -- fd_getfd, fd_setfd, proc_closefrom -------------------------------------------------------------------------------
@pytest.mark.parametrize(("flags", "told"), [(0, 0), (1, 1), (2, 0), (3, 1), (0xFFFF_FFFE, 0)])
def test_fd_setfd_heeds_cloexec_alone(host: Rig, flags: int, told: int) -> None:
    host.ok("fd_setfd", 0, flags, writes=[])
    assert host.made("fd_getfd", 0) == told


def test_cloexec_goes_with_the_descriptor_that_is_renumbered(host: Rig) -> None:
    reader, writer = _pipe(host)
    host.ok("fd_setfd", reader, 1)
    host.ok("fd_renumber", reader, writer)
    assert host.made("fd_getfd", writer) == 1


@pytest.mark.parametrize(("lowest", "left"), [(0, []), (0xFFFF_FFFF, []), (2, [0, 1]), (4, [0, 1, 2, 3]), (99, None)])
def test_proc_closefrom_closes_ordinary_descriptors(host: Rig, lowest: int, left: list[int] | None) -> None:
    _pipe(host)
    host.ok("proc_closefrom", lowest, writes=[])
    assert host.open_fds() == ([0, 1, 2, 3, 4] if left is None else left)
    host.ok("fd_prestat_get", FIRST_TAGGED, 64)


# -- what all have in common ------------------------------------------------------------------------------------------
CALLS = {"fd_dup": (64,), "fd_dup2": (5,), "fd_dup_min": (5, 64), "fd_getfd": (64,), "fd_setfd": (1,)}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("fd", [*NOBODY, *CWD_NUMBERS])
def test_a_number_that_is_not_open_is_ebadf(host: Rig, name: str, fd: int) -> None:
    assert host.call(name, fd, *CALLS[name]) is Errno.EBADF
    assert host.open_fds() == [0, 1, 2]


@pytest.mark.parametrize("name", ["fd_dup", "fd_dup_min", "fd_getfd"])
@pytest.mark.parametrize("pointer", [WILD, MEMORY_BYTES - 3])
def test_a_bad_pointer_is_efault_before_anything_happens(host: Rig, name: str, pointer: int) -> None:
    assert host.call(name, 0, *CALLS[name][:-1], pointer) is Errno.EFAULT
    assert host.open_fds() == [0, 1, 2]


# -- waiting ----------------------------------------------------------------------------------------------------------
def test_a_read_of_an_empty_pipe_waits_for_a_signal(host: Rig) -> None:
    reader, _ = _pipe(host)
    host.ok("proc_sigaction", 10, 2, 0, 0, 0)
    iovs = host.iovecs((host.space(4), 4))
    with host.waiting("fd_read", reader, *iovs, 64) as made:
        host.send_signal(10)
    assert made.result() is Errno.EINTR


def test_a_write_to_a_full_pipe_that_a_signal_ends_tells_what_it_wrote(host: Rig) -> None:
    _, writer = _pipe(host)
    host.ok("proc_sigaction", 10, 2, 0, 0, 0x1000_0000)
    with host.waiting("fd_write", writer, *host.iovecs((0, CAPACITY + 1)), 64) as made:
        host.send_signal(10)
    assert made.result() is Errno.SUCCESS
    assert host.number(64) == CAPACITY


def test_what_a_vm_has_not_is_refused_as_declared(host: Rig) -> None:
    assert host.call("pty_open", 64, 68) is Errno.ENOTSUP


def test_few_calls_are_refused_and_each_says_why() -> None:
    refused = [spec for table in AGENTOS.values() for spec in table.values() if spec.support is Support.REFUSED]
    assert len(refused) <= 12
    assert all(spec.note and spec.errnos for spec in refused)
