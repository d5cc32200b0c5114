"""What /proc and /dev are told of the kernel's tables."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from agentvm.kernel.process import Process, ProcessState
from agentvm.kernel.rlimits import Resource, limits_of
from agentvm.kernel.vfs.open_process import OpenProcess
from agentvm.limits.usage import LimitUsage

if TYPE_CHECKING:
    from agentvm.kernel.kernel import Kernel

__all__ = ["KernelProcSource"]


class KernelProcSource:
    """Answers for one kernel. `caller` returns the process that makes the current call, None for the host."""

    def __init__(self, kernel: "Kernel", caller: Callable[[], Process | None]) -> None:
        self._kernel = kernel
        self._caller = caller
        self._started_ns = kernel.clock.monotonic_ns()

    def caller(self) -> OpenProcess | None:
        process = self._caller()
        return None if process is None else self._describe(process)

    def pids(self) -> Sequence[int]:
        return sorted(process.pid for process in self._kernel.processes)

    def process(self, pid: int) -> OpenProcess | None:
        for process in self._kernel.processes:
            if process.pid == pid:
                return self._describe(process)
        return None

    def load(self) -> tuple[Sequence[str], int]:
        table = self._kernel.processes
        return [process.state_letter for process in table], table.last_pid

    def memory(self) -> tuple[int, int]:
        gauge = self._kernel.registry.gauge("max_memory_bytes")
        return int(min(gauge.cap, 1 << 50)), int(gauge.used)

    def uptime_ns(self) -> int:
        return self._kernel.clock.monotonic_ns() - self._started_ns

    def version(self) -> str:
        return "agentvm (WebAssembly, wasi_snapshot_preview1)"

    def mounts(self) -> Sequence[tuple[bytes, str, bool]]:
        return [(path, node.fs_type, node.read_only) for path, node in self._kernel.vfs.mounts()]

    def usage(self) -> Sequence[LimitUsage]:
        caller = self._caller()
        return self._kernel.registry.usage(None if caller is None else caller.gauges)

    def _describe(self, process: Process) -> OpenProcess:
        image = process.image
        has_ended = process.state is not ProcessState.RUNNING
        return OpenProcess(
            pid=process.pid,
            ppid=process.ppid,
            pgid=process.pgid,
            sid=process.sid,
            name=image.name,
            state=process.state_letter,
            exe=None if has_ended else image.exe,
            argv=() if has_ended else image.argv,
            environ=() if has_ended else image.environ,
            cwd=image.cwd,
            umask=process.umask,
            cpu_time_ns=process.cpu_time_ns(),
            memory_bytes=int(process.gauges.gauge("max_memory_per_process_bytes").used),
            files={number: descriptor.file for number, descriptor in process.fds.by_number.items()},
            limits=lambda: {resource: limits_of(process, resource) for resource in Resource},
            credentials=process.credentials,
            signals=process.signals.masks(),
        )
