"""host_user: the users and groups that /etc/passwd and /etc/group of the VM list. Source: getpwnam(3), getgrnam(3)."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, OutBuffer, Path, Pointer
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.accounts import GROUP, PASSWD, Group, User, groups_in, read_accounts, users_in

Account = TypeVar("Account", User, Group)

__all__ = ["getgrent", "getgrgid", "getgrnam", "getpwent", "getpwnam", "getpwuid"]

_ERRORS = {
    Errno.ENOENT: "the file lists none, or cannot be read",
    Errno.ERANGE: "the line does not fit; the result says how long it is",
    Errno.EFAULT: "the result lies outside memory",
}


@syscall(_ERRORS, locked=False)
def getpwuid(ctx: CallContext, uid: Number, buffer: OutBuffer, result: Pointer) -> None:
    """Return the line of /etc/passwd for a user's number."""
    _give(ctx, buffer, result, _users, lambda user: user.uid == uid)


@syscall(_ERRORS, locked=False)
def getpwnam(ctx: CallContext, name: Path, buffer: OutBuffer, result: Pointer) -> None:
    """Return the line of /etc/passwd for a user's name."""
    _give(ctx, buffer, result, _users, lambda user: user.name == name)


@syscall(_ERRORS, locked=False)
def getpwent(ctx: CallContext, index: Number, buffer: OutBuffer, result: Pointer) -> None:
    """Return a line of /etc/passwd by its place, from 0 on."""
    _give(ctx, buffer, result, lambda ctx: islice(_users(ctx), index, None), _any)


@syscall(_ERRORS, locked=False)
def getgrgid(ctx: CallContext, gid: Number, buffer: OutBuffer, result: Pointer) -> None:
    """Return the line of /etc/group for a group's number."""
    _give(ctx, buffer, result, _groups, lambda group: group.gid == gid)


@syscall(_ERRORS, locked=False)
def getgrnam(ctx: CallContext, name: Path, buffer: OutBuffer, result: Pointer) -> None:
    """Return the line of /etc/group for a group's name."""
    _give(ctx, buffer, result, _groups, lambda group: group.name == name)


@syscall(_ERRORS, locked=False)
def getgrent(ctx: CallContext, index: Number, buffer: OutBuffer, result: Pointer) -> None:
    """Return a line of /etc/group by its place, from 0 on."""
    _give(ctx, buffer, result, lambda ctx: islice(_groups(ctx), index, None), _any)


def _any(_account: User | Group) -> bool:
    return True


def _users(ctx: CallContext) -> Iterator[User]:
    return users_in(_read(ctx, PASSWD))


def _groups(ctx: CallContext) -> Iterator[Group]:
    return groups_in(_read(ctx, GROUP))


def _read(ctx: CallContext, path: bytes) -> bytes:
    """The kernel lock is held no longer than the reading takes."""
    disk, process = ctx.disk, ctx.process
    with ctx.lock:
        if disk is None:
            return read_accounts(ctx.vfs, path)
        disk.read.hold_back(process)
        return read_accounts(ctx.vfs, path, lambda count: disk.read.charge(process, count))


def _give(
    ctx: CallContext,
    buffer: memoryview,
    result: int,
    list_them: Callable[[CallContext], Iterable[Account]],
    is_wanted: Callable[[Account], bool],
) -> None:
    length = ctx.memory.span(result, 4)
    line = next((account.line for account in list_them(ctx) if is_wanted(account)), None)
    if line is None:
        raise KernelError(Errno.ENOENT, "no such user or group")
    length[:] = len(line).to_bytes(4, "little")
    if len(line) > len(buffer):
        raise KernelError(Errno.ERANGE, f"{len(line)} bytes, and room for {len(buffer)}")
    buffer[: len(line)] = line
