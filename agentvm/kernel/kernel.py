"""The virtual kernel of one VM: owns the lock, the limits, the files and the processes. Wiring only."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentvm.clock import Clock
from agentvm.kernel.disk import DiskRates
from agentvm.kernel.launcher import Launcher, NoLauncher
from agentvm.kernel.locks import LockTable
from agentvm.kernel.proc_source import KernelProcSource
from agentvm.kernel.process import Process
from agentvm.kernel.process_table import ProcessTable
from agentvm.kernel.vfs.devices import DeviceDirectory
from agentvm.kernel.vfs.procfs import ProcDirectory
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.kernel.wait import Lock
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

if TYPE_CHECKING:
    from agentvm.kernel.net.network import Network

__all__ = ["Kernel", "RandomBytes"]

#: Returns that many random bytes.
RandomBytes = Callable[[int], bytes]


class Kernel:
    """One VM's kernel. `lock` guards everything below it; see docs/architecture.md for the lock order."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        random_bytes: RandomBytes,
        vfs: Vfs,
        caller: Callable[[], Process | None],
    ) -> None:
        """`caller` returns the process that makes the current call, None for the host's own calls."""
        self.lock = Lock()
        self.registry = registry
        self.clock = clock
        self.random_bytes = random_bytes
        self.vfs = vfs
        self.processes = ProcessTable(registry)
        self.locks = LockTable(registry)
        #: Starts what programs spawn; set once, by who has an engine.
        self.launcher: Launcher = NoLauncher()
        self._network: Network | None = None
        #: None where the VM has no disk rates, and never will.
        self.disk = DiskRates(registry, self.lock, clock) if DiskRates.are_set(registry) else None
        source = KernelProcSource(self, caller)
        vfs.mount_base(b"dev", DeviceDirectory(random_bytes, source.caller))
        vfs.mount_base(b"proc", ProcDirectory(source))

    @property
    def network(self) -> "Network":
        """The VM's sockets and addresses: made when they are first asked for, as few VMs have any. Kernel lock."""
        if self._network is None:
            from agentvm.kernel.net.network import Network

            self._network = Network(self.registry, self.vfs)
        return self._network

    def raise_limits(self, limits: Limits) -> None:
        """Raise caps, for processes that wait too. Takes the lock. Raises `InvalidLimit`."""
        with self.lock:
            if self.disk is not None:
                self.disk.settle()
            self.registry.raise_to(limits)
            if self.disk is not None:
                self.disk.refresh()
            if self._network is not None:
                self._network.refresh()

    def close(self) -> None:
        """Drop all files. The processes must have ended. Idempotent."""
        with self.lock:
            if self._network is not None:
                self._network.close()
            self.vfs.close()
