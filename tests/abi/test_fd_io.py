"""preview1 reading, writing and seeking."""

import struct
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentvm import Errno, Limits
from agentvm.abi.rights import Rights
from tests.abi.rig import Boot, Rig

APPEND, NONBLOCK = 1, 4
SET, CUR, END = range(3)


def _seek(rig: Rig, fd: int, offset: int, whence: int) -> int:
    rig.ok("fd_seek", fd, offset, whence, 64, writes=[(64, 8)])
    return rig.number(64, 8)


def _streams(boot: Boot, **caps: int) -> Rig:
    """A proxy whose standard streams are pipes of 4 KiB to the host."""
    return boot(stdin=None, capture=False, vm={"limits": Limits(max_pipe_bytes=4096, **caps)})


# -- fd_read, fd_write ------------------------------------------------------------------------------------------------
def test_fd_read_scatters_over_its_buffers(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abcdefgh")
    rig.trace.clear()
    iovs = rig.iovecs((100, 2), (200, 0), (300, 3))
    rig.ok("fd_read", fd, *iovs, 64, writes=[(64, 4), (100, 2), (300, 3)])
    assert (rig.number(64), rig.read(100, 3), rig.read(300, 4)) == (5, b"ab?", b"cde?")
    assert rig.trace == [f"fd_read(fd=4, iovs={iovs[0]}, iovs_len=3, result=64) -> OK"]


def test_fd_read_goes_on_where_it_stopped_and_ends_with_0(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abc")
    assert [rig.read_fd(fd, 2), rig.read_fd(fd, 2), rig.read_fd(fd, 2)] == [b"ab", b"c", b""]


def test_fd_read_into_nothing_reads_nothing(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abc")
    rig.ok("fd_read", fd, 0, 0, 64)
    assert rig.number(64) == 0
    rig.ok("fd_read", fd, *rig.iovecs((0x20000, 0)), 64)
    assert rig.number(64) == 0
    assert rig.read_fd(fd, 9) == b"abc"


def test_fd_read_checks_every_buffer_before_it_reads(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abc")
    assert rig.call("fd_read", fd, *rig.iovecs((100, 2), (0x1FFFF, 2)), 64) is Errno.EFAULT
    assert rig.call("fd_read", fd, *rig.iovecs((100, 2), (0xFFFF_FFF8, 0xFFFF_FFFF)), 64) is Errno.EFAULT
    assert rig.call("fd_read", fd, *rig.iovecs((0xFFFF_FFFF, 1)), 64) is Errno.EFAULT
    assert rig.read_fd(fd, 9) == b"abc"


def test_fd_read_of_too_many_buffers_is_einval(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abc")
    array = rig.put(struct.pack("<II", 100, 1) * 1025)
    rig.ok("fd_read", fd, array, 1024, 64)
    assert rig.call("fd_read", fd, array, 1025, 64) is Errno.EINVAL


def test_fd_write_takes_the_same_bytes_from_many_buffers(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    grown = rig.put(struct.pack("<II", 0, 0x20000) * 1024)
    rig.ok("fd_write", fd, grown, 100, 64)
    assert rig.number(64) == 100 * 0x20000


@pytest.mark.parametrize("call", ["fd_read", "fd_write"])
def test_fd_read_and_write_of_a_directory_is_ebadf(rig: Rig, call: str) -> None:
    assert rig.call(call, 3, *rig.iovecs((100, 1)), 64) is Errno.EBADF


def test_fd_write_gathers_its_buffers(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    assert rig.write(fd, b"ab", b"", b"cde") == 5
    assert rig.vm.fs.read("/tmp/a") == b"abcde"


def test_fd_write_checks_every_buffer_before_it_writes(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    assert rig.call("fd_write", fd, *rig.iovecs((100, 2), (0xFFFF_FFF8, 9)), 64) is Errno.EFAULT
    assert rig.call("fd_write", fd, *rig.iovecs((100, 2)), 0x1FFFD) is Errno.EFAULT
    assert rig.vm.fs.read("/tmp/a") == b""


def test_fd_write_past_the_vm_s_space_tells_how_much_fit_and_then_enospc(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_filesystem_bytes=200_000)})
    fd = rig.create("/tmp/a")
    iovs = rig.iovecs((0, 0x20000), (0, 0x20000))
    rig.ok("fd_write", fd, *iovs, 64)
    taken = rig.number(64)
    assert 100_000 < taken < 200_000
    assert len(rig.vm.fs.read("/tmp/a")) == taken
    assert rig.call("fd_write", fd, *iovs, 64) is Errno.ENOSPC


def test_fd_write_past_the_cap_on_files_tells_how_much_fit_and_then_efbig(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_file_bytes=10)})
    fd = rig.create("/tmp/a")
    assert rig.write(fd, b"12345678", b"9abc") == 10
    assert rig.call("fd_write", fd, *rig.iovecs((100, 1)), 64) is Errno.EFBIG
    assert rig.vm.fs.read("/tmp/a") == b"123456789a"


def test_fd_write_past_the_log_budget_is_short_and_then_enospc(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_log_bytes=6)})
    assert [rig.write(1, b"1234"), rig.write(2, b"56789")] == [4, 2]
    assert rig.call("fd_write", 1, *rig.iovecs((100, 1)), 64) is Errno.ENOSPC
    result = rig.instance.close()
    assert (result.stdout, result.stderr, result.truncated) == (b"1234", b"56", True)


def test_fd_write_to_dev_full_is_enospc(rig: Rig) -> None:
    assert rig.call("fd_write", rig.open("dev/full"), *rig.iovecs((100, 1)), 64) is Errno.ENOSPC


# -- fd_read, fd_write on pipes ---------------------------------------------------------------------------------------
def test_fd_read_of_an_empty_pipe_waits_for_the_host(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdin is not None
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(rig.read_fd, 0, 100)
        rig.instance.stdin.write(b"hello")
        assert reading.result() == b"hello"
        reading = pool.submit(rig.read_fd, 0, 100)
        rig.instance.stdin.close()
        assert reading.result() == b""


def test_fd_read_without_blocking_is_eagain_until_there_is_data(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdin is not None
    rig.set_flags(0, NONBLOCK)
    assert rig.call("fd_read", 0, *rig.iovecs((100, 4)), 64) is Errno.EAGAIN
    rig.ok("fd_read", 0, *rig.iovecs((100, 0)), 64)  # nothing asked for, nothing to wait for
    rig.instance.stdin.write(b"hello")
    assert [rig.read_fd(0, 3), rig.read_fd(0, 3)] == [b"hel", b"lo"]
    rig.instance.stdin.close()
    assert rig.read_fd(0, 3) == b""


def test_fd_write_without_blocking_takes_what_fits_and_then_is_eagain(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdout is not None
    rig.set_flags(1, NONBLOCK)
    assert rig.write(1, b"a" * 3000) == 3000
    assert rig.write(1, b"b" * 5000) == 1096
    assert rig.call("fd_write", 1, *rig.iovecs((100, 1)), 64) is Errno.EAGAIN
    assert rig.instance.stdout.read(5000) == b"a" * 3000 + b"b" * 1096
    assert rig.write(1, b"c") == 1


def test_fd_write_of_pipe_buf_bytes_is_all_or_nothing(boot: Boot) -> None:
    rig = _streams(boot)
    rig.set_flags(1, NONBLOCK)
    rig.write(1, b"x")
    assert rig.call("fd_write", 1, *rig.iovecs((100, 4096)), 64) is Errno.EAGAIN


def test_fd_write_waits_until_all_is_written(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdout is not None
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(rig.write, 1, b"x" * 50_000, b"y" * 3)
        got = b""
        while len(got) < 50_003:
            got += rig.instance.stdout.read(10_000)
        assert writing.result() == 50_003
    assert got == b"x" * 50_000 + b"yyy"


def test_fd_write_to_a_pipe_that_nobody_reads_is_epipe(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdout is not None
    rig.instance.stdout.close()
    assert rig.call("fd_write", 1, *rig.iovecs((100, 1)), 64) is Errno.EPIPE
    rig.ok("fd_write", 1, 0, 0, 64)


def test_fd_write_whose_reader_goes_away_half_way_tells_what_it_wrote(boot: Boot) -> None:
    rig = _streams(boot)
    assert rig.instance.stdout is not None
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(rig.write, 1, b"x" * 5000)
        assert rig.instance.stdout.read(1) == b"x"
        rig.instance.stdout.close()
        assert 4096 <= writing.result() < 5000
    assert rig.call("fd_write", 1, *rig.iovecs((100, 1)), 64) is Errno.EPIPE


def test_fd_write_past_the_output_budget_is_short_and_then_enospc(boot: Boot) -> None:
    rig = _streams(boot, max_output_bytes=10)
    assert rig.write(1, b"12345678") == 8
    assert rig.write(2, b"12345678") == 2
    assert rig.call("fd_write", 1, *rig.iovecs((100, 1)), 64) is Errno.ENOSPC


def test_fd_write_moves_at_most_max_io_bytes_on_a_stream(boot: Boot) -> None:
    rig = _streams(boot, max_io_bytes=100)
    assert rig.write(1, b"a" * 60, b"b" * 60, b"c") == 100
    assert rig.instance.stdin is not None
    rig.instance.stdin.write(b"d" * 200)
    assert len(rig.read_fd(0, 200)) == 100


# -- fd_pread, fd_pwrite ----------------------------------------------------------------------------------------------
def test_fd_pread_leaves_the_offset_alone(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"abcdef")
    rig.ok("fd_pread", fd, *rig.iovecs((100, 2), (110, 2)), 1, 64, writes=[(64, 4), (100, 2), (110, 2)])
    assert (rig.number(64), rig.read(100, 3), rig.read(110, 3)) == (4, b"bc?", b"de?")
    assert rig.read_fd(fd, 2) == b"ab"
    rig.ok("fd_pread", fd, *rig.iovecs((100, 2)), 6, 64)
    assert rig.number(64) == 0


def test_fd_pwrite_leaves_the_offset_alone_and_fills_holes_with_zeros(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"ab")
    rig.ok("fd_pwrite", fd, *rig.iovecs((rig.put(b"X"), 1)), 4, 64, writes=[(64, 4)])
    assert rig.vm.fs.read("/tmp/a") == b"ab\0\0X"
    assert rig.write(fd, b"Y") == 1
    assert rig.vm.fs.read("/tmp/a") == b"Yb\0\0X"


@pytest.mark.parametrize("call", ["fd_pread", "fd_pwrite"])
def test_fd_pread_and_pwrite_refuse_streams_and_negative_offsets(rig: Rig, call: str) -> None:
    iovs = rig.iovecs((100, 2))
    assert rig.call(call, 0 if call == "fd_pread" else 1, *iovs, 0, 64) is Errno.ESPIPE
    assert rig.call(call, 3, *iovs, 0, 64) is Errno.EBADF
    assert rig.call(call, rig.create("/tmp/a"), *iovs, 1 << 63, 64) is Errno.EINVAL


def test_fd_pwrite_past_the_largest_offset_is_einval_as_on_linux(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    assert rig.call("fd_pwrite", fd, *rig.iovecs((100, 2)), (1 << 63) - 1, 64) is Errno.EINVAL
    assert rig.vm.fs.read("/tmp/a") == b""


# -- fd_seek, fd_tell -------------------------------------------------------------------------------------------------
def test_fd_seek_counts_from_start_offset_and_end(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"0123456789")
    assert [_seek(rig, fd, 4, SET), _seek(rig, fd, 2, CUR), _seek(rig, fd, -3, CUR)] == [4, 6, 3]
    assert [_seek(rig, fd, -1, END), _seek(rig, fd, 5, END)] == [9, 15]
    assert rig.trace[-2] == "fd_seek(fd=4, offset=-1, whence=2, result=64) -> OK"
    assert rig.read_fd(fd, 1) == b""


@pytest.mark.parametrize(("offset", "whence"), [(-1, SET), (-11, END), (-1, CUR), (0, 3), (0, 0xFFFF_FFFF)])
def test_fd_seek_before_the_start_or_from_nowhere_is_einval(rig: Rig, offset: int, whence: int) -> None:
    fd = rig.create("/tmp/a", b"0123456789")
    assert rig.call("fd_seek", fd, offset, whence, 64) is Errno.EINVAL
    assert _seek(rig, fd, 0, CUR) == 0


def test_fd_seek_past_the_largest_offset_is_einval(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"0")
    assert _seek(rig, fd, (1 << 63) - 1, SET) == (1 << 63) - 1
    assert rig.call("fd_seek", fd, 1, CUR, 64) is Errno.EINVAL
    assert rig.call("fd_seek", fd, (1 << 63) - 1, END, 64) is Errno.EINVAL


def test_fd_seek_of_a_stream_is_espipe_and_of_a_directory_ebadf(rig: Rig) -> None:
    for fd in (0, 1, 2):
        assert rig.call("fd_seek", fd, 0, SET, 64) is Errno.ESPIPE
        assert rig.call("fd_seek", fd, 0, CUR, 64) is Errno.ESPIPE
        assert rig.call("fd_tell", fd, 64) is Errno.ESPIPE
    assert rig.call("fd_seek", 3, 0, SET, 64) is Errno.EBADF
    assert rig.call("fd_tell", 3, 64) is Errno.EBADF


def test_fd_seek_by_nothing_needs_the_right_to_tell_alone(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"0123456789")
    rig.drop(fd, Rights.FD_SEEK)
    assert _seek(rig, fd, 0, CUR) == 0
    assert rig.call("fd_seek", fd, 1, CUR, 64) is Errno.ENOTCAPABLE
    assert rig.call("fd_seek", fd, 0, SET, 64) is Errno.ENOTCAPABLE


def test_fd_tell_reports_the_offset(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"0123456789")
    rig.read_fd(fd, 3)
    rig.ok("fd_tell", fd, 64, writes=[(64, 8)])
    assert rig.number(64, 8) == 3
    rig.set_flags(fd, APPEND)
    rig.write(fd, b"abc")
    rig.ok("fd_tell", fd, 64)
    assert rig.number(64, 8) == 13


def test_fd_tell_is_implied_by_the_right_to_seek(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"0123456789")
    rig.drop(fd, Rights.FD_TELL)
    rig.ok("fd_tell", fd, 64)
    rig.drop(fd, Rights.FD_SEEK)
    assert rig.call("fd_tell", fd, 64) is Errno.ENOTCAPABLE
