"""host_net: making, naming, connecting and accepting, with the errnos that Linux gives."""

import pytest

from agentvm import Errno, Limits
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.agentos.net_rig import CLOEXEC, DGRAM, INET, INET6, NONBLOCK, SEQPACKET, STREAM, UNIX, Net
from tests.abi.rig import WILD, Boot, Rig

ADDRESSES = ("127.0.0.1:0", "127.8.9.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "unix:/home/s", "unix-abstract:6100")


@pytest.fixture
def net(host: Rig) -> Net:
    return Net(host)


def _no_child(rig: Rig) -> int:
    return rig.create("/tmp/file")


# -- net_socket -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("domain", [INET, INET6, UNIX])
@pytest.mark.parametrize(("kind", "filetype"), [(6, 6), (1, 6), (5, 5), (2, 5)])
def test_net_socket_makes_one_of_each_kind(net: Net, domain: int, kind: int, filetype: int) -> None:
    fd = net.socket(domain, kind)
    assert fd == 3
    net.rig.ok("fd_fdstat_get", fd, 64, writes=[(64, 24)])
    assert (net.rig.number(64, 1), net.rig.number(66, 2)) == (filetype, 0)
    assert net.number(fd, 1, 3) == kind, "SO_TYPE says what was asked for"


def test_net_socket_takes_flags(net: Net) -> None:
    fd = net.socket(INET, STREAM | CLOEXEC | NONBLOCK)
    net.rig.ok("fd_fdstat_get", fd, 64)
    assert net.rig.number(66, 2) == 4
    assert net.rig.made("fd_getfd", fd) == 1


@pytest.mark.parametrize(
    ("arguments", "errno"),
    [
        ((0, STREAM, 0), Errno.EAFNOSUPPORT),
        ((4, STREAM, 0), Errno.EAFNOSUPPORT),
        ((INET, 0, 0), Errno.EINVAL),
        ((INET, 9, 0), Errno.EINVAL),
        ((INET, STREAM | 0x8000, 0), Errno.EINVAL),
        ((INET, STREAM, 17), Errno.EPROTONOSUPPORT),
        ((INET, DGRAM, 6), Errno.EPROTONOSUPPORT),
        ((UNIX, STREAM, 6), Errno.EPROTONOSUPPORT),
        ((INET, SEQPACKET, 0), Errno.EPROTONOSUPPORT),
    ],
    ids=str,
)
def test_net_socket_refusals(host: Rig, arguments: tuple[int, int, int], errno: Errno) -> None:
    assert host.call("net_socket", *arguments, 64) is errno


@pytest.mark.parametrize(
    ("caps", "errno"),
    [
        ({"max_open_fds_per_process": 4}, Errno.EMFILE),
        ({"max_open_fds": 4, "max_open_fds_per_process": 4}, Errno.EMFILE),
        ({"max_sockets": 1}, Errno.ENFILE),
    ],
    ids=str,
)
def test_net_socket_at_a_cap(boot_host: Boot, caps: dict[str, int], errno: Errno) -> None:
    net = Net(boot_host(vm={"limits": Limits.of(caps)}))
    net.socket()
    assert net.rig.call("net_socket", INET, STREAM, 0, 64) is errno
    net.rig.ok("net_close", 3)
    assert net.socket() == 3
    assert net.rig.vm.usage()["max_sockets"].used == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("net_accept", (64, 0, 0)),
        ("net_bind", (64, 1)),
        ("net_close", ()),
        ("net_connect", (64, 1)),
        ("net_getpeername", (64, 128)),
        ("net_getsockname", (64, 128)),
        ("net_getsockopt", (1, 3, 64, 128)),
        ("net_listen", (1,)),
        ("net_recv", (64, 1, 0, 128)),
        ("net_recvfrom", (64, 1, 0, 128, 0, 0)),
        ("net_send", (64, 1, 0, 128)),
        ("net_sendto", (64, 1, 0, 64, 0, 128)),
        ("net_set_nonblock", (1,)),
        ("net_setsockopt", (1, 9, 64, 4)),
        ("net_validate_accept", ()),
        ("net_validate_socket", ()),
    ],
)
def test_calls_on_what_is_no_socket(host: Rig, name: str, arguments: tuple[int, ...]) -> None:
    host.instance.write_memory(64, bytes(128))
    file = host.create("/tmp/file")
    assert host.call(name, file, *arguments) is Errno.ENOTSOCK
    assert host.call(name, 99, *arguments) is Errno.EBADF
    assert host.call(name, 0x8000_0000, *arguments) is Errno.EBADF


# -- net_bind, net_getsockname ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", ADDRESSES)
def test_net_bind_gives_a_name_once(net: Net, address: str) -> None:
    domain = UNIX if address.startswith("unix") else INET6 if address.startswith("[") else INET
    fd = net.socket(domain)
    assert net.bind(fd, address) is Errno.SUCCESS
    name = net.name(fd)
    assert name == address if domain == UNIX else name.rpartition(":")[0] == address.rpartition(":")[0]
    again = address if address != "unix:/home/s" else "unix:/home/other"
    assert net.bind(fd, again) is Errno.EINVAL
    if domain != UNIX:
        assert int(name.rpartition(":")[2]) >= 32_768


@pytest.mark.parametrize(
    ("domain", "address", "errno"),
    [
        (INET, "10.0.0.1:80", Errno.EADDRNOTAVAIL),
        (INET6, "[2001:db8::1]:80", Errno.EADDRNOTAVAIL),
        (INET, "[::1]:80", Errno.EAFNOSUPPORT),
        (INET6, "127.0.0.1:80", Errno.EAFNOSUPPORT),
        (INET, "unix:/a", Errno.EAFNOSUPPORT),
        (UNIX, "127.0.0.1:80", Errno.EINVAL),
        (INET, "127.0.0.1", Errno.EINVAL),
        (INET, "127.0.0.1:65536", Errno.EINVAL),
        (INET, "127.0.0.1:", Errno.EINVAL),
        (INET, "no.such.host:80", Errno.EINVAL),
        (INET, "", Errno.EINVAL),
        (INET6, "[::1:80", Errno.EINVAL),
        (UNIX, "unix:", Errno.EINVAL),
        (UNIX, "unix-abstract:6", Errno.EINVAL),
        (UNIX, "unix:/no/such/s", Errno.ENOENT),
        (UNIX, "unix:/dev/s", Errno.EROFS),
        (UNIX, "unix:/tmp", Errno.EADDRINUSE),
    ],
    ids=str,
)
def test_net_bind_refusals(net: Net, domain: int, address: str, errno: Errno) -> None:
    fd = net.socket(domain)
    assert net.bind(fd, address) is errno
    assert net.rig.call("net_validate_socket", fd) is Errno.SUCCESS


@pytest.mark.parametrize(
    ("first", "second", "errno"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", Errno.EADDRINUSE),
        ("0.0.0.0:80", "127.0.0.1:80", Errno.EADDRINUSE),
        ("127.0.0.1:80", "0.0.0.0:80", Errno.EADDRINUSE),
        ("127.0.0.1:80", "127.0.0.2:80", Errno.SUCCESS),
        ("127.0.0.1:80", "127.0.0.1:81", Errno.SUCCESS),
        ("[::]:80", "127.0.0.1:80", Errno.EADDRINUSE),
        ("[::1]:80", "127.0.0.1:80", Errno.SUCCESS),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80", Errno.EADDRINUSE),
        ("unix-abstract:61", "unix-abstract:61", Errno.EADDRINUSE),
        ("unix:/tmp/s", "unix:/tmp/s", Errno.EADDRINUSE),
    ],
)
def test_net_bind_of_a_second_socket(net: Net, first: str, second: str, errno: Errno) -> None:
    for address, expected in ((first, Errno.SUCCESS), (second, errno)):
        domain = UNIX if address.startswith("unix") else INET6 if address.startswith("[") else INET
        assert net.bind(net.socket(domain), address) is expected


def test_net_bind_with_reuseaddr_shares_until_one_listens(net: Net) -> None:
    first, second = net.socket(), net.socket()
    for fd in (first, second):
        assert net.set_option(fd, 1, 2, 1) is Errno.SUCCESS
        assert net.bind(fd, "127.0.0.1:80") is Errno.SUCCESS
    assert net.listen(first) is Errno.SUCCESS
    assert net.listen(second) is Errno.EADDRINUSE
    third = net.socket()
    net.set_option(third, 1, 2, 1)
    assert net.bind(third, "127.0.0.1:80") is Errno.EADDRINUSE


def test_a_name_is_free_again_once_its_socket_is_closed(net: Net) -> None:
    for address in ("127.0.0.1:80", "unix-abstract:61"):
        domain = UNIX if address.startswith("unix") else INET
        for _ in range(2):
            fd = net.socket(domain)
            assert net.bind(fd, address) is Errno.SUCCESS
            net.rig.ok("net_close", fd)


def test_the_file_of_a_socket_stays_when_it_is_closed(net: Net) -> None:
    fd, _ = net.listener("unix:/home/s")
    net.rig.ok("net_close", fd)
    assert net.bind(net.socket(UNIX), "unix:/home/s") is Errno.EADDRINUSE
    assert net.connect(net.socket(UNIX), "unix:/home/s") is Errno.ECONNREFUSED
    net.rig.vm.fs.remove("/home/s")
    assert net.connect(net.socket(UNIX), "unix:/home/s") is Errno.ENOENT
    assert net.bind(net.socket(UNIX), "unix:/home/s") is Errno.SUCCESS


def test_the_file_of_a_socket_is_one(net: Net) -> None:
    net.listener("unix:home/s")
    host = net.rig
    host.ok("path_filestat_get", host.root, 0, *host.text("home/s"), 64, writes=[(64, 64)])
    assert host.number(80, 1) == 6
    rights = (1 << 30) - 1
    assert host.call("path_open", host.root, 0, *host.text("home/s"), 0, rights, 0, 0, 64) is Errno.ENXIO


def test_autobind_gives_an_abstract_name(net: Net) -> None:
    fd = net.socket(UNIX)
    assert net.name(fd) == "unix-unnamed"
    assert net.bind(fd, "unix-autobind") is Errno.SUCCESS
    name = net.name(fd)
    assert name.startswith("unix-abstract:")
    assert net.listen(fd) is Errno.SUCCESS
    assert net.connect(net.socket(UNIX), name) is Errno.SUCCESS


def test_a_path_of_any_bytes_is_told_in_digits(net: Net) -> None:
    fd = net.socket(UNIX)
    assert net.bind(fd, "unix-path-hex:" + "/home/é".encode().hex()) is Errno.SUCCESS
    assert net.name(fd) == "unix-path-hex:" + "/home/é".encode().hex()
    assert "é" in net.rig.vm.fs.listdir("/home")


def test_net_getsockname_cuts_off_and_tells_the_whole_length(net: Net) -> None:
    fd, name = net.listener("127.0.0.1:80")
    room, length = net.rig.space(8), net.rig.put((4).to_bytes(4, "little"))
    net.rig.ok("net_getsockname", fd, room, length, writes=[(room, 4), (length, 4)])
    assert (net.rig.read(room, 5), net.rig.number(length)) == (name.encode()[:4] + b"?", len(name))
    net.rig.ok("net_getsockname", fd, 0, 0, writes=[])
    assert net.rig.call("net_getsockname", fd, WILD, length) is Errno.EFAULT
    assert net.rig.call("net_getsockname", fd, room, MEMORY_BYTES) is Errno.EFAULT


# -- net_listen, net_accept -------------------------------------------------------------------------------------------
def test_net_listen_refusals(net: Net) -> None:
    assert net.listen(net.socket(INET, DGRAM)) is Errno.ENOTSUP
    assert net.listen(net.socket(UNIX)) is Errno.EINVAL
    client, _ = net.connected()
    assert net.listen(client) is Errno.EINVAL


def test_net_listen_without_a_name_takes_a_port(net: Net) -> None:
    fd = net.socket()
    assert net.listen(fd) is Errno.SUCCESS
    assert net.name(fd).startswith("0.0.0.0:")
    assert net.listen(fd, 3) is Errno.SUCCESS


@pytest.mark.parametrize("address", ADDRESSES)
def test_net_accept_tells_who_it_is_from(net: Net, address: str) -> None:
    listener, where = net.listener(address)
    domain = UNIX if where.startswith("unix") else INET6 if where.startswith("[") else INET
    client = net.socket(domain)
    assert net.connect(client, where) is Errno.SUCCESS
    server, told = net.accept(listener)
    assert told == net.peer(server) == net.name(client)
    assert net.peer(client) == net.name(server)
    net.send(client, b"ping")
    net.send(server, b"pong")
    assert (net.recv(server), net.recv(client)) == (b"ping", b"pong")


def test_a_listener_on_any_address_of_version_6_takes_version_4_too(net: Net) -> None:
    listener, where = net.listener("[::]:0")
    port = where.rpartition(":")[2]
    client = net.socket()
    assert net.connect(client, f"127.0.0.1:{port}") is Errno.SUCCESS
    _, told = net.accept(listener)
    assert told.startswith("[::ffff:")
    only = net.socket(INET6)
    assert net.set_option(only, 41, 26, 1) is Errno.SUCCESS
    assert (net.bind(only, "[::]:99"), net.listen(only)) == (Errno.SUCCESS, Errno.SUCCESS)
    assert net.connect(net.socket(), "127.0.0.1:99") is Errno.ECONNREFUSED


def test_net_accept_checks_its_pointers_before_it_takes_anything(net: Net) -> None:
    listener, where = net.listener()
    net.connect(net.socket(), where)
    room, length = net.rig.space(8), net.rig.put((8).to_bytes(4, "little"))
    for out, address, size in ((WILD, room, length), (64, WILD, length), (64, room, MEMORY_BYTES)):
        assert net.rig.call("net_accept", listener, out, address, size) is Errno.EFAULT
    net.rig.ok("net_accept", listener, 64, 0, 0, writes=[(64, 4)])


def test_net_accept_refusals(net: Net) -> None:
    listener, _ = net.listener()
    net.rig.ok("net_set_nonblock", listener, 1)
    assert net.rig.call("net_accept", listener, 64, 0, 0) is Errno.EAGAIN
    assert net.rig.call("net_accept", net.socket(), 64, 0, 0) is Errno.EINVAL
    assert net.rig.call("net_accept", net.socket(INET, DGRAM), 64, 0, 0) is Errno.ENOTSUP


@pytest.mark.parametrize(
    ("caps", "errno"),
    [
        ({"max_open_fds_per_process": 5}, Errno.EMFILE),
        ({"max_sockets": 2}, Errno.ENFILE),
        ({"max_connections": 1}, Errno.ENFILE),
    ],
    ids=str,
)
def test_net_accept_at_a_cap_leaves_the_connection_queued(boot_host: Boot, caps: dict[str, int], errno: Errno) -> None:
    net = Net(boot_host(vm={"limits": Limits.of(caps)}))
    listener, where = net.listener()
    client = net.socket()
    assert net.connect(client, where) is Errno.SUCCESS
    net.send(client, b"still there")
    assert net.rig.call("net_accept", listener, 64, 0, 0) is errno
    if errno is Errno.EMFILE:
        net.rig.vm.raise_limit(max_open_fds_per_process=9)
    else:
        net.rig.ok("net_close", client)
    server, _ = net.accept(listener)
    assert net.recv(server) == b"still there"


def test_net_accept_waits_and_a_signal_ends_that(net: Net) -> None:
    listener, where = net.listener()
    net.rig.ok("proc_sigaction", 10, 2, 0, 0, 0)
    with net.rig.waiting("net_accept", listener, 64, 0, 0) as made:
        net.rig.send_signal(10)
    assert made.result() is Errno.EINTR
    with net.rig.waiting("net_accept", listener, 64, 0, 0) as made:
        net.rig.vm.connect(int(where.rpartition(":")[2])).send(b"from the host")
    assert made.result() is Errno.SUCCESS
    assert net.recv(net.rig.number(64)) == b"from the host"


# -- net_connect ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("domain", "kind", "address", "errno"),
    [
        (INET, STREAM, "127.0.0.1:9", Errno.ECONNREFUSED),
        (INET6, STREAM, "[::1]:9", Errno.ECONNREFUSED),
        (INET, STREAM, "8.8.8.8:80", Errno.ENETUNREACH),
        (INET6, STREAM, "[2001:db8::1]:80", Errno.ENETUNREACH),
        (INET, STREAM, "[::1]:80", Errno.EAFNOSUPPORT),
        (UNIX, STREAM, "unix:/no", Errno.ENOENT),
        (UNIX, STREAM, "unix:/dev/null", Errno.ECONNREFUSED),
        (UNIX, STREAM, "unix-abstract:99", Errno.ECONNREFUSED),
        (UNIX, STREAM, "unix-unnamed", Errno.EINVAL),
        (UNIX, DGRAM, "unix:/no", Errno.ENOENT),
    ],
    ids=str,
)
def test_net_connect_to_nobody(net: Net, domain: int, kind: int, address: str, errno: Errno) -> None:
    fd = net.socket(domain, kind)
    assert net.connect(fd, address) is errno
    assert net.rig.vm.usage()["max_connections"].used == 0


def test_net_connect_refusals(net: Net) -> None:
    client, _ = net.connected()
    listener, where = net.listener()
    assert net.connect(client, where) is Errno.EISCONN
    assert net.connect(listener, where) is Errno.EISCONN
    _, packets = net.listener("unix-abstract:62", kind=SEQPACKET)
    assert net.connect(net.socket(UNIX), packets) is Errno.EPROTOTYPE
    assert net.connect(net.socket(UNIX, DGRAM), packets) is Errno.EPROTOTYPE


def test_net_connect_at_the_cap(boot_host: Boot) -> None:
    net = Net(boot_host(vm={"limits": Limits(max_connections=2)}))
    net.connected()
    _, where = net.listener()
    assert net.connect(net.socket(), where) is Errno.ENOBUFS


def test_net_connect_without_waiting_is_in_progress_and_then_done(net: Net) -> None:
    _, where = net.listener()
    fd = net.socket(INET, STREAM | NONBLOCK)
    assert net.connect(fd, where) is Errno.EINPROGRESS
    assert net.error(fd) is Errno.SUCCESS
    assert net.connect(fd, where) is Errno.SUCCESS
    assert net.connect(fd, where) is Errno.EISCONN


def test_net_connect_without_waiting_tells_a_refusal_once(net: Net) -> None:
    fd = net.socket(INET, STREAM | NONBLOCK)
    for _ in range(2):
        assert net.connect(fd, "127.0.0.1:9") is Errno.EINPROGRESS
        assert (net.error(fd), net.error(fd)) == (Errno.ECONNREFUSED, Errno.SUCCESS)
    assert net.connect(fd, "127.0.0.1:9") is Errno.EINPROGRESS
    assert net.connect(fd, "127.0.0.1:9") is Errno.ECONNREFUSED


def test_net_connect_to_a_full_backlog(net: Net) -> None:
    listener, where = net.listener(backlog=0)
    assert net.connect(net.socket(), where) is Errno.SUCCESS
    fd = net.socket(INET, STREAM | NONBLOCK)
    assert net.connect(fd, where) is Errno.EINPROGRESS
    assert net.connect(fd, where) is Errno.EALREADY
    net.accept(listener)
    assert net.connect(fd, where) is Errno.SUCCESS, "it moved up when there was room"
    blocking = net.socket()
    with net.rig.waiting("net_connect", blocking, *net.rig.text(where)) as made, net.rig.instance._context.lock:
        file = net.rig.process.fds.get(listener).file
        file.accept_nowait(0).on_last_close()  # type: ignore[attr-defined]
    assert made.result() is Errno.SUCCESS
    _, path = net.listener("unix:/home/s", backlog=0)
    assert net.connect(net.socket(UNIX), path) is Errno.SUCCESS
    assert net.connect(net.socket(UNIX, STREAM | NONBLOCK), path) is Errno.EAGAIN


def test_the_end_of_a_listener_refuses_those_in_line_and_resets_those_that_wait(net: Net) -> None:
    listener, where = net.listener(backlog=0)
    waiting, line = net.socket(), net.socket(INET, STREAM | NONBLOCK)
    assert (net.connect(waiting, where), net.connect(line, where)) == (Errno.SUCCESS, Errno.EINPROGRESS)
    net.rig.ok("net_close", listener)
    assert net.error(line) is Errno.ECONNREFUSED
    assert net.recv_errno(waiting) is Errno.ECONNRESET
    assert net.rig.vm.usage()["max_connections"].used == 1


def test_net_getpeername_of_what_is_not_connected(net: Net) -> None:
    for domain in (INET, UNIX):
        assert net.rig.call("net_getpeername", net.socket(domain), 64, 0) is Errno.ENOTCONN
    assert net.peer(net.pair()[0]) == "unix-unnamed"


def test_net_validate_accept_tells_who_listens(net: Net) -> None:
    listener, _ = net.listener()
    net.rig.ok("net_validate_accept", listener)
    net.rig.ok("net_validate_socket", listener)
    assert net.rig.call("net_validate_accept", net.socket()) is Errno.EINVAL
    assert net.rig.call("net_validate_accept", net.socket(INET, DGRAM)) is Errno.ENOTSUP


def test_a_process_without_the_root_has_no_paths(boot_host: Boot) -> None:
    net = Net(boot_host(preopens=("/tmp",)))
    assert net.bind(net.socket(UNIX), "unix:/tmp/s") is Errno.EACCES
    assert net.connect(net.socket(UNIX), "unix:/tmp/s") is Errno.EACCES
