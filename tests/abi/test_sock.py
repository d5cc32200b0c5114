"""preview1 sockets: a guest that listens, and the host that connects to it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from agentvm import Errno, Limits
from agentvm.api.connection import Connection
from agentvm.errors import InvalidArgument
from tests.abi.rig import Boot, Rig

NONBLOCK = 4
PEEK, WAITALL = 1, 2
RD, WR = 1, 2
LISTENER = 4
READ_EVENT = 1


def _accept(rig: Rig, flags: int = 0) -> int:
    rig.ok("sock_accept", LISTENER, flags, 64, writes=[(64, 4)])
    return rig.number(64)


def _pair(boot: Boot, flags: int = 0, **caps: int) -> tuple[Rig, Connection, int]:
    """Return a proxy, the host's end of a connection, and the guest's."""
    rig = boot(listeners=1, vm={"limits": Limits(max_socket_buffer_bytes=16_384, **caps)})
    connection = rig.instance.connect()
    return rig, connection, _accept(rig, flags)


def _recv(rig: Rig, fd: int, size: int, flags: int = 0) -> bytes:
    buffer = rig.space(size)
    iovs = rig.iovecs((buffer, size))
    rig.ok("sock_recv", fd, *iovs, flags, 64, 72, writes=[(64, 4), (72, 2), (buffer, size)])
    assert rig.number(72, 2) == 0
    return rig.read(buffer, rig.number(64))


def _send(rig: Rig, fd: int, data: bytes) -> int:
    rig.ok("sock_send", fd, *rig.iovecs((rig.put(data), len(data))), 0, 64, writes=[(64, 4)])
    return rig.number(64)


# -- sock_accept ------------------------------------------------------------------------------------------------------
def test_sock_accept_returns_connections_in_their_order(boot: Boot) -> None:
    rig = boot(listeners=1)
    for name in (b"first", b"second"):
        rig.instance.connect().send(name)
    assert [_recv(rig, _accept(rig), 10), _recv(rig, _accept(rig), 10)] == [b"first", b"second"]
    assert rig.trace[0] == "sock_accept(fd=4, flags=0, result=64) -> OK"


def test_sock_accept_waits_for_the_host_to_connect(boot: Boot) -> None:
    rig = boot(listeners=2)
    with ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(_accept, rig)
        with rig.instance.connect() as connection:
            connection.send(b"x")
            assert _recv(rig, accepting.result(), 1) == b"x"


def test_sock_accept_without_blocking_is_eagain(boot: Boot) -> None:
    rig = boot(listeners=1)
    rig.set_flags(LISTENER, NONBLOCK)
    assert rig.call("sock_accept", LISTENER, 0, 64) is Errno.EAGAIN
    rig.instance.connect()
    assert _accept(rig) == 5


def test_sock_accept_with_nonblock_makes_a_non_blocking_connection(boot: Boot) -> None:
    rig, _, fd = _pair(boot, NONBLOCK)
    rig.ok("fd_fdstat_get", fd, 128)
    assert (rig.number(128, 1), rig.number(130, 2)) == (6, NONBLOCK)
    assert rig.call("sock_recv", fd, *rig.iovecs((100, 4)), 0, 64, 72) is Errno.EAGAIN
    assert rig.call("sock_recv", fd, *rig.iovecs((100, 4)), PEEK, 64, 72) is Errno.EAGAIN


@pytest.mark.parametrize("flags", [1, 2, 8, 16, 32, 0x8000_0000])
def test_sock_accept_of_other_flags_is_einval(boot: Boot, flags: int) -> None:
    rig = boot(listeners=1)
    rig.instance.connect()
    assert rig.call("sock_accept", LISTENER, flags, 64) is Errno.EINVAL
    assert _accept(rig) == 5


def test_sock_accept_of_what_does_not_listen(boot: Boot) -> None:
    rig, _, fd = _pair(boot)
    assert rig.call("sock_accept", fd, 0, 64) is Errno.EINVAL
    assert rig.call("sock_accept", 0, 0, 64) is Errno.ENOTSOCK
    assert rig.call("sock_accept", 3, 0, 64) is Errno.ENOTSOCK


@pytest.mark.parametrize(
    ("caps", "errno"),
    [
        ({"max_open_fds_per_process": 5}, Errno.EMFILE),
        ({"max_open_fds": 5}, Errno.EMFILE),
        ({"max_open_fds": 5, "max_open_fds_per_process": 5}, Errno.EMFILE),
    ],
    ids=str,
)
def test_sock_accept_at_the_cap_leaves_the_connection_queued(boot: Boot, caps: dict[str, int], errno: Errno) -> None:
    rig = boot(listeners=1, vm={"limits": Limits.of(caps)})
    rig.instance.connect().send(b"still there")
    assert rig.call("sock_accept", LISTENER, 0, 64) is errno
    rig.ok("fd_close", 3)
    assert _recv(rig, _accept(rig), 100) == b"still there"


def test_sock_accept_in_a_full_vm_is_enfile(boot: Boot) -> None:
    first = boot(listeners=1, vm={"limits": Limits(max_open_fds=10, max_open_fds_per_process=9)})
    other = Rig(first.vm, "preview1", [], listeners=1)
    first.instance.connect()
    assert first.call("sock_accept", LISTENER, 0, 64) is Errno.ENFILE
    other.instance.close()
    assert _accept(first) == 5


# -- connecting -------------------------------------------------------------------------------------------------------
def test_a_connection_counts_against_max_sockets_until_the_guest_closes_it(boot: Boot) -> None:
    rig = boot(listeners=1, vm={"limits": Limits(max_sockets=2)})
    with rig.instance.connect():
        with pytest.raises(ConnectionRefusedError, match="ENFILE: max_sockets"):
            rig.instance.connect()
        fd = _accept(rig)
    assert rig.vm.usage()["max_sockets"].used == 2
    rig.ok("fd_close", fd)
    assert rig.vm.usage()["max_sockets"].used == 1
    rig.instance.connect()


def test_so_many_connections_may_wait_to_be_accepted(boot: Boot) -> None:
    rig = boot(listeners=1)
    for _ in range(16):
        rig.instance.connect()
    with pytest.raises(ConnectionRefusedError, match="EAGAIN"):
        rig.instance.connect()
    _accept(rig)
    rig.instance.connect()


def test_connecting_to_a_closed_listener_is_refused_and_ends_those_that_wait(boot: Boot) -> None:
    rig = boot(listeners=1)
    waiting = rig.instance.connect()
    rig.ok("fd_close", LISTENER)
    assert waiting.recv() == b""
    with pytest.raises(BrokenPipeError):
        waiting.send(b"x")
    with pytest.raises(ConnectionRefusedError, match="ECONNREFUSED"):
        rig.instance.connect()
    assert rig.vm.usage()["max_sockets"].used == 0


def test_connecting_to_a_listener_that_is_not_there_is_an_error(boot: Boot) -> None:
    rig = boot(listeners=1)
    for number in (1, -1):
        with pytest.raises(InvalidArgument, match="1 listeners"):
            rig.instance.connect(number)


def test_the_end_of_the_process_ends_its_connections(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    _send(rig, fd, b"bye")
    rig.instance.close()
    assert [connection.recv(), connection.recv()] == [b"bye", b""]
    with pytest.raises(ConnectionRefusedError):
        rig.instance.connect()


# -- sock_recv --------------------------------------------------------------------------------------------------------
def test_sock_recv_scatters_what_there_is(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    connection.send(b"hello")
    rig.ok("sock_recv", fd, *rig.iovecs((100, 2), (110, 9)), 0, 64, 72, writes=[(64, 4), (72, 2), (100, 2), (110, 3)])
    assert (rig.number(64), rig.read(100, 3), rig.read(110, 4)) == (5, b"he?", b"llo?")


def test_sock_recv_waits_and_ends_with_nothing(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(_recv, rig, fd, 10)
        connection.send(b"hello")
        assert receiving.result() == b"hello"
        receiving = pool.submit(_recv, rig, fd, 10)
        connection.shutdown()
        assert receiving.result() == b""


def test_sock_recv_peek_leaves_the_data_there(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    with ThreadPoolExecutor(1) as pool:
        peeking = pool.submit(_recv, rig, fd, 3, PEEK)
        connection.send(b"hello")
        assert peeking.result() == b"hel"
    assert [_recv(rig, fd, 9, PEEK), _recv(rig, fd, 9)] == [b"hello", b"hello"]
    connection.close()
    assert _recv(rig, fd, 9, PEEK) == b""


def test_sock_recv_waitall_fills_the_buffers(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(_recv, rig, fd, 20_000, WAITALL)
        connection.send(b"a" * 12_000)
        connection.send(b"b" * 8_001)
        assert receiving.result() == b"a" * 12_000 + b"b" * 8_000
    connection.close()
    assert _recv(rig, fd, 100, WAITALL) == b"b"


def test_sock_recv_waitall_without_blocking_loses_nothing(boot: Boot) -> None:
    rig, connection, fd = _pair(boot, NONBLOCK)
    connection.send(b"hello")
    assert _recv(rig, fd, 100, WAITALL) == b"hello"
    assert rig.call("sock_recv", fd, *rig.iovecs((100, 4)), WAITALL, 64, 72) is Errno.EAGAIN


@pytest.mark.parametrize("flags", [4, 8, 0x8000_0000])
def test_sock_recv_of_unknown_flags_is_einval(boot: Boot, flags: int) -> None:
    rig, connection, fd = _pair(boot)
    connection.send(b"x")
    assert rig.call("sock_recv", fd, *rig.iovecs((100, 4)), flags, 64, 72) is Errno.EINVAL


def test_sock_recv_of_what_is_not_connected(boot: Boot) -> None:
    rig = boot(listeners=1)
    assert rig.call("sock_recv", LISTENER, *rig.iovecs((100, 4)), 0, 64, 72) is Errno.ENOTCONN
    assert rig.call("fd_read", LISTENER, *rig.iovecs((100, 4)), 64) is Errno.ENOTCONN
    assert rig.call("sock_recv", 0, *rig.iovecs((100, 4)), 0, 64, 72) is Errno.ENOTSOCK


# -- sock_send --------------------------------------------------------------------------------------------------------
def test_sock_send_reaches_the_host(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    assert (_send(rig, fd, b"hello"), connection.recv()) == (5, b"hello")
    assert rig.write(fd, b"as a file") == 9
    assert [connection.recv(4), connection.recv(99), connection.recv(0)] == [b"as a", b" file", b""]


def test_sock_send_waits_until_all_is_sent(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(_send, rig, fd, b"x" * 30_000)
        got = b""
        while len(got) < 30_000:
            got += connection.recv()
        assert sending.result() == 30_000
    assert got == b"x" * 30_000


def test_sock_send_without_blocking_takes_what_fits(boot: Boot) -> None:
    rig, connection, fd = _pair(boot, NONBLOCK)
    assert _send(rig, fd, b"x" * 5_000) == 4096
    assert rig.call("sock_send", fd, *rig.iovecs((100, 4)), 0, 64) is Errno.EAGAIN
    connection.recv(4096)
    assert _send(rig, fd, b"y") == 1


def test_sock_send_to_a_closed_connection_is_epipe(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    connection.close()
    assert rig.call("sock_send", fd, *rig.iovecs((100, 4)), 0, 64) is Errno.EPIPE


def test_sock_send_refusals(boot: Boot) -> None:
    rig, _, fd = _pair(boot)
    iovs = rig.iovecs((100, 4))
    assert rig.call("sock_send", fd, *iovs, 1, 64) is Errno.EINVAL
    assert rig.call("sock_send", LISTENER, *iovs, 0, 64) is Errno.ENOTCONN
    assert rig.call("sock_send", 1, *iovs, 0, 64) is Errno.ENOTSOCK


# -- sock_shutdown ----------------------------------------------------------------------------------------------------
def test_sock_shutdown_of_writing_lets_the_host_read_the_end(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    _send(rig, fd, b"last")
    rig.ok("sock_shutdown", fd, WR, writes=[])
    assert [connection.recv(), connection.recv()] == [b"last", b""]
    assert rig.call("sock_send", fd, *rig.iovecs((100, 4)), 0, 64) is Errno.EPIPE
    connection.send(b"still open")
    assert _recv(rig, fd, 99) == b"still open"


def test_sock_shutdown_of_reading_ends_what_comes_in(boot: Boot) -> None:
    rig, connection, fd = _pair(boot)
    connection.send(b"too late")
    rig.ok("sock_shutdown", fd, RD)
    assert [_recv(rig, fd, 9), _recv(rig, fd, 9, PEEK)] == [b"", b""]
    with pytest.raises(BrokenPipeError):
        connection.send(b"x")
    assert _send(rig, fd, b"out") == 3


def test_sock_shutdown_twice_is_fine_and_close_gives_the_place_back(boot: Boot) -> None:
    rig, _, fd = _pair(boot)
    rig.ok("sock_shutdown", fd, RD | WR)
    rig.ok("sock_shutdown", fd, RD)
    rig.ok("fd_close", fd)
    assert rig.vm.usage()["max_sockets"].used == 1


@pytest.mark.parametrize("how", [0, 4, 7, 0x8000_0000])
def test_sock_shutdown_of_unknown_directions_is_einval(boot: Boot, how: int) -> None:
    rig, _, fd = _pair(boot)
    assert rig.call("sock_shutdown", fd, how) is Errno.EINVAL


def test_sock_shutdown_of_what_is_not_connected(boot: Boot) -> None:
    rig = boot(listeners=1)
    assert rig.call("sock_shutdown", LISTENER, RD) is Errno.ENOTCONN
    assert rig.call("sock_shutdown", 0, RD) is Errno.ENOTSOCK


def test_sock_recv_waits_although_the_host_reads_no_more(boot: Boot) -> None:
    """A connection that is broken in one direction alone."""
    rig, connection, fd = _pair(boot)
    connection._incoming.close()
    with ThreadPoolExecutor(1) as pool:
        receiving = pool.submit(_recv, rig, fd, 10)
        connection.send(b"x")
        assert receiving.result() == b"x"
