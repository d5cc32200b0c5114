"""The seam to what lies outside of the VM: every address that is not the VM's own goes through it, and nowhere else."""

from typing import NoReturn, Protocol

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import InetAddress

__all__ = ["NoOutside", "Outside"]


class Outside(Protocol):
    """What a guest may reach outside of its VM. All calls need the kernel lock, and none waits."""

    def connect(self, address: InetAddress) -> NoReturn:
        """Refuse a connection: ENETUNREACH, EACCES."""

    def send_to(self, address: InetAddress) -> NoReturn:
        """Refuse a datagram: ENETUNREACH, EACCES."""


class NoOutside:
    """There is nothing outside, as in a network namespace that has a loopback device only."""

    def connect(self, address: InetAddress) -> NoReturn:
        raise KernelError(Errno.ENETUNREACH, f"{address}: nothing outside of the VM can be reached")

    def send_to(self, address: InetAddress) -> NoReturn:
        self.connect(address)
