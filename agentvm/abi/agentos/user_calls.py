"""host_user: who the caller is, and becoming somebody else. Source: credentials(7), setresuid(2), setgroups(2)."""

from dataclasses import replace

from agentvm.abi.context import CallContext
from agentvm.abi.params import Fd, Number, Pointer, Signed
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.credentials import MAX_GROUPS, Ids
from agentvm.kernel.stat import Filetype

__all__ = [
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getresgid",
    "getresuid",
    "getuid",
    "isatty",
    "setegid",
    "seteuid",
    "setgid",
    "setgroups",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setuid",
]

_EPERM = {Errno.EPERM: "the caller's effective user is not root, and it has no such id"}
_NO_ID = {Errno.EINVAL: "-1 is no id"}


@syscall()
def getuid(ctx: CallContext) -> Number:
    """Return the caller's real user."""
    return ctx.process.credentials.uid


@syscall()
def geteuid(ctx: CallContext) -> Number:
    """Return the user that the caller acts as."""
    return ctx.process.credentials.euid


@syscall()
def getgid(ctx: CallContext) -> Number:
    """Return the caller's real group."""
    return ctx.process.credentials.gid


@syscall()
def getegid(ctx: CallContext) -> Number:
    """Return the group that the caller acts as."""
    return ctx.process.credentials.egid


@syscall()
def getresuid(ctx: CallContext) -> tuple[Number, Number, Number]:
    """Return the caller's real, effective and saved user."""
    return ctx.process.credentials.user_ids


@syscall()
def getresgid(ctx: CallContext) -> tuple[Number, Number, Number]:
    """Return the caller's real, effective and saved group."""
    return ctx.process.credentials.group_ids


@syscall(_EPERM | _NO_ID)
def setuid(ctx: CallContext, uid: Number) -> None:
    """Become a user: root for good, others only their real or saved one."""
    _set_user(ctx, _user(ctx).set_one(uid, is_root=_is_root(ctx)))


@syscall(_EPERM | _NO_ID)
def seteuid(ctx: CallContext, uid: Number) -> None:
    """Act as a user."""
    _set_user(ctx, _user(ctx).set_effective(uid, is_root=_is_root(ctx)))


@syscall(_EPERM)
def setreuid(ctx: CallContext, ruid: Number, euid: Number) -> None:
    """Set the real and effective user; -1 leaves one as it is."""
    _set_user(ctx, _user(ctx).set_two(ruid, euid, is_root=_is_root(ctx)))


@syscall(_EPERM)
def setresuid(ctx: CallContext, ruid: Number, euid: Number, suid: Number) -> None:
    """Set the real, effective and saved user; -1 leaves one as it is."""
    _set_user(ctx, _user(ctx).set_all(ruid, euid, suid, is_root=_is_root(ctx)))


@syscall(_EPERM | _NO_ID)
def setgid(ctx: CallContext, gid: Number) -> None:
    """Take a group: root for good, others only their real or saved one."""
    _set_group(ctx, _group(ctx).set_one(gid, is_root=_is_root(ctx)))


@syscall(_EPERM | _NO_ID)
def setegid(ctx: CallContext, gid: Number) -> None:
    """Act as a group."""
    _set_group(ctx, _group(ctx).set_effective(gid, is_root=_is_root(ctx)))


@syscall(_EPERM)
def setregid(ctx: CallContext, rgid: Number, egid: Number) -> None:
    """Set the real and effective group; -1 leaves one as it is."""
    _set_group(ctx, _group(ctx).set_two(rgid, egid, is_root=_is_root(ctx)))


@syscall(_EPERM)
def setresgid(ctx: CallContext, rgid: Number, egid: Number, sgid: Number) -> None:
    """Set the real, effective and saved group; -1 leaves one as it is."""
    _set_group(ctx, _group(ctx).set_all(rgid, egid, sgid, is_root=_is_root(ctx)))


@syscall({Errno.EINVAL: "there are more groups than there is room for"})
def getgroups(ctx: CallContext, size: Signed, groups: Pointer) -> Number:
    """Return how many supplementary groups the caller has, and store them if `size`, their room, is not 0."""
    own = ctx.process.credentials.groups
    if size < 0 or 0 < size < len(own):
        raise KernelError(Errno.EINVAL, f"{len(own)} groups, and room for {size}")
    if size and own:
        ctx.memory.span(groups, 4 * len(own))[:] = b"".join(group.to_bytes(4, "little") for group in own)
    return len(own)


@syscall({Errno.EPERM: "the caller's effective user is not root", Errno.EINVAL: f"more than {MAX_GROUPS} groups"})
def setgroups(ctx: CallContext, count: Number, groups: Pointer) -> None:
    """Set the supplementary groups."""
    process = ctx.process
    process.credentials.check_groups(count)
    numbers = ctx.memory.span(groups, 4 * count).cast("I").tolist() if count else ()
    process.credentials = replace(process.credentials, groups=tuple(numbers))


@syscall()
def isatty(ctx: CallContext, fd: Fd) -> Number:
    """Return whether a descriptor is a terminal: 1, or 0."""
    file = ctx.descriptor(fd).file
    # Of the character devices, terminals alone are streams.
    return int(file.filetype is Filetype.CHARACTER_DEVICE and not file.seekable)


def _is_root(ctx: CallContext) -> bool:
    return ctx.process.credentials.is_root


def _user(ctx: CallContext) -> Ids:
    return ctx.process.credentials.user_ids


def _group(ctx: CallContext) -> Ids:
    return ctx.process.credentials.group_ids


def _set_user(ctx: CallContext, ids: Ids) -> None:
    ctx.process.credentials = ctx.process.credentials.with_user_ids(ids)


def _set_group(ctx: CallContext, ids: Ids) -> None:
    ctx.process.credentials = ctx.process.credentials.with_group_ids(ids)
