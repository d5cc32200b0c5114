"""host_user: ids and groups by the rules of credentials(7), terminals, and what /etc/passwd and /etc/group say."""

import pytest

from agentvm import AgentVM, Errno
from agentvm.kernel.accounts import MOST_BYTES
from agentvm.kernel.credentials import Credentials
from tests.abi.rig import WILD, Boot, Rig

KEEP = 0xFFFF_FFFF
#: Real, effective and saved: all different, and none is root's.
MIXED = Credentials(10, 20, 30, 40, 50, 60)
ROOT = Credentials.of(0, 0)


def ids(host: Rig, kind: str) -> tuple[int, ...]:
    out = [host.space(4) for _ in range(3)]
    host.ok(f"getres{kind}", *out, writes=[(place, 4) for place in out])
    return tuple(map(host.number, out))


def become(host: Rig, credentials: Credentials) -> None:
    host.process.credentials = credentials


def test_a_program_starts_as_the_default_user(host: Rig) -> None:
    assert [host.made(name) for name in ("getuid", "geteuid", "getgid", "getegid")] == [1000] * 4
    assert ids(host, "uid") == ids(host, "gid") == (1000, 1000, 1000)
    assert host.made("getgroups", 0, 0) == 0


def test_each_id_is_told_apart(host: Rig) -> None:
    become(host, MIXED)
    assert [host.made(name) for name in ("getuid", "geteuid", "getgid", "getegid")] == [10, 20, 40, 50]
    assert (ids(host, "uid"), ids(host, "gid")) == ((10, 20, 30), (40, 50, 60))


#: The call, its arguments, and what the user's ids are then; from 10, 20, 30 without privilege.
UNPRIVILEGED = [
    ("setuid", (10,), (10, 10, 30)),
    ("setuid", (30,), (10, 30, 30)),
    ("setuid", (20,), Errno.EPERM),  # neither the real nor the saved one
    ("setuid", (0,), Errno.EPERM),
    ("setuid", (KEEP,), Errno.EINVAL),
    ("seteuid", (10,), (10, 10, 30)),
    ("seteuid", (20,), (10, 20, 30)),
    ("seteuid", (30,), (10, 30, 30)),
    ("seteuid", (40,), Errno.EPERM),
    ("seteuid", (KEEP,), Errno.EINVAL),
    ("setreuid", (KEEP, KEEP), (10, 20, 30)),
    ("setreuid", (20, KEEP), (20, 20, 20)),  # a real id that is set takes the saved one along
    ("setreuid", (KEEP, 10), (10, 10, 30)),
    ("setreuid", (KEEP, 30), (10, 30, 30)),
    ("setreuid", (20, 10), (20, 10, 10)),
    ("setreuid", (30, KEEP), Errno.EPERM),  # the saved one is none for the real one
    ("setreuid", (KEEP, 40), Errno.EPERM),
    ("setresuid", (30, 10, 20), (30, 10, 20)),
    ("setresuid", (KEEP, 30, KEEP), (10, 30, 30)),
    ("setresuid", (KEEP, KEEP, KEEP), (10, 20, 30)),
    ("setresuid", (10, 20, 40), Errno.EPERM),
]
PRIVILEGED = [
    ("setuid", (7,), (7, 7, 7)),
    ("seteuid", (7,), (0, 7, 0)),
    ("setreuid", (7, KEEP), (7, 0, 0)),
    ("setreuid", (KEEP, 7), (0, 7, 7)),
    ("setreuid", (7, 8), (7, 8, 8)),
    ("setresuid", (1, 2, 3), (1, 2, 3)),
    ("setresuid", (KEEP, 2, KEEP), (0, 2, 0)),
    ("setuid", (KEEP,), Errno.EINVAL),
]


@pytest.mark.parametrize("kind", ["uid", "gid"])
@pytest.mark.parametrize(
    ("start", "name", "arguments", "expected"),
    [(MIXED, *row) for row in UNPRIVILEGED] + [(ROOT, *row) for row in PRIVILEGED],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else getattr(value, "name", None),
)
def test_ids_change_by_the_rules(
    host: Rig,
    kind: str,
    start: Credentials,
    name: str,
    arguments: tuple[int, ...],
    expected: tuple[int, ...] | Errno,
) -> None:
    if kind == "gid" and start is MIXED:  # the same rules for the group's three ids
        start = Credentials(40, 50, 60, 10, 20, 30)
    become(host, start)
    before = ids(host, kind)
    found = host.call(name.replace("uid", kind), *arguments)
    if isinstance(expected, Errno):
        assert (found, ids(host, kind)) == (expected, before)
    else:
        assert (found, ids(host, kind)) == (Errno.SUCCESS, expected)


def test_root_that_has_become_another_user_for_good_is_root_no_more(host: Rig) -> None:
    become(host, ROOT)
    host.ok("setuid", 5)
    assert host.call("setuid", 0) is Errno.EPERM
    assert host.call("setgid", 5) is Errno.EPERM
    assert host.call("setgroups", 0, 0) is Errno.EPERM


def test_root_that_acts_as_another_user_comes_back(host: Rig) -> None:
    become(host, ROOT)
    host.ok("seteuid", 5)
    assert host.call("setgid", 5) is Errno.EPERM
    host.ok("seteuid", 0)
    host.ok("setgid", 5)


def test_groups_are_set_by_root_and_kept(host: Rig) -> None:
    become(host, ROOT)
    numbers = host.put(b"".join(number.to_bytes(4, "little") for number in range(7, 71)))
    host.ok("setgroups", 64, numbers)
    assert host.made("getgroups", 0, 0) == 64
    out, count = host.space(64 * 4), host.space(4)
    host.ok("getgroups", 64, out, count, writes=[(out, 256), (count, 4)])
    assert host.read(out, 256) == host.read(numbers, 256)
    assert host.call("getgroups", 63, out, count) is Errno.EINVAL
    assert host.call("getgroups", KEEP, out, count) is Errno.EINVAL
    assert host.call("getgroups", 64, WILD, count) is Errno.EFAULT
    host.ok("setgroups", 0, 0)
    assert host.made("getgroups", 0, 0) == 0


def test_groups_are_refused(host: Rig) -> None:
    numbers = host.space(4 * 65)
    assert host.call("setgroups", 1, numbers) is Errno.EPERM
    become(host, ROOT)
    assert host.call("setgroups", 65, numbers) is Errno.EINVAL
    assert host.call("setgroups", 2, WILD) is Errno.EFAULT
    assert host.process.credentials.groups == ()


def test_isatty(boot_host: Boot) -> None:
    host = boot_host(stdin=None, capture=False)
    assert [host.made("isatty", fd) for fd in (0, 1, 2)] == [0, 0, 0]
    assert host.made("isatty", host.open("dev/null")) == 0
    assert host.call("isatty", 99, host.space(4)) is Errno.EBADF


# -- /etc/passwd and /etc/group ----------------------------------------------------------------------------------------
def line(host: Rig, name: str, *arguments: int, room: int = 200) -> bytes:
    out, length = host.space(room), host.space(4)
    host.ok(name, *arguments, out, room, length, writes=[(out, room), (length, 4)])
    return host.read(out, host.number(length))


def test_the_users_and_groups_that_every_vm_starts_with(host: Rig) -> None:
    root, user = b"root:x:0:0:root:/:/bin/sh", b"user:x:1000:1000::/home/user:/bin/sh"
    assert (line(host, "getpwuid", 0), line(host, "getpwuid", 1000)) == (root, user)
    assert (line(host, "getpwnam", *host.text("root")), line(host, "getpwnam", *host.text("user"))) == (root, user)
    assert (line(host, "getpwent", 0), line(host, "getpwent", 1)) == (root, user)
    assert (line(host, "getgrgid", 1000), line(host, "getgrnam", *host.text("root"))) == (b"user:x:1000:", b"root:x:0:")
    assert line(host, "getgrent", 0) == b"root:x:0:"
    assert host.vm.fs.stat("/home/user").filetype.name == "DIRECTORY"


def test_an_enumeration_ends_with_enoent(host: Rig) -> None:
    for name in ("getpwent", "getgrent"):
        assert host.call(name, 3, host.space(99), 99, host.space(4)) is Errno.ENOENT
        assert host.call(name, 0xFFFF_FFFF, host.space(99), 99, host.space(4)) is Errno.ENOENT


@pytest.mark.parametrize("kind", ["pw", "gr"])
def test_who_is_not_listed_is_enoent(host: Rig, kind: str) -> None:
    number = "getpwuid" if kind == "pw" else "getgrgid"
    assert host.call(number, 4711, host.space(99), 99, host.space(4)) is Errno.ENOENT
    assert host.call(f"get{kind}nam", *host.text("us"), host.space(99), 99, host.space(4)) is Errno.ENOENT


def test_a_short_buffer_is_erange_with_the_length_that_is_needed(host: Rig) -> None:
    line_there = b"root:x:0:0:root:/:/bin/sh"
    out, length = host.space(99), host.space(4)
    before = host.memory()
    errno = super(Rig, host).call("getpwuid", 0, out, len(line_there) - 1, length)
    assert (errno, host.number(length)) == (Errno.ERANGE, len(line_there))
    after = bytearray(host.memory())
    after[length : length + 4] = before[length : length + 4]
    assert bytes(after) == before
    host.ok("getpwuid", 0, out, len(line_there), length)
    assert host.read(out, len(line_there)) == line_there


def test_bad_pointers_are_efault(host: Rig) -> None:
    assert host.call("getpwuid", 0, WILD, 99, host.space(4)) is Errno.EFAULT
    assert host.call("getpwuid", 0, host.space(99), 99, WILD) is Errno.EFAULT
    assert host.call("getpwnam", WILD, 9, host.space(99), 99, host.space(4)) is Errno.EFAULT


def test_what_the_files_say_now_holds(host: Rig) -> None:
    host.vm.fs.write("/etc/passwd", b"# none\nshort:x:1\n:x:2:2:::\nbad:x:-3:0:::\nann:x:7:8:Ann,,:/a:/bin/x")
    assert line(host, "getpwent", 0) == b"ann:x:7:8:Ann,,:/a:/bin/x"
    assert host.call("getpwuid", 1000, host.space(99), 99, host.space(4)) is Errno.ENOENT
    host.vm.fs.write("/etc/group", b"many:x:7:ann,bob,root\n")
    assert line(host, "getgrgid", 7) == b"many:x:7:ann,bob,root"
    host.vm.fs.remove("/etc/group")
    assert host.call("getgrgid", 7, host.space(99), 99, host.space(4)) is Errno.ENOENT
    host.vm.fs.mkdir("/etc/group")
    assert host.call("getgrgid", 7, host.space(99), 99, host.space(4)) is Errno.ENOENT


def test_a_file_without_end_costs_no_more_than_its_first_part(host: Rig) -> None:
    host.vm.fs.write("/etc/passwd", b"x" * (MOST_BYTES - 20) + b"\nann:x:7:8:::\nbob:x:8:8:::\n")
    assert line(host, "getpwuid", 7) == b"ann:x:7:8:::"
    assert host.call("getpwuid", 8, host.space(99), 99, host.space(4)) is Errno.ENOENT
    host.ok("path_filestat_get", host.root, 0, *host.text("etc/passwd"), host.space(64))


def test_one_vms_users_are_not_another_ones() -> None:
    with AgentVM() as one, AgentVM() as other:
        one.fs.write("/etc/passwd", b"x", append=True)
        assert one.fs.read("/etc/passwd") == other.fs.read("/etc/passwd") + b"x"
