"""preview1 calls on paths."""

import struct
from pathlib import Path

import pytest

from agentvm import AgentVM, Errno, HostDirectory, Limits
from agentvm.abi.rights import DIRECTORY_BASE, DIRECTORY_INHERITING, FILE_BASE, Rights
from agentvm.kernel.stat import Filetype
from tests.abi.rig import CREAT, DIRECTORY, EXCL, TRUNC, Boot, Rig

FOLLOW = 1
READ = int(Rights.FD_READ)
WRITE = int(Rights.FD_WRITE)
APPEND, SYNC = 1, 16


def _open(
    rig: Rig,
    path: str,
    oflags: int = 0,
    rights: int = READ,
    inheriting: int = 0,
    fdflags: int = 0,
    *,
    base: int = 3,
    follow: int = FOLLOW,
) -> Errno:
    return rig.call("path_open", base, follow, *rig.text(path), oflags, rights, inheriting, fdflags, 64)


def _stat(rig: Rig, path: str, flags: int = 0, base: int = 3) -> dict[str, int]:
    rig.ok("path_filestat_get", base, flags, *rig.text(path), 128, writes=[(128, 64)])
    names = ("dev", "ino", "filetype", "nlink", "size", "atim", "mtim", "ctim")
    return dict(zip(names, struct.unpack("<QQB7xQQQQQ", rig.read(128, 64)), strict=True))


def _symlink(rig: Rig, target: str, path: str, base: int = 3) -> None:
    rig.ok("path_symlink", *rig.text(target), base, *rig.text(path), writes=[])


def _one_path_calls(rig: Rig, path: tuple[int, int], base: int = 3) -> dict[str, tuple[int, ...]]:
    """Every call on one path, with the rest of its arguments."""
    return {
        "path_open": (base, 0, *path, 0, READ, 0, 0, 64),
        "path_filestat_get": (base, 0, *path, 64),
        "path_filestat_set_times": (base, 0, *path, 1, 2, 5),
        "path_create_directory": (base, *path),
        "path_remove_directory": (base, *path),
        "path_unlink_file": (base, *path),
        "path_readlink": (base, *path, 128, 10, 64),
        "path_symlink": (*rig.text("target"), base, *path),
        "path_link": (base, 0, *path, base, *rig.text("new")),
        "path_rename": (base, *path, base, *rig.text("new")),
    }


ONE_PATH_CALLS = [
    "path_open",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_create_directory",
    "path_remove_directory",
    "path_unlink_file",
    "path_readlink",
    "path_symlink",
    "path_link",
    "path_rename",
]


# -- what all of them refuse ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("call", ONE_PATH_CALLS)
@pytest.mark.parametrize(
    ("path", "errno"),
    [
        (b"", Errno.ENOENT),
        (b"/tmp", Errno.EPERM),
        (b"../tmp", Errno.EPERM),
        (b"tmp/../../tmp", Errno.EPERM),
        (b"missing/name", Errno.ENOENT),
        (b"file/name", Errno.ENOTDIR),
        (b"a\0b", Errno.EINVAL),
        (b"\xff", Errno.EILSEQ),
        (b"n" * 256, Errno.ENAMETOOLONG),
        (b"d/" * 2100, Errno.ENAMETOOLONG),
        (b"loop/name", Errno.ELOOP),
    ],
    ids=lambda value: value.name if isinstance(value, Errno) else str(value[:12]),
)
def test_every_path_call_refuses_bad_paths(rig: Rig, call: str, path: bytes, errno: Errno) -> None:
    rig.vm.fs.write("/file", b"")
    _symlink(rig, "loop", "loop")
    before = sorted(rig.vm.fs.listdir("/"))
    assert rig.call(call, *_one_path_calls(rig, (rig.put(path), len(path)))[call]) is errno
    assert sorted(rig.vm.fs.listdir("/")) == before


@pytest.mark.parametrize("call", ONE_PATH_CALLS)
def test_every_path_call_refuses_what_is_no_directory(rig: Rig, call: str) -> None:
    fd = rig.create("/tmp/a")
    for base in (0, fd):
        assert rig.call(call, *_one_path_calls(rig, rig.text("x"), base)[call]) is Errno.ENOTDIR


@pytest.mark.parametrize(
    "call", ["path_open", "path_create_directory", "path_unlink_file", "path_symlink", "path_rename"]
)
def test_every_changing_call_refuses_a_read_only_mount(boot: Boot, tmp_path: Path, call: str) -> None:
    (tmp_path / "x").write_bytes(b"")
    rig = boot(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path, read_only=True)))
    base = rig.open_dir("mnt")
    name = "x" if call in ("path_unlink_file", "path_rename") else "new"
    arguments = list(_one_path_calls(rig, rig.text(name), base)[call])
    if call == "path_open":
        arguments[4] = CREAT
    assert rig.call(call, *arguments) is Errno.EROFS
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# -- path_open --------------------------------------------------------------------------------------------------------
def test_path_open_returns_the_lowest_free_number(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"12345")
    path = rig.text("file")
    rig.ok("path_open", 3, 0, *path, 0, READ, 0, 0, 64, writes=[(64, 4)])
    assert rig.number(64) == 4
    assert rig.trace == [
        f"path_open(fd=3, dirflags=0, path={path[0]}, path_len=4, oflags=0, fs_rights_base=2, fs_rights_inheriting=0, "
        "fdflags=0, result=64) -> OK"
    ]


@pytest.mark.parametrize(
    ("oflags", "there", "errno"),
    [
        (0, False, Errno.ENOENT),
        (CREAT, False, Errno.SUCCESS),
        (CREAT, True, Errno.SUCCESS),
        (CREAT | EXCL, False, Errno.SUCCESS),
        (CREAT | EXCL, True, Errno.EEXIST),
        (EXCL, True, Errno.SUCCESS),
        (TRUNC, False, Errno.ENOENT),
        (TRUNC, True, Errno.SUCCESS),
        (DIRECTORY, True, Errno.ENOTDIR),
        (CREAT | DIRECTORY, False, Errno.EINVAL),
    ],
)
def test_path_open_of_a_file(rig: Rig, oflags: int, there: bool, errno: Errno) -> None:
    if there:
        rig.vm.fs.write("/file", b"12345")
    assert _open(rig, "file", oflags, READ | WRITE) is errno
    assert rig.vm.fs.exists("/file") == (there or errno is Errno.SUCCESS)
    if there:
        assert rig.vm.fs.read("/file") == (b"" if oflags & TRUNC else b"12345")


def test_path_open_of_a_directory(rig: Rig) -> None:
    assert _open(rig, "tmp", DIRECTORY, DIRECTORY_BASE) is Errno.SUCCESS
    assert _open(rig, "tmp", 0, DIRECTORY_BASE) is Errno.SUCCESS
    assert _open(rig, "tmp", 0, READ | WRITE) is Errno.EISDIR
    assert _open(rig, "tmp", CREAT, READ) is Errno.EISDIR
    assert _open(rig, ".", DIRECTORY, DIRECTORY_BASE) is Errno.SUCCESS


@pytest.mark.parametrize(("dirflags", "oflags", "fdflags"), [(2, 0, 0), (0, 16, 0), (0, 0, 32), (0, 0, 1 << 31)])
def test_path_open_of_unknown_bits_is_einval(rig: Rig, dirflags: int, oflags: int, fdflags: int) -> None:
    rig.vm.fs.write("/file", b"")
    assert _open(rig, "file", oflags, fdflags=fdflags, follow=dirflags) is Errno.EINVAL


def test_path_open_keeps_the_flags(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"123")
    fd = rig.open("file", fdflags=APPEND | SYNC)
    rig.ok("fd_fdstat_get", fd, 64)
    assert rig.number(66, 2) == APPEND | SYNC
    rig.write(fd, b"4")
    assert rig.vm.fs.read("/file") == b"1234"


def test_path_open_of_a_symlink_that_is_not_followed_is_eloop(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"123")
    _symlink(rig, "file", "link")
    assert _open(rig, "link", follow=0) is Errno.ELOOP
    assert _open(rig, "link") is Errno.SUCCESS
    _symlink(rig, "missing", "dangling")
    assert _open(rig, "dangling") is Errno.ENOENT
    assert _open(rig, "dangling", CREAT, WRITE) is Errno.SUCCESS
    assert rig.vm.fs.exists("/missing")


def test_path_open_gives_the_asked_rights_that_make_sense(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"")
    everything = (1 << 64) - 1
    assert rig.rights(rig.open("file", rights=everything, inheriting=everything)) == (FILE_BASE, DIRECTORY_INHERITING)
    assert rig.rights(rig.open("file", rights=READ)) == (READ, 0)
    directory = rig.open("tmp", DIRECTORY, everything & ~WRITE, READ)
    assert rig.rights(directory) == (DIRECTORY_BASE, READ)


def test_path_open_does_not_give_more_than_the_directory_passes_on(rig: Rig) -> None:
    rig.vm.fs.write("/tmp/file", b"12345")
    base = rig.open("tmp", DIRECTORY, DIRECTORY_BASE, READ | int(Rights.FD_SEEK))
    assert _open(rig, "file", rights=READ, base=base) is Errno.SUCCESS
    assert _open(rig, "file", rights=READ | WRITE, base=base) is Errno.ENOTCAPABLE
    assert _open(rig, "file", rights=READ, inheriting=WRITE, base=base) is Errno.ENOTCAPABLE
    assert _open(rig, "file", rights=READ | int(Rights.SOCK_ACCEPT), base=base) is Errno.SUCCESS
    assert _open(rig, "new", CREAT, rights=WRITE, base=base) is Errno.ENOTCAPABLE
    assert not rig.vm.fs.exists("/tmp/new")


def test_path_open_without_the_rights_to_create_or_cut_is_refused(rig: Rig) -> None:
    rig.vm.fs.write("/tmp/file", b"12345")
    base = rig.open_dir("tmp", DIRECTORY_BASE & ~int(Rights.PATH_CREATE_FILE | Rights.PATH_FILESTAT_SET_SIZE))
    assert _open(rig, "new", CREAT, base=base) is Errno.ENOTCAPABLE
    assert _open(rig, "file", TRUNC, base=base) is Errno.ENOTCAPABLE
    assert _open(rig, "file", base=base) is Errno.SUCCESS
    assert rig.vm.fs.read("/tmp/file") == b"12345"


def test_path_open_for_reading_alone_cannot_write(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"12345")
    fd = rig.open("file", rights=READ)
    assert rig.call("fd_write", fd, *rig.iovecs((100, 1)), 64) is Errno.EBADF
    fd = rig.open("file", rights=WRITE)
    assert rig.call("fd_read", fd, *rig.iovecs((100, 1)), 64) is Errno.EBADF


def test_path_open_at_the_cap_is_emfile_and_makes_nothing(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_open_fds_per_process=5)})
    rig.create("/tmp/a")
    assert _open(rig, "new", CREAT, WRITE) is Errno.EMFILE
    assert not rig.vm.fs.exists("/new")
    rig.ok("fd_close", 4)
    assert _open(rig, "new", CREAT, WRITE) is Errno.SUCCESS


def test_path_open_in_a_full_vm_is_enfile(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_open_fds=9, max_open_fds_per_process=8)})
    other = Rig(rig.vm, "preview1", [])
    rig.create("/tmp/a")
    assert _open(rig, "new", CREAT, WRITE) is Errno.ENFILE
    assert not rig.vm.fs.exists("/new")
    other.instance.close()
    assert _open(rig, "new", CREAT, WRITE) is Errno.SUCCESS


def test_path_open_that_fails_takes_no_descriptor(rig: Rig) -> None:
    before = rig.vm.usage()["max_open_fds"]
    for _ in range(5):
        assert _open(rig, "missing") is Errno.ENOENT
    after = rig.vm.usage()["max_open_fds"]
    assert (after.used, after.peak) == (before.used, before.peak)


def test_path_open_in_a_full_filesystem_is_enospc(boot: Boot) -> None:
    def fill(vm: AgentVM) -> None:
        vm.fs.mkdir("/d")

    rig = boot(setup=fill, vm={"limits": Limits(max_inodes=3)})
    errnos = [_open(rig, f"file-{i}", CREAT, WRITE) for i in range(5)]
    assert errnos[-1] is Errno.ENOSPC
    assert sorted(set(errnos)) in ([Errno.SUCCESS, Errno.ENOSPC], [Errno.ENOSPC])


# -- path_filestat_get, path_filestat_set_times -----------------------------------------------------------------------
def test_path_filestat_get_follows_if_told_to(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"12345")
    _symlink(rig, "file", "link")
    assert _stat(rig, "link")["filetype"] == Filetype.SYMBOLIC_LINK
    assert _stat(rig, "link")["size"] == 4
    assert _stat(rig, "link", FOLLOW) == _stat(rig, "file")
    assert _stat(rig, "file")["filetype"] == Filetype.REGULAR_FILE
    assert _stat(rig, "tmp")["filetype"] == Filetype.DIRECTORY
    assert rig.call("path_filestat_get", 3, 2, *rig.text("file"), 128) is Errno.EINVAL
    assert rig.call("path_filestat_get", 3, 0, *rig.text("file/"), 128) is Errno.ENOTDIR


def test_path_filestat_get_of_a_host_file_from_before_1970(boot: Boot, tmp_path: Path) -> None:
    import os

    (tmp_path / "old").write_bytes(b"x")
    os.utime(tmp_path / "old", ns=(-5_000_000_000, -5_000_000_000))
    rig = boot(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path)))
    assert _stat(rig, "mnt/old")["mtim"] == 0


def test_path_filestat_set_times_follows_if_told_to(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"12345")
    _symlink(rig, "file", "link")
    path = rig.text("link")
    rig.ok("path_filestat_set_times", 3, FOLLOW, *path, 111, 222, 5, writes=[])
    rig.ok("path_filestat_set_times", 3, 0, *path, 333, 444, 5)
    assert (_stat(rig, "file")["atim"], _stat(rig, "file")["mtim"]) == (111, 222)
    assert _stat(rig, "link")["mtim"] == 444


@pytest.mark.parametrize(("flags", "fst_flags"), [(2, 5), (0, 3), (0, 12), (0, 16)])
def test_path_filestat_set_times_of_bad_flags_is_einval(rig: Rig, flags: int, fst_flags: int) -> None:
    rig.vm.fs.write("/file", b"")
    before = _stat(rig, "file")
    assert rig.call("path_filestat_set_times", 3, flags, *rig.text("file"), 1, 2, fst_flags) is Errno.EINVAL
    assert _stat(rig, "file") == before


# -- path_create_directory, path_remove_directory, path_unlink_file ---------------------------------------------------
def test_path_create_directory_and_again_is_eexist(rig: Rig) -> None:
    path = rig.text("new")
    rig.ok("path_create_directory", 3, *path, writes=[])
    assert rig.call("path_create_directory", 3, *path) is Errno.EEXIST
    assert rig.vm.fs.listdir("/new") == []
    assert rig.trace == [
        f"path_create_directory(fd=3, path={path[0]}, path_len=3) -> OK",
        f"path_create_directory(fd=3, path={path[0]}, path_len=3) -> EEXIST",
    ]


def test_path_remove_directory_takes_empty_directories_alone(rig: Rig) -> None:
    rig.vm.fs.mkdir("/d")
    rig.vm.fs.write("/d/file", b"")
    for path, errno in (
        ("d", Errno.ENOTEMPTY),
        ("d/file", Errno.ENOTDIR),
        ("tmp", Errno.EBUSY),
        (".", Errno.EINVAL),
        ("missing", Errno.ENOENT),
    ):
        assert rig.call("path_remove_directory", 3, *rig.text(path)) is errno
    rig.ok("path_unlink_file", 3, *rig.text("d/file"), writes=[])
    rig.ok("path_remove_directory", 3, *rig.text("d/"), writes=[])
    assert not rig.vm.fs.exists("/d")


def test_path_unlink_file_takes_files_and_symlinks_alone(rig: Rig) -> None:
    rig.vm.fs.mkdir("/d")
    _symlink(rig, "d", "link")
    rig.ok("path_unlink_file", 3, *rig.text("link"))
    assert rig.vm.fs.exists("/d")
    for path in ("d", "d/", "."):
        assert rig.call("path_unlink_file", 3, *rig.text(path)) is Errno.EISDIR
    rig.vm.fs.write("/file", b"")
    assert rig.call("path_unlink_file", 3, *rig.text("file/")) is Errno.ENOTDIR


# -- path_symlink, path_readlink --------------------------------------------------------------------------------------
def test_path_symlink_holds_any_relative_text(rig: Rig) -> None:
    _symlink(rig, "no/such/file", "link")
    assert rig.call("path_symlink", *rig.text("x"), 3, *rig.text("link")) is Errno.EEXIST
    assert rig.call("path_symlink", *rig.text("/etc"), 3, *rig.text("other")) is Errno.EPERM
    assert rig.call("path_symlink", *rig.text(""), 3, *rig.text("other")) is Errno.ENOENT
    assert rig.call("path_symlink", *rig.text("x" * 5000), 3, *rig.text("other")) is Errno.ENAMETOOLONG
    assert not rig.vm.fs.exists("/other")


@pytest.mark.parametrize("size", [0, 1, 5, 6, 7, 100])
def test_path_readlink_cuts_what_does_not_fit(rig: Rig, size: int) -> None:
    _symlink(rig, "target", "link")
    buffer = rig.space(100)
    rig.ok("path_readlink", 3, *rig.text("link"), buffer, size, 64, writes=[(64, 4), (buffer, min(size, 6))])
    assert rig.number(64) == min(size, 6)
    assert rig.read(buffer, 7) == b"target?"[: min(size, 6)] + b"?" * (7 - min(size, 6))


def test_path_readlink_of_what_is_no_symlink_is_einval(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"")
    for path in ("file", "tmp", "."):
        assert rig.call("path_readlink", 3, *rig.text(path), 100, 10, 64) is Errno.EINVAL


# -- path_link, path_rename -------------------------------------------------------------------------------------------
def test_path_link_gives_a_file_another_name(rig: Rig) -> None:
    rig.vm.fs.write("/home/a", b"12345")
    home = rig.open_dir("home")
    rig.ok("path_link", 3, 0, *rig.text("home/a"), home, *rig.text("b"), writes=[])
    assert _stat(rig, "home/b") == _stat(rig, "a", base=home)
    assert _stat(rig, "home/b")["nlink"] == 2


def test_path_link_refusals(rig: Rig) -> None:
    rig.vm.fs.write("/file", b"")
    _symlink(rig, "file", "link")
    for old, new, errno in (
        ("file", "file", Errno.EEXIST),
        ("home", "new", Errno.EPERM),
        ("missing", "new", Errno.ENOENT),
        ("file", "tmp/new", Errno.EXDEV),
        ("file", "new/", Errno.ENOENT),
    ):
        assert rig.call("path_link", 3, 0, *rig.text(old), 3, *rig.text(new)) is errno
    assert rig.call("path_link", 3, 2, *rig.text("file"), 3, *rig.text("new")) is Errno.EINVAL
    rig.ok("path_link", 3, FOLLOW, *rig.text("link"), 3, *rig.text("followed"))
    rig.ok("path_link", 3, 0, *rig.text("link"), 3, *rig.text("itself"))
    assert _stat(rig, "followed")["filetype"] == Filetype.REGULAR_FILE
    assert _stat(rig, "itself")["filetype"] == Filetype.SYMBOLIC_LINK


def test_path_rename_moves_and_replaces(rig: Rig) -> None:
    rig.vm.fs.write("/home/a", b"new")
    rig.vm.fs.write("/etc/b", b"old")
    home, etc = rig.open_dir("home"), rig.open_dir("etc")
    kept = rig.open("etc/b")
    rig.ok("path_rename", home, *rig.text("a"), etc, *rig.text("b"), writes=[])
    assert (rig.vm.fs.read("/etc/b"), rig.vm.fs.exists("/home/a")) == (b"new", False)
    assert rig.read_fd(kept, 9) == b"old"


def test_path_rename_refusals(rig: Rig) -> None:
    for path in ("/d/sub", "/full/sub"):
        rig.vm.fs.mkdir(path, parents=True)
    rig.vm.fs.write("/file", b"")
    for old, new, errno in (
        ("missing", "new", Errno.ENOENT),
        ("file", "d", Errno.EISDIR),
        ("d", "file", Errno.ENOTDIR),
        ("d", "full", Errno.ENOTEMPTY),
        ("d", "d/sub/inside", Errno.EINVAL),
        ("file", "tmp/file", Errno.EXDEV),
        ("tmp", "new", Errno.EBUSY),
        (".", "new", Errno.EBUSY),
        ("file", "new/", Errno.ENOTDIR),
    ):
        assert rig.call("path_rename", 3, *rig.text(old), 3, *rig.text(new)) is errno, (old, new)
    rig.ok("path_rename", 3, *rig.text("file"), 3, *rig.text("file"))
