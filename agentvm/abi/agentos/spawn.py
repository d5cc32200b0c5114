"""host_process: starting a program. Source: posix_spawn(3); record layouts of the agentOS host ABI."""

from collections.abc import Callable, Sequence

from agentvm.abi.agentos.file_actions import FileAction, apply_actions, directory_after, read_actions
from agentvm.abi.agentos.strings import read_strings
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, NewPid, Number, Path, Signed
from agentvm.abi.preopens import open_preopens
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.launcher import Loaded
from agentvm.kernel.process import Image, Process
from agentvm.kernel.program_search import Search, absolute_path
from agentvm.kernel.signalling import change_mask
from agentvm.kernel.signals import Disposition

__all__ = ["SEARCH_ERRORS", "proc_spawn", "proc_spawn_v2", "proc_spawn_v3", "proc_spawn_v4", "start_image"]

#: posix_spawnattr_setflags(3), with musl's numbers.
_RESETIDS, _SETPGROUP, _SETSIGDEF, _SETSIGMASK, _SETSID = 1, 2, 4, 8, 128
_IGNORED_FLAGS = 16 | 32 | 64  # SETSCHEDPARAM, SETSCHEDULER, USEVFORK: there is one way to be scheduled, and to start
_ALL_FLAGS = _RESETIDS | _SETPGROUP | _SETSIGDEF | _SETSIGMASK | _SETSID | _IGNORED_FLAGS
#: Instead of a descriptor: nothing.
_CLOSED = 0xFFFF_FFFF

SEARCH_ERRORS = {
    Errno.ENOENT: "there is no such program, or it or a script's interpreter has an empty path",
    Errno.EACCES: "it is not executable or no regular file, or the process was not given the root directory",
    Errno.ENOEXEC: "it is neither a module that runs here nor a script, or a cap on modules or compiling is passed",
    Errno.ENOTDIR: "a part of the path is not a directory",
    Errno.ELOOP: "max_symlinks is passed, or a script's interpreters are scripts five times over",
    Errno.ENAMETOOLONG: "max_path_bytes or max_name_bytes is passed",
    Errno.E2BIG: "max_argv_bytes, max_env_bytes or a cap on file actions is passed",
    Errno.EINVAL: "a list of strings lacks its last NUL, or a file action is cut off or unknown",
    Errno.ENOMEM: "max_memory_bytes has no room for the program's memory",
    Errno.EPERM: "the path leads above the root",
    Errno.EIO: "the host's disk failed",
}
_SPAWN_ERRORS = SEARCH_ERRORS | {
    Errno.EAGAIN: "max_processes or max_running_processes is reached, or the host has no thread left",
    Errno.EMFILE: "max_open_fds_per_process is reached",
    Errno.ENFILE: "max_open_fds is reached",
    Errno.EBADF: "a file action names a descriptor that is not open",
    Errno.EEXIST: "an action opens with O_EXCL what exists",
    Errno.EISDIR: "an action opens a directory for writing",
    Errno.ENOSPC: "an action makes a file, and max_filesystem_bytes or max_inodes is reached",
    Errno.EROFS: "an action opens for writing what is read-only",
    Errno.ENXIO: "an action opens a FIFO that nobody reads",
    Errno.ENOTSUP: "an attribute is unknown",
    Errno.EPERM: "SETSID and SETPGROUP together, or a group that is not the caller's to give",
    Errno.ESRCH: "no such process group",
}


@syscall(_SPAWN_ERRORS, locked=False)
def proc_spawn_v4(
    ctx: CallContext,
    exe: Path,
    argv: Block,
    env: Block,
    actions: Block,
    cwd: Path,
    search_path: Path,
    attr_flags: Number,
    sigdefault_lo: Number,
    sigdefault_hi: Number,
    sigmask_lo: Number,
    sigmask_hi: Number,
    pgroup: Signed,
    sched_policy: Signed,
    sched_priority: Signed,
) -> NewPid:
    """Start a program, found along `search_path` where there is one, and return its process."""
    steps = read_actions(ctx, actions)
    return _spawn(
        ctx,
        exe,
        argv,
        env,
        cwd,
        search_path or None,
        lambda child: _set_up(
            ctx,
            child,
            steps,
            flags=attr_flags,
            defaults=sigdefault_lo | sigdefault_hi << 32,
            mask=sigmask_lo | sigmask_hi << 32,
            pgroup=pgroup,
        ),
        attr_flags,
        steps,
    )


@syscall(_SPAWN_ERRORS, locked=False)
def proc_spawn_v3(
    ctx: CallContext,
    exe: Path,
    argv: Block,
    env: Block,
    actions: Block,
    cwd: Path,
    attr_flags: Number,
    sigdefault_lo: Number,
    sigdefault_hi: Number,
    sigmask_lo: Number,
    sigmask_hi: Number,
    pgroup: Signed,
) -> NewPid:
    """Start the program at exactly this path, and return its process."""
    arguments = exe, argv, env, actions, cwd, b"", attr_flags, sigdefault_lo, sigdefault_hi, sigmask_lo, sigmask_hi
    return proc_spawn_v4(ctx, *arguments, pgroup, 0, 0)


@syscall(_SPAWN_ERRORS, locked=False)
def proc_spawn_v2(
    ctx: CallContext, exe: Path, argv: Block, env: Block, stdin: Number, stdout: Number, stderr: Number, cwd: Path
) -> NewPid:
    """Start a program with three descriptors of the caller's as its standard streams, and no others."""
    return _spawn(ctx, exe, argv, env, cwd, None, lambda child: _give_streams(ctx, child, (stdin, stdout, stderr)), 0)


@syscall(_SPAWN_ERRORS, locked=False)
def proc_spawn(
    ctx: CallContext, argv: Block, env: Block, stdin: Number, stdout: Number, stderr: Number, cwd: Path
) -> NewPid:
    """As `proc_spawn_v2`, for the program that argv[0] names."""
    exe = bytes(argv).partition(b"\0")[0]
    return proc_spawn_v2(ctx, exe, argv, env, stdin, stdout, stderr, cwd)


def _spawn(
    ctx: CallContext,
    exe: bytes,
    argv: memoryview,
    env: memoryview,
    cwd: bytes,
    search_path: bytes | None,
    set_up: Callable[[Process], None],
    flags: int,
    steps: Sequence[FileAction] = (),
) -> int:
    """Find, load, make, start. Until the last step nothing has happened; after it the process runs."""
    if flags & ~_ALL_FLAGS:
        raise KernelError(Errno.ENOTSUP, f"attributes {flags:#x}")
    if flags & _SETSID and flags & _SETPGROUP:
        raise KernelError(Errno.EPERM, "a session's leader has a group of its own")
    kernel, parent = ctx.kernel, ctx.process
    image, loaded = start_image(ctx, exe, argv, env, cwd=cwd, search_path=search_path, steps=steps)
    with kernel.lock:
        child = kernel.processes.spawn(image, parent.root, parent=parent)
        try:
            child.has_host_abi = loaded.has_host_abi
            set_up(child)
            if not loaded.has_host_abi and loaded.uses_files:
                # It looks for its directories from 3 on, and knows of no other descriptors.
                child.fds.close_from(3)
            open_preopens(kernel, child, uses_files=loaded.uses_files)
        except BaseException:
            kernel.processes.discard(child)
            raise
    try:
        kernel.launcher.start(child, loaded)
    except BaseException:
        with kernel.lock:
            kernel.processes.discard(child)
        raise
    return child.pid


def start_image(
    ctx: CallContext,
    exe: bytes,
    argv: memoryview,
    env: memoryview,
    *,
    cwd: bytes = b"",
    search_path: bytes | None = None,
    steps: Sequence[FileAction] = (),
) -> tuple[Image, Loaded]:
    """Find and load a program, from where `steps` will lead. Without the kernel lock: loading may take long, and a kill
    ends it."""
    kernel, process = ctx.kernel, ctx.process
    arguments, environ = read_strings(ctx, argv, "max_argv_bytes"), read_strings(ctx, env, "max_env_bytes")
    where = absolute_path(cwd, process.image.cwd) if cwd else process.image.cwd
    with kernel.lock:
        start = directory_after(steps, where, process.fds)
        found = Search(kernel.vfs, process.root, start).find(exe, arguments, search_path)
    try:
        loaded = kernel.launcher.load(found.program)
    finally:
        with kernel.lock:
            found.close()
    name = found.program.path.rpartition(b"/")[2].decode("utf-8", "replace")
    return Image(found.argv, environ, where, name, found.program.path), loaded


def _set_up(
    ctx: CallContext,
    child: Process,
    steps: Sequence[FileAction],
    *,
    flags: int,
    defaults: int,
    mask: int,
    pgroup: int,
) -> None:
    """Give a process what posix_spawn(3) says, in its order: attributes, then descriptors and file actions."""
    kernel, parent = ctx.kernel, ctx.process
    if flags & _SETSID:
        child.sid = child.pgid = child.pid
    if flags & _SETPGROUP:
        kernel.processes.set_group(parent, child, pgroup)
    if flags & _SETSIGMASK:
        change_mask(child, mask)
    if flags & _SETSIGDEF:
        for number in range(1, 65):
            if defaults >> (number - 1) & 1:
                child.signals.set_disposition(number, Disposition())
    if flags & _RESETIDS:
        child.credentials = child.credentials.without_effective().executed()
    child.fds.inherit(parent.fds, list(parent.fds))
    apply_actions(ctx, child, steps)
    child.fds.close_on_exec()


def _give_streams(ctx: CallContext, child: Process, streams: tuple[int, int, int]) -> None:
    for target, source in enumerate(streams):
        if source != _CLOSED:
            child.fds.open_at(target, ctx.descriptor(source).copy())
