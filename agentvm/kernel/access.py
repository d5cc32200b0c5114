"""Who may do what to a file, by its owner and permission bits. Source: access(2), chmod(2), path_resolution(7)."""

from agentvm.errno import Errno, KernelError
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.stat import FileStat, Filetype

__all__ = ["EXECUTE", "check_access", "check_owner", "new_owner"]

#: The lowest of the three bits that each of owner, group and others have.
EXECUTE = 1
_ROOT = 0
_AS_IT_IS = 0xFFFF_FFFF


def check_owner(caller: Credentials, status: FileStat) -> None:
    """Raise EPERM where the caller neither owns the file nor is root."""
    if caller.euid not in (_ROOT, status.uid):
        raise KernelError(Errno.EPERM, f"the file is user {status.uid}'s, and not user {caller.euid}'s")


def check_access(caller: Credentials, status: FileStat, wanted: int, *, effective: bool) -> None:
    """Raise EACCES where the bits do not let the caller read (4), write (2) or execute (1) the file as `wanted`.

    Root may do all but execute what nobody may. `effective`: by the effective ids, else by the real ones.
    """
    uid, gid = (caller.euid, caller.egid) if effective else (caller.uid, caller.gid)
    if uid == _ROOT:
        if wanted & EXECUTE and not status.mode & 0o111 and status.filetype is not Filetype.DIRECTORY:
            raise KernelError(Errno.EACCES, "nobody may execute the file")
        return
    shift = 6 if uid == status.uid else 3 if status.gid == gid or status.gid in caller.groups else 0
    if wanted & ~(status.mode >> shift):
        raise KernelError(Errno.EACCES, f"mode {status.mode:#o} does not let user {uid} do {wanted:#o}")


def new_owner(caller: Credentials, status: FileStat, uid: int, gid: int) -> tuple[int, int]:
    """Return who owns a file once the caller has set its user and group, 0xffffffff leaving one as it is. EPERM.

    Root may set both; the owner may set the group to one that it is in.
    """
    owner = status.uid if uid == _AS_IT_IS else uid, status.gid if gid == _AS_IT_IS else gid
    if caller.euid != _ROOT:
        check_owner(caller, status)
        if owner[0] != status.uid or (owner[1] != status.gid and owner[1] not in (caller.egid, *caller.groups)):
            raise KernelError(Errno.EPERM, f"user {caller.euid} cannot give the file to {owner}")
    return owner
