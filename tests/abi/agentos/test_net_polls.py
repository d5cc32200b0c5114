"""host_net and host_process: poll and ppoll over any descriptors."""

import struct

import pytest

from agentvm import Errno, Limits
from tests.abi.agentos.net_rig import DGRAM, INET, NONBLOCK, STREAM, UNIX, Net
from tests.abi.rig import WILD, Boot, Rig

IN, OUT, ERR, HUP, NVAL, RDNORM, WRNORM = 1, 4, 8, 0x10, 0x20, 0x40, 0x100
SIGUSR1, BIT = 10, 1 << 9
FOR_EVER = 0xFFFF_FFFF
MINUS_ONE = (1 << 64) - 1


@pytest.fixture
def net(host: Rig) -> Net:
    return Net(host)


def _fds(rig: Rig, *asked: tuple[int, int]) -> int:
    return rig.put(b"".join(struct.pack("<iHH", fd, events, 0xAAAA) for fd, events in asked))


def _told(rig: Rig, place: int, count: int) -> list[int]:
    return [rig.number(place + 8 * index + 6, 2) for index in range(count)]


def _poll(net: Net, *asked: tuple[int, int], timeout: int = 0) -> list[int]:
    place = _fds(net.rig, *asked)
    results = [(64, 4), *((place + 8 * index + 6, 2) for index in range(len(asked)))]
    net.rig.ok("net_poll", place, len(asked), timeout, 64, writes=results)
    told = _told(net.rig, place, len(asked))
    assert net.rig.number(64) == sum(map(bool, told))
    return told


def test_net_poll_tells_each_state_of_a_connection(net: Net) -> None:
    listener, where = net.listener()
    client = net.socket()
    assert _poll(net, (listener, IN | OUT), (client, IN | OUT)) == [0, OUT | HUP]
    net.connect(client, where)
    assert _poll(net, (listener, IN), (client, IN | OUT)) == [IN, OUT]
    server, _ = net.accept(listener)
    net.send(client, b"x")
    assert _poll(net, (listener, IN), (server, IN | OUT | RDNORM | WRNORM)) == [0, IN | OUT | RDNORM | WRNORM]
    net.rig.ok("sock_shutdown", client, 2)
    net.recv(server)
    assert _poll(net, (server, IN)) == [IN], "the end can be read"
    net.rig.ok("sock_shutdown", server, 2)
    assert _poll(net, (server, IN | OUT)) == [IN | OUT | HUP]


def test_net_poll_tells_errors_whether_asked_for_or_not(net: Net) -> None:
    fd = net.socket(INET, STREAM | NONBLOCK)
    net.connect(fd, "127.0.0.1:9")
    assert _poll(net, (fd, 0)) == [ERR | HUP]
    assert _poll(net, (fd, IN | OUT)) == [IN | OUT | ERR | HUP]
    assert net.error(fd) is Errno.ECONNREFUSED
    assert _poll(net, (fd, 0)) == [HUP]


def test_net_poll_takes_any_descriptor(net: Net) -> None:
    file = net.rig.create("/tmp/a")
    first, second = net.rig.space(4), net.rig.space(4)
    net.rig.ok("fd_pipe", first, second)
    reader, writer = net.rig.number(first), net.rig.number(second)
    asked = [(fd, IN | OUT) for fd in (file, net.rig.root, reader, writer, 99, -1)]
    assert _poll(net, *asked) == [IN | OUT, IN | OUT, 0, OUT, NVAL, 0]
    net.rig.ok("fd_close", writer)
    assert _poll(net, (reader, IN)) == [HUP]


def test_net_poll_of_datagrams(net: Net) -> None:
    first, second = net.pair(2)
    assert _poll(net, (first, IN | OUT), (second, IN)) == [OUT, 0]
    net.send(first, b"")
    assert _poll(net, (second, IN)) == [IN]


def test_net_poll_waits_for_the_first_event(net: Net) -> None:
    first, second = net.pair()
    place = _fds(net.rig, (first, IN), (second, IN))
    with net.rig.waiting("net_poll", place, 2, FOR_EVER, 64) as made, net.rig.instance._context.lock:
        net.rig.process.fds.get(first).file.write_nowait([memoryview(b"x")])
    assert made.result() is Errno.SUCCESS
    assert (net.rig.number(64), _told(net.rig, place, 2)) == (1, [0, IN])


def test_net_poll_waits_for_room(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=65_536)}))
    first, second = net.pair(nonblock=1)
    net.send(first, bytes(20_000))
    assert _poll(net, (first, OUT)) == [0]
    place = _fds(net.rig, (first, OUT))
    with net.rig.waiting("net_poll", place, 1, FOR_EVER, 64) as made, net.rig.instance._context.lock:
        net.rig.process.fds.get(second).file.read_nowait([memoryview(bytearray(9000))])
    assert made.result() is Errno.SUCCESS
    assert _told(net.rig, place, 1) == [OUT]


def test_net_poll_waits_no_longer_than_it_is_told_to(net: Net) -> None:
    clock = net.rig.instance._context.clock
    first, _ = net.pair()
    start = clock.monotonic_ns()
    assert _poll(net, (first, IN), timeout=3000) == [0]
    assert clock.monotonic_ns() - start >= 3_000_000_000
    net.rig.ok("net_poll", 0, 0, 2000, 64, writes=[(64, 4)])
    assert clock.monotonic_ns() - start >= 5_000_000_000


def test_net_poll_is_ended_by_a_signal(net: Net) -> None:
    first, _ = net.pair()
    net.rig.ok("proc_sigaction", SIGUSR1, 2, 0, 0, 0x1000_0000)
    place = _fds(net.rig, (first, IN))
    with net.rig.waiting("net_poll", place, 1, FOR_EVER, 64) as made:
        net.rig.send_signal(SIGUSR1)
    assert made.result() is Errno.EINTR, "whatever SA_RESTART says"


def test_net_poll_refusals(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_poll_subscriptions=2)}))
    place = _fds(net.rig, (0, IN), (0, IN), (0, IN))
    assert net.rig.call("net_poll", place, 3, 0, 64) is Errno.EINVAL
    assert net.rig.call("net_poll", place, FOR_EVER, 0, 64) is Errno.EINVAL
    assert net.rig.call("net_poll", WILD, 1, 0, 64) is Errno.EFAULT


def test_net_poll_of_a_thousand_descriptors(boot_host: Boot) -> None:
    caps = Limits(max_sockets=1000, max_open_fds=1100, max_open_fds_per_process=1100)
    net = Net(boot_host(vm={"limits": caps}))
    fds = [net.socket(UNIX, DGRAM) for _ in range(1000)]
    assert _poll(net, *((fd, IN) for fd in fds)) == [0] * 1000
    assert _poll(net, *((fd, OUT) for fd in fds)) == [OUT] * 1000


# -- proc_ppoll_v1 ----------------------------------------------------------------------------------------------------
def _ppoll(net: Net, fd: int, seconds: int, nanoseconds: int, mask: int | None = None) -> Errno:
    place = _fds(net.rig, (fd, IN))
    lows = (mask or 0) & 0xFFFF_FFFF, (mask or 0) >> 32, int(mask is not None)
    return net.rig.instance.call("proc_ppoll_v1", place, 1, seconds, nanoseconds, *lows, 64)  # type: ignore[return-value]


def test_proc_ppoll_v1_polls_with_nanoseconds(net: Net) -> None:
    clock = net.rig.instance._context.clock
    first, second = net.pair()
    start = clock.monotonic_ns()
    assert _ppoll(net, first, 2, 5) == Errno.SUCCESS
    assert (net.rig.number(64), clock.monotonic_ns() - start >= 2_000_000_005) == (0, True)
    net.send(second, b"x")
    assert _ppoll(net, first, MINUS_ONE, MINUS_ONE) == Errno.SUCCESS
    assert net.rig.number(64) == 1


@pytest.mark.parametrize("time", [(0, 1_000_000_000), (0, MINUS_ONE), (MINUS_ONE, 0)])
def test_proc_ppoll_v1_of_no_time(net: Net, time: tuple[int, int]) -> None:
    assert _ppoll(net, 0, *time) == Errno.EINVAL


def test_proc_ppoll_v1_lets_a_blocked_signal_through_for_as_long_as_it_waits(net: Net) -> None:
    first, second = net.pair()
    net.rig.ok("proc_sigaction", SIGUSR1, 2, 0, 0, 0)
    net.rig.ok("proc_signal_mask_v2", 2, BIT, 0, 64, 68)
    net.rig.send_signal(SIGUSR1)
    assert _ppoll(net, first, 0, 0) == Errno.SUCCESS, "it is blocked"
    assert net.rig.instance.call("handled") == 0
    net.send(second, b"x")
    assert _ppoll(net, first, 0, 0, 0) == Errno.SUCCESS, "an event comes first"
    net.recv(first)
    assert _ppoll(net, first, MINUS_ONE, MINUS_ONE, 0) == Errno.EINTR
    assert net.rig.instance.call("handled") == BIT
    net.rig.ok("proc_signal_mask_v2", 3, 0, 0, 64, 68)
    assert net.rig.number(64) == BIT, "the mask is what it was"
