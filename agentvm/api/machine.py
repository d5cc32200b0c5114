"""The engine's side of one VM: loads modules for it, and starts them. Imported with the first program that runs."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

from agentvm.api.guest_file import GuestFile
from agentvm.api.guest_program import open_guest_file
from agentvm.api.launch import Launched, Program
from agentvm.api.launcher import GuestLauncher
from agentvm.engine.cache import LoadedModule
from agentvm.engine.cancel import Cancel
from agentvm.engine.capacity import host_capacity
from agentvm.engine.compile_caps import CompileCost
from agentvm.engine.config import EngineProfile, engine_for
from agentvm.engine.dispatch import HostCalls, available_import
from agentvm.engine.machine import Machine
from agentvm.engine.module import load_module
from agentvm.engine.module_info import ModuleInfo
from agentvm.engine.program import GuestProgram
from agentvm.errors import CompileLimit, HostLimit, MemoryTooLarge, ModuleLimit, NotRunnable
from agentvm.kernel.process import Process
from agentvm.kernel.vfs.files import FileAccess
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import LimitExceeded
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.abi.trace import CallTrace
    from agentvm.engine.bind import HostLinker
    from agentvm.engine.execution import OnEnd
    from agentvm.kernel.kernel import Kernel

__all__ = ["VMMachine"]

_calls: "dict[tuple[EngineProfile, bool, bool, bool], HostCalls]" = {}  # bounded by the number of profiles
_calls_lock = threading.Lock()

#: Host calls through the library's public API instead of the fast path: for tests, and for versions that lack it.
PUBLIC_CALLS = os.environ.get("AGENTVM_PUBLIC_HOST_CALLS") == "1"


def _calls_for(profile: EngineProfile, *, traced: bool, rated: bool) -> HostCalls:
    key = profile, traced, rated, PUBLIC_CALLS
    calls = _calls.get(key)
    if calls is None:
        with _calls_lock:
            calls = _calls.get(key)
            if calls is None:
                calls = HostCalls(engine_for(profile), traced=traced, rated=rated, public=PUBLIC_CALLS)
                _calls[key] = calls
    return calls


def _never_killed(_cancel: Callable[[], None]) -> AbstractContextManager[None]:
    return nullcontext()


class _Loading:
    """One load under way: bounded by the caller's timeout, and interruptible."""

    def __init__(self, timeout: float | None, progress: Callable[[float], None] | None) -> None:
        self.cancel = Cancel()
        #: None where nothing was compiled.
        self.cost: CompileCost | None = None
        self.timed_out = False
        self._timeout = timeout
        self._progress = progress
        self._timer: threading.Timer | None = None

    def tell(self, seconds: float) -> None:
        """The compiler has been at work for so long. Only then a timer is worth its thread: most loads are cached."""
        if self._timeout is not None and self._timer is None:
            self._timer = threading.Timer(max(0.0, self._timeout - seconds), self._time_out)
            self._timer.daemon = True
            self._timer.start()
        if self._progress is not None:
            self._progress(seconds)

    def _time_out(self) -> None:
        self.timed_out = True
        self.cancel.cancel()

    def charge(self, cost: CompileCost) -> None:
        """The compiler took that much."""
        self.cost = cost

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class VMMachine:
    """Loads and starts the programs of one VM."""

    def __init__(self, kernel: "Kernel", *, trace: "CallTrace | None", owner: Callable[[], object]) -> None:
        """With `trace` the contexts of the processes to start have it. Programs can start others from here on; `owner`
        returns the VM."""
        self._kernel = kernel
        self._profile = EngineProfile(int(kernel.registry.caps.now["max_wasm_stack_bytes"]))
        self._machine = Machine(kernel.registry)
        self._lock = threading.Lock()
        self._loading: set[_Loading] = set()  # guarded by _lock; one for each thread of the host that loads
        self._files = FileAccess(kernel.vfs, kernel.lock)
        #: The module that was last counted against its ceilings, and whether as a guest's. Guarded by the kernel lock.
        self._noted: tuple[ModuleInfo, bool] | None = None
        self._calls = _calls_for(self._profile, traced=trace is not None, rated=kernel.disk is not None)
        kernel.launcher = GuestLauncher(kernel, self, trace, owner)

    def load(
        self,
        program: Program | GuestProgram,
        *,
        caps: Mapping[str, Cap],
        reactor: bool = False,
        timeout: float | None = None,
        progress: Callable[[float], None] | None = None,
        killed: Callable[[Callable[[], None]], AbstractContextManager[None]] = _never_killed,
    ) -> tuple[LoadedModule, float]:
        """Return the compiled module, and the CPU seconds that compiling it took: 0 if it was cached.

        `caps` are those of the process alone, where they are tighter than the VM's; `killed` has what it is given
        called when the program that asks is killed. Raises `NotRunnable` and its kin; `CompileLimit` if `timeout`
        seconds pass first.
        """
        loading = _Loading(timeout, progress)
        with self._lock:
            self._loading.add(loading)
        source = open_guest_file(program, self._files) if isinstance(program, GuestFile) else program
        is_guests = isinstance(source, GuestProgram) and not source.is_operators
        try:
            with killed(loading.cancel.cancel):
                module = load_module(
                    source,
                    caps={**self._kernel.registry.caps.now, **caps} if caps else self._kernel.registry.caps.now,
                    profile=self._profile,
                    available_imports=available_import,
                    require="reactor" if reactor else "command",
                    cancel=loading.cancel,
                    progress=loading.tell,
                    charge=loading.charge,
                )
        except (ModuleLimit, MemoryTooLarge, CompileLimit) as error:
            self._note_refusal(error)
            if not loading.timed_out:
                raise
            raise CompileLimit(
                f"compiling took longer than timeout={timeout} s; without a timeout it goes on up to "
                "max_compile_seconds, and the result is cached",
                **error.values,
            ) from None
        finally:
            loading.end()
            with self._lock:
                self._loading.discard(loading)
        self._note_load(module.info, loading.cost, is_guests=is_guests)
        return module, loading.cost.cpu_seconds if loading.cost is not None else 0.0

    def _note_load(self, info: ModuleInfo, cost: CompileCost | None, *, is_guests: bool) -> None:
        """Count what a module needs against its ceilings; what compiling took only where it was compiled."""
        registry = self._kernel.registry
        with self._kernel.lock:
            noted = self._noted
            if noted is None or noted[0] is not info or noted[1] != is_guests:
                self._noted = info, is_guests  # the same again tells no ceiling anything new
                registry.measure(info.counts, is_lasting=True)
                registry.measure({"max_guest_module_bytes" if is_guests else "max_module_bytes": info.size_bytes})
            if cost is not None:
                seconds_limit = "max_guest_compile_seconds" if is_guests else "max_compile_seconds"
                registry.measure({seconds_limit: cost.seconds, "max_compile_memory_bytes": cost.peak_bytes})

    def _note_refusal(self, error: NotRunnable) -> None:
        """Count a refusal with its limit. A compile that was interrupted, or crashed, has none."""
        limit = error.values.get("limit")
        if isinstance(limit, str) and limit in SPECS:
            observed, cap = (cast(Cap, error.values[name]) for name in ("observed", "cap"))
            with self._kernel.lock, host_capacity().lock:  # the second guards the gauges of memory
                self._kernel.registry.refuse(limit, observed, cap)

    def interrupt(self) -> None:
        """Make every load that is under way fail."""
        with self._lock:
            loading = list(self._loading)
        for load in loading:
            load.cancel.cancel()

    def start(
        self,
        launched: Launched,
        module: LoadedModule,
        context: "CallContext",
        *,
        reactor: bool,
        timeout: float | None,
    ) -> None:
        """Hand the process to a runner thread.

        Raises `HostLimit` (EAGAIN) if none can be had, `MemoryTooLarge` (ENOMEM) if its memories don't fit.
        """
        with self._refusals_told():
            launched.execution = self._machine.start(
                module,
                launched.record,
                context,
                self._linker(module),
                entry="_initialize" if reactor else "_start",
                timeout_seconds=timeout,
                cpu_time_ns=int(launched.compile_seconds * 1e9),
                on_end=launched.finish,
            )

    def _linker(self, module: LoadedModule) -> "HostLinker":
        return self._calls.provide((item.module, item.name) for item in module.info.imports)

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        try:
            yield
        except ModuleLimit as error:
            self._note_refusal(error)
            raise
        except LimitExceeded as refusal:
            kind = HostLimit if refusal.limit in HOST_SPECS else MemoryTooLarge
            raise kind(
                f"the program cannot be started: {refusal}; raise it, or wait for another program to end",
                errno=refusal.errno.name,
                limit=refusal.limit,
                observed=refusal.observed,
                cap=refusal.capacity,
            ) from None

    # -- for programs that start others ------------------------------------------------------------------------------
    def load_for_guest(self, program: GuestProgram, process: Process) -> tuple[LoadedModule, float]:
        """As `load`, for a program that asks on its own thread: a kill of it ends the compile."""
        return self.load(program, caps={}, killed=process.when_killed)

    def start_for_guest(
        self, process: Process, module: LoadedModule, context: "CallContext", compile_seconds: float, on_end: "OnEnd"
    ) -> None:
        """As `start`, for a process that another one has made."""
        with self._refusals_told():
            self._machine.start(
                module,
                process,
                context,
                self._linker(module),
                cpu_time_ns=int(compile_seconds * 1e9),
                on_end=on_end,
            )

    def plan_exec(self, module: LoadedModule) -> object:
        """Return what `GuestExec` carries for the calling process to go on as `module`. Raises what `start` does."""
        with self._refusals_told():
            return self._machine.plan_exec(module, self._linker(module))

    def refresh_limits(self) -> None:
        """Caps were raised: running processes are told."""
        self._noted = None
        self._machine.refresh_limits()

    def close(self) -> None:
        """Give everything back. The processes must have ended."""
        self._machine.close()
