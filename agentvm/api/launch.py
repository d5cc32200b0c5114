"""Starting a program: from what the caller asks for to a process that runs, with its streams and preopens in place."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentvm.abi.context import CallContext
from agentvm.abi.preopens import open_preopens
from agentvm.abi.rights import LISTENER, STDIN, STDOUT
from agentvm.api.guest_file import GuestFile
from agentvm.api.result import Result, Usage
from agentvm.errno import Errno, KernelError
from agentvm.errors import InvalidArgument, ProcessLimit
from agentvm.kernel.captured import CapturedOutput, capture_outputs
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.pipe import HostPipeEnd, Pipe, PipeReader
from agentvm.kernel.process import Ending, Image, Process, ProcessState
from agentvm.kernel.stat import Filetype
from agentvm.kernel.stdio import BytesInput, StreamedOutput
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.wait import Event
from agentvm.limits.gauge import LimitExceeded
from agentvm.limits.own_caps import OwnLimits
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    from agentvm.abi.trace import CallTrace
    from agentvm.engine.execution import Execution
    from agentvm.kernel.kernel import Kernel
    from agentvm.kernel.net.stream import StreamSocket

__all__ = ["Launched", "Program", "StartOptions", "UserName", "make_image", "prepare"]

#: How often a wait in vain looks up, in seconds.
_LATEST_LOOK = 0.2

#: What can be run: a path on the host, the bytes of a module, or a file of the VM.
Program = str | bytes | os.PathLike[str] | GuestFile
#: As whom: a name, a number, or both a user and a group as "user:group"; None for the default user.
UserName = str | int | None


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start a program; see `AgentVM.spawn` for the meaning of each."""

    args: Sequence[str | bytes] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    cwd: str = "/"
    timeout: float | None = None
    argv0: str | None = None
    preopens: Sequence[str] = ("/",)
    capture: bool = False
    listeners: int = 0
    #: Which of the three standard streams look like a terminal to the program.
    terminals: tuple[bool, bool, bool] = (False, False, False)
    #: Caps of this process alone, where they are tighter than the VM's.
    limits: OwnLimits = None
    #: As whom it runs; None: as the default user.
    user: UserName = None


class Launched:
    """One started program: the process's record and everything of the host's that belongs to it."""

    def __init__(self, kernel: "Kernel", record: Process) -> None:
        self.kernel = kernel
        self.record = record
        self.execution: Execution | None = None
        self.ended = Event()
        self.stdin: HostPipeEnd | None = None
        self.stdout: HostPipeEnd | None = None
        self.stderr: HostPipeEnd | None = None
        self.captured: tuple[CapturedOutput, CapturedOutput] | None = None
        self.listeners: list[StreamSocket] = []
        self.compile_seconds = 0.0
        self._ending: Ending | None = None
        self._when_done: list[Callable[[], None]] = []

    def finish(self, ending: Ending) -> None:
        """The engine is done with the process: close what it holds, and tell who waits. Runner thread."""
        kernel = self.kernel
        with kernel.lock:
            if self.record.state is ProcessState.RUNNING:  # a start that was interrupted took it back already
                kernel.processes.exit(self.record, ending)
            self._ending = ending
            self.ended.set()
            callbacks, self._when_done = self._when_done, []
        for callback in callbacks:
            callback()

    def close_streams_locked(self) -> None:
        """Close the host's ends of a process that never ran. Kernel lock."""
        for end in (self.stdin, self.stdout, self.stderr):
            if end is not None:
                end.close_locked()

    def when_done(self, callback: Callable[[], None]) -> None:
        with self.kernel.lock:
            if not self.ended.is_set():
                self._when_done.append(callback)
                return
        callback()

    def reap(self) -> None:
        """Give the place of the process in the table back, once it has ended. Idempotent."""
        with self.kernel.lock:
            self.kernel.processes.reap(self.record)

    def end_at_once(self) -> None:
        """Kill and reap the process, whatever else is pressed meanwhile: it takes a few milliseconds."""
        while True:
            try:
                self.record.kill(Signal.SIGKILL, Cause(CauseKind.SIGNAL, "killed by the host: run was interrupted"))
                if self.ended.wait(_LATEST_LOOK):
                    self.reap()
                    return
            except KeyboardInterrupt:
                continue

    def result(self) -> Result:
        """Reap the process, and return how it ended."""
        ending = self._ending
        assert ending is not None, "the process still runs"
        self.reap()
        with self.kernel.lock:
            kept = [(output.value(), output.gap()) for output in self.captured or ()] or [(b"", None)] * 2
        (stdout, stdout_gap), (stderr, stderr_gap) = kept
        return Result(
            exit_code=ending.status.code,
            signal=ending.status.signal,
            stdout=stdout,
            stderr=stderr,
            stdout_gap=stdout_gap,
            stderr_gap=stderr_gap,
            cause=ending.cause,
            usage=self.usage(),
        )

    def usage(self) -> Usage:
        """Return what the process has used so far, and the VM's limits."""
        with self.kernel.lock:
            limits = self.kernel.registry.snapshot()
        if self.execution is None:
            return Usage(limits)
        used = self.execution.statistics()
        return Usage(
            limits,
            cpu_seconds=used.cpu_time_ns / 1e9,
            wall_seconds=used.wall_time_ns / 1e9,
            fuel=used.fuel_used,
            peak_memory_bytes=used.peak_memory_bytes,
            compile_seconds=self.compile_seconds,
        )


def make_image(program: Program, options: StartOptions) -> Image:
    """Return the arguments and environment that the program starts with. Raises `InvalidArgument`."""
    name = options.argv0
    if name is None:
        name = _name_of(program)
    if not options.cwd.startswith("/"):
        raise InvalidArgument(f"cwd {options.cwd!r} is not an absolute path inside the VM", cwd=options.cwd)
    environ = dict(options.env)
    if options.cwd != "/":
        environ.setdefault("PWD", options.cwd)
    for key in environ:
        if not key or "=" in key:
            raise InvalidArgument(f"{key!r} cannot be the name of an environment variable", name=key)
    return Image(
        argv=(os.fsencode(name), *(os.fsencode(arg) for arg in options.args)),
        environ=tuple(f"{key}={value}".encode() for key, value in environ.items()),
        cwd=options.cwd.encode(),
        name=os.path.basename(name),
        exe=program.path.encode() if isinstance(program, GuestFile) else None,
    )


def _name_of(program: Program) -> str:
    """What a program finds as argv[0]: a path inside the VM whole, and of one on the host no more than the name."""
    if isinstance(program, GuestFile):
        return program.path
    return "program" if isinstance(program, bytes) else os.path.basename(os.fspath(program))


def prepare(
    kernel: "Kernel",
    image: Image,
    options: StartOptions,
    *,
    caps: Mapping[str, Cap],
    uses_files: bool,
    has_host_abi: bool,
    trace: "CallTrace | None" = None,
) -> tuple[Launched, CallContext]:
    """Make the process, with its own `caps`, its standard streams and preopened directories. Takes the kernel lock.

    Raises `ProcessLimit` (EAGAIN), `InvalidArgument` (E2BIG, EINVAL, a cwd or preopen that is not there).
    """
    with kernel.lock:
        credentials = _credentials(kernel, options.user)
        if has_host_abi:
            image = _with_account(kernel, image, options, credentials.uid)
        whole = options.cwd != "/" or "/" in options.preopens
        record = _spawn(kernel, image, kernel.vfs.root if whole else None)
        record.has_host_abi = has_host_abi
        record.credentials = credentials
        record.preopens = tuple(path.encode() for path in options.preopens)
        for name, cap in caps.items():
            record.gauges.tighten(name, cap)
        launched = Launched(kernel, record)
        try:
            _open_streams(launched, options)
            open_preopens(kernel, record, uses_files=uses_files)
            _open_listeners(launched, options)
            return launched, CallContext(kernel, record, trace)
        except KernelError as error:
            kernel.processes.discard(record)
            launched.close_streams_locked()
            raise InvalidArgument(f"the program cannot be started: {error}", **_facts(error)) from error


def _credentials(kernel: "Kernel", user: UserName) -> Credentials:
    if user is None:
        return Credentials()
    from agentvm.api.users import find_credentials

    return find_credentials(kernel.vfs, user)


def _with_account(kernel: "Kernel", image: Image, options: StartOptions, uid: int) -> Image:
    """Tell a program of the host ABI who it is and where it lives, where its caller does not."""
    from agentvm.api.users import account_variables

    missing = [
        name.encode() + b"=" + value for name, value in account_variables(kernel.vfs, uid) if name not in options.env
    ]
    return replace(image, environ=(*image.environ, *missing))


def _spawn(kernel: "Kernel", image: Image, root: Node | None) -> Process:
    try:
        return kernel.processes.spawn(image, root)
    except LimitExceeded as error:
        if error.errno is Errno.EAGAIN:
            raise ProcessLimit(
                f"EAGAIN: {error.detail}; wait for a process, or raise max_processes", **_facts(error)
            ) from None
        raise InvalidArgument(
            f"the program cannot be started: {error}; raise it with {error.spec.setting(error.observed)}",
            **_facts(error),
        ) from None
    except KernelError as error:
        raise InvalidArgument(str(error), errno=error.errno.name) from None


def _facts(error: KernelError) -> dict[str, object]:
    """The values that an error to the operator carries."""
    if isinstance(error, LimitExceeded):
        return {"errno": error.errno.name, "limit": error.limit, "observed": error.observed, "cap": error.capacity}
    return {"errno": error.errno.name}


def _open_streams(launched: Launched, options: StartOptions) -> None:
    kernel, record = launched.kernel, launched.record
    kinds = [Filetype.CHARACTER_DEVICE if terminal else Filetype.UNKNOWN for terminal in options.terminals]

    def host_end(pipe: Pipe, *, reads: bool) -> HostPipeEnd:
        return HostPipeEnd(pipe, kernel.lock, kernel.clock, reads=reads)

    files: list[OpenFile] = []
    if options.stdin is not None:
        files.append(BytesInput(options.stdin))
    else:
        pipe = Pipe(kernel.registry)
        files.append(PipeReader(pipe, kinds[0]))
        launched.stdin = host_end(pipe, reads=False)
    if options.capture:
        budget = record.gauges.gauge("max_log_bytes")
        discard = kernel.registry.setting("on_output_full") == "discard"
        launched.captured = capture_outputs(budget, discard=discard)
        files += launched.captured
    else:
        budget = record.gauges.gauge("max_output_bytes")
        pipes = Pipe(kernel.registry), Pipe(kernel.registry)
        files += [StreamedOutput(pipe, budget, kind) for pipe, kind in zip(pipes, kinds[1:], strict=True)]
        launched.stdout, launched.stderr = (host_end(pipe, reads=True) for pipe in pipes)
    for file, rights in zip(files, (STDIN, STDOUT, STDOUT), strict=True):
        _hand_over(record, Descriptor(file, rights, 0))


def _hand_over(record: Process, descriptor: Descriptor) -> None:
    """Give the process a descriptor. EMFILE, ENFILE: its file is closed then."""
    try:
        record.fds.open(descriptor)
    except KernelError:
        descriptor.file.on_last_close()
        raise


def _open_listeners(launched: Launched, options: StartOptions) -> None:
    kernel, record = launched.kernel, launched.record
    for _ in range(options.listeners):
        listener = kernel.network.listener_for_host()
        launched.listeners.append(listener)
        _hand_over(record, Descriptor(listener, LISTENER, 0))
