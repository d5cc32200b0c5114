"""`vm.connect`: a host program calls a guest that listens, by port and by path, from threads and from asyncio."""

import asyncio
from collections.abc import Iterator

import pytest

from agentvm import AgentVM, Limits
from agentvm.api.aio import AsyncAgentVM
from agentvm.doctor.socket_guest import SocketGuest
from agentvm.errors import InvalidArgument, VMClosed

PORT = 8080


@pytest.fixture
def vm() -> Iterator[AgentVM]:
    with AgentVM() as vm:
        yield vm


def test_the_host_and_a_guest_talk(vm: AgentVM) -> None:
    with SocketGuest(vm) as guest:
        listener = guest.listen(PORT)
        with vm.connect(PORT) as connection:
            assert connection.send(b"hello") == 5
            _, server = guest.accept(listener)
            assert guest.receive(server) == 5
            assert guest.send(server, 3) == ("OK", 3)
            assert connection.recv() == b"hel", "what lies in its buffer"
            connection.shutdown()
            assert guest.receive(server) == 0
            guest.close(server)
            assert connection.recv() == b""
            with pytest.raises(BrokenPipeError):
                connection.send(b"x")


def test_all_that_a_guest_sends_before_it_closes_reaches_the_host(vm: AgentVM) -> None:
    with SocketGuest(vm) as guest:
        listener = guest.listen(PORT)
        with vm.connect(PORT) as connection:
            connection.send(b"never read")
            _, server = guest.accept(listener)
            guest.send(server, 10_000)
            guest.close(server)
            assert b"".join(iter(connection.recv, b"")) == bytes(10_000)


def test_a_path_leads_to_a_socket_of_the_unix_domain(vm: AgentVM) -> None:
    vm.fs.mkdir("/run")
    with SocketGuest(vm) as guest:
        listener = guest.listen_at("unix:/run/x.sock")
        for path in ("/run/x.sock", b"/run/x.sock"):
            with vm.connect(path) as connection:
                connection.send(b"by path")
                _, server = guest.accept(listener)
                assert guest.receive(server) == 7


@pytest.mark.parametrize("where", [0, -1, 65_536, "relative", "", b"x"])
def test_what_is_neither_a_port_nor_a_path(vm: AgentVM, where: int | str | bytes) -> None:
    with pytest.raises(InvalidArgument):
        vm.connect(where)


@pytest.mark.parametrize(
    ("where", "says"),
    [(PORT, "listens at port 8080"), ("/nothing/there", "ENOENT"), ("/tmp", "ECONNREFUSED")],
)
def test_nobody_listens(vm: AgentVM, where: int | str, says: str) -> None:
    with pytest.raises(ConnectionRefusedError, match=says):
        vm.connect(where)


def test_a_full_backlog_is_refused_with_the_way_out() -> None:
    with AgentVM(Limits(max_listener_backlog=2)) as vm, SocketGuest(vm) as guest:
        guest.listen(PORT)
        held = [vm.connect(PORT) for _ in range(2)]
        with pytest.raises(ConnectionRefusedError, match=r"EAGAIN: max_listener_backlog: 3 asked.*Limits\("):
            vm.connect(PORT)
        for connection in held:
            connection.close()


def test_a_closed_vm_has_no_ports() -> None:
    vm = AgentVM()
    vm.close()
    with pytest.raises(VMClosed):
        vm.connect(PORT)


def test_connections_of_asyncio() -> None:
    async def talk() -> tuple[bytes, int]:
        async with AsyncAgentVM() as vm:
            guest = SocketGuest(vm._vm)
            listener = guest.listen(PORT)
            connection = vm.connect(PORT)
            await connection.send(b"hello")
            _, server = guest.accept(listener)
            received = guest.receive(server)
            guest.send(server, 4)
            answer = await connection.recv()
            connection.close()
            with pytest.raises(ConnectionRefusedError):
                vm.connect(PORT + 1)
            return answer, received

    assert asyncio.run(talk()) == (b"hell", 5)
