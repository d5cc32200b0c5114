"""What can be mounted in a VM: directories of the host, and further in-memory filesystems."""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentvm.engine.capacity import host_capacity
from agentvm.errno import KernelError
from agentvm.errors import MountFailed
from agentvm.host.descriptors import HostFds
from agentvm.host.directory import HostDirectory
from agentvm.host.quota import HostQuota
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.tree import MemoryFilesystem

if TYPE_CHECKING:
    from agentvm.kernel.kernel import Kernel

__all__ = ["Mountable", "Mounts", "Tmpfs"]

#: Device numbers below this belong to what every VM has.
_FIRST_DEV = 16


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """An empty in-memory filesystem. It is charged to max_filesystem_bytes and max_inodes like everything in memory."""


Mountable = HostDirectory | Tmpfs


@functools.cache
def _host_fds() -> HostFds:
    """Return the one counter of the host's descriptors that guests make us hold."""
    capacity = host_capacity()
    return HostFds(capacity.gauge("max_host_fds"), capacity.lock)


class Mounts:
    """What the host has mounted in one VM; the operator's calls alone let it grow."""

    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._next_dev = _FIRST_DEV
        self._host_roots: list[Node] = []

    def add(self, path: str, source: Mountable) -> None:
        """Mount `source` at the absolute `path`. Raises `MountFailed`, `UnsupportedOnPlatform`."""
        dev = self._next_dev
        self._next_dev += 1
        try:
            node = self._open(source, dev)
            with self._kernel.lock:
                self._kernel.vfs.mount(path.encode(), node)
        except KernelError as error:
            raise MountFailed(
                f"cannot mount {source} at {path!r}: {error}", path=path, errno=error.errno.name
            ) from None

    def close(self) -> None:
        """Let go of the host's directories."""
        for node in self._host_roots:
            node.close()  # type: ignore[attr-defined]
        self._host_roots.clear()

    def _open(self, source: Mountable, dev: int) -> Node:
        if isinstance(source, Tmpfs):
            memory = self._kernel.vfs.memory
            return MemoryFilesystem(
                pipes=self._kernel.vfs.pipes,
                dev=dev,
                account=memory.account,
                inodes=memory.inodes,
                clock=self._kernel.clock,
            ).root
        node = source.open(dev=dev, fds=_host_fds(), quota=HostQuota.of(self._kernel.registry))
        self._host_roots.append(node)
        return node
