"""The compiler process: a warm process that forks a child for each job, and the child that compiles.

It runs apart from the embedding program because compiling a hostile module can take minutes and gigabytes and cannot be
interrupted: here it can be killed, and the kernel bounds its address space and CPU time (setrlimit(2)).
Knows nothing of caches or modules; see `compiler.py` for the other side.
"""

import contextlib
import ctypes
import gc
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypedDict

if TYPE_CHECKING:
    import wasmtime

__all__ = ["MAX_REQUEST_BYTES", "REFUSED", "Job", "Options", "compile_job", "main"]

#: Exit status of a child whose module wasmtime refused; its words are in the notes.
REFUSED = 3
#: Requests and reports are single datagrams of at most this size.
MAX_REQUEST_BYTES = 4096
_MAX_REFUSAL_BYTES = 4096
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _M_ARENA_MAX = 1, 38, -8
#: Address space that one more compiling thread takes before it compiles anything: stack and malloc arena.
_BYTES_PER_THREAD = 192 << 20


class Options(TypedDict):
    """What a request says. `profile` holds the fields of an `EngineProfile`."""

    profile: dict[str, int]
    seconds: float
    memory_bytes: int


class Job(NamedTuple):
    """A job as the parent asked for it. `wasm`, `out` and `notes` are descriptors of the parent's memory files."""

    connection: socket.socket
    wasm: int
    out: int
    notes: int
    options: "Options"

    def close_files(self) -> None:
        for fd in (self.wasm, self.out, self.notes):
            os.close(fd)

    def close(self) -> None:
        self.close_files()
        self.connection.close()


def main(control_fd: int, parent: int) -> None:
    """Serve jobs that come in on `control_fd` until its other end closes, or process `parent` is gone."""
    _restore_signals()
    control = socket.socket(fileno=control_fd)
    import wasmtime  # noqa: F401 - loaded once, for all children

    import agentvm.engine.config  # noqa: F401

    gc.freeze()
    _Zygote(control, parent).serve()


def _restore_signals() -> None:
    """The parent's dispositions come along through exec: an ignored SIGCHLD would leave nothing to wait for."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Zygote:
    """Owned by the single thread of the compiler process."""

    def __init__(self, control: socket.socket, parent: int) -> None:
        self._control = control
        self._connections: dict[int, int] = {}  # descriptor of a job's connection -> pid of its child
        self._jobs: dict[int, Job] = {}  # pid -> job; bounded by the parent's max_compile_jobs
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._libc = ctypes.CDLL(None)
        self._engines: dict[str, wasmtime.Engine] = {}
        self._poll = select.poll()
        self._poll.register(control, select.POLLIN)
        self._poll.register(self._wake_read, select.POLLIN)
        self._parent = _open_parent(parent)
        if self._parent >= 0:
            self._poll.register(self._parent, select.POLLIN)

    def serve(self) -> None:
        try:
            while True:
                ready = {fd for fd, _ in self._poll.poll()}
                if self._parent in ready:
                    return
                # In this order: reaping closes descriptors, and a new job takes their numbers.
                for fd in ready & self._connections.keys():
                    self._cancel(fd)
                if self._wake_read in ready:
                    self._reap()
                if self._control.fileno() in ready and not self._accept():
                    return
        finally:
            for pid in self._jobs:
                os.kill(pid, signal.SIGKILL)

    def _accept(self) -> bool:
        """Start the next job. False when the parent closed its end."""
        text, fds, _, _ = socket.recv_fds(self._control, MAX_REQUEST_BYTES, 4)
        if not text:
            return False
        if len(fds) != 4:  # out of descriptors: the parent sees its connection close
            for fd in fds:
                os.close(fd)
            return True
        job = Job(socket.socket(fileno=fds[0]), fds[1], fds[2], fds[3], json.loads(text))
        zygote = os.getpid()
        try:
            engine = self._engine(job)
            pid = os.fork()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other jobs go on
            os.write(job.notes, f"{error}".encode(errors="replace")[:_MAX_REFUSAL_BYTES])
            _report(job, {"failed": 1})
            job.close()
            return True
        if pid == 0:
            self._become_child(job, engine, zygote)
        job.close_files()
        self._jobs[pid] = job
        self._connections[job.connection.fileno()] = pid
        self._poll.register(job.connection, select.POLLIN)
        _report(job, {"pid": pid})
        return True

    def _engine(self, job: Job) -> "wasmtime.Engine":
        """Return the engine of the job's profile. Made here, once, so that no child spends time on it."""
        import wasmtime

        from agentvm.engine.config import MAX_ENGINES, EngineProfile, build_config

        key = json.dumps(job.options["profile"])
        engine = self._engines.get(key)
        if engine is None:
            if len(self._engines) >= MAX_ENGINES:
                self._engines.clear()
            profile = EngineProfile(**job.options["profile"])
            engine = self._engines[key] = wasmtime.Engine(build_config(profile, memory_creator=False))
        return engine

    def _become_child(self, job: Job, engine: "wasmtime.Engine", zygote: int) -> NoReturn:
        signal.set_wakeup_fd(-1)
        self._control.close()
        for other in self._jobs.values():
            other.connection.close()
        job.connection.close()
        compile_job(job, engine, self._libc, zygote)

    def _cancel(self, fd: int) -> None:
        """The parent closed its sending side: nobody wants this job any more."""
        self._poll.unregister(fd)
        os.kill(self._connections[fd], signal.SIGKILL)  # not reaped yet, so the pid is still its own

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        for pid in list(self._jobs):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if not ended:
                continue
            job = self._jobs.pop(pid)
            fd = job.connection.fileno()
            del self._connections[fd]
            with contextlib.suppress(KeyError):
                self._poll.unregister(fd)
            _report(job, {"status": status, "cpu_seconds": usage.ru_utime + usage.ru_stime})
            job.connection.close()


def _report(job: Job, record: Mapping[str, float]) -> None:
    try:
        job.connection.send(json.dumps(record).encode())
    except OSError:  # the parent gave the job up
        pass


def _open_parent(parent: int) -> int:
    """Return a descriptor that turns readable when process `parent` ends, or -1 where the kernel has none.

    PR_SET_PDEATHSIG would not do here: it fires when the *thread* that started us ends.
    """
    try:
        fd = os.pidfd_open(parent)
    except (AttributeError, OSError):
        fd = -1
    if os.getppid() != parent:  # it ended before we looked
        sys.exit(0)
    return fd


# The child


def compile_job(job: Job, engine: "wasmtime.Engine", libc: ctypes.CDLL, zygote: int) -> NoReturn:
    """Compile, write the result to `out` and the address space that it took to `notes`, and end the process.

    Dies with `zygote`, its parent process.
    """
    status = 1
    try:
        os.dup2(job.notes, 2)
        _confine(job.options, libc, zygote)
        status = _compile_to(job, engine)
    except MemoryError:
        os.write(2, b"memory allocation failed")
    except BaseException as error:  # noqa: BLE001 - the process ends here, and the notes carry it
        os.write(2, f"{type(error).__name__}: {error}".encode(errors="replace")[:_MAX_REFUSAL_BYTES])
    finally:
        os._exit(status)


def _confine(options: Options, libc: ctypes.CDLL, zygote: int) -> None:
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != zygote:  # it ended before the kernel knew
        os._exit(1)
    memory = options["memory_bytes"]
    threads = max(1, min(len(os.sched_getaffinity(0)), memory // _BYTES_PER_THREAD - 1))
    os.environ["RAYON_NUM_THREADS"] = str(threads)
    libc.mallopt(_M_ARENA_MAX, threads)
    seconds = max(1, int(-(-options["seconds"] // 1)))
    _lower(resource.RLIMIT_CORE, 0, 0)
    _lower(resource.RLIMIT_AS, memory, memory)
    _lower(resource.RLIMIT_FSIZE, memory, memory)
    _lower(resource.RLIMIT_CPU, seconds, seconds + 1)


def _lower(number: int, soft: int, hard: int) -> None:
    """Set a limit; where the program runs under a lower one already, that one stays."""
    _, present = resource.getrlimit(number)
    if present != resource.RLIM_INFINITY:
        soft, hard = min(soft, present), min(hard, present)
    resource.setrlimit(number, (soft, hard))


def _compile_to(job: Job, engine: "wasmtime.Engine") -> int:
    import wasmtime

    size = os.fstat(job.wasm).st_size
    with mmap.mmap(job.wasm, size, prot=mmap.PROT_READ) as mapped:
        wasm = mapped[:]
    try:
        wasmtime.Module.validate(engine, wasm)  # refuses in milliseconds; compiling may get there after minutes
        module = wasmtime.Module(engine, wasm)
    except wasmtime.WasmtimeError as error:
        text = str(error)
        if "os error 12" in text:
            raise MemoryError from error
        os.write(2, text.encode(errors="replace")[-_MAX_REFUSAL_BYTES:])
        return REFUSED
    del wasm
    code = memoryview(module.serialize())
    at = 0
    while at < len(code):
        at += os.pwrite(job.out, code[at : at + (64 << 20)], at)
    os.ftruncate(2, 0)
    os.pwrite(2, b"%d" % _peak_bytes(), 0)
    return 0


def _peak_bytes() -> int:
    """Return the most address space that this process ever had: what RLIMIT_AS bounds. Source: proc(5), VmPeak."""
    try:
        with open("/proc/self/status", "rb") as file:
            lines = dict(line.split(b":", 1) for line in file if b":" in line)
        return int(lines[b"VmPeak"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 0
