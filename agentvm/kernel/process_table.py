"""The processes of a VM: who runs, who has ended and waits to be reaped."""

from collections.abc import Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.process import Ending, Image, Process, ProcessState
from agentvm.kernel.vfs.node import Node
from agentvm.limits.registry import Registry

__all__ = ["ProcessTable"]

#: Process 1 is the VM's own: it has no record, and adopts and reaps what the host starts.
INIT_PID = 1


class ProcessTable:
    """Guarded by the kernel lock. A zombie holds its place, as on Linux, until `reap`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._places = registry.gauge("max_processes")
        self._by_pid: dict[int, Process] = {}
        self._last_pid = INIT_PID

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    def get(self, pid: int) -> Process:
        """Return a process that runs or is a zombie; ESRCH."""
        process = self._by_pid.get(pid)
        if process is None:
            raise KernelError(Errno.ESRCH, f"no process {pid}")
        return process

    def spawn(self, image: Image, root: Node | None, *, parent: int = INIT_PID) -> Process:
        """Make a process with an empty fd table. EAGAIN: the table is full; E2BIG, EINVAL: `image` is."""
        self._check(image)
        self._places.acquire()
        self._last_pid += 1
        gauges = self._registry.open_process(self._last_pid)
        fds = FdTable(gauges.gauge("max_open_fds_per_process"), self._registry.gauge("max_open_fds"))
        process = Process(self._last_pid, parent, image, fds, gauges, root)
        self._by_pid[process.pid] = process
        return process

    def exit(self, process: Process, ending: Ending) -> None:
        """The process has ended: close what it holds, and keep it as a zombie."""
        assert process.state is ProcessState.RUNNING
        process.ending = ending
        process.fds.close_all()
        self._registry.close_process(process.gauges)
        process.state = ProcessState.ZOMBIE
        process.ended.set()

    def reap(self, process: Process) -> None:
        """Give the place of a zombie back. Does nothing if it was reaped already."""
        if process.state is ProcessState.ZOMBIE:
            process.state = ProcessState.REAPED
            del self._by_pid[process.pid]
            self._places.release()

    def discard(self, process: Process) -> None:
        """Take back a process that never ran."""
        process.fds.close_all()
        self._registry.close_process(process.gauges)
        process.state = ProcessState.REAPED
        del self._by_pid[process.pid]
        self._places.release()

    def _check(self, image: Image) -> None:
        for name, strings in (("max_argv_bytes", image.argv), ("max_env_bytes", image.environ)):
            for string in strings:
                if b"\0" in string:
                    raise KernelError(Errno.EINVAL, f"{string!r} holds a NUL byte")
            self._registry.ceiling(name).check(sum(map(len, strings)) + len(strings))
