"""The file actions of a spawn: records of 24 bytes with a path behind each. Source: posix_spawn_file_actions_*(3)."""

from collections.abc import Iterable
from struct import Struct
from typing import NamedTuple

from agentvm.abi.agentos.file_flags import (
    APPEND,
    CREAT,
    DIRECTORY,
    EXCL,
    NOFOLLOW,
    NONBLOCK,
    RDONLY,
    SYNCS,
    TRUNC,
    WRONLY,
)
from agentvm.abi.context import CallContext
from agentvm.abi.rights import DIRECTORY_INHERITING, FD_READ, FD_WRITE, applicable
from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor, FdTable
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.process import Process
from agentvm.kernel.program_search import absolute_path
from agentvm.kernel.stat import FdFlags, Filetype

__all__ = ["FileAction", "apply_actions", "directory_after", "read_actions"]

_RECORD = Struct("<IiiiII")
_CLOSE, _DUP2, _OPEN, _CHDIR, _FCHDIR, _CLOSEFROM = 1, 2, 3, 4, 5, 6


class FileAction(NamedTuple):
    """One record; which fields mean something depends on `command`."""

    command: int
    fd: int
    source: int
    flags: int
    mode: int
    path: bytes


def read_actions(ctx: CallContext, block: memoryview) -> list[FileAction]:
    """Return the actions of a block. E2BIG: too many, or too many bytes; EINVAL: one is cut off, or unknown."""
    ceilings = ctx.kernel.registry.ceiling
    ceilings("max_spawn_action_bytes").check(len(block))
    most = ceilings("max_spawn_actions")
    actions: list[FileAction] = []
    position = 0
    while position < len(block):
        end = position + _RECORD.size
        if end > len(block):
            raise KernelError(Errno.EINVAL, "truncated posix_spawn action header")
        command, fd, source, flags, mode, length = _RECORD.unpack_from(block, position)
        position = end + length
        if position > len(block):
            raise KernelError(Errno.EINVAL, "truncated posix_spawn action path")
        if not _CLOSE <= command <= _CLOSEFROM:
            raise KernelError(Errno.EINVAL, f"unknown posix_spawn action opcode {command}")
        actions.append(FileAction(command, fd, source, flags, mode, bytes(block[end:position])))
        if len(actions) > most.cap:
            break
    most.check(len(actions))  # one call is one look, however many there are
    return actions


def directory_after(actions: Iterable[FileAction], cwd: bytes, fds: FdTable) -> bytes:
    """Return where the actions will lead a child that starts at `cwd` and inherits `fds`; it may not be there."""
    for action in actions:
        if action.command == _CHDIR:
            cwd = absolute_path(action.path, cwd)
        elif action.command == _FCHDIR and action.fd in fds.by_number:
            cwd = fds.get(action.fd).preopen or cwd
    return cwd


def apply_actions(ctx: CallContext, child: Process, actions: Iterable[FileAction]) -> None:
    """Do what was asked for, in its order, in the process that is being made."""
    fds = child.fds
    for action in actions:
        if action.command == _CLOSE:
            if action.fd in fds.by_number:  # else it is closed, as was asked for: so take it the C libraries of Linux
                fds.close(action.fd)
        elif action.command == _DUP2:
            _dup2(child, action.source, action.fd)
        elif action.command == _OPEN:
            file, rights = _open(ctx, child, action)
            try:
                fds.open_at(action.fd, Descriptor(file, rights & applicable(file), DIRECTORY_INHERITING))
            except BaseException:
                file.on_last_close()
                raise
        elif action.command == _CHDIR:
            _enter(ctx, child, absolute_path(action.path, child.image.cwd))
        elif action.command == _FCHDIR:
            descriptor = fds.get(action.fd)
            path = descriptor.preopen
            if descriptor.file.filetype is not Filetype.DIRECTORY:
                raise KernelError(Errno.ENOTDIR, f"fd {action.fd} is no directory")
            if path is None:
                raise KernelError(Errno.ENOTSUP, "only a preopened directory has a path to change to")
            _enter(ctx, child, path)
        else:
            fds.close_from(max(action.fd, 0))


def _dup2(child: Process, source: int, target: int) -> None:
    descriptor = child.fds.get(source)
    if source == target:
        descriptor.cloexec = False
    elif target < 0:
        raise KernelError(Errno.EBADF, f"fd {target}")
    else:
        child.fds.open_at(target, descriptor.copy())


def _enter(ctx: CallContext, child: Process, path: bytes) -> None:
    vfs = ctx.vfs
    vfs.open_at(vfs.root, path, root=child.root, confined=False, directory=True).on_last_close()
    child.enter(path)


def _open(ctx: CallContext, child: Process, action: FileAction) -> tuple[OpenFile, int]:
    flags, vfs = action.flags, ctx.vfs
    if action.fd < 0:
        raise KernelError(Errno.EBADF, f"fd {action.fd}")
    if not action.path:
        raise KernelError(Errno.ENOENT, "an empty path")
    write, read = bool(flags & WRONLY), bool(flags & RDONLY) or not flags & WRONLY
    file = vfs.open_at(
        vfs.root,
        absolute_path(action.path, child.image.cwd),
        root=child.root,
        confined=False,
        read=read,
        write=write,
        create=bool(flags & CREAT),
        exclusive=bool(flags & CREAT and flags & EXCL),
        directory=bool(flags & (DIRECTORY & ~CREAT)),
        truncate=bool(flags & TRUNC),
        follow=not flags & NOFOLLOW,
        mode=action.mode & 0o7777 & ~child.umask,
        flags=FdFlags(flags & (APPEND | NONBLOCK | SYNCS)),
        maker=child.credentials,
        waits=True,
    )
    if file.is_opening:
        with child.when_killed(ctx.process.waiter.wake):
            ctx.await_opening(file, child)
    refused = (0 if read else FD_READ) | (0 if write else FD_WRITE)
    return file, DIRECTORY_INHERITING & ~refused
