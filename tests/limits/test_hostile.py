"""Extreme requests: each ends with an errno, quickly, and nothing else happens."""

import sys

import pytest

from agentvm import AgentVM, Errno, Result
from tests.limits.harness import MIB, PROGRESS, Sibling, beside_a_sibling, opened, resident_bytes
from tests.limits.texts import call, create_files, hammer, with_length
from tests.support.fixtures import guest

#: What a refused call may cost, as a multiple of one that succeeds.
QUICKLY = 10

HALF, ALL = 1 << 31, (1 << 32) - 1
#: An iovec of four bytes lies at 0, a result goes to 512.
PLAIN = call("fd_write", 1, 0, 0, 512)
EXTREMES = {
    "2^31 iovecs to write": (call("fd_write", 1, 0, HALF, 512), Errno.EINVAL),
    "2^32-1 iovecs to write": (call("fd_write", 1, 0, ALL, 512), Errno.EINVAL),
    "2^31 iovecs to read": (call("fd_read", 0, 0, HALF, 512), Errno.EINVAL),
    "a 4 GiB read": (with_length(ALL, call("fd_read", 0, 0, 1, 512)), Errno.EFAULT),
    "a 4 GiB write": (with_length(ALL, call("fd_write", 1, 0, 1, 512)), Errno.EFAULT),
    "4 GiB of directory": (call("fd_readdir", 3, 0, ALL, 0, 512), Errno.EFAULT),
    "4 GiB of randomness": (call("random_get", 0, ALL), Errno.EFAULT),
    "a 4 GiB path": (call("path_open", 3, 0, 0, ALL, 0, 0, 0, 0, 512), None),
    "2^31 subscriptions": (call("poll_oneoff", 2048, 4096, HALF, 512), Errno.EINVAL),
    "2^32-1 subscriptions": (call("poll_oneoff", 2048, 4096, ALL, 512), Errno.EINVAL),
}


@pytest.mark.parametrize("what", EXTREMES)
def test_extreme_request_is_refused_at_the_price_of_a_plain_call(what: str) -> None:
    extreme, errno = EXTREMES[what]
    times = 3000

    def scenario(vm: AgentVM) -> tuple[Result, Result]:
        return vm.run(hammer(extreme, times)), vm.run(hammer(PLAIN, times))

    refused, plain = beside_a_sibling(scenario)
    if errno is None:
        assert refused.exit_code in (Errno.EFAULT, Errno.ENAMETOOLONG), refused.describe()
    else:
        assert refused.exit_code == errno, refused.describe()
    assert plain.exit_code == 0
    assert refused.usage.cpu_seconds <= QUICKLY * plain.usage.cpu_seconds


def test_million_empty_files_end_at_the_inodes() -> None:
    def scenario(vm: AgentVM) -> Result:
        return vm.run(create_files(1_000_000))

    result = beside_a_sibling(scenario, max_inodes=16_384, max_filesystem_bytes="64MiB")
    assert result.exit_code == Errno.ENOSPC
    use = result.usage["max_inodes"]
    assert (use.peak, use.refused) == (16_384, 1)


def test_million_empty_files_end_at_the_bytes_where_inodes_are_plenty() -> None:
    def scenario(vm: AgentVM) -> Result:
        return vm.run(create_files(1_000_000))

    result = beside_a_sibling(scenario, max_inodes=2_000_000, max_filesystem_bytes="4MiB")
    assert result.exit_code == Errno.ENOSPC
    assert result.usage["max_filesystem_bytes"].refused == 1
    assert result.usage["max_inodes"].peak > 5000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_million_empty_files_can_be_had_where_the_operator_allows_them() -> None:
    """Each inode and name is charged what it takes: the host holds at most a quarter more (see docs/limits.md)."""
    charged = 480 * MIB
    limits = {"max_inodes": 1_100_000, "max_filesystem_bytes": charged}
    before = resident_bytes()
    with Sibling() as sibling, opened(**limits) as vm:
        alone = sibling.rate()
        beside, result = sibling.rate_while(lambda: vm.run(create_files(1_000_000)), again=False)
        growth = resident_bytes() - before
    assert result.exit_code == 0
    assert result.usage["max_inodes"].peak == 1_000_000
    assert growth <= 1.25 * result.usage["max_filesystem_bytes"].peak + 16 * MIB, growth / MIB
    assert beside >= PROGRESS * alone


def test_directory_10000_deep_is_made_and_given_back() -> None:
    result = beside_a_sibling(
        lambda vm: vm.run(guest("paths"), args=["deep", "10000"]), max_inodes=20_000, max_filesystem_bytes="16MiB"
    )
    assert result.stdout == b"depth 10000\n"


def test_directory_10000_deep_ends_at_the_inodes() -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("paths"), args=["deep", "10000"]), max_inodes=5000)
    assert result.stdout_text.splitlines()[0] == "mkdir ENOSPC"
    assert result.usage["max_inodes"].peak == 5000


@pytest.mark.parametrize("mode", ["count", "length", "sum", "wild"])
def test_wild_iovecs_write_nothing(mode: str) -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("iovecs"), args=[mode]))
    lines = result.stdout_text.splitlines()
    assert lines[-1] == "size 0", lines
    assert all(line.split()[-1] in ("EINVAL", "EFAULT") for line in lines[:-1]), lines


def test_hole_of_a_petabyte_costs_nothing() -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("fsbytes"), args=["sparse", "/f", str(1 << 50)]))
    assert result.stdout_text.splitlines() == ["pwrite OK", f"size {1 << 50}", "hole reads 16 bytes, zeros"]
    assert result.usage["max_filesystem_bytes"].peak < 1 << 20


def test_random_calls_with_wild_pointers_leave_the_guest_alive() -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("badptr"), args=["fuzz", "3000", "7"]))
    assert result.stdout == b"alive\n"


def test_guests_that_hammer_calls_leave_a_sibling_its_share() -> None:
    """Each is refused in turn, so that all of them are always in host calls: the interpreter is what they fight for."""
    refused = hammer(EXTREMES["2^31 iovecs to write"][0], 20_000)

    def scenario(vm: AgentVM) -> None:
        attackers = [vm.spawn(refused, stdin=b"", capture=True) for _ in range(4)]
        assert {attacker.wait(60).exit_code for attacker in attackers} == {Errno.EINVAL}

    beside_a_sibling(scenario)


def test_the_harness_notices_a_sibling_that_gets_nowhere() -> None:
    """With an interpreter that nobody has to hand over, a busy thread of the host starves the guest's calls."""
    with Sibling() as sibling:
        alone = sibling.rate()
        before = sys.getswitchinterval()
        sys.setswitchinterval(10)
        try:
            beside, _ = sibling.rate_while(lambda: sum(range(30_000_000)))  # too long for the thread to rest after it
        finally:
            sys.setswitchinterval(before)
    assert beside < PROGRESS * alone
