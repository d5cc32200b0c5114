"""Floods of sockets, connections and data beside a VM that must not notice: each ends at its cap, all comes back."""

import pytest

from agentvm import AgentVM
from agentvm.doctor.socket_guest import SocketGuest
from agentvm.errno import KernelError
from tests.limits.harness import beside_a_sibling, drives, opened

PORT = 80
ADDRESS = f"127.0.0.1:{PORT}"


@drives("max_connections")
def test_a_flood_of_connections_ends_at_the_cap_and_what_waits_stays_queued() -> None:
    def flood(vm: AgentVM) -> list[str]:
        with SocketGuest(vm) as guest:
            listener = guest.listen(PORT)
            clients = [guest.socket()[1] for _ in range(9)]
            said = [guest.connect(client, ADDRESS) for client in clients]
            said.append(guest.accept(listener)[0])
            guest.close(clients[0])
            said.append(guest.accept(listener)[0])
            assert vm.usage()["max_connections"].used == 8
            return said

    said = beside_a_sibling(flood, max_connections=8)
    assert said == ["OK"] * 8 + ["ENOBUFS", "ENFILE", "OK"]


@drives("max_sockets")
def test_a_flood_of_sockets_ends_at_the_cap() -> None:
    def flood(vm: AgentVM) -> list[str]:
        with SocketGuest(vm) as guest:
            said = [guest.socket()[0] for _ in range(9)]
            guest.close(3)
            return [*said, guest.socket()[0]]

    assert beside_a_sibling(flood, max_sockets=8) == ["OK"] * 8 + ["ENFILE", "OK"]


def test_an_accept_in_a_vm_without_places_leaves_the_connection_queued() -> None:
    with opened(max_sockets=3) as vm, SocketGuest(vm) as guest:
        listener, (_, client), (_, third) = guest.listen(PORT), guest.socket(), guest.socket()
        assert guest.connect(client, ADDRESS) == "OK"
        assert guest.send(client, 5) == ("OK", 5)
        assert guest.accept(listener)[0] == "ENFILE"
        guest.close(third)
        said, server = guest.accept(listener)
        assert (said, guest.receive(server)) == ("OK", 5)


@drives("max_socket_buffer_bytes")
def test_what_nobody_receives_is_bounded_and_every_socket_is_sure_of_some_room() -> None:
    cap = 256 << 10

    def fill(vm: AgentVM) -> list[int]:
        with SocketGuest(vm) as guest:
            listener = guest.listen(PORT)
            pairs = [guest.connected(listener, PORT) for _ in range(8)]
            taken = [guest.send(client, cap) for client, _ in pairs]
            assert {said for said, _ in taken} == {"EAGAIN"}
            assert vm.usage()["max_socket_buffer_bytes"].used == sum(done for _, done in taken) <= cap
            return [done for _, done in taken]

    taken = beside_a_sibling(fill, max_socket_buffer_bytes=cap)
    assert taken[:3] == [cap // 4] * 3
    floor = cap // (2 * 128)
    assert min(taken) == floor
    assert sum(taken) == cap - 8 * floor, "eight more sockets have their floors for what comes the other way"


@drives("max_datagrams")
def test_so_many_datagrams_wait_and_no_more() -> None:
    def fill(vm: AgentVM) -> tuple[str, int]:
        with SocketGuest(vm) as guest:
            (_, sender), (_, receiver) = guest.socket(datagrams=True), guest.socket(datagrams=True)
            guest.bind(receiver, "unix-abstract:00")
            guest.connect(sender, "unix-abstract:00")
            return guest.send_each(sender, 1000)

    assert beside_a_sibling(fill, max_datagrams=100) == ("EAGAIN", 100)


def test_a_listener_that_never_accepts_refuses_the_host_and_gives_all_back() -> None:
    with opened(max_listener_backlog=4) as vm, SocketGuest(vm) as guest:
        guest.listen(PORT)
        connections = [vm.connect(PORT) for _ in range(4)]
        with pytest.raises(ConnectionRefusedError, match="max_listener_backlog"):
            vm.connect(PORT)
        assert vm.usage()["max_sockets"].used == 5
        for connection in connections:
            connection.close()


def test_a_raised_cap_lets_a_sender_go_on() -> None:
    with opened(max_socket_buffer_bytes="64KiB", max_sockets=64) as vm, SocketGuest(vm) as guest:
        listener = guest.listen(PORT)
        client, _ = guest.connected(listener, PORT)
        assert guest.send(client, 1 << 20) == ("EAGAIN", 16 << 10)
        vm.raise_limit(max_socket_buffer_bytes="1MiB")
        assert guest.send(client, 1 << 20)[1] > 0


def test_names_of_the_unix_domain_cost_inodes() -> None:
    with opened(max_inodes=20) as vm, SocketGuest(vm) as guest:
        before = int(vm.usage()["max_inodes"].used)
        said = [guest.bind(guest.socket(datagrams=True)[1], f"unix:/s{number}") for number in range(21 - before)]
        assert said == ["OK"] * (20 - before) + ["ENOSPC"]
        with pytest.raises(KernelError, match="ENXIO"):
            vm.fs.read("/s0")
