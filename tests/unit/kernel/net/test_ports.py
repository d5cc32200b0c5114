"""Addresses and ports: which overlap, and who gets what comes for them."""

import pytest

from agentvm import Errno
from agentvm.kernel.net.address import ANY4, ANY6, LOOPBACK4, LOOPBACK6, Family, InetAddress
from agentvm.kernel.net.datagram import DatagramSocket
from agentvm.kernel.net.socket import Socket, SocketKind
from tests.support.net_kernel import NetKernel, errno_of, receive

MAPPED = InetAddress(6, 0xFFFF_7F00_0001)
SECOND = InetAddress(4, LOOPBACK4.host + 1)


@pytest.mark.parametrize(
    ("address", "is_loopback", "target"),
    [
        (LOOPBACK4, True, LOOPBACK4),
        (SECOND, True, SECOND),
        (ANY4, False, LOOPBACK4),
        (LOOPBACK6, True, LOOPBACK6),
        (ANY6, False, LOOPBACK6),
        (MAPPED, True, LOOPBACK4),
        (InetAddress(4, 0x0A00_0001), False, InetAddress(4, 0x0A00_0001)),
        (InetAddress(6, 1 << 100), False, InetAddress(6, 1 << 100)),
    ],
    ids=str,
)
def test_what_lies_inside_and_where_it_leads(address: InetAddress, is_loopback: bool, target: InetAddress) -> None:
    assert (address.is_loopback, address.target) == (is_loopback, target)


def _bound(net: NetKernel, address: InetAddress) -> DatagramSocket:
    family = Family.INET if address.version == 4 else Family.INET6
    socket = net.network.socket(family, SocketKind.DATAGRAM)
    net.network.bind(socket, address.with_port(53), net.naming)
    assert isinstance(socket, DatagramSocket)
    return socket


def _send(net: NetKernel, target: InetAddress, data: bytes) -> None:
    family = Family.INET if target.version == 4 else Family.INET6
    sender: Socket = net.network.socket(family, SocketKind.DATAGRAM)
    sender.send_nowait([memoryview(data)], target.with_port(53), net.naming)


def test_the_closest_address_gets_a_datagram() -> None:
    net = NetKernel()
    exact, other = _bound(net, LOOPBACK4), _bound(net, SECOND)
    six = _bound(net, LOOPBACK6)
    for target, data in ((LOOPBACK4, b"1"), (SECOND, b"2"), (LOOPBACK6, b"6"), (ANY4, b"any"), (MAPPED, b"mapped")):
        _send(net, target, data)
    assert [receive(exact) for _ in range(3)] == [b"1", b"any", b"mapped"]
    assert (receive(other), receive(six)) == (b"2", b"6")


def test_any_address_of_version_6_gets_both_versions() -> None:
    net = NetKernel()
    both = _bound(net, ANY6)
    _send(net, LOOPBACK4, b"4")
    _send(net, LOOPBACK6, b"6")
    assert (receive(both), receive(both)) == (b"4", b"6")


def test_ports_that_nobody_chose_are_all_different_and_given_back() -> None:
    net = NetKernel(max_sockets=1000)
    sockets = [net.network.socket(Family.INET, SocketKind.STREAM) for _ in range(500)]
    for socket in sockets:
        net.network.bind(socket, ANY4, net.naming)
    ports = {socket.local.port for socket in sockets if isinstance(socket.local, InetAddress)}
    assert len(ports) == 500
    assert min(ports) >= 32_768
    for socket in sockets:
        socket.on_last_close()
    assert not list(net.network._streams)


def test_reuseport_lets_sockets_share_and_the_latest_gets_the_datagram() -> None:
    net = NetKernel()
    sockets = [net.network.socket(Family.INET, SocketKind.DATAGRAM) for _ in range(3)]
    for socket in sockets[:2]:
        socket.options.reuse_port = True
        net.network.bind(socket, LOOPBACK4.with_port(53), net.naming)
    assert errno_of(net.network.bind, sockets[2], LOOPBACK4.with_port(53), net.naming) is Errno.EADDRINUSE
    _send(net, LOOPBACK4, b"x")
    assert receive(sockets[1]) == b"x"


def test_a_connected_socket_keeps_its_port_and_tells_its_real_address() -> None:
    net = NetKernel()
    net.listener()
    client = net.stream()
    net.network.bind(client, ANY4.with_port(5000), net.naming)
    client.connect(ANY4.with_port(80), net.naming)
    assert (client.local, client.remote) == (LOOPBACK4.with_port(5000), LOOPBACK4.with_port(80))
    other = net.stream()
    assert errno_of(net.network.bind, other, LOOPBACK4.with_port(5000), net.naming) is Errno.EADDRINUSE
