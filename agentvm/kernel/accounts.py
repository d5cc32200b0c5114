"""Users and groups, as /etc/passwd and /etc/group of a VM list them. Source: passwd(5), group(5).

Every VM starts with both files; a program may change them like others, and what they then say holds.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agentvm.errno import KernelError
from agentvm.kernel.credentials import SAME
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.vfs import Vfs

__all__ = ["GROUP", "MOST_BYTES", "PASSWD", "Group", "User", "groups_in", "read_accounts", "users_in"]

PASSWD, GROUP = b"/etc/passwd", b"/etc/group"
#: What lies further behind in a file is not looked at: what a call costs must have an end.
MOST_BYTES = 256 << 10

_FIELD = rb"([^:\n]*)"
_USER = re.compile(rb"^([^:\n]+):[^:\n]*:([0-9]{1,10}):([0-9]{1,10}):" + rb":".join([_FIELD] * 3) + rb"$", re.MULTILINE)
_GROUP = re.compile(rb"^([^:\n]+):[^:\n]*:([0-9]{1,10}):" + _FIELD + rb"$", re.MULTILINE)


class User(NamedTuple):
    """One line of /etc/passwd."""

    line: bytes
    name: bytes
    uid: int
    gid: int
    home: bytes


class Group(NamedTuple):
    """One line of /etc/group."""

    line: bytes
    name: bytes
    gid: int
    members: tuple[bytes, ...]


def read_accounts(vfs: Vfs, path: bytes, charge: Callable[[int], None] | None = None) -> bytes:
    """Return what is in one of the two files; nothing if there is none, or it cannot be read. Kernel lock.

    `charge` is told how many bytes came from a disk.
    """
    try:
        file = vfs.open_at(vfs.root, path, root=vfs.root, confined=False)
    except KernelError:
        return b""
    try:
        if file.filetype is not Filetype.REGULAR_FILE:
            return b""
        data = bytearray(min(MOST_BYTES, file.stat().size))
        count = file.pread([memoryview(data)], 0)
        if charge is not None and file.on_disk:
            charge(count)
        return bytes(data[:count])
    except KernelError:
        return b""
    finally:
        file.on_last_close()


def users_in(text: bytes) -> Iterator[User]:
    """Iterate over the users of a passwd(5) file; lines that are none are left out."""
    for found in _USER.finditer(text):
        name, uid, gid, _, home, _ = found.groups()
        if int(uid) < SAME and int(gid) < SAME:
            yield User(found.group(), name, int(uid), int(gid), home)


def groups_in(text: bytes) -> Iterator[Group]:
    """Iterate over the groups of a group(5) file; lines that are none are left out."""
    for found in _GROUP.finditer(text):
        name, gid, members = found.groups()
        if int(gid) < SAME:
            yield Group(found.group(), name, int(gid), tuple(filter(None, members.split(b","))))
