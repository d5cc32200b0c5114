"""preview1 args: what a program is started with."""

from agentvm import Errno
from tests.abi.rig import Boot, Rig


def test_args_sizes_get_counts_the_arguments_and_their_nuls(boot: Boot) -> None:
    rig = boot(args=["a", "", "a b", b"\xff"])
    rig.ok("args_sizes_get", 1, 5, writes=[(1, 4), (5, 4)])
    assert rig.number(1) == 5
    assert rig.number(5) == len(b"program\0a\0\0a b\0\xff\0")
    assert rig.read(0, 10) == b"?" + rig.read(1, 8) + b"?"


def test_args_get_writes_strings_and_pointers_to_them(boot: Boot) -> None:
    rig = boot(args=["a", "bc"])
    rig.ok("args_get", 100, 200, writes=[(100, 12), (200, 13)])
    assert rig.read(200, 14) == b"program\0a\0bc\0?"
    assert [rig.number(100 + 4 * i) for i in range(4)] == [200, 208, 210, 0x3F3F3F3F]
    assert rig.trace == ["args_get(argv=100, argv_buf=200) -> OK"]


def test_args_get_checks_both_pointers_before_it_writes(rig: Rig) -> None:
    assert rig.call("args_get", 100, 0x1FFFD) is Errno.EFAULT
    assert rig.call("args_get", 0x1FFFD, 100) is Errno.EFAULT


def test_args_get_may_end_at_the_end_of_memory(rig: Rig) -> None:
    rig.ok("args_get", 0x20000 - 12, 0x20000 - 8)
    assert rig.read(0x20000 - 8, 8) == b"program\0"
