"""A kernel with a network, and shorthands for sockets of it."""

from typing import Any

import pytest

from agentvm import Errno, Limits
from agentvm.clock import ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.net.address import LOOPBACK4, Family, InetAddress
from agentvm.kernel.net.network import Network
from agentvm.kernel.net.socket import Socket, SocketKind
from agentvm.kernel.net.stream import StreamSocket
from agentvm.kernel.net.unix_names import Naming
from agentvm.kernel.stat import FdFlags
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.registry import Registry

__all__ = ["AT_80", "NetKernel", "errno_of", "receive", "send"]

AT_80 = InetAddress(4, LOOPBACK4.host, 80)


class NetKernel:
    """One VM's kernel, without processes."""

    def __init__(self, **limits: int) -> None:
        clock = ManualClock(step_ns=1)
        self.registry = Registry(Limits(**limits))
        self.kernel = Kernel(self.registry, clock, bytes, Vfs(self.registry, clock), lambda: None)
        self.network: Network = self.kernel.network
        self.naming = Naming(self.kernel.vfs.root, b"/home")

    def used(self, name: str) -> float:
        return self.registry.gauge(name).used

    def stream(self, family: Family = Family.INET) -> StreamSocket:
        socket = self.network.socket(family, SocketKind.STREAM)
        assert isinstance(socket, StreamSocket)
        return socket

    def listener(self, address: Any = AT_80, backlog: int = 8) -> StreamSocket:
        socket = self.stream(Family.INET if isinstance(address, InetAddress) else Family.UNIX)
        self.network.bind(socket, address, self.naming)
        socket.listen(backlog)
        return socket

    def connected(self, address: Any = AT_80) -> tuple[StreamSocket, StreamSocket]:
        listener = self.listener(address)
        client = self.stream(listener.family)
        assert client.connect(address, self.naming)
        server = listener.accept_nowait(FdFlags(0))
        listener.on_last_close()
        return client, server


def send(socket: Socket, data: bytes) -> int:
    return socket.send_nowait([memoryview(data)])


def receive(socket: Socket, size: int = 100_000, *, peek: bool = False) -> bytes:
    buffer = bytearray(size)
    received = socket.receive_nowait([memoryview(buffer)], peek=peek)
    return bytes(buffer[: received.copied])


def errno_of(call: Any, *arguments: Any, **options: Any) -> Errno:
    with pytest.raises(KernelError) as caught:
        call(*arguments, **options)
    return caught.value.errno
