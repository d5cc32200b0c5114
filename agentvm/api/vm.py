"""`AgentVM`: a virtual machine in this process, for as long as it is open."""

import itertools
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from agentvm import log
from agentvm.api.actions import count_action
from agentvm.api.calling import calling_pid, calling_process, stop_if_killed
from agentvm.api.events import Callback, Events, Forget, host_events
from agentvm.api.launch import Launched, Program, StartOptions, UserName, make_image, prepare
from agentvm.api.mounts import Mountable, Mounts
from agentvm.api.process import Process
from agentvm.api.result import Result, Usage
from agentvm.api.stalls import StallCallback, StallNews
from agentvm.clock import Clock, ManualClock, SystemClock
from agentvm.engine.capacity import host_capacity
from agentvm.errors import VMClosed
from agentvm.host.entropy import seeded_random, system_random
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import Process as Record
from agentvm.kernel.process import ProcessState
from agentvm.kernel.vfs.files import FileAccess
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.amount import Amount
from agentvm.limits.caps import DEFAULT_LIMITS
from agentvm.limits.catalogue import SETTINGS, Limits
from agentvm.limits.outlet import Collector
from agentvm.limits.own_caps import OwnLimits, own_caps
from agentvm.limits.registry import Registry
from agentvm.limits.view import LimitsView

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.abi.trace import CallTrace
    from agentvm.api.connection import Connection
    from agentvm.api.machine import VMMachine
    from agentvm.api.processes import GuestProcess, ProcessInfo
    from agentvm.api.reactor import Instance

__all__ = ["AgentVM", "Mountable"]

_numbers = itertools.count(1)

#: Told how many seconds the compiler has been at work on a module.
Progress = Callable[[float], None]


class AgentVM:
    """A small Linux-like machine that runs untrusted WebAssembly programs under `limits`.

    ```python
    with AgentVM(limits=Limits(max_memory_bytes="64MiB")) as vm:
        vm.fs.write("/home/in.txt", b"hello")
        print(vm.run("guest.wasm", args=["in.txt"], cwd="/home").check().stdout_text)
    ```

    `deterministic` gives guests a clock that moves only as they sleep and look at it, and randomness from `seed`;
    `clock` puts another clock in the place of the host's; `trace` is told of every call that a guest makes. `name`
    stands in the log and in events; without one it is "vm-1", "vm-2" and so on.
    All methods may be called from any thread.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        deterministic: bool = False,
        seed: int = 0,
        clock: Clock | None = None,
        trace: "CallTrace | None" = None,
        name: str | None = None,
    ) -> None:
        """Raises `InvalidLimit` if the limits contradict each other, `HostLimit` if max_open_vms are open.

        Starts nothing: an idle VM is a few objects.
        """
        self._open = False
        if clock is None:
            clock = ManualClock(step_ns=1000) if deterministic else SystemClock()
        #: The VM's name in the log and in events.
        self.name = name or f"vm-{next(_numbers)}"
        registry = Registry(limits or DEFAULT_LIMITS, vm=self.name, caller=calling_pid)
        self._events = Events(registry)
        self._stalls: StallNews | None = None
        random_bytes = seeded_random(seed) if deterministic else system_random
        vfs = Vfs(registry, clock, between=stop_if_killed)
        self._kernel = Kernel(registry, clock, random_bytes, vfs, calling_process)
        self._mounts = Mounts(self._kernel)
        self._machine: VMMachine | None = None
        self._launched: set[Launched] = set()  # bounded by max_processes
        self._trace = trace
        self._owner = os.getpid()
        #: The VM's files, as the host sees them: `read`, `write`, `listdir` ...
        self.fs = FileAccess(self._kernel.vfs, self._kernel.lock)
        host_events()  # from now on the process-wide limits are logged too
        host_capacity().acquire("max_open_vms")
        self._open = True

    # -- running ------------------------------------------------------------------------------------------------------
    def run(
        self,
        program: Program,
        args: Sequence[str | bytes] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        cwd: str = "/",
        timeout: float | None = None,
        *,
        argv0: str | None = None,
        preopens: Sequence[str] = ("/",),
        limits: OwnLimits = None,
        user: UserName = None,
        progress: Progress | None = None,
    ) -> Result:
        """Run a program to its end, and return how it ended and what it printed.

        `program` is a path on the host, the bytes of a module, or a `GuestFile`, which lies in the VM; `args` come
        after argv[0], which is the file's name or `argv0`. `timeout`, in seconds: a program that runs longer is killed
        (max_wall_time_seconds), a compile that takes longer is given up (`CompileLimit`). `preopens` are the
        directories that it is given. `limits` are caps of this program alone, by the catalogue's names: they may only
        tighten what a process of this VM has. The program runs as `user`: a name, a number, or "user:group"; by default
        1000:1000, which is "user". `progress` hears how long a slow compile takes.

        What the program has started and left behind goes on until `kill` or `close`: the result, the timeout and
        Ctrl-C are the program's own.

        Raises `NotRunnable` and its kin for a module that can't be run, `ProgramNotFound`, `ProcessLimit`,
        `RateLimited`, `InvalidArgument`, `InvalidLimit`, `VMClosed`. Ctrl-C ends the program and is raised again.
        """
        options = StartOptions(
            args, env or {}, stdin, cwd, timeout, argv0, preopens, capture=True, limits=limits, user=user
        )
        started: list[Launched] = []
        try:
            return Process(self._launch(program, options, progress, started=started)[0]).wait()
        except BaseException:
            for launched in started:
                launched.end_at_once()
            raise

    def spawn(
        self,
        program: Program,
        args: Sequence[str | bytes] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        cwd: str = "/",
        timeout: float | None = None,
        *,
        argv0: str | None = None,
        preopens: Sequence[str] = ("/",),
        capture: bool = False,
        listeners: int = 0,
        limits: OwnLimits = None,
        user: UserName = None,
        progress: Progress | None = None,
    ) -> Process:
        """Start a program, and return at once with a handle. Parameters and errors are those of `run`.

        Without `stdin` bytes the process reads from a pipe, `process.stdin`; it prints to the pipes `process.stdout`
        and `process.stderr`, and waits when they are full, unless `capture` keeps its output for the result.
        `listeners` sockets are preopened after the directories: `process.connect(i)` connects to them.
        """
        options = StartOptions(
            args, env or {}, stdin, cwd, timeout, argv0, preopens, capture, listeners, limits=limits, user=user
        )
        return self.start(program, options, progress)

    def start(self, program: Program, options: StartOptions, progress: Progress | None = None) -> Process:
        """As `spawn`, with everything that can be said about the start."""
        return Process(self._launch(program, options, progress)[0])

    def instantiate(
        self,
        program: Program,
        args: Sequence[str | bytes] = (),
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = b"",
        *,
        preopens: Sequence[str] = ("/",),
        capture: bool = True,
        listeners: int = 0,
        limits: OwnLimits = None,
        user: UserName = None,
    ) -> "Instance":
        """Load a reactor: a module without `_start`, whose exports are called one by one. Runs its `_initialize`.

        Parameters are those of `spawn`; without `capture`, `instance.stdout` and `stderr` are pipes. Raises what `run`
        raises, and `GuestFailed` if `_initialize` ends the process.
        """
        from agentvm.api.reactor import Instance

        options = StartOptions(
            args, env or {}, stdin, preopens=preopens, capture=capture, listeners=listeners, limits=limits, user=user
        )
        launched, context = self._launch(program, options, None, reactor=True)
        instance = Instance(launched, context)
        instance.wait_ready()
        return instance

    def _launch(
        self,
        program: Program,
        options: StartOptions,
        progress: Progress | None,
        *,
        reactor: bool = False,
        started: list[Launched] | None = None,
    ) -> "tuple[Launched, CallContext]":
        """Start a program. `started` is told of it before it runs, so that Ctrl-C at any moment leaves none behind."""
        self._check_open()
        image, caps = make_image(program, options), own_caps(options.limits, self._kernel.registry.caps.now)
        count_action(self._kernel)
        machine = self._running_machine()
        from agentvm.api.module_facts import has_host_abi, uses_files

        module, compile_seconds = machine.load(
            program, caps=caps, reactor=reactor, timeout=options.timeout, progress=progress
        )
        launched, context = prepare(
            self._kernel,
            image,
            options,
            caps=caps,
            uses_files=uses_files(module.info),
            has_host_abi=has_host_abi(module.info),
            trace=self._trace,
        )
        launched.compile_seconds = compile_seconds
        with self._kernel.lock:
            self._launched.add(launched)
        if started is not None:
            started.append(launched)
        launched.when_done(lambda: self._launched.discard(launched))
        try:
            machine.start(launched, module, context, reactor=reactor, timeout=options.timeout)
        except BaseException:
            with self._kernel.lock:
                self._kernel.processes.discard(launched.record)
                self._launched.discard(launched)
                launched.ended.set()  # a close that saw it waits for nothing
            raise
        if log.enabled("debug"):
            from agentvm.api.snapshots import usage_log

            usage_log.add(self)
        return launched, context

    def _running_machine(self) -> "VMMachine":
        """Return the engine's side of this VM; the engine is imported when the first program runs."""
        if self._machine is None:
            from agentvm.api.machine import VMMachine

            with self._kernel.lock:
                if self._machine is None:
                    self._stalls = StallNews(self.name)
                    self._kernel.processes.stalls.tell(self._stalls.post)
                    self._machine = VMMachine(self._kernel, trace=self._trace, owner=weakref.ref(self))
        return self._machine

    # -- files, limits, life ------------------------------------------------------------------------------------------
    def mount(self, path: str, source: Mountable) -> None:
        """Make a directory of the host, or an empty in-memory filesystem, visible at `path`.

        Raises `MountFailed`, `UnsupportedOnPlatform`.
        """
        self._check_open()
        self._mounts.add(path, source)

    def connect(self, address: int | str | bytes) -> "Connection":
        """Connect to a process that listens at a TCP port of the VM (`vm.connect(8080)`), or at a path of the Unix
        domain (`vm.connect("/run/x.sock")`). It need not accept yet.

        Raises ConnectionRefusedError if nobody listens there, for max_listener_backlog (EAGAIN), or for max_sockets
        (ENFILE); `InvalidArgument` for what is neither a port nor an absolute path; `VMClosed`.
        """
        self._check_open()
        from agentvm.api.connection import connect_to

        return connect_to(self._kernel, address)

    def usage(self) -> Usage:
        """Return how far every limit is used, now and at most so far: each with its `name`, `kind`, `scope`, `used`,
        `peak`, `cap`, `percent`, and how often it `refused` and came near its cap (`warnings`)."""
        with self._kernel.lock:
            return Usage(self._kernel.registry.snapshot())

    @property
    def limits(self) -> LimitsView:
        """Every limit's cap in force now. `vm.limits.describe()` says in words what there is, for an agent's prompt."""
        registry = self._kernel.registry
        return LimitsView(registry.caps.now, {name: registry.setting(name) for name in SETTINGS})

    @property
    def is_running(self) -> bool:
        """Whether any program of this VM runs, one that another has started too."""
        return any(process.state is ProcessState.RUNNING for process in self._processes())

    def processes(self) -> "tuple[ProcessInfo, ...]":
        """Return all processes of this VM by number, zombies and those that programs have started included."""
        from agentvm.api.processes import list_processes

        return list_processes(self._kernel)

    def process(self, pid: int) -> "GuestProcess":
        """Return a handle of one process, to look at it and to signal it. Raises `NoSuchProcess`."""
        from agentvm.api.processes import find_process

        return find_process(self._kernel, pid)

    def on_limit(self, callback: Callback) -> Forget:
        """Have `callback` called with a `LimitEvent` whenever a limit is near its cap, or refuses or delays something.

        It is called on a thread of its own, with one event at a time. While it is busy, and within a second of the
        last one, events of one limit and kind become one, with a count: it may be as slow as it likes. An exception of
        its is logged once. Returns a function that takes it back. How many callbacks there are is yours to bound.
        """
        self._check_open()
        return self._events.call(callback)

    def on_stall(self, callback: StallCallback) -> Forget:
        """Have `callback` called, on a thread of its own, with a `Stall` when every process waits for ever for the
        others: it says which waits for what. Returns a function that takes it back. The log hears of it anyway."""
        self._check_open()
        self._running_machine()
        assert self._stalls is not None
        return self._stalls.call(callback)

    def collect_events(self) -> Collector:
        """Keep the events that happen from now on, one of each limit and kind: `collector.events()`."""
        self._check_open()
        return self._events.collect()

    def raise_limit(self, **limits: Amount) -> None:
        """Raise caps of this VM, for running programs too: `vm.raise_limit(max_open_fds=512)`.

        Raises `InvalidLimit` for an unknown name, a bad value, or a cap that would fall.
        """
        self._check_open()
        self._kernel.raise_limits(Limits.of(limits))
        if self._machine is not None:
            self._machine.refresh_limits()

    def kill(self) -> None:
        """End every program of this VM at once, and every compile for it."""
        if self._machine is not None:
            self._machine.interrupt()
        for process in self._processes():
            process.kill(Signal.SIGKILL, Cause(CauseKind.SIGNAL, "the VM's programs were killed by the host"))

    def close(self) -> None:
        """End every program, and give everything back. Idempotent."""
        if not self._open or self._owner != os.getpid():
            return
        self._open = False
        if self._machine is not None:
            self._machine.interrupt()
        for process in self._processes():
            process.kill(Signal.SIGKILL, Cause(CauseKind.SIGNAL, "the VM was closed"))
        for launched in list(self._launched):
            launched.ended.wait()
        if self._machine is not None:
            self._machine.close()
        with self._kernel.lock:
            for record in self._kernel.processes:
                self._kernel.processes.reap(record)
        self._kernel.close()
        self._mounts.close()
        self._events.hurry()
        host_capacity().release("max_open_vms")

    def __del__(self) -> None:
        """A VM that was forgotten gives its place back; no program runs in it, for that would remember it."""
        if self._open and self._owner == os.getpid():
            self._mounts.close()
            host_capacity().release("max_open_vms")

    def __enter__(self) -> "AgentVM":
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _processes(self) -> list[Record]:
        with self._kernel.lock:
            return list(self._kernel.processes)

    def _check_open(self) -> None:
        if self._owner != os.getpid():
            raise VMClosed("this VM was opened before a fork: only the process that opened it can use it")
        if not self._open:
            raise VMClosed("the VM is closed")
