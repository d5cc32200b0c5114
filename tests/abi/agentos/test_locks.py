"""host_process: flock and record locks, between two processes of one VM."""

import pytest

from agentvm import Errno, Limits
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.rig import WILD, Boot, Rig

SH, EX, NB, UN = 1, 2, 4, 8
GETLK, SETLK, SETLKW = 12, 13, 14
READ, WRITE, UNLOCK = 0, 1, 2
SA_RESTART = 0x1000_0000
SIGUSR1 = 10
LAST = (1 << 63) - 1


@pytest.fixture
def two(boot_host: Boot) -> tuple[Rig, Rig, int, int]:
    """Two processes, and a descriptor of one file in each."""
    first = boot_host(setup=lambda vm: vm.fs.write("/tmp/a", b"0123456789"))
    second = boot_host(vm=first.vm)
    return first, second, first.open("tmp/a"), second.open("tmp/a")


def _lock(rig: Rig, fd: int, command: int, kind: int, start: int = 0, length: int = 0) -> Errno:
    outs = [rig.space(4), rig.space(4), rig.space(8), rig.space(8)]
    return rig.call("fd_record_lock", fd, command, kind, start, length, *outs)


def _holder(rig: Rig, fd: int, kind: int, start: int = 0, length: int = 0) -> tuple[int, int, int, int]:
    outs = [rig.space(4), rig.space(4), rig.space(8), rig.space(8)]
    rig.ok("fd_record_lock", fd, GETLK, kind, start, length, *outs)
    return rig.number(outs[0]), rig.number(outs[1]), rig.number(outs[2], 8), rig.number(outs[3], 8)


# -- flock ------------------------------------------------------------------------------------------------------------
def test_flock_excludes_and_lets_go(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    first.ok("fd_flock", a, SH)
    second.ok("fd_flock", b, SH | NB)
    assert first.call("fd_flock", a, EX | NB) is Errno.EAGAIN
    # A conversion that fails has given up what there was: flock(2).
    second.ok("fd_flock", b, EX | NB)
    assert first.call("fd_flock", a, SH | NB) is Errno.EAGAIN
    second.ok("fd_flock", b, UN)
    first.ok("fd_flock", a, EX | NB)
    assert first.vm.usage()["max_file_locks"].used == 1


def test_flock_belongs_to_the_open_file_and_goes_with_its_last_descriptor(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    copy = first.made("fd_dup", a)
    first.ok("fd_flock", a, EX)
    first.ok("fd_flock", copy, EX | NB)
    assert first.call("fd_flock", first.open("tmp/a"), EX | NB) is Errno.EAGAIN
    first.ok("fd_close", a)
    assert second.call("fd_flock", b, EX | NB) is Errno.EAGAIN
    first.ok("fd_close", copy)
    second.ok("fd_flock", b, EX | NB)


def test_flock_waits_until_the_other_lets_go(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    first.ok("fd_flock", a, EX)
    with second.waiting("fd_flock", b, SH) as made:
        first.ok("fd_flock", a, UN)
    assert made.result() is Errno.SUCCESS
    assert first.call("fd_flock", a, EX | NB) is Errno.EAGAIN


def test_a_process_that_ends_lets_go_of_everything(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    first.ok("fd_flock", a, EX)
    assert _lock(first, a, SETLK, WRITE) is Errno.SUCCESS
    first.instance.close()
    second.ok("fd_flock", b, EX | NB)
    assert _lock(second, b, SETLK, WRITE) is Errno.SUCCESS
    second.instance.close()
    assert second.vm.usage()["max_file_locks"].used == 0


@pytest.mark.parametrize("operation", [0, SH | EX, NB, 16, SH | UN])
def test_flock_refuses_what_is_no_operation(two: tuple[Rig, Rig, int, int], operation: int) -> None:
    first, _, a, _ = two
    assert first.call("fd_flock", a, operation) is Errno.EINVAL


@pytest.mark.parametrize(("flags", "errno"), [(0, Errno.EINTR), (SA_RESTART, Errno.SUCCESS)])
@pytest.mark.parametrize("kind", ["flock", "record"])
def test_a_signal_ends_the_wait_for_a_lock_unless_it_goes_on(
    two: tuple[Rig, Rig, int, int], kind: str, flags: int, errno: Errno
) -> None:
    first, second, a, b = two
    first.ok("fd_flock", a, EX)
    assert _lock(first, a, SETLK, WRITE) is Errno.SUCCESS
    second.ok("proc_sigaction", SIGUSR1, 2, 0, 0, flags)
    outs = [second.space(4), second.space(4), second.space(8), second.space(8)]
    call = ("fd_flock", b, EX) if kind == "flock" else ("fd_record_lock", b, SETLKW, WRITE, 0, 0, *outs)
    with second.waiting(*call) as made:
        second.send_signal(SIGUSR1)
        if flags:
            first.ok("fd_close", a)
    assert made.result() is errno
    assert second.instance.call("handled") == 1 << (SIGUSR1 - 1)


# -- record locks -----------------------------------------------------------------------------------------------------
def test_ranges_exclude_by_kind_and_place(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    assert _lock(first, a, SETLK, WRITE, 10, 10) is Errno.SUCCESS
    assert _lock(first, a, SETLK, READ, 30, 10) is Errno.SUCCESS
    for kind, start, length, errno in (
        (READ, 19, 1, Errno.EAGAIN),
        (READ, 20, 30, Errno.SUCCESS),
        (WRITE, 39, 1, Errno.EAGAIN),
        (WRITE, 0, 10, Errno.SUCCESS),
        (WRITE, 0, 0, Errno.EAGAIN),
        (WRITE, 40, -5, Errno.EAGAIN),
        (WRITE, 40, 0, Errno.SUCCESS),
    ):
        assert _lock(second, b, SETLK, kind, start, length) is errno, (kind, start, length)


def test_unlocking_the_middle_splits_and_locking_it_again_joins(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    used = lambda: first.vm.usage()["max_file_locks"].used  # noqa: E731
    assert _lock(first, a, SETLK, WRITE, 0, 100) is Errno.SUCCESS
    assert used() == 1
    assert _lock(first, a, SETLK, UNLOCK, 40, 20) is Errno.SUCCESS
    assert used() == 2
    assert _holder(second, b, WRITE, 0, 50) == (WRITE, first.process.pid, 0, 40)
    assert _holder(second, b, WRITE, 40, 0) == (WRITE, first.process.pid, 60, 40)
    assert _holder(second, b, WRITE, 40, 20) == (UNLOCK, 0, 40, 20)
    assert _lock(first, a, SETLK, READ, 30, 40) is Errno.SUCCESS
    assert used() == 3
    assert _holder(second, b, READ, 0, 0) == (WRITE, first.process.pid, 0, 30)
    assert _lock(first, a, SETLK, WRITE, 30, 40) is Errno.SUCCESS
    assert used() == 1
    assert _holder(second, b, READ, 5, 0) == (WRITE, first.process.pid, 0, 100)


def test_a_range_to_the_end_has_no_length(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    assert _lock(first, a, SETLK, READ, 5, 0) is Errno.SUCCESS
    assert _holder(second, b, WRITE, LAST, 1) == (READ, first.process.pid, 5, 0)


def test_closing_any_descriptor_of_a_file_gives_up_its_ranges(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    assert _lock(first, a, SETLK, WRITE) is Errno.SUCCESS
    first.ok("fd_close", first.create("/tmp/b"))
    assert _lock(second, b, SETLK, WRITE) is Errno.EAGAIN
    first.ok("fd_close", first.open("tmp/a", rights=2))
    assert _lock(second, b, SETLK, WRITE) is Errno.SUCCESS


def test_two_that_wait_for_each_other_are_a_deadlock(two: tuple[Rig, Rig, int, int]) -> None:
    first, second, a, b = two
    assert _lock(first, a, SETLK, WRITE, 0, 1) is Errno.SUCCESS
    assert _lock(second, b, SETLK, WRITE, 1, 1) is Errno.SUCCESS
    outs = [first.space(4), first.space(4), first.space(8), first.space(8)]
    with first.waiting("fd_record_lock", a, SETLKW, WRITE, 1, 1, *outs) as made:
        assert _lock(second, b, SETLKW, WRITE, 0, 1) is Errno.EDEADLK
        assert _lock(second, b, SETLK, UNLOCK, 1, 1) is Errno.SUCCESS
    assert made.result() is Errno.SUCCESS


@pytest.mark.parametrize(
    ("command", "kind", "start", "length", "errno"),
    [
        (11, WRITE, 0, 0, Errno.EINVAL),
        (15, WRITE, 0, 0, Errno.EINVAL),
        (SETLK, 3, 0, 0, Errno.EINVAL),
        (GETLK, UNLOCK, 0, 0, Errno.EINVAL),
        (SETLK, WRITE, -1, 0, Errno.EINVAL),
        (SETLK, WRITE, 5, -6, Errno.EINVAL),
        (SETLK, WRITE, LAST, 2, Errno.EOVERFLOW),
        (SETLK, WRITE, LAST, 1, Errno.SUCCESS),
        (SETLK, WRITE, 5, -5, Errno.SUCCESS),
    ],
)
def test_record_locks_refuse_what_is_no_range(
    two: tuple[Rig, Rig, int, int], command: int, kind: int, start: int, length: int, errno: Errno
) -> None:
    first, _, a, _ = two
    assert _lock(first, a, command, kind, start, length) is errno


@pytest.mark.parametrize(("kind", "rights"), [(READ, 64), (WRITE, 2)])
def test_a_range_is_locked_for_what_the_descriptor_may_do(
    two: tuple[Rig, Rig, int, int], kind: int, rights: int
) -> None:
    first = two[0]
    fd = first.open("tmp/a", rights=rights)
    assert _lock(first, fd, SETLK, kind) is Errno.EBADF
    assert _lock(first, fd, SETLK, UNLOCK) is Errno.SUCCESS


def test_at_the_cap_a_lock_is_enolck_and_so_is_a_split(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_file_locks=1)})
    fd, other = rig.create("/tmp/a", b"x"), rig.create("/tmp/b", b"x")
    assert _lock(rig, fd, SETLK, WRITE, 0, 10) is Errno.SUCCESS
    assert rig.call("fd_flock", other, EX | NB) is Errno.ENOLCK
    assert _lock(rig, fd, SETLK, UNLOCK, 5, 1) is Errno.ENOLCK
    assert _lock(rig, fd, SETLK, UNLOCK, 5, 5) is Errno.SUCCESS
    assert _lock(rig, fd, SETLK, UNLOCK) is Errno.SUCCESS
    rig.ok("fd_flock", other, EX | NB)


# -- what all have in common ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fd", [99, 0xFFFF_FFFF, 0x8000_0000])
def test_a_number_that_is_not_open_is_ebadf(host: Rig, fd: int) -> None:
    assert host.call("fd_flock", fd, EX) is Errno.EBADF
    assert _lock(host, fd, SETLK, WRITE) is Errno.EBADF


@pytest.mark.parametrize("bad", range(4))
@pytest.mark.parametrize("pointer", [WILD, MEMORY_BYTES - 3])
def test_a_bad_pointer_is_efault_before_anything_is_locked(host: Rig, bad: int, pointer: int) -> None:
    fd = host.create("/tmp/a")
    outs = [pointer if index == bad else 64 + 8 * index for index in range(4)]
    assert host.call("fd_record_lock", fd, SETLK, WRITE, 0, 0, *outs) is Errno.EFAULT
    assert host.vm.usage()["max_file_locks"].used == 0
