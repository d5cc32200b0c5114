"""The one table from the host's errno numbers to the guest's, by name."""

import errno

from agentvm.errno import Errno, KernelError

__all__ = ["from_host", "guest_errno"]

# What keeps its name but not its meaning inside the VM. The host's table of descriptors is the VM's system table; and
# no call on a host file may look as if waiting for it would help (a lease on a file makes open(2) fail with EAGAIN).
_RENAMED = {errno.EMFILE: Errno.ENFILE, errno.EAGAIN: Errno.EBUSY, errno.EOPNOTSUPP: Errno.ENOTSUP}


def guest_errno(number: int) -> Errno:
    """Return the guest's errno for the host's `number`; EIO for one that the guest has no name for."""
    renamed = _RENAMED.get(number)
    if renamed is not None:
        return renamed
    return Errno.__members__.get(errno.errorcode.get(number, ""), Errno.EIO)


def from_host(error: OSError, doing: str) -> KernelError:
    """Make the error that the guest sees. The detail, which only the host's log shows, keeps the host's number."""
    number = error.errno or 0
    return KernelError(guest_errno(number), f"{doing}: host errno {number} ({errno.errorcode.get(number, 'unknown')})")
