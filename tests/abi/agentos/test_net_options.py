"""host_net: options of sockets."""

import pytest

from agentvm import Errno, Limits
from tests.abi.agentos.net_rig import DGRAM, INET, INET6, STREAM, UNIX, Net
from tests.abi.rig import WILD, Boot, Rig

SOL_SOCKET, WASI_SOL_SOCKET = 1, 0x7FFF_FFFF
TYPE, ERROR, SNDBUF, RCVBUF, ACCEPTCONN, PROTOCOL, DOMAIN = 3, 4, 7, 8, 30, 38, 39


@pytest.fixture
def net(host: Rig) -> Net:
    return Net(host)


@pytest.mark.parametrize(
    ("level", "option"),
    [(1, 2), (1, 5), (1, 6), (1, 9), (1, 15), (6, 1), (6, 4), (6, 5), (6, 6), (0, 1), (0, 2)],
)
def test_an_option_that_is_accepted_is_told_again(net: Net, level: int, option: int) -> None:
    fd = net.socket()
    assert net.set_option(fd, level, option, 1) is Errno.SUCCESS
    assert net.number(fd, level, option) == 1
    if level == SOL_SOCKET:
        assert net.number(fd, WASI_SOL_SOCKET, option) == 1


@pytest.mark.parametrize(
    ("domain", "kind", "level", "option"),
    [(INET, STREAM, 1, 999), (INET, DGRAM, 6, 1), (UNIX, STREAM, 6, 1), (UNIX, STREAM, 0, 1), (INET, STREAM, 41, 67),
     (INET, STREAM, 99, 1)],
)  # fmt: skip
def test_an_option_that_there_is_not(net: Net, domain: int, kind: int, level: int, option: int) -> None:
    fd = net.socket(domain, kind)
    assert net.set_option(fd, level, option, 1) is Errno.ENOPROTOOPT
    room = net.rig.put((4).to_bytes(4, "little"))
    assert net.rig.call("net_getsockopt", fd, level, option, 64, room) is Errno.ENOPROTOOPT


def test_what_a_socket_is_can_be_asked_and_not_set(net: Net) -> None:
    listener, _ = net.listener()
    datagrams = net.socket(INET6, DGRAM)
    assert [net.number(listener, 1, option) for option in (ACCEPTCONN, PROTOCOL, DOMAIN)] == [1, 6, 1]
    assert [net.number(datagrams, 1, option) for option in (ACCEPTCONN, PROTOCOL, DOMAIN)] == [0, 17, 2]
    for option in (TYPE, ERROR, ACCEPTCONN, PROTOCOL, DOMAIN):
        assert net.set_option(listener, 1, option, 1) is Errno.ENOPROTOOPT


def test_sizes_of_buffers_are_doubled_and_bounded(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=1 << 20)}))
    fd = net.socket()
    assert [net.number(fd, 1, option) for option in (SNDBUF, RCVBUF)] == [212_992, 212_992]
    for option in (SNDBUF, RCVBUF):
        net.set_option(fd, 1, option, 10_000)
        assert net.number(fd, 1, option) == 20_000
        net.set_option(fd, 1, option, 1 << 30)
        assert net.number(fd, 1, option) == 1 << 18, "a quarter of the budget"
    net.set_option(fd, 1, RCVBUF, 1)
    assert net.number(fd, 1, RCVBUF) == 2_304


def test_so_sndbuf_bounds_what_waits(net: Net) -> None:
    client, server = net.connected(flags=1)
    net.set_option(client, 1, SNDBUF, 4096)
    assert net.send(client, bytes(20_000)) == 8192
    net.set_option(client, 1, SNDBUF, 8192)
    assert net.send(client, bytes(20_000)) == 8192
    assert len(net.recv(server, 20_000)) == 16_384


def test_values_that_are_too_short_or_no_time(net: Net) -> None:
    fd = net.socket()
    assert net.set_option(fd, 1, 9, b"abc") is Errno.EINVAL
    assert net.set_option(fd, 1, 20, bytes(8)) is Errno.EINVAL
    assert net.set_option(fd, 1, 13, bytes(4)) is Errno.EINVAL
    assert net.set_option(fd, 1, 20, bytes(8) + (1_000_000).to_bytes(8, "little")) is Errno.EDOM
    assert net.rig.call("net_setsockopt", fd, 1, 9, WILD, 4) is Errno.EFAULT


def test_net_getsockopt_cuts_off_and_checks_its_pointers(net: Net) -> None:
    fd = net.socket()
    assert net.option(fd, 1, TYPE, 2) == b"\x06\0"
    assert net.option(fd, 1, TYPE, 16) == b"\x06\0\0\0"
    length = net.rig.put((4).to_bytes(4, "little"))
    assert net.rig.call("net_getsockopt", fd, 1, TYPE, WILD, length) is Errno.EFAULT
    assert net.rig.call("net_getsockopt", fd, 1, TYPE, 64, WILD) is Errno.EFAULT


def test_ipv6_only_is_for_sockets_of_version_6_that_have_no_name(net: Net) -> None:
    assert net.set_option(net.socket(), 41, 26, 1) is Errno.ENOPROTOOPT
    fd = net.socket(INET6)
    assert (net.number(fd, 41, 26), net.set_option(fd, 41, 26, 1), net.number(fd, 41, 26)) == (0, Errno.SUCCESS, 1)
    net.bind(fd, "[::1]:80")
    assert net.set_option(fd, 41, 26, 0) is Errno.EINVAL


def test_an_accepted_connection_has_the_options_of_its_listener(net: Net) -> None:
    listener, where = net.listener()
    net.set_option(listener, 6, 1, 1)
    net.connect(net.socket(), where)
    server, _ = net.accept(listener)
    net.set_option(listener, 6, 1, 0)
    assert (net.number(server, 6, 1), net.number(server, 1, TYPE)) == (1, 6)


def test_net_set_nonblock_and_back(net: Net) -> None:
    fd = net.socket()
    for on in (1, 0):
        net.rig.ok("net_set_nonblock", fd, on, writes=[])
        net.rig.ok("fd_fdstat_get", fd, 64)
        assert net.rig.number(66, 2) == 4 * on
