"""Connections: what they hold, what they tell of their state, and whom they wake."""

import pytest

from agentvm import Errno, Limits
from agentvm.kernel.net.address import UnixAddress
from agentvm.kernel.net.socket import SocketKind
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.wait import Readiness, Waiter, WaitQueue
from tests.support.net_kernel import AT_80, NetKernel, errno_of, receive, send

ABSTRACT = UnixAddress(b"x", is_abstract=True)
READ, WRITE, HANGUP, ERROR = Readiness.READ, Readiness.WRITE, Readiness.HANGUP, Readiness.ERROR


class Sleeper:
    """Sleeps on queues, and can be asked whether it was woken."""

    def __init__(self, *queues: WaitQueue) -> None:
        self.waiter = Waiter()
        for queue in queues:
            queue.add(self.waiter)

    def was_woken(self) -> bool:
        woken, self.waiter.is_woken = self.waiter.is_woken, False
        return woken


@pytest.mark.parametrize("address", [AT_80, ABSTRACT, UnixAddress(b"s")], ids=str)
def test_bytes_go_both_ways_and_everything_is_given_back(address: object) -> None:
    net = NetKernel()
    client, server = net.connected(address)
    assert (send(client, b"to the server"), send(server, b"back")) == (13, 4)
    assert (receive(server, 2), receive(server), receive(client)) == (b"to", b" the server", b"back")
    assert (net.used("max_sockets"), net.used("max_connections")) == (2, 2)
    for end in (client, server):
        end.on_last_close()
    assert [net.used(name) for name in ("max_sockets", "max_connections", "max_socket_buffer_bytes")] == [0, 0, 0]
    assert not list(net.network.space)


def test_readiness_of_both_ends_as_they_are_shut_down() -> None:
    net = NetKernel()
    client, server = net.connected(ABSTRACT)
    assert (client.readiness(), server.readiness()) == (WRITE, WRITE)
    send(client, b"x")
    assert server.readiness() == READ | WRITE
    client.shutdown(read=False, write=True)
    receive(server)
    assert server.readiness() == READ | WRITE
    server.on_last_close()
    assert client.readiness() == READ | WRITE | HANGUP


def test_a_sender_is_woken_when_half_is_free_and_not_before() -> None:
    net = NetKernel(max_socket_buffer_bytes=65_536)
    client, server = net.connected(ABSTRACT)
    assert send(client, bytes(20_000)) == 16_384
    assert not client.readiness() & WRITE
    sleeper = Sleeper(*client.queues(WRITE))
    receive(server, 8_000)
    assert not sleeper.was_woken()
    receive(server, 300)
    assert sleeper.was_woken()
    assert client.readiness() & WRITE


def test_data_wakes_who_reads_and_nobody_else() -> None:
    net = NetKernel()
    client, server = net.connected(ABSTRACT)
    reader, writer, other = (
        Sleeper(*server.queues(READ)), Sleeper(*server.queues(WRITE)), Sleeper(*client.queues(READ))
    )  # fmt: skip
    send(client, b"x")
    assert (reader.was_woken(), writer.was_woken(), other.was_woken()) == (True, False, False)


def test_room_that_others_hold_wakes_who_waits_for_it() -> None:
    net = NetKernel(max_socket_buffer_bytes=65_536, max_sockets=64)
    pairs = [net.network.pair(SocketKind.STREAM) for _ in range(5)]
    for first, _ in pairs:
        while first.readiness() & WRITE:
            send(first, bytes(16_384))
    last = pairs[4][0]
    sleeper = Sleeper(*last.queues(WRITE))
    assert errno_of(send, last, b"x") is Errno.EAGAIN
    receive(pairs[0][1], 10_000)
    assert sleeper.was_woken()


def test_every_socket_is_sure_of_its_floor() -> None:
    net = NetKernel(max_socket_buffer_bytes=65_536, max_sockets=16)
    pairs = [net.network.pair(SocketKind.STREAM) for _ in range(8)]
    taken = []
    for first, _ in pairs:
        done = 0
        while first.readiness() & WRITE:
            done += send(first, bytes(16_384))
        taken.append(done)
    floor = 65_536 // 32
    assert taken[0] == 16_384
    assert taken[-1] == floor
    assert net.used("max_socket_buffer_bytes") == sum(taken) == 65_536 - 8 * floor
    assert {send(second, bytes(9_000)) for _, second in pairs} == {floor}, "the other directions have theirs too"


def test_a_raised_cap_makes_room() -> None:
    net = NetKernel(max_socket_buffer_bytes=65_536)
    first, second = net.network.pair(SocketKind.STREAM)
    send(first, bytes(20_000))
    sleeper = Sleeper(*first.queues(WRITE))
    net.kernel.raise_limits(Limits(max_socket_buffer_bytes=1 << 20))
    assert sleeper.was_woken()
    assert send(first, bytes(20_000)) == 20_000
    assert len(receive(second)) == 36_384


def test_a_backlog_has_one_place_more_than_was_asked_for() -> None:
    net = NetKernel(max_listener_backlog=3)
    listener = net.listener(backlog=1)
    clients = [net.stream() for _ in range(4)]
    assert [client.connect(AT_80, net.naming) for client in clients] == [True, True, False, False]
    assert [client.is_connecting for client in clients] == [False, False, True, True]
    listener.accept_nowait(FdFlags(0))
    assert [client.is_connecting for client in clients] == [False, False, False, True]
    clients[3].on_last_close()
    listener.on_last_close()
    assert [errno_of(receive, client) for client in clients[1:3]] == [Errno.ECONNRESET, Errno.ECONNRESET]
    assert (clients[0].take_error(), net.used("max_connections")) == (None, 4)


def test_who_waits_in_line_is_told_when_the_listener_is_gone() -> None:
    net = NetKernel()
    listener, first, second = net.listener(backlog=0), net.stream(), net.stream()
    first.connect(AT_80, net.naming)
    assert not second.connect(AT_80, net.naming)
    sleeper = Sleeper(*second.queues(READ))
    listener.on_last_close()
    assert sleeper.was_woken()
    assert (second.take_error(), second.is_connecting) == (Errno.ECONNREFUSED, False)
    assert net.used("max_connections") == 1


def test_a_refused_connection_holds_nothing() -> None:
    net = NetKernel(max_connections=1)
    client = net.stream()
    assert errno_of(client.connect, AT_80, net.naming) is Errno.ECONNREFUSED
    assert net.used("max_connections") == 0
    listener = net.listener()
    assert client.connect(AT_80, net.naming)
    assert errno_of(net.stream().connect, AT_80, net.naming) is Errno.ENOBUFS
    assert errno_of(listener.accept_nowait, FdFlags(0)) is Errno.ENFILE
    client.on_last_close()
    assert listener.accept_nowait(FdFlags(0)).stat().filetype is Filetype.SOCKET_STREAM


def test_the_host_has_a_place_for_the_end_that_will_be_accepted() -> None:
    net = NetKernel(max_sockets=2)
    listener = net.network.listener_for_host()
    end = net.network.connect_host(listener)
    assert net.used("max_sockets") == 2
    assert errno_of(net.network.connect_host, listener) is Errno.ENFILE
    server = listener.accept_nowait(FdFlags(0))
    send(end, b"hello")
    assert (receive(server), net.used("max_connections")) == (b"hello", 1)
    server.on_last_close()
    assert (receive(end), net.used("max_sockets"), net.used("max_connections")) == (b"", 1, 0)
    assert errno_of(send, end, b"x") is Errno.EPIPE


def test_the_file_of_a_socket_is_charged_like_any_other() -> None:
    net = NetKernel(max_inodes=1)
    before = net.used("max_filesystem_bytes")
    net.listener(UnixAddress(b"s"))
    assert net.used("max_inodes") == 1
    assert net.used("max_filesystem_bytes") > before
    assert errno_of(net.listener, UnixAddress(b"t")) is Errno.ENOSPC
    vfs = net.kernel.vfs
    vfs.unlink_at(vfs.root, b"/home/s", root=vfs.root, confined=False)
    assert (net.used("max_inodes"), net.used("max_filesystem_bytes")) == (0, before)
