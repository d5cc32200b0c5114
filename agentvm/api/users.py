"""As whom a program runs: `user=` and `--user`, and what its environment says of that."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentvm.errors import InvalidArgument
from agentvm.kernel.accounts import GROUP, PASSWD, User, groups_in, read_accounts, users_in
from agentvm.kernel.credentials import MAX_GROUPS, SAME, Credentials
from agentvm.kernel.vfs.vfs import Vfs

if TYPE_CHECKING:
    from agentvm.api.launch import UserName

__all__ = ["account_variables", "find_credentials"]


def find_credentials(vfs: Vfs, user: "UserName") -> Credentials:
    """Return the ids of a user that a program is to run as. Kernel lock.

    Names are those of the VM's /etc/passwd and /etc/group; without a group it is the one that the user has there, or
    the one with the user's number. A user by name is in the groups that list it. Raises `InvalidArgument`.
    """
    name, colon, group = str(user).partition(":")
    found = _find_user(vfs, name)
    if found is None and not _is_number(name):
        raise _refusal(user, f"the VM's {PASSWD.decode()} lists no user {name!r}")
    uid = found.uid if found is not None else int(name)
    gid = _find_group(vfs, user, group) if colon else found.gid if found is not None else uid
    return Credentials.of(uid, gid, () if colon or found is None else _groups_of(vfs, found))


def account_variables(vfs: Vfs, uid: int) -> Iterator[tuple[str, bytes]]:
    """Iterate over the variables by which programs know who they are and where they live: HOME, USER. Kernel lock."""
    user = next((user for user in users_in(read_accounts(vfs, PASSWD)) if user.uid == uid), None)
    yield "HOME", user.home or b"/" if user is not None else b"/"
    if user is not None:
        yield "USER", user.name


def _find_user(vfs: Vfs, name: str) -> User | None:
    users = users_in(read_accounts(vfs, PASSWD))
    if _is_number(name):
        return next((user for user in users if user.uid == int(name)), None)
    return next((user for user in users if user.name == name.encode()), None)


def _find_group(vfs: Vfs, user: "UserName", name: str) -> int:
    if _is_number(name):
        return int(name)
    for group in groups_in(read_accounts(vfs, GROUP)):
        if group.name == name.encode():
            return group.gid
    raise _refusal(user, f"the VM's {GROUP.decode()} lists no group {name!r}")


def _groups_of(vfs: Vfs, user: User) -> tuple[int, ...]:
    groups = groups_in(read_accounts(vfs, GROUP))
    return tuple(group.gid for group in groups if user.name in group.members)[:MAX_GROUPS]


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < SAME


def _refusal(user: "UserName", why: str) -> InvalidArgument:
    text = f"user={user!r}: {why}; it takes a name, a number below {SAME}, or both a user and a group as 'user:group'"
    return InvalidArgument(text, user=user)
