"""`HostDirectory`: what an operator mounts. Describing one touches nothing; `open` makes the root node of a mount."""

import os
import platform
import sys
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from agentvm.errors import MountFailed, UnsupportedOnPlatform

if TYPE_CHECKING:
    from agentvm.host.descriptors import HostFds
    from agentvm.host.host_directories import HostDirectoryNode
    from agentvm.host.quota import HostQuota

__all__ = ["HostDirectory"]

_MACHINES = ("x86_64", "aarch64")


@dataclass(frozen=True, slots=True)
class HostDirectory:
    """A directory of the host, to be mounted in a VM: regular files, directories and symlinks, and no way out.

    `path` is resolved once, when it is mounted. Filesystems that are mounted below it belong to it. With `read_only`,
    every change is refused with EROFS. Else growth is charged to `max_host_write_bytes` and `max_host_inodes`.
    """

    path: str | bytes | os.PathLike[str] | os.PathLike[bytes]
    _: KW_ONLY
    read_only: bool = False

    def open(
        self, *, dev: int, fds: "HostFds", quota: "HostQuota", use_openat2: bool | None = None
    ) -> "HostDirectoryNode":
        """Open the directory and return the root node of a mount; whoever unmounts it calls its `close`.

        `dev` is the device number that guests see, below 2^32 and unique in the VM. `fds` counts descriptors for all
        VMs, `quota` growth for this one. `use_openat2` False does without that call, None takes it where it works.
        Raises `MountFailed`; `UnsupportedOnPlatform` where nothing can be confined.
        """
        if sys.platform != "linux" or platform.machine() not in _MACHINES:
            raise UnsupportedOnPlatform(
                f"host directories are confined on Linux x86-64 and aarch64 only, this is {sys.platform} "
                f"{platform.machine()}; copy the files into the VM with vm.fs instead",
                platform=sys.platform,
                machine=platform.machine(),
            )
        from agentvm.host.host_directories import open_root  # loads ctypes, and calls that Linux alone has

        try:
            return open_root(os.fsencode(self.path), dev, fds, quota, read_only=self.read_only, use_openat2=use_openat2)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise MountFailed(
                f"cannot mount the host directory {os.fsdecode(self.path)!r}: {reason}; give an existing directory",
                path=os.fsdecode(self.path),
                reason=reason,
            ) from None
