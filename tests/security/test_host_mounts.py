"""Nothing leads out of a mounted host directory, hangs, or tells where it lies: with openat2 and without it.

The guest's side is the real path walker; the attacker's is the host's own filesystem, also while the guest walks.
"""

import os
import platform
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentvm.clock import ManualClock
from agentvm.errno import Errno, KernelError
from agentvm.host.beneath import DIRECTORY_FLAGS, NAME_FLAGS, Resolver
from agentvm.host.descriptors import HostFds
from agentvm.host.directory import HostDirectory
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.host.quota import HostQuota
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.catalogue import Limits
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.registry import Registry

SECRET = b"SECRET"
READ = {"read": True, "write": False, "flags": FdFlags(0)}


class Guest:
    """A VM whose /mnt is the directory `inside`; `outside` is next to it and must stay out of reach."""

    def __init__(self, base: Path, *, use_openat2: bool, read_only: bool = False) -> None:
        self.inside, self.outside = base / "inside", base / "outside"
        for path in (self.inside, self.outside, self.inside / "dir", self.outside / "dir"):
            path.mkdir()
        (self.inside / "file").write_bytes(b"inside")
        (self.inside / "dir" / "file").write_bytes(b"inside")
        for path in (self.outside / "file", self.outside / "dir" / "file", self.outside / "secret"):
            path.write_bytes(SECRET)
        self.use_openat2, self.read_only = use_openat2, read_only
        self.registry = Registry(Limits())
        self.fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 100))
        self.vfs = Vfs(self.registry, ManualClock())
        self.mounted: HostDirectoryNode | None = None

    def mount(self, path: Path | None = None) -> "Guest":
        described = HostDirectory(path or self.inside, read_only=self.read_only)
        quota = HostQuota.of(self.registry)
        self.mounted = described.open(dev=9, fds=self.fds, quota=quota, use_openat2=self.use_openat2)
        self.vfs.mkdir_at(self.vfs.root, b"/mnt", root=self.vfs.root, confined=False)
        self.vfs.mount(b"/mnt", self.mounted)
        return self

    @property
    def root(self) -> HostDirectoryNode:
        assert self.mounted is not None
        return self.mounted

    def read(self, path: bytes) -> bytes:
        """Read /mnt/`path` as a program that may go anywhere in the VM."""
        file = self.vfs.open_at(self.vfs.root, b"/mnt/" + path, root=self.vfs.root, confined=False)
        try:
            data = bytearray(100)
            return bytes(data[: file.read_nowait([memoryview(data)])])
        finally:
            file.on_last_close()

    def call(self, name: str, path: bytes, **more: object) -> object:
        return getattr(self.vfs, name)(self.vfs.root, b"/mnt/" + path, root=self.vfs.root, confined=False, **more)

    def close(self) -> None:
        self.root.close()
        assert self.fds.statistics().used == 0
        assert len(self.fds.inodes) == 0


@pytest.fixture(params=[True, False], ids=["openat2", "openat"])
def unmounted(request: pytest.FixtureRequest, tmp_path: Path) -> Guest:
    return Guest(tmp_path, use_openat2=request.param)


@pytest.fixture
def guest(unmounted: Guest) -> Iterator[Guest]:
    yield unmounted.mount()
    unmounted.close()


@pytest.fixture(params=[True, False], ids=["openat2", "openat"])
def frozen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guest]:
    guest = Guest(tmp_path, use_openat2=request.param, read_only=True).mount()
    yield guest
    guest.close()


def refused(*errnos: Errno) -> "pytest.RaisesExc[KernelError]":
    return pytest.raises(KernelError, check=lambda error: error.errno in errnos)


# -- links -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "target",
    [
        "../outside/secret",
        "../outside",
        "dir/../../outside/secret",
        "ABSOLUTE",
        "/proc/self/root",
        "/proc/self/cwd",
        "..",
    ],
)
def test_symlinks_are_followed_inside_the_vm_only(guest: Guest, target: str) -> None:
    (guest.inside / "link").symlink_to(target.replace("ABSOLUTE", str(guest.outside / "secret")))
    for path in (b"link", b"link/secret", b"link/outside/secret"):
        with refused(Errno.ENOENT, Errno.ENOTDIR, Errno.EISDIR, Errno.EACCES):
            assert guest.read(path) != SECRET
    with refused(Errno.EPERM, Errno.ENOENT, Errno.ENOTDIR, Errno.EISDIR):
        guest.vfs.open_at(guest.root, b"link/secret", root=None, confined=True)
    for act in (lambda: guest.root.lookup(b"link").open(**READ), lambda: guest.root.lookup(b"link").lookup(b"secret")):
        with refused(Errno.ELOOP, Errno.ENOTDIR):
            act()


def test_dot_dot_stops_at_the_mount_and_goes_on_in_the_vm(guest: Guest) -> None:
    assert guest.read(b"dir/../dir/../../mnt/file") == b"inside"
    with refused(Errno.ENOENT):
        guest.read(b"../outside/secret")
    with refused(Errno.EPERM):
        guest.vfs.open_at(guest.root, b"dir/../../outside/secret", root=None, confined=True)


def test_a_chain_and_a_loop_of_links(guest: Guest) -> None:
    (guest.inside / "a").symlink_to("dir/b")
    (guest.inside / "dir" / "b").symlink_to("../c")
    (guest.inside / "c").symlink_to("file")
    (guest.inside / "x").symlink_to("y")
    (guest.inside / "y").symlink_to("x")
    assert guest.read(b"a") == b"inside"
    with refused(Errno.ELOOP):
        guest.read(b"x")


def test_hard_links_are_made_between_names_of_the_mount_only(guest: Guest) -> None:
    (guest.inside / "out").symlink_to(guest.outside / "secret")
    guest.root.link(b"hard", guest.root.lookup(b"out"))
    assert (guest.inside / "hard").is_symlink(), "the link itself, not what it leads to"
    assert (guest.outside / "secret").stat().st_nlink == 1


def test_a_mounted_symlink_is_resolved_once(unmounted: Guest, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("inside")
    unmounted.mount(link)
    link.unlink()
    link.symlink_to("outside")
    assert unmounted.read(b"file") == b"inside"
    unmounted.inside.rename(tmp_path / "elsewhere")
    unmounted.outside.rename(unmounted.inside)
    assert unmounted.read(b"file") == b"inside"
    unmounted.close()


# -- races -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("swapped_in", ["dir", "file", "fifo"])
def test_a_directory_that_becomes_something_else_between_two_steps(guest: Guest, swapped_in: str) -> None:
    node = guest.root.lookup(b"dir")
    (guest.inside / "dir").rename(guest.inside / "old")
    if swapped_in == "fifo":
        os.mkfifo(guest.inside / "dir")
    else:
        (guest.inside / "dir").symlink_to(guest.outside / swapped_in)
    for act in (
        lambda: node.lookup(b"file"),
        lambda: node.find(b"file"),
        lambda: node.open(**READ),
        lambda: node.create(b"new", 0o644),
        lambda: node.unlink(b"file"),
        lambda: node.rename(b"file", guest.root, b"stolen"),
        lambda: list(node.entries(0)),
    ):
        with refused(Errno.ENOTDIR, Errno.ELOOP):
            act()
    assert not (guest.inside / "stolen").exists()
    assert sorted(os.listdir(guest.outside / "dir")) == ["file"]
    node.release()


def test_a_held_directory_is_itself_whatever_its_name_becomes(guest: Guest) -> None:
    opened = guest.root.lookup(b"dir").open(**READ)
    (guest.inside / "dir").rename(guest.inside / "old")
    (guest.inside / "dir").symlink_to(guest.outside / "dir")
    file = guest.vfs.open_at(opened.node, b"file", root=None, confined=True)
    data = bytearray(6)
    file.read_nowait([memoryview(data)])
    assert bytes(data) == b"inside"
    with refused(Errno.EPERM):
        guest.vfs.open_at(opened.node, b"../../outside/secret", root=None, confined=True)
    file.on_last_close()
    opened.on_last_close()


# Each pair of names is swapped in one step and back, renameat2(2) RENAME_EXCHANGE, until standard input ends.
SWAPPER = """
import ctypes, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
names = [os.fsencode(name) for name in sys.argv[1:]]
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    for _ in range(50):
        for other in names[1:] * 2:
            if libc.renameat2(-100, names[0], -100, other, 2):
                sys.exit(os.strerror(ctypes.get_errno()))
"""


@contextmanager
def swapping(*names: Path) -> Iterator[None]:
    """Swap the first of `names` with each other one over and over, in a process of its own: no lock holds it back."""
    command = [sys.executable, "-c", SWAPPER, *map(str, names)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield
        process.communicate()
        assert process.returncode == 0


def test_swapping_a_directory_for_a_link_during_walks(guest: Guest) -> None:
    (guest.inside / "trap").symlink_to(guest.outside / "dir")
    (guest.outside / "dir" / "secret").write_bytes(SECRET)
    met: set[Errno] = set()

    def create() -> None:
        opened = guest.call("open_at", b"dir/new", write=True, create=True)
        assert isinstance(opened, OpenFile)
        opened.write_nowait([memoryview(b"guest")])
        opened.on_last_close()

    def read() -> None:
        assert guest.read(b"dir/file") == b"inside"

    def listing() -> None:
        node = guest.root.lookup(b"dir")
        try:
            assert all(entry.name != b"secret" for entry in node.entries(0))
        finally:
            node.release()

    steps = (
        read,
        create,
        listing,
        lambda: guest.call("stat_at", b"dir/file"),
        lambda: guest.call("mkdir_at", b"dir/sub"),
        lambda: guest.call("symlink_at", b"dir/link", target=b"file"),
        lambda: guest.call("unlink_at", b"dir/new"),
        lambda: guest.call("unlink_at", b"dir/link"),
        lambda: guest.call("rmdir_at", b"dir/sub"),
        lambda: guest.call("unlink_at", b"dir/secret"),
    )
    with swapping(guest.inside / "dir", guest.inside / "trap"):
        for number in range(10_000):
            try:
                steps[number % len(steps)]()
            except KernelError as error:
                met.add(error.errno)
    # Where the walker met the link it went on inside the VM, where there is no such directory.
    assert met, "the swap was never met: the test shows nothing"
    assert met <= {Errno.ENOENT, Errno.ENOTDIR, Errno.ELOOP, Errno.EPERM, Errno.EEXIST}
    assert sorted(os.listdir(guest.outside / "dir")) == ["file", "secret"]
    assert (guest.outside / "dir" / "file").read_bytes() == SECRET


def test_swapping_a_file_for_a_link_or_a_fifo_during_opens(guest: Guest) -> None:
    (guest.inside / "trap").symlink_to(guest.outside / "secret")
    os.mkfifo(guest.inside / "fifo")
    met: set[Errno] = set()
    with swapping(guest.inside / "file", guest.inside / "trap", guest.inside / "fifo"):
        for number in range(5000):
            try:
                file = guest.root.lookup(b"file").open(read=True, write=bool(number % 2), flags=FdFlags(0))
            except KernelError as error:
                met.add(error.errno)
                continue
            data = bytearray(6)
            assert file.pread([memoryview(data)], 0) == 6
            assert bytes(data) == b"inside"
            file.on_last_close()
    assert met, "the swap was never met: the test shows nothing"
    assert met <= {Errno.ELOOP, Errno.EACCES, Errno.ENXIO, Errno.EBUSY}


# -- what is not to be opened ----------------------------------------------------------------------------------------
def test_a_fifo_is_never_opened(guest: Guest) -> None:
    os.mkfifo(guest.inside / "fifo")
    for read, write in ((True, False), (False, True), (True, True)):
        with refused(Errno.EACCES):
            guest.root.lookup(b"fifo").open(read=read, write=write, flags=FdFlags(0))
    with pytest.raises(OSError, match="No such device or address"):
        os.open(guest.inside / "fifo", os.O_WRONLY | os.O_NONBLOCK)
    with refused(Errno.EACCES):
        guest.read(b"fifo")
    with refused(Errno.EEXIST):
        guest.root.create(b"fifo", 0o644)
    guest.root.unlink(b"fifo")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK], ids=["character", "block"])
def test_a_device_is_seen_but_never_opened(guest: Guest, kind: int) -> None:
    try:
        os.mknod(guest.inside / "device", kind | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this container makes no devices")
    node = guest.root.lookup(b"device")
    expected = Filetype.CHARACTER_DEVICE if kind == stat.S_IFCHR else Filetype.BLOCK_DEVICE
    assert node.stat().filetype is expected
    for write in (False, True):
        with refused(Errno.EACCES):
            node.open(read=True, write=write, flags=FdFlags(0))
    node.release()


# -- read-only -------------------------------------------------------------------------------------------------------
def picture(path: Path) -> list[tuple[object, ...]]:
    seen = []
    for entry in [path, *sorted(path.rglob("*"))]:
        status = entry.lstat()
        seen.append((entry.name, status.st_mode, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return seen


def test_a_read_only_mount_refuses_every_change(frozen: Guest) -> None:
    root = frozen.root
    before = picture(frozen.inside)
    opened = root.open(**READ)
    reader = root.lookup(b"file").open(**READ)
    changes: dict[str, Callable[[], object]] = {
        "create": lambda: root.create(b"new", 0o644),
        "create over": lambda: root.create(b"file", 0o644),
        "mkdir": lambda: root.mkdir(b"new", 0o755),
        "symlink": lambda: root.symlink(b"new", b"file"),
        "link": lambda: root.link(b"new", root.lookup(b"file")),
        "unlink": lambda: root.unlink(b"file"),
        "unlink nothing": lambda: root.unlink(b"missing"),
        "rmdir": lambda: root.rmdir(b"dir"),
        "rename": lambda: root.rename(b"file", root, b"new"),
        "write": lambda: root.lookup(b"file").open(read=True, write=True, flags=FdFlags(0)),
        "append": lambda: root.lookup(b"file").open(read=False, write=True, flags=FdFlags.APPEND),
        "truncate": lambda: root.lookup(b"file").open(**READ, truncate=True),
        "times": lambda: root.lookup(b"file").set_times(1, 1),
        "times of a directory": lambda: root.lookup(b"dir").set_times(1, 1),
        "times of the root": lambda: root.set_times(1, 1),
        "times of an open file": lambda: reader.set_times(1, 1),
        "times of an open directory": lambda: opened.set_times(1, 1),
    }
    for name, change in changes.items():
        with refused(Errno.EROFS):
            change()
        assert picture(frozen.inside) == before, name
    for change in (
        lambda: reader.truncate(0),
        lambda: reader.allocate(0, 10),
        lambda: reader.write_nowait([memoryview(b"x")]),
        lambda: reader.pwrite([memoryview(b"x")], 0),
    ):
        with refused(Errno.EBADF, Errno.EINVAL):
            change()
    assert picture(frozen.inside) == before
    opened.on_last_close()
    reader.on_last_close()


def test_reading_a_read_only_mount_leaves_access_times_alone(frozen: Guest) -> None:
    old = 1_000_000_000
    for path in (frozen.inside / "file", frozen.inside / "dir"):
        os.utime(path, ns=(old, old))
    assert frozen.read(b"file") == b"inside"
    node = frozen.root.lookup(b"dir")
    assert len(list(node.entries(0))) == 3
    node.release()
    for path in (frozen.inside / "file", frozen.inside / "dir"):
        assert path.stat().st_atime_ns == old


# -- what the guest learns, what the host inherits -------------------------------------------------------------------
def test_no_refusal_tells_where_the_directory_lies(guest: Guest, tmp_path: Path) -> None:
    (guest.inside / "loop").symlink_to("loop")
    root = guest.root
    for act in (
        lambda: root.lookup(b"missing"),
        lambda: root.lookup(b"loop").open(**READ),
        lambda: root.mkdir(b"dir", 0o755),
        lambda: root.rmdir(b"dir"),
        lambda: root.unlink(b"dir"),
        lambda: root.rename(b"missing", root, b"dir"),
        lambda: root.create(b"n" * 300, 0o644),
        lambda: root.lookup(b"file").readlink(),
    ):
        with pytest.raises(KernelError) as raised:
            act()
        chain = (raised.value, raised.value.__cause__)
        assert str(tmp_path) not in repr(chain)
        assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_no_descriptor_of_a_mount_is_inherited(guest: Guest) -> None:
    before = set(os.listdir("/proc/self/fd"))
    file = guest.root.lookup(b"file").open(**READ)
    made = guest.root.create(b"made", 0o644)
    opened = guest.root.lookup(b"dir").open(**READ)
    entries = opened.entries(2)
    next(entries)
    mine = set(os.listdir("/proc/self/fd")) - before
    assert len(mine) >= 4
    assert not any(os.get_inheritable(int(number)) for number in mine if os.path.exists(f"/proc/self/fd/{number}"))
    file.on_last_close()
    made.release()
    opened.on_last_close()


def test_walks_of_any_depth_give_every_descriptor_back(guest: Guest) -> None:
    path = b"/".join([b"d"] * 60)
    for depth in range(1, 61):
        guest.call("mkdir_at", path[: 2 * depth - 1])
    guest.call("symlink_at", path + b"/up", target=b"../" * 60 + b"file")
    used = guest.fds.statistics().used
    assert guest.read(path + b"/up") == b"inside"
    with refused(Errno.ENOENT):
        guest.read(path + b"/missing/more")
    with refused(Errno.ENOTDIR):
        guest.read(path + b"/up/more")
    assert guest.fds.statistics().used == used
    assert guest.fds.statistics().peak <= used + 40


# -- the host's own wall ---------------------------------------------------------------------------------------------
def test_openat2_itself_refuses_to_leave(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc")
    (tmp_path / "in" / "real").mkdir()
    directory = os.open(tmp_path / "in", os.O_PATH)
    try:
        resolver = Resolver.probe(directory)
        release = tuple(int(part) for part in platform.release().split(".")[:2])
        if not resolver.uses_openat2:
            pytest.skip(f"Linux {release}, or a container, without openat2")
        for name in (b"..", b"../x", b"/etc", b"link/passwd", b"real/../.."):
            with pytest.raises(OSError, match=r"Invalid cross-device link|Too many levels"):
                resolver.open_at(directory, name, NAME_FLAGS)
        os.close(resolver.open_at(directory, b"real", DIRECTORY_FLAGS))
    finally:
        os.close(directory)


def test_both_ways_of_opening_refuse_links_alike(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "dirlink").symlink_to("/etc")
    directory = os.open(tmp_path, os.O_PATH)
    try:
        for resolver in (Resolver(use_openat2=False), Resolver.probe(directory)):
            with pytest.raises(OSError, match="Too many levels"):
                resolver.open_at(directory, b"link", os.O_RDONLY | NAME_FLAGS & ~os.O_PATH)
            with pytest.raises(OSError, match="Not a directory"):
                resolver.open_at(directory, b"dirlink", DIRECTORY_FLAGS)
    finally:
        os.close(directory)
