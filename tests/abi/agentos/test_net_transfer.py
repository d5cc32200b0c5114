"""host_net: sending and receiving, over every kind of socket, with the errnos that Linux gives."""

import pytest

from agentvm import Errno, Limits
from tests.abi.agentos.net_rig import (
    DGRAM,
    DONTWAIT,
    INET,
    INET6,
    NONBLOCK,
    NOSIGNAL,
    PEEK,
    SEQPACKET,
    STREAM,
    TRUNC,
    UNIX,
    WAITALL,
    Net,
)
from tests.abi.rig import WILD, Boot, Rig

SIGPIPE, SIGUSR1 = 13, 10
RD, WR = 1, 2
TCP, LOCAL = "127.0.0.1:0", "unix:/home/s"


@pytest.fixture
def net(host: Rig) -> Net:
    host.ok("proc_sigaction", SIGPIPE, 2, 0, 0, 0)
    return Net(host)


def _handled(net: Net) -> bool:
    return net.rig.instance.call("handled") == 1 << (SIGPIPE - 1)


# -- streams ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", [TCP, "[::1]:0", LOCAL])
def test_a_stream_carries_bytes_both_ways(net: Net, address: str) -> None:
    client, server = net.connected(address)
    assert (net.send(client, b"to the server"), net.send(server, b"back")) == (13, 4)
    assert (net.recv(server, 6), net.recv(server), net.recv(client)) == (b"to the", b" server", b"back")
    assert net.rig.write(client, b"as", b" a file") == 9
    assert net.rig.read_fd(server, 99) == b"as a file"


@pytest.mark.parametrize("address", [TCP, LOCAL])
def test_net_recv_flags(net: Net, address: str) -> None:
    client, server = net.connected(address)
    assert net.recv_errno(server, DONTWAIT) is Errno.EAGAIN
    net.send(client, b"hello")
    assert (net.recv(server, 3, PEEK), net.recv(server, 9, PEEK | DONTWAIT)) == (b"hel", b"hello")
    net.send(client, b" there")
    assert net.recv(server, 11, WAITALL) == b"hello there"
    net.send(client, b"end")
    net.rig.ok("net_close", client)
    assert (net.recv(server, 9, WAITALL), net.recv(server)) == (b"end", b"")


def test_unknown_flags_are_enotsup(net: Net) -> None:
    client, server = net.connected()
    assert net.send_errno(client, flags=1) is Errno.ENOTSUP
    assert net.recv_errno(server, 1) is Errno.ENOTSUP


def test_bad_pointers_are_efault_before_anything_is_moved(net: Net) -> None:
    client, server = net.connected()
    assert net.rig.call("net_send", client, WILD, 9, 0, 64) is Errno.EFAULT
    assert net.rig.call("net_send", client, 64, 4, 0, WILD) is Errno.EFAULT
    net.send(client, b"x")
    assert net.rig.call("net_recv", server, WILD, 9, 0, 64) is Errno.EFAULT
    assert net.rig.call("net_recvfrom", server, 64, 1, 0, 128, WILD, 256) is Errno.EFAULT
    assert net.recv(server) == b"x"


@pytest.mark.parametrize("address", [TCP, LOCAL])
def test_a_full_stream_takes_no_more_until_half_of_it_is_read(boot_host: Boot, address: str) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=65_536)}))
    client, server = net.connected(address, flags=1)
    assert net.send(client, bytes(20_000)) == 16_384
    assert net.send_errno(client) is Errno.EAGAIN
    assert len(net.recv(server, 9000)) == 9000
    assert net.send(client, bytes(20_000)) == 9000


def test_net_send_waits_until_all_is_taken(boot_host: Boot) -> None:
    first = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=65_536)}))
    client, server = first.connected(LOCAL)
    data = first.rig.put(bytes(range(250)) * 100)
    with first.rig.waiting("net_send", client, data, 25_000, 0, 64) as made, first.rig.instance._context.lock:
        socket, got = first.rig.process.fds.get(server).file, bytearray()
        buffer = bytearray(9_000)
        while len(got) < 16_384:
            got += buffer[: socket.read_nowait([memoryview(buffer)])]
    assert made.result() is Errno.SUCCESS
    assert first.rig.number(64) == 25_000
    assert bytes(got) + first.recv(server, 30_000) == bytes(range(250)) * 100


@pytest.mark.parametrize("call", ["net_recv", "fd_read"])
def test_a_receive_that_waits_wakes_for_data_and_for_signals(net: Net, call: str) -> None:
    client, server = net.connected(LOCAL)
    net.rig.ok("proc_sigaction", SIGUSR1, 2, 0, 0, 0)
    buffer = net.rig.space(8)
    arguments = (server, buffer, 8, 0, 64) if call == "net_recv" else (server, *net.rig.iovecs((buffer, 8)), 64)
    with net.rig.waiting(call, *arguments) as made:
        net.rig.send_signal(SIGUSR1)
    assert made.result() is Errno.EINTR
    with net.rig.waiting(call, *arguments) as made, net.rig.instance._context.lock:
        net.rig.process.fds.get(client).file.write_nowait([memoryview(b"late")])
    assert (made.result(), net.rig.read(buffer, 4)) == (Errno.SUCCESS, b"late")


@pytest.mark.parametrize("option", [20, 66])
def test_so_rcvtimeo_ends_a_wait(net: Net, option: int) -> None:
    _, server = net.connected()
    assert net.set_option(server, 1, option, (5).to_bytes(8, "little") + bytes(8)) is Errno.SUCCESS
    assert net.option(server, 1, option, 16)[:8] == (5).to_bytes(8, "little")
    start = net.rig.instance._context.clock.monotonic_ns()
    assert net.recv_errno(server) is Errno.EAGAIN
    assert net.rig.call("fd_read", server, *net.rig.iovecs((net.rig.space(4), 4)), 64) is Errno.EAGAIN
    assert net.rig.instance._context.clock.monotonic_ns() - start >= 10_000_000_000


def test_so_sndtimeo_ends_a_wait_with_what_was_taken(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=65_536)}))
    client, _ = net.connected()
    net.set_option(client, 1, 21, (1).to_bytes(8, "little") + bytes(8))
    assert net.send(client, bytes(20_000)) == 16_384
    assert net.send_errno(client) is Errno.EAGAIN


# -- ends -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", [TCP, LOCAL])
def test_shutting_down_one_direction_leaves_the_other(net: Net, address: str) -> None:
    client, server = net.connected(address)
    net.send(client, b"last")
    net.rig.ok("sock_shutdown", client, WR)
    assert net.send_errno(client) is Errno.EPIPE
    assert _handled(net)
    assert (net.recv(server), net.recv(server)) == (b"last", b"")
    net.send(server, b"still open")
    assert net.recv(client) == b"still open"
    net.rig.ok("sock_shutdown", client, RD)
    assert net.recv(client) == b""


@pytest.mark.parametrize("flags", [0, NOSIGNAL])
def test_a_send_to_what_is_closed_is_epipe_and_sigpipe(net: Net, flags: int) -> None:
    client, server = net.connected(LOCAL)
    net.rig.ok("net_close", server)
    assert net.send_errno(client, flags=flags) is Errno.EPIPE
    assert _handled(net) is (flags == 0)


def test_tcp_finds_out_with_the_first_send_that_the_other_end_is_closed(net: Net) -> None:
    client, server = net.connected(TCP)
    net.rig.ok("net_close", server)
    assert net.send(client, b"lost") == 4
    assert net.send_errno(client, flags=NOSIGNAL) is Errno.EPIPE
    assert net.recv(client) == b""


@pytest.mark.parametrize("address", [TCP, LOCAL])
def test_closing_with_unread_data_resets_the_other_end(net: Net, address: str) -> None:
    client, server = net.connected(address)
    net.send(server, b"for the client")
    net.send(client, b"unread")
    net.rig.ok("net_close", server)
    assert net.recv(client) == b"for the client", "what came before the reset is there"
    assert net.recv_errno(client) is Errno.ECONNRESET
    assert net.recv(client) == b""
    assert net.send_errno(client, flags=NOSIGNAL) is Errno.EPIPE


def test_so_linger_of_no_time_breaks_a_connection_of_tcp_off(net: Net) -> None:
    client, server = net.connected(TCP)
    assert net.set_option(server, 1, 13, bytes([1, 0, 0, 0, 0, 0, 0, 0])) is Errno.SUCCESS
    net.rig.ok("net_close", server)
    assert net.error(client) is Errno.ECONNRESET


@pytest.mark.parametrize(
    ("domain", "kind", "send", "receive"),
    [
        (INET, STREAM, Errno.EPIPE, Errno.ENOTCONN),
        (UNIX, STREAM, Errno.ENOTCONN, Errno.EINVAL),
        (UNIX, SEQPACKET, Errno.ENOTCONN, Errno.ENOTCONN),
        (INET, DGRAM, Errno.EDESTADDRREQ, None),
        (UNIX, DGRAM, Errno.ENOTCONN, None),
    ],
)
def test_what_is_not_connected(net: Net, domain: int, kind: int, send: Errno, receive: Errno | None) -> None:
    fd = net.socket(domain, kind | NONBLOCK)
    assert net.send_errno(fd, flags=NOSIGNAL) is send
    assert net.recv_errno(fd) is (receive or Errno.EAGAIN)


def test_a_listener_carries_nothing(net: Net) -> None:
    listener, _ = net.listener()
    assert net.send_errno(listener, flags=NOSIGNAL) is Errno.EPIPE
    assert net.recv_errno(listener) is Errno.ENOTCONN


# -- datagrams --------------------------------------------------------------------------------------------------------
def _bound(net: Net, address: str, flags: int = 0) -> tuple[int, str]:
    domain = UNIX if address.startswith("unix") else INET6 if address.startswith("[") else INET
    fd = net.socket(domain, DGRAM | flags)
    assert net.bind(fd, address) is Errno.SUCCESS
    return fd, net.name(fd)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "unix:/home/s", "unix-abstract:61"])
def test_datagrams_keep_their_bounds_and_tell_their_sender(net: Net, address: str) -> None:
    receiver, where = _bound(net, address)
    sender, source = _bound(net, address if address.endswith(":0") else address + "62")
    for data in (b"one", b"", b"three"):
        assert net.sendto(sender, data, where) == len(data)
    assert [net.recvfrom(receiver) for _ in range(3)] == [(b"one", 3, source), (b"", 0, source), (b"three", 5, source)]
    assert net.recv_errno(receiver, DONTWAIT) is Errno.EAGAIN


def test_a_long_datagram_is_cut_off_and_trunc_tells_its_length(net: Net) -> None:
    receiver, where = _bound(net, "127.0.0.1:0")
    sender = net.socket(INET, DGRAM)
    for _ in range(3):
        net.sendto(sender, b"0123456789", where)
    assert net.recvfrom(receiver, 4, PEEK | TRUNC)[:2] == (b"0123", 10)
    assert net.recvfrom(receiver, 4, TRUNC)[:2] == (b"0123", 10)
    assert net.recvfrom(receiver, 4)[:2] == (b"0123", 4)
    assert net.recv(receiver) == b"0123456789", "the rest of a message is gone"


def test_a_sender_without_an_address_is_given_one(net: Net) -> None:
    receiver, where = _bound(net, "127.0.0.1:0")
    sender, unnamed = net.socket(INET, DGRAM), net.socket(UNIX, DGRAM)
    net.sendto(sender, b"x", where)
    assert net.recvfrom(receiver)[2].startswith("127.0.0.1:") or net.name(sender).startswith("0.0.0.0:")
    local, path = _bound(net, "unix:/home/s")
    net.sendto(unnamed, b"x", path)
    assert net.recvfrom(local)[2] == "unix-unnamed"


def test_a_connected_socket_of_udp_hears_one_address_only(net: Net) -> None:
    receiver, where = _bound(net, "127.0.0.1:0", NONBLOCK)
    friend, address = _bound(net, "127.0.0.1:0")
    assert net.connect(receiver, address) is Errno.SUCCESS
    net.sendto(net.socket(INET, DGRAM), b"stranger", where)
    assert net.recv_errno(receiver) is Errno.EAGAIN
    net.sendto(friend, b"friend", where)
    assert net.recv(receiver) == b"friend"
    assert net.send(receiver, b"answer") == 6
    assert net.recv(friend) == b"answer"


def test_udp_to_nobody_is_lost_and_a_connected_socket_hears_of_it(net: Net) -> None:
    sender = net.socket(INET, DGRAM)
    assert net.sendto(sender, b"x", "127.0.0.1:9") == 1
    assert net.connect(sender, "127.0.0.1:9") is Errno.SUCCESS
    assert net.send(sender, b"x") == 1
    assert net.recv_errno(sender) is Errno.ECONNREFUSED
    assert net.send(sender, b"x") == 1
    assert net.send_errno(sender) is Errno.ECONNREFUSED


@pytest.mark.parametrize(
    ("domain", "address", "errno"),
    [
        (INET, "8.8.8.8:53", Errno.ENETUNREACH),
        (INET, "127.0.0.1:0", Errno.EINVAL),
        (INET, "[::1]:53", Errno.EAFNOSUPPORT),
        (INET, "unix:/a", Errno.EAFNOSUPPORT),
        (UNIX, "127.0.0.1:53", Errno.EINVAL),
        (UNIX, "unix:/no", Errno.ENOENT),
        (UNIX, "unix-abstract:99", Errno.ECONNREFUSED),
    ],
    ids=str,
)
def test_net_sendto_refusals(net: Net, domain: int, address: str, errno: Errno) -> None:
    assert net.sendto_errno(net.socket(domain, DGRAM), b"x", address) is errno


def test_net_sendto_to_a_socket_of_another_kind_or_of_somebody_else(net: Net) -> None:
    _, stream = net.listener("unix:/home/stream")
    assert net.sendto_errno(net.socket(UNIX, DGRAM), b"x", stream) is Errno.EPROTOTYPE
    receiver, where = _bound(net, "unix:/home/s")
    friend, name = _bound(net, "unix:/home/t")
    assert net.connect(receiver, name) is Errno.SUCCESS
    assert net.sendto_errno(net.socket(UNIX, DGRAM), b"x", where) is Errno.EPERM
    assert net.sendto(friend, b"x", where) == 1


def test_too_long_a_datagram_is_emsgsize(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_socket_buffer_bytes=65_536)}))
    _, where = _bound(net, "127.0.0.1:0")
    sender = net.socket(INET, DGRAM)
    assert net.sendto_errno(sender, bytes(65_508), where) is Errno.EMSGSIZE
    assert net.sendto_errno(sender, bytes(16_384), where) is Errno.EMSGSIZE
    assert net.sendto(sender, bytes(16_000), where) == 16_000


def test_a_full_queue_of_datagrams_makes_its_senders_wait(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_datagrams=2)}))
    receiver, where = _bound(net, "127.0.0.1:0")
    sender = net.socket(INET, DGRAM)
    net.connect(sender, where)
    for data in (b"1", b"2"):
        net.send(sender, data)
    assert net.send_errno(sender, flags=DONTWAIT) is Errno.EAGAIN
    with net.rig.waiting("net_send", sender, net.rig.put(b"3"), 1, 0, 64) as made, net.rig.instance._context.lock:
        buffer = bytearray(9)
        assert net.rig.process.fds.get(receiver).file.read_nowait([memoryview(buffer)]) == 1
    assert made.result() is Errno.SUCCESS
    assert [net.recv(receiver) for _ in range(2)] == [b"2", b"3"]


def test_sequenced_packets_are_connected_and_keep_their_bounds(net: Net) -> None:
    client, server = net.connected("unix:/home/s", kind=SEQPACKET)
    for data in (b"one", b"two"):
        net.send(client, data)
    assert [net.recvfrom(server, 2, TRUNC)[:2], net.recv(server)] == [(b"on", 3), b"two"]
    net.rig.ok("net_close", client)
    assert net.recv(server) == b""
    assert net.send_errno(server) is Errno.EPIPE


def test_shutting_down_datagrams(net: Net) -> None:
    sender = net.socket(INET, DGRAM)
    assert net.rig.call("sock_shutdown", sender, WR) is Errno.ENOTCONN
    net.connect(sender, "127.0.0.1:9")
    net.rig.ok("sock_shutdown", sender, RD | WR)
    assert net.send_errno(sender) is Errno.EPIPE
    assert net.recv(sender) == b""


def test_a_pair_of_datagrams_whose_other_end_is_gone(net: Net) -> None:
    first, second = net.pair(2)
    net.send(first, b"x")
    assert net.recv(second) == b"x"
    net.rig.ok("net_close", second)
    assert net.send_errno(first) is Errno.ECONNREFUSED
    assert net.recv_errno(first, DONTWAIT) is Errno.EAGAIN
