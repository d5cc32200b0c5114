"""The limits of agentOS that have no counterpart here, and why: asking for one is an error, not a silent nothing.

Those that have one are aliases in the catalogue. Source: rivet-dev/agentos, `crates/vm/src/core/limits.rs` and
`packages/core/src/generated/*LimitsConfig.ts`.
"""

from collections.abc import Mapping

__all__ = ["FOREIGN_GROUPS", "FOREIGN_LIMITS"]

_THREADS = "a guest here has one thread"
_LONG_LISTS = "directories are read in pieces as large as the guest's own buffer"

#: Groups of its `limits` object none of whose limits is known here.
FOREIGN_GROUPS: Mapping[str, str] = {
    "jsRuntime": "guests are WebAssembly programs, and there is no JavaScript runtime beside them",
    "python": "Python is a guest like any other, under the limits of its VM",
    "process": "output is not replayed, and every stream is a pipe of max_pipe_bytes whose writer waits",
    "execution": "a program that ended leaves nothing behind but its result",
    "reactor": "there is no asynchronous reactor: a guest is a thread, and max_processes bounds them",
    "http": "there is no HTTP door",
    "http2": "there is no HTTP door",
    "tls": "there is no TLS",
    "udp": "max_datagrams and max_socket_buffer_bytes bound what waits in sockets",
    "hostFunctions": "guests cannot call functions of the host",
    "plugins": "there are no plugins",
    "sqlite": "there is no built-in SQLite",
    "agentosPackages": "there are no packages to mount",
}

#: Single limits of its groups `resources` and `wasm`.
FOREIGN_LIMITS: Mapping[str, str] = {
    "cpuCount": "a VM has no cores of its own; max_cpu_percent bounds what it computes",
    "maxPtys": "a guest cannot make terminals",
    "maxBlockingReadMs": "a call may block until the process's time is up: max_wall_time_seconds",
    "maxPreadBytes": "a longer read of a file is done in pieces; max_io_bytes bounds one on a stream",
    "maxFdWriteBytes": "a longer write is done in pieces; max_io_bytes bounds one on a stream",
    "maxReaddirEntries": _LONG_LISTS,
    "maxRecursiveFsDepth": _LONG_LISTS,
    "maxRecursiveFsEntries": _LONG_LISTS,
    "maxWasmFuel": "it meant milliseconds: give activeCpuTimeLimitMs, or deterministicFuel for instructions",
    "syncReadLimitBytes": "a longer read of a file is done in pieces; max_io_bytes bounds one on a stream",
    "prewarmTimeoutMs": "compiling has its own limits, max_compile_seconds and max_compile_memory_bytes",
    "runnerHeapLimitMb": "there is no JavaScript runner around a guest",
    "maxThreads": _THREADS,
    "maxConcurrentThreads": _THREADS,
}
