"""host_system and host_tty: what uname tells, and the size of a terminal that there is none of."""

import pytest

from agentvm import Errno
from tests.abi.rig import WILD, Boot, Rig

LINUX_EBADF, LINUX_EFAULT, LINUX_ENOTTY = 9, 14, 25


@pytest.mark.parametrize(
    ("field", "text"),
    list(enumerate([b"agentvm", b"Linux", b"6.1.0", b"#1 agentvm", b"wasm32", b"(none)"])),
)
def test_an_identity_fits_exactly_with_its_nul(host: Rig, field: int, text: bytes) -> None:
    out = host.space(65)
    host.ok("get_identity", field, out, len(text) + 1, writes=[(out, len(text) + 1)])
    assert host.read(out, len(text) + 1) == text + b"\0"
    assert host.call("get_identity", field, out, len(text)) is Errno.ENAMETOOLONG


def test_an_identity_that_there_is_not(host: Rig) -> None:
    assert host.call("get_identity", 6, host.space(65), 65) is Errno.EINVAL
    assert host.call("get_identity", 0, WILD, 65) is Errno.EFAULT


def test_a_size_is_told_of_terminals_only_with_linuxs_numbers(boot_host: Boot) -> None:
    host = boot_host(stdin=None, capture=False)
    out = host.space(4)
    assert [host.result("get_size", fd, out, out + 2) for fd in (0, 1, 2)] == [LINUX_ENOTTY] * 3
    assert host.result("get_size", host.open("dev/null"), out, out + 2) == LINUX_ENOTTY
    assert host.result("get_size", 99, out, out + 2) == LINUX_EBADF
    assert host.result("get_size", 1, WILD + 7, out) == LINUX_EFAULT
    assert host.result("get_size", 1, out, WILD + 7) == LINUX_EFAULT
