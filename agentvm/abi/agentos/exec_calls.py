"""host_process: becoming another program. Source: execve(2), fexecve(3)."""

from typing import NoReturn

from agentvm.abi.agentos.spawn import SEARCH_ERRORS, start_image
from agentvm.abi.agentos.strings import read_strings
from agentvm.abi.context import CallContext
from agentvm.abi.params import Block, Fd, Number, Path, Pointer
from agentvm.abi.preopens import open_preopens
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.launcher import Loaded
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import GuestExec, GuestKilled, Image
from agentvm.kernel.program_search import Search

__all__ = ["proc_exec", "proc_fexec"]

_EXEC_ERRORS = SEARCH_ERRORS | {
    Errno.EBADF: "a descriptor to close is not open",
    Errno.ENOTSUP: "the caller is a reactor, whose exports the host calls",
}


@syscall(_EXEC_ERRORS, locked=False)
def proc_exec(ctx: CallContext, exe: Path, argv: Block, env: Block, cloexec_fds: Pointer, count: Number) -> None:
    """Become the program at this path; the caller goes on as it was if that fails."""
    closed = _read_numbers(ctx, cloexec_fds, count)
    image, loaded = start_image(ctx, exe, argv, env)
    _become(ctx, image, loaded, closed)


@syscall(_EXEC_ERRORS, locked=False)
def proc_fexec(ctx: CallContext, fd: Fd, argv: Block, env: Block, cloexec_fds: Pointer, count: Number) -> None:
    """Become the program that a descriptor is open on."""
    closed = _read_numbers(ctx, cloexec_fds, count)
    arguments, environ = read_strings(ctx, argv, "max_argv_bytes"), read_strings(ctx, env, "max_env_bytes")
    kernel, process = ctx.kernel, ctx.process
    with kernel.lock:
        file = ctx.file(fd)
        file.references += 1
        try:
            found = Search(kernel.vfs, process.root, process.image.cwd).open(file, b"/dev/fd/%d" % fd, arguments)
        except BaseException:
            ctx.drop(file)
            raise
    try:
        loaded = kernel.launcher.load(found.program)
    finally:
        with kernel.lock:
            if found.program.file is not file:
                found.close()
            ctx.drop(file)
    path = found.program.path
    name, exe = path.rpartition(b"/")[2].decode("utf-8", "replace"), None if path == b"/dev/fd/%d" % fd else path
    _become(ctx, Image(found.argv, environ, process.image.cwd, name, exe), loaded, closed)


def _read_numbers(ctx: CallContext, pointer: int, count: int) -> list[int]:
    """Return the descriptors that libc, which keeps FD_CLOEXEC of some by itself, wants closed."""
    ctx.kernel.registry.ceiling("max_spawn_action_bytes").check(4 * count)
    return ctx.memory.span(pointer, 4 * count).cast("I").tolist() if count else []


def _become(ctx: CallContext, image: Image, loaded: Loaded, closed: list[int]) -> NoReturn:
    """Everything that can fail, then everything that cannot; then leave the old program."""
    kernel, process = ctx.kernel, ctx.process
    with kernel.lock:
        kernel.processes.check(image)
    program = kernel.launcher.replace(process, loaded)
    with kernel.lock:
        process.fds.close_tagged()
        process.fds.close_each(closed)
        process.fds.close_on_exec()
        process.become(image)
        process.has_host_abi = loaded.has_host_abi
        if not loaded.has_host_abi and loaded.uses_files:
            process.fds.close_from(3)
        try:
            open_preopens(kernel, process, uses_files=loaded.uses_files)
        except KernelError as error:  # the old program has lost too much to go on: execve(2)
            text = f"exec could not open the new program's directories ({error}): killed by SIGKILL"
            process.kill(Signal.SIGKILL, Cause(CauseKind.SIGNAL, text))
            raise GuestKilled from None
    raise GuestExec(program)
