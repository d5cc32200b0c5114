"""Host errno numbers become the guest's by name; what the guest has no name for is EIO."""

import errno

import pytest

from agentvm.errno import Errno
from agentvm.host.host_errno import from_host, guest_errno


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOENT, Errno.ENOENT),
        (errno.ENOSPC, Errno.ENOSPC),
        (errno.EDQUOT, Errno.EDQUOT),
        (errno.EROFS, Errno.EROFS),
        (errno.ELOOP, Errno.ELOOP),
        (errno.ENOTEMPTY, Errno.ENOTEMPTY),
        (errno.ETXTBSY, Errno.ETXTBSY),
        (errno.ESTALE, Errno.ESTALE),
        (errno.EOPNOTSUPP, Errno.ENOTSUP),
        (errno.EMFILE, Errno.ENFILE),
        (errno.EAGAIN, Errno.EBUSY),
        (errno.EUCLEAN, Errno.EIO),
        (errno.EMEDIUMTYPE, Errno.EIO),
        (0, Errno.EIO),
        (99_999, Errno.EIO),
    ],
)
def test_each_number_keeps_its_name(number: int, expected: Errno) -> None:
    assert guest_errno(number) is expected


def test_every_host_number_has_an_errno_that_no_call_waits_for() -> None:
    for number in errno.errorcode:
        assert guest_errno(number) not in (Errno.EAGAIN, Errno.SUCCESS)


def test_the_host_path_of_an_error_is_dropped() -> None:
    error = from_host(OSError(errno.EACCES, "denied", "/home/operator/secret"), "open of b'x'")
    assert error.errno is Errno.EACCES
    assert "operator" not in str(error)
    assert "EACCES" in error.detail
