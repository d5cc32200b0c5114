"""The engine's side of one VM: loads modules for it, and starts them. Imported with the first program that runs."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentvm.api.launch import Launched, Program
from agentvm.engine.cache import LoadedModule
from agentvm.engine.cancel import Cancel
from agentvm.engine.config import EngineProfile, engine_for
from agentvm.engine.dispatch import HostCalls, available_import
from agentvm.engine.machine import Machine
from agentvm.engine.module import load_module
from agentvm.errors import CompileLimit, HostLimit, MemoryTooLarge
from agentvm.limits.gauge import LimitExceeded
from agentvm.limits.host_catalogue import HOST_SPECS

if TYPE_CHECKING:
    from agentvm.abi.context import CallContext
    from agentvm.kernel.kernel import Kernel

__all__ = ["VMMachine"]

_calls: "dict[tuple[EngineProfile, bool, bool], HostCalls]" = {}  # bounded by the number of profiles
_calls_lock = threading.Lock()

#: Host calls through the library's public API instead of the fast path: for tests, and for versions that lack it.
PUBLIC_CALLS = os.environ.get("AGENTVM_PUBLIC_HOST_CALLS") == "1"


def _calls_for(profile: EngineProfile, *, traced: bool) -> HostCalls:
    key = profile, traced, PUBLIC_CALLS
    calls = _calls.get(key)
    if calls is None:
        with _calls_lock:
            calls = _calls.get(key)
            if calls is None:
                calls = _calls[key] = HostCalls(engine_for(profile), traced=traced, public=PUBLIC_CALLS)
    return calls


class _Loading:
    """One load under way: bounded by the caller's timeout, and interruptible."""

    def __init__(self, timeout: float | None, progress: Callable[[float], None] | None) -> None:
        self.cancel = Cancel()
        self.cpu_seconds = 0.0
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

    def charge(self, cpu_seconds: float) -> None:
        """The compiler took that much CPU time."""
        self.cpu_seconds = cpu_seconds

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class VMMachine:
    """Loads and starts the programs of one VM."""

    def __init__(self, kernel: "Kernel", *, traced: bool) -> None:
        """`traced`: the contexts of the processes to start have a `trace`."""
        self._kernel = kernel
        self._profile = EngineProfile(int(kernel.registry.caps["max_wasm_stack_bytes"]))
        self._machine = Machine(kernel.registry)
        self._lock = threading.Lock()
        self._loading: set[_Loading] = set()  # guarded by _lock; one for each thread of the host that loads
        self._calls = _calls_for(self._profile, traced=traced)

    def load(
        self, program: Program, *, reactor: bool, timeout: float | None, progress: Callable[[float], None] | None
    ) -> tuple[LoadedModule, float]:
        """Return the compiled module, and the CPU seconds that compiling it took: 0 if it was cached.

        Raises `NotRunnable` and its kin; `CompileLimit` if `timeout` seconds pass first.
        """
        loading = _Loading(timeout, progress)
        with self._lock:
            self._loading.add(loading)
        try:
            module = load_module(
                program,
                caps=self._kernel.registry.caps,
                profile=self._profile,
                available_imports=available_import,
                require="reactor" if reactor else "command",
                cancel=loading.cancel,
                progress=loading.tell,
                charge=loading.charge,
            )
        except CompileLimit as error:
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
        return module, loading.cpu_seconds

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
        try:
            launched.execution = self._machine.start(
                module,
                launched.record,
                context,
                self._calls.provide((item.module, item.name) for item in module.info.imports),
                entry="_initialize" if reactor else "_start",
                timeout_seconds=timeout,
                cpu_time_ns=int(launched.compile_seconds * 1e9),
                on_end=launched.finish,
            )
        except LimitExceeded as refusal:
            kind = HostLimit if refusal.limit in HOST_SPECS else MemoryTooLarge
            raise kind(
                f"the program cannot be started: {refusal}; raise it, or wait for another program to end",
                errno=refusal.errno.name,
                limit=refusal.limit,
                observed=refusal.observed,
                cap=refusal.capacity,
            ) from None

    def refresh_limits(self) -> None:
        """Caps were raised: running processes are told."""
        self._machine.refresh_limits()

    def close(self) -> None:
        """Give everything back. The processes must have ended."""
        self._machine.close()
