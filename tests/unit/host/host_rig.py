"""A VM's view of a host directory, for tests: its limits, its quota, its mounts."""

from pathlib import Path

from agentvm.host.descriptors import HostFds
from agentvm.host.directory import HostDirectory
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.host.quota import HostQuota
from agentvm.kernel.stat import FdFlags
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

__all__ = ["FILE", "READ", "Host"]

FILE = {"read": True, "write": True, "flags": FdFlags(0)}
READ = {"read": True, "write": False, "flags": FdFlags(0)}


class Host:
    """Mounts directories for a VM with the limits given, and counts what the VM holds."""

    def __init__(self, path: Path, fds: HostFds, *, use_openat2: bool, **limits: object) -> None:
        self.path = path
        self.fds = fds
        self.use_openat2 = use_openat2
        self.registry = Registry(Limits(**limits))
        self.quota = HostQuota.of(self.registry)
        self.roots: list[HostDirectoryNode] = []

    def mount(self, *, read_only: bool = False, path: Path | None = None) -> HostDirectoryNode:
        described = HostDirectory(path or self.path, read_only=read_only)
        root = described.open(dev=7 + len(self.roots), fds=self.fds, quota=self.quota, use_openat2=self.use_openat2)
        self.roots.append(root)
        return root

    def used(self, name: str = "max_host_write_bytes") -> int:
        return int(self.registry.gauge(name).used)
