"""host_process: pairs of sockets, and descriptors that travel through them."""

import pytest

from agentvm import Errno, Limits
from tests.abi.agentos.net_rig import DGRAM, INET, NONBLOCK, PEEK, UNIX, Net
from tests.abi.rig import WILD, Boot, Rig

DATA_CUT, RIGHTS_CUT = 1, 2
CMSG_CLOEXEC = 0x4000_0000


@pytest.fixture
def net(host: Rig) -> Net:
    return Net(host)


@pytest.mark.parametrize(("kind", "type_number", "filetype"), [(1, 1, 6), (6, 6, 6), (2, 2, 5), (5, 5, 5), (3, 3, 6)])
def test_fd_socketpair_makes_two_of_a_kind(net: Net, kind: int, type_number: int, filetype: int) -> None:
    first, second = net.pair(kind, nonblock=1, cloexec=1)
    assert (first, second) == (3, 4)
    for fd in (first, second):
        net.rig.ok("fd_fdstat_get", fd, 64)
        assert (net.rig.number(64, 1), net.rig.number(66, 2), net.rig.made("fd_getfd", fd)) == (filetype, 4, 1)
        assert net.number(fd, 1, 3) == type_number
    net.send(first, b"hello")
    assert net.recv(second) == b"hello"
    assert net.recv_errno(first) is Errno.EAGAIN


@pytest.mark.parametrize(
    ("caps", "errno"),
    [({"max_open_fds_per_process": 4}, Errno.EMFILE), ({"max_sockets": 1}, Errno.ENFILE)],
    ids=str,
)
def test_fd_socketpair_at_a_cap_takes_nothing(boot_host: Boot, caps: dict[str, int], errno: Errno) -> None:
    rig = boot_host(vm={"limits": Limits.of(caps)})
    assert rig.call("fd_socketpair", 1, 0, 0, 64, 68) is errno
    assert rig.vm.usage()["max_sockets"].used == 0
    assert rig.call("fd_socketpair", 7, 0, 0, 64, 68) is Errno.EINVAL


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_a_descriptor_arrives_as_another_one_of_the_same_file(net: Net, kind: int) -> None:
    first, second = net.pair(kind)
    file = net.rig.create("/tmp/file", b"0123456789")
    assert net.send_rights(first, b"with a file", file) == 11
    assert net.rig.read_fd(file, 4) == b"0123"
    net.rig.ok("fd_close", file)
    data, (received,), told = net.recv_rights(second, flags=CMSG_CLOEXEC)
    assert (data, told & 3, told >> 2) == (b"with a file", 0, 11)
    assert net.rig.read_fd(received, 99) == b"456789", "it has the offset of the one that was sent"
    assert net.rig.made("fd_getfd", received) == 1


def test_descriptors_travel_with_their_bytes(net: Net) -> None:
    first, second = net.pair()
    file = net.rig.create("/tmp/file")
    net.send(first, b"before")
    net.send_rights(first, b"with", file)
    net.send(first, b"after")
    assert net.recv_rights(second, 3) == (b"bef", [], 3 << 2)
    data, opened, _ = net.recv_rights(second, 99)
    assert (data, len(opened)) == (b"orewith", 1), "what came before, and not what came after"
    assert net.recv_rights(second)[:2] == (b"after", [])


def test_descriptors_that_nobody_asked_for_are_closed(net: Net) -> None:
    first, second = net.pair()
    file = net.rig.create("/tmp/file")
    used = net.rig.vm.usage()["max_open_fds"].used
    for receive in (lambda: net.recv(second), lambda: net.rig.read_fd(second, 9)):
        net.send_rights(first, b"x", file)
        assert net.rig.vm.usage()["max_open_fds"].used == used + 1
        assert receive() == b"x"
        assert net.rig.vm.usage()["max_open_fds"].used == used
    net.send_rights(first, b"x", file, file)
    assert net.recv_rights(second, 9, 1) == (b"x", [6], 1 << 2 | RIGHTS_CUT)
    net.send_rights(first, b"x", file)
    assert net.recv_rights(second, 9, 0) == (b"x", [], 1 << 2 | RIGHTS_CUT)


def test_a_peek_leaves_descriptors_where_they_are(net: Net) -> None:
    first, second = net.pair(3)
    net.send_rights(first, b"x", first)
    assert net.recv_rights(second, flags=PEEK)[:2] == (b"x", [])
    assert net.recv_rights(second)[:2] == (b"x", [5])


def test_descriptors_beyond_the_cap_of_the_receiver_are_cut_off(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_open_fds_per_process=6)}))
    first, second = net.pair()
    net.send_rights(first, b"x", 0, 1, 2)
    data, opened, told = net.recv_rights(second)
    assert (data, opened, told & 3) == (b"x", [5], RIGHTS_CUT)
    assert net.rig.vm.usage()["max_open_fds"].used == 6


def test_descriptors_on_their_way_count_against_the_vm(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_open_fds=8, max_open_fds_per_process=8)}))
    first, second = net.pair()
    net.send_rights(first, b"x", 0, 1)
    assert net.send_rights_errno(first, b"x", 0, 1) is Errno.ENFILE
    assert net.recv(second) == b"x"
    net.send_rights(first, b"x", 0, 1)
    net.rig.ok("net_close", first)
    net.rig.ok("net_close", second)
    assert net.rig.vm.usage()["max_open_fds"].used == 3


def test_a_message_cut_off_says_so(net: Net) -> None:
    first, second = net.pair(3)
    net.send_rights(first, b"0123456789", 0)
    data, opened, told = net.recv_rights(second, 4)
    assert (data, len(opened), told) == (b"0123", 1, 10 << 2 | DATA_CUT)


def test_fd_sendmsg_rights_refusals(net: Net) -> None:
    first, _ = net.pair()
    assert net.send_rights_errno(first, b"x", 99) is Errno.EBADF
    assert net.send_rights_errno(first, b"x", *[0] * 254) is Errno.EINVAL
    assert net.rig.call("fd_sendmsg_rights", first, 64, 1, WILD, 1, 0, 128) is Errno.EFAULT
    assert net.send_rights(first, b"") == 0
    client, _ = net.connected()
    for fd in (client, net.socket(INET, DGRAM), net.socket(UNIX, DGRAM), net.rig.create("/tmp/a")):
        assert net.send_rights_errno(fd, b"x") is Errno.ENOTSOCK
        assert net.rig.call("fd_recvmsg_rights", fd, 64, 1, 64, 0, 0, 68, 72, 76) is Errno.ENOTSOCK


def test_fd_recvmsg_rights_of_what_is_empty(net: Net) -> None:
    first, second = net.pair(nonblock=1)
    assert net.rig.call("fd_recvmsg_rights", second, 64, 1, 64, 0, 0, 68, 72, 76) is Errno.EAGAIN
    net.rig.ok("net_close", first)
    assert net.recv_rights(second) == (b"", [], 0)


def test_sockets_that_travel_through_themselves_are_found_when_room_is_needed(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_open_fds=12, max_open_fds_per_process=12)}))
    for _ in range(2):
        first, second = net.pair()
        net.send_rights(first, b"x", second, second)
        net.send_rights(second, b"x", first)
        net.rig.ok("net_close", first)
        net.rig.ok("net_close", second)
    assert net.rig.vm.usage()["max_open_fds"].used == 9
    first, second = net.pair()
    net.send_rights(first, b"x", 0, 1, 2)
    usage = net.rig.vm.usage()
    assert (usage["max_open_fds"].used, usage["max_sockets"].used) == (8, 2)


def test_what_is_on_its_way_is_given_back_with_the_vm(boot_host: Boot) -> None:
    net = Net(boot_host())
    first, second = net.pair(2)
    net.send_rights(first, b"x", second)
    net.send_rights(second, b"x", first)
    net.rig.vm.close()
    usage = net.rig.vm.usage()
    assert (usage["max_open_fds"].used, usage["max_sockets"].used, usage["max_socket_buffer_bytes"].used) == (0, 0, 0)


def test_a_receive_with_nonblock_does_not_wait(net: Net) -> None:
    fd = net.socket(UNIX, DGRAM | NONBLOCK)
    assert net.recv_errno(fd) is Errno.EAGAIN
