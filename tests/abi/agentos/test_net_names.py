"""host_net: host names, and what is refused as there is nothing outside."""

import json

import pytest

from agentvm import Errno
from tests.abi.agentos.net_rig import Net
from tests.abi.rig import WILD, Rig

HOSTS = b"""# names
10.1.2.3  db db.example # a comment
::1 localhost ip6
127.0.0.1 localhost
not-an-address broken
"""


def _ask(host: Rig, name: str, family: int = 0, room: int = 300) -> list[tuple[str, int]]:
    out, length = host.space(room), host.put(room.to_bytes(4, "little"))
    text = host.text(name)
    host.ok("net_getaddrinfo", *text, 0, 0, family, out, length, writes=[(out, room), (length, 4)])
    found = json.loads(host.read(out, host.number(length)))
    return [(entry["addr"], entry["family"]) for entry in found]


def _refused(host: Rig, name: str, family: int = 0) -> Errno:
    return host.call(
        "net_getaddrinfo", *host.text(name), 0, 0, family, host.space(99), host.put((99).to_bytes(4, "little"))
    )


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("127.0.0.1", [("127.0.0.1", 4)]),
        ("93.184.216.34", [("93.184.216.34", 4)]),
        ("2001:DB8:0::1", [("2001:db8::1", 6)]),
        ("localhost", [("127.0.0.1", 4), ("::1", 6)]),
        ("LocalHost.", [("127.0.0.1", 4), ("::1", 6)]),
    ],
)
def test_net_getaddrinfo_knows_numbers_and_localhost(host: Rig, name: str, found: list[tuple[str, int]]) -> None:
    assert _ask(host, name) == found
    for family in (4, 6):
        expected = [entry for entry in found if entry[1] == family]
        if expected:
            assert _ask(host, name, family) == expected
        else:
            assert _refused(host, name, family) is Errno.ENOENT


def test_net_getaddrinfo_looks_into_etc_hosts(host: Rig) -> None:
    assert _refused(host, "db") is Errno.ENOENT
    host.vm.fs.write("/etc/hosts", HOSTS)
    assert _ask(host, "db") == _ask(host, "DB.example") == [("10.1.2.3", 4)]
    assert _ask(host, "localhost") == [("::1", 6), ("127.0.0.1", 4)]
    assert _refused(host, "broken") is Errno.ENOENT
    assert _refused(host, "comment") is Errno.ENOENT


def test_net_getaddrinfo_asks_nobody_outside(host: Rig) -> None:
    assert _refused(host, "example.com") is Errno.ENOENT
    assert _refused(host, "") is Errno.ENOENT
    assert _refused(host, "1.2.3") is Errno.ENOENT


def test_net_getaddrinfo_refusals(host: Rig) -> None:
    assert _refused(host, "localhost", 5) is Errno.EINVAL
    assert _refused(host, "x" * 256) is Errno.ENAMETOOLONG
    assert host.call("net_getaddrinfo", WILD, 9, 0, 0, 0, 64, 64) is Errno.EFAULT
    assert host.call("net_getaddrinfo", *host.text("::1"), 0, 0, 0, 64, WILD) is Errno.EFAULT


def test_net_getaddrinfo_says_how_much_room_it_needs(host: Rig) -> None:
    out, length = host.space(50), host.put((10).to_bytes(4, "little"))
    before = host.memory()
    errno = super(Rig, host).call("net_getaddrinfo", *host.text("::1"), 0, 0, 0, out, length)
    assert (errno, host.number(length)) == (Errno.ERANGE, len('[{"addr":"::1","family":6}]'))
    assert host.read(out, 50) == before[out : out + 50]


@pytest.mark.parametrize(
    ("name", "arguments"), [("net_tls_connect", (3, 64, 1)), ("net_dns_query_rr_v1", (64, 1, 12, 64, 4, 72, 76, 80))]
)
def test_what_lies_outside_is_refused(host: Rig, name: str, arguments: tuple[int, ...]) -> None:
    Net(host).socket()
    assert host.call(name, *arguments) is Errno.ENOTSUP
