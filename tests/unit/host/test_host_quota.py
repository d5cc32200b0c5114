"""What guests may cost on the host's disk: net growth, to the byte, given back when it is really gone."""

import os
import random
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from host_rig import FILE, READ, Host

from agentvm.errno import Errno, KernelError
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.host.host_files import HostFile
from agentvm.kernel.stat import FdFlags, Whence

MakeHost = Callable[..., Host]


def refused(errno: Errno, limit: str | None = None) -> "pytest.RaisesExc[KernelError]":
    return pytest.raises(KernelError, check=lambda error: error.errno is errno and error.limit == limit)


def open_new(root: HostDirectoryNode, name: bytes = b"f", flags: FdFlags = FdFlags(0)) -> HostFile:
    node = root.create(name, 0o644)
    try:
        return node.open(read=True, write=True, flags=flags)
    finally:
        node.release()


def data(size: int) -> list[memoryview]:
    return [memoryview(bytes(size))]


def test_only_growth_is_charged(make_host: MakeHost) -> None:
    host = make_host(max_host_write_bytes=1000)
    root = host.mount()
    file = open_new(root)
    file.write_nowait(data(300))
    file.pwrite(data(300), 0)
    assert host.used() == 300
    file.pwrite(data(10), 295)
    assert host.used() == 305
    file.pwrite(data(5), 400)
    assert host.used() == 405, "a hole that the guest makes costs as much as data"
    file.truncate(100)
    assert host.used() == 100
    file.truncate(500)
    assert host.used() == 500
    file.allocate(450, 100)
    file.allocate(0, 10)
    assert host.used() == 550
    file.on_last_close()
    assert host.used() == 550
    root.unlink(b"f")
    assert host.used() == 0


@pytest.mark.parametrize("append", [False, True])
def test_a_write_past_the_cap_reports_what_fitted_then_enospc(make_host: MakeHost, append: bool) -> None:
    host = make_host(max_host_write_bytes=100)
    root = host.mount()
    file = open_new(root, flags=FdFlags.APPEND if append else FdFlags(0))
    assert file.write_nowait([memoryview(bytes(30)), memoryview(bytes(80))]) == 100
    with refused(Errno.ENOSPC, "max_host_write_bytes"):
        file.write_nowait(data(1))
    assert (host.path / "f").stat().st_size == 100
    assert host.used() == 100
    file.on_last_close()


def test_what_lies_within_the_file_is_written_also_when_nothing_may_grow(make_host: MakeHost) -> None:
    host = make_host(max_host_write_bytes=10)
    (host.path / "f").write_bytes(bytes(50))
    root = host.mount()
    file = root.lookup(b"f").open(**FILE)
    assert file.pwrite(data(30), 40) == 20
    assert file.pwrite(data(30), 45) == 15
    with refused(Errno.ENOSPC, "max_host_write_bytes"):
        file.pwrite(data(1), 60)
    with refused(Errno.ENOSPC, "max_host_write_bytes"):
        file.truncate(61)
    with refused(Errno.ENOSPC, "max_host_write_bytes"):
        file.allocate(0, 61)
    assert (host.path / "f").stat().st_size == 60
    assert host.used() == 10
    file.on_last_close()


def test_a_hole_needs_room_before_the_first_byte_behind_it(make_host: MakeHost) -> None:
    host = make_host(max_host_write_bytes=100)
    root = host.mount()
    file = open_new(root)
    with refused(Errno.ENOSPC, "max_host_write_bytes"):
        file.pwrite(data(5), 100)
    assert host.used() == 0
    assert file.pwrite(data(5), 98) == 2
    assert host.used() == 100
    file.on_last_close()


def test_file_size_ceiling_cuts_then_refuses(make_host: MakeHost) -> None:
    host = make_host(max_file_bytes=100)
    root = host.mount()
    for flags in (FdFlags(0), FdFlags.APPEND):
        file = open_new(root, flags=flags)
        assert file.write_nowait(data(150)) == 100
        for act in (
            lambda: file.write_nowait(data(1)),  # noqa: B023 - called at once
            lambda: file.truncate(101),  # noqa: B023
            lambda: file.allocate(100, 1),  # noqa: B023
        ):
            with refused(Errno.EFBIG, "max_file_bytes"):
                act()
        assert (host.path / "f").stat().st_size == 100
        file.on_last_close()
        root.unlink(b"f")
    assert host.used() == 0


def test_one_call_moves_at_most_max_io_bytes(make_host: MakeHost) -> None:
    host = make_host(max_io_bytes=64)
    root = host.mount()
    file = open_new(root)
    assert file.write_nowait([memoryview(bytes(40)), memoryview(bytes(40))]) == 64
    assert file.pwrite(data(65), 0) == 64
    file.seek(0, Whence.SET)
    assert file.read_nowait([memoryview(bytearray(99))]) == 64
    assert file.pread([memoryview(bytearray(33)), memoryview(bytearray(33))], 0) == 64
    assert host.registry.ceiling("max_io_bytes").refused == 4
    file.on_last_close()


def test_names_are_charged_and_given_back(make_host: MakeHost) -> None:
    host = make_host(max_host_inodes=4)
    root = host.mount()
    root.create(b"file", 0o644).release()
    root.mkdir(b"dir", 0o755)
    root.symlink(b"link", b"file")
    root.link(b"hard", root.lookup(b"file"))
    for act in (
        lambda: root.create(b"x", 0o644),
        lambda: root.mkdir(b"x", 0o755),
        lambda: root.symlink(b"x", b"t"),
        lambda: root.link(b"x", root.lookup(b"file")),
    ):
        with refused(Errno.ENOSPC, "max_host_inodes"):
            act()
    assert sorted(os.listdir(host.path)) == ["dir", "file", "hard", "link"]
    root.rename(b"hard", root, b"file")  # two names of one file: nothing happens
    assert host.used("max_host_inodes") == 4
    root.rename(b"link", root, b"hard")
    assert host.used("max_host_inodes") == 3
    root.unlink(b"file")
    root.unlink(b"hard")
    root.rmdir(b"dir")
    assert host.used("max_host_inodes") == 0


def test_what_fails_costs_nothing(make_host: MakeHost) -> None:
    host = make_host()
    (host.path / "taken").mkdir()
    (host.path / "taken" / "x").write_bytes(b"")
    root = host.mount()
    for act in (
        lambda: root.create(b"taken", 0o644),
        lambda: root.mkdir(b"taken", 0o755),
        lambda: root.symlink(b"taken", b"t"),
        lambda: root.link(b"taken", root.lookup(b"taken").lookup(b"x")),
        lambda: root.unlink(b"taken"),
        lambda: root.rmdir(b"taken"),
        lambda: root.unlink(b"missing"),
    ):
        with pytest.raises(KernelError):
            act()
    assert host.used("max_host_inodes") == 0
    root.create(b"f", 0o644).release()
    with pytest.raises(KernelError):
        root.rmdir(b"taken")
    assert host.used("max_host_inodes") == 1


def test_removing_the_operators_files_never_goes_below_zero(make_host: MakeHost) -> None:
    host = make_host(max_host_write_bytes=100)
    (host.path / "theirs").write_bytes(bytes(5000))
    root = host.mount()
    root.unlink(b"theirs")
    assert (host.used(), host.used("max_host_inodes")) == (0, 0)
    file = open_new(root)
    assert file.write_nowait(data(200)) == 100
    file.on_last_close()


def test_truncating_on_open_gives_back(make_host: MakeHost) -> None:
    host = make_host()
    root = host.mount()
    file = open_new(root)
    file.write_nowait(data(70))
    file.on_last_close()
    root.lookup(b"f").open(**FILE, truncate=True).on_last_close()
    assert host.used() == 0


def test_an_unlinked_file_costs_until_its_last_close(make_host: MakeHost) -> None:
    host = make_host(max_host_write_bytes=100)
    root = host.mount()
    first = open_new(root)
    second = root.lookup(b"f").open(**READ)
    first.write_nowait(data(80))
    root.unlink(b"f")
    assert (host.used(), host.used("max_host_inodes")) == (80, 0)
    third = open_new(root)
    assert third.write_nowait(data(80)) == 20, "or a guest could fill the disk with files that have no name"
    first.on_last_close()
    assert host.used() == 100
    second.on_last_close()
    assert host.used() == 20
    third.on_last_close()


def test_a_file_with_another_name_is_not_gone(make_host: MakeHost) -> None:
    host = make_host()
    root = host.mount()
    file = open_new(root)
    file.write_nowait(data(80))
    file.on_last_close()
    root.link(b"g", root.lookup(b"f"))
    root.unlink(b"f")
    assert host.used() == 80
    root.unlink(b"g")
    assert host.used() == 0


@pytest.mark.parametrize("is_open", [False, True])
def test_a_file_that_a_rename_replaced_is_given_back(make_host: MakeHost, is_open: bool) -> None:
    host = make_host()
    root = host.mount()
    for name, size in ((b"old", 80), (b"new", 5)):
        file = open_new(root, name)
        file.write_nowait(data(size))
        file.on_last_close()
    held = root.lookup(b"old").open(**READ) if is_open else None
    root.rename(b"new", root, b"old")
    assert host.used() == (85 if held else 5)
    if held:
        held.on_last_close()
    assert (host.used(), host.used("max_host_inodes")) == (5, 1)


def test_a_created_file_that_is_removed_before_it_is_opened(make_host: MakeHost) -> None:
    host = make_host()
    root = host.mount()
    node = root.create(b"f", 0o644)
    root.unlink(b"f")
    file = node.open(**FILE)
    file.write_nowait(data(9))
    node.release()
    file.on_last_close()
    assert (host.used(), host.used("max_host_inodes")) == (0, 0)


def test_a_file_that_another_vm_holds_is_not_given_back_twice(make_host: MakeHost) -> None:
    writer, reader = make_host(), make_host()
    mine, theirs = writer.mount(), reader.mount()
    file = open_new(mine)
    file.write_nowait(data(50))
    file.on_last_close()
    own = open_new(theirs, b"own")
    own.write_nowait(data(70))
    held = theirs.lookup(b"f").open(**READ)
    mine.unlink(b"f")
    assert (writer.used(), reader.used()) == (50, 70)
    held.on_last_close()
    own.on_last_close()
    assert writer.used() + reader.used() == 70


@contextmanager
def host_file_limit(size: int) -> Iterator[None]:
    """Let the host itself refuse files beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("flags", [FdFlags(0), FdFlags.APPEND])
def test_what_the_host_refuses_costs_nothing(make_host: MakeHost, flags: FdFlags) -> None:
    host = make_host()
    root = host.mount()
    file = open_new(root, flags=flags)
    with host_file_limit(4096):
        assert file.write_nowait(data(5000)) == 4096
        assert host.used() == 4096
        for act in (
            lambda: file.write_nowait(data(1)),
            lambda: file.pwrite(data(100), 5000),
            lambda: file.truncate(4097),
            lambda: file.allocate(4000, 97),
        ):
            with refused(Errno.EFBIG):
                act()
    assert host.used() == 4096 == (host.path / "f").stat().st_size
    file.on_last_close()


def test_vms_that_share_a_directory_never_have_more_on_disk_than_is_charged(make_host: MakeHost) -> None:
    hosts = [make_host(max_host_write_bytes=20_000, max_host_inodes=8) for _ in range(3)]
    errors: list[BaseException] = []

    def work(host: Host, seed: int) -> None:
        choose = random.Random(seed)
        root = host.mount()
        held: list[HostFile] = []
        try:
            for _ in range(500):
                name = b"%d" % choose.randrange(4)
                errno = outcome(lambda: _act(root, name, held, choose))  # noqa: B023 - called at once
                assert errno in (None, Errno.ENOSPC, Errno.ENOENT, Errno.EEXIST, Errno.EBUSY)
                assert 0 <= host.used() <= 20_000
        except BaseException as error:
            errors.append(error)
        finally:
            for file in held:
                file.on_last_close()

    threads = [threading.Thread(target=work, args=(host, seed)) for seed, host in enumerate(hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert size_of(hosts[0].path) <= sum(host.used() for host in hosts)


def test_two_vms_that_truncate_one_file_at_once_give_it_back_once(make_host: MakeHost) -> None:
    hosts = [make_host() for _ in range(2)]
    files = []
    for number, host in enumerate(hosts):
        own = open_new(host.mount(), b"own-%d" % number)
        own.truncate(1_000_000)
        own.on_last_close()
    open_new(hosts[0].roots[0]).on_last_close()
    files = [host.roots[0].lookup(b"f").open(**FILE) for host in hosts]
    turn = threading.Barrier(3)

    def shrink(file: HostFile) -> None:
        for _ in range(300):
            turn.wait()
            file.truncate(0)
            turn.wait()

    threads = [threading.Thread(target=shrink, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for _ in range(300):
        files[0].pwrite(data(1000), 0)
        turn.wait()
        turn.wait()
    for thread in threads:
        thread.join()
    assert sum(host.used() for host in hosts) == 2_000_000
    for file in files:
        file.on_last_close()


def outcome(act: Callable[[], None]) -> Errno | None:
    try:
        act()
    except KernelError as error:
        return error.errno
    return None


def _act(root: HostDirectoryNode, name: bytes, held: list[HostFile], choose: random.Random) -> None:
    match choose.randrange(7):
        case 0:
            held.append(open_new(root, name))
        case 1:
            held.append(root.lookup(name).open(**FILE))
        case 2:
            root.unlink(name)
        case 3:
            root.rename(name, root, b"%d" % choose.randrange(4))
        case 4 | 5 if held:
            choose.choice(held).pwrite(data(choose.randrange(1, 4000)), choose.randrange(9000))
        case 6 if held:
            choose.choice(held).truncate(choose.randrange(9000))
    if len(held) > 5:
        held.pop(choose.randrange(len(held))).on_last_close()


def size_of(path: Path) -> int:
    return sum(entry.stat().st_size for entry in path.iterdir())
