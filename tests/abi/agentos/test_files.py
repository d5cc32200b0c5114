"""host_fs: modes, owners, sizes on disk, access, special files, nameless files, space."""

import stat

import pytest

from agentvm import AgentVM, Errno, HostDirectory, Limits
from agentvm.abi.agentos.file_flags import RDONLY, WRONLY
from agentvm.kernel.fd_table import CWD_NUMBERS, FIRST_TAGGED
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.rig import CREAT, WILD, Boot, Rig

S_IFIFO, S_IFREG = stat.S_IFIFO, stat.S_IFREG
UNCHANGED = 0xFFFF_FFFF
ROOT = 0


def _mode(rig: Rig, path: str, follow: int = 1) -> int:
    return rig.result("path_mode", rig.root, *rig.text(path), follow)


def _pair(rig: Rig, name: str, *arguments: int) -> tuple[int, int]:
    first, second = rig.space(4), rig.space(4)
    rig.ok(name, *arguments, first, second, writes=[(first, 4), (second, 4)])
    return rig.number(first), rig.number(second)


def _become(rig: Rig, uid: int, gid: int) -> None:
    """As root, so that the proxy may become anybody."""
    rig.process.credentials = type(rig.process.credentials).of(uid, gid)


# -- what stat(2) tells -----------------------------------------------------------------------------------------------
def test_path_mode_has_type_and_permissions_of_each_kind_of_file(host: Rig) -> None:
    host.vm.fs.write("/tmp/a", b"x", mode=0o750)
    host.vm.fs.symlink("a", "/tmp/link")
    host.ok("path_mknod", host.root, *host.text("tmp/fifo"), S_IFIFO | 0o622, 0)
    modes = {
        "tmp/a": S_IFREG | 0o750,
        "tmp": stat.S_IFDIR | 0o1777,
        "tmp/link": S_IFREG | 0o750,
        "dev/null": stat.S_IFCHR | 0o666,
        "tmp/fifo": S_IFIFO | 0o600,
        "/tmp/a": S_IFREG | 0o750,
    }
    assert {path: _mode(host, path) for path in modes} == modes
    assert _mode(host, "tmp/link", follow=0) == stat.S_IFLNK | 0o777


@pytest.mark.parametrize(
    ("name", "failed"), [("path_mode", 0), ("path_size", -1), ("path_blocks", -1), ("path_rdev", 0)]
)
def test_calls_that_return_their_result_tell_of_failure_by_it(host: Rig, name: str, failed: int) -> None:
    assert host.result(name, host.root, *host.text("nothing"), 1) == failed
    assert host.trace[-1].endswith("-> ENOENT")
    assert host.result(name, host.root, WILD, 4, 1) == failed
    assert host.trace[-1].endswith("-> EFAULT")
    assert host.result(name, 99, *host.text("tmp"), 1) == failed
    assert host.trace[-1].endswith("-> EBADF")


@pytest.mark.parametrize(("name", "failed"), [("fd_mode", 0), ("fd_size", -1), ("fd_blocks", -1)])
def test_calls_on_descriptors_that_return_their_result_tell_of_failure_by_it(host: Rig, name: str, failed: int) -> None:
    for fd in (99, 0xFFFF_FFFF):
        assert host.result(name, fd) == failed
        assert host.trace[-1].endswith("-> EBADF")


def test_sizes_are_those_of_the_file_and_blocks_those_of_its_data(host: Rig) -> None:
    fd = host.create("/tmp/a", b"x" * 5000)
    host.ok("ftruncate", fd, 1 << 20)
    assert host.result("path_size", host.root, *host.text("tmp/a"), 1) == host.result("fd_size", fd) == 1 << 20
    blocks = host.result("fd_blocks", fd)
    assert host.result("path_blocks", host.root, *host.text("tmp/a"), 1) == blocks
    assert 10 <= blocks * 512 / 500 <= 70000 / 500


def test_path_rdev_tells_devices_apart(host: Rig) -> None:
    numbers = {
        name: host.result("path_rdev", host.root, *host.text(f"dev/{name}"), 1) for name in ("null", "zero", "tty")
    }
    assert numbers == {"null": 1 << 8 | 3, "zero": 1 << 8 | 5, "tty": 5 << 8}
    host.vm.fs.write("/tmp/a", b"")
    assert host.result("path_rdev", host.root, *host.text("tmp/a"), 1) == 0


def test_fd_mode_of_streams_and_files(host: Rig) -> None:
    assert stat.S_ISFIFO(host.result("fd_mode", 0))
    assert host.result("fd_mode", host.create("/tmp/a")) == S_IFREG | 0o644
    assert stat.S_ISDIR(host.result("fd_mode", FIRST_TAGGED))


# -- owners -----------------------------------------------------------------------------------------------------------
def test_files_are_their_makers(host: Rig) -> None:
    assert _pair(host, "path_owner", host.root, *host.text("tmp"), 1) == (1000, 1000)
    _become(host, 7, 8)
    fd = host.open("tmp/a", CREAT)
    host.ok("path_create_directory", host.root, *host.text("tmp/d"))
    host.ok("path_symlink", *host.text("a"), host.root, *host.text("tmp/l"))
    host.ok("path_mknod", host.root, *host.text("tmp/f"), S_IFIFO | 0o666, 0)
    assert _pair(host, "fd_owner", fd) == (7, 8)
    for name in ("a", "d", "l", "f"):
        assert _pair(host, "path_owner", host.root, *host.text(f"tmp/{name}"), 0) == (7, 8)
    assert (host.vm.fs.stat("/tmp/a").uid, host.vm.fs.stat("/tmp").gid) == (7, 1000)


def test_only_root_gives_files_away_and_an_owner_changes_the_group_to_its_own(host: Rig) -> None:
    fd = host.create("/tmp/a")
    path = host.root, *host.text("tmp/a")
    assert host.call("path_chown", *path, 5, UNCHANGED, 1) is Errno.EPERM
    assert host.call("fd_chown", fd, UNCHANGED, 5) is Errno.EPERM
    host.ok("path_chown", *path, UNCHANGED, 1000, 1)
    _become(host, ROOT, ROOT)
    host.ok("chown", *path, 5, 6, 1)
    assert _pair(host, "fd_owner", fd) == (5, 6)
    host.ok("fchown", fd, UNCHANGED, 9)
    assert _pair(host, "path_owner", *path, 1) == (5, 9)
    _become(host, 1000, 1000)
    assert host.call("chmod", *path, 0o600) is Errno.EPERM
    assert host.call("fchmod", fd, 0o600) is Errno.EPERM


def test_chmod_sets_the_bits_and_no_type(host: Rig) -> None:
    fd = host.create("/tmp/a", b"x")
    path = host.root, *host.text("tmp/a")
    host.ok("chmod", *path, S_IFIFO | 0o4711, writes=[])
    assert _mode(host, "tmp/a") == S_IFREG | 0o4711
    host.ok("fchmod", fd, 0o640, writes=[])
    assert host.result("fd_mode", fd) == S_IFREG | 0o640
    assert host.call("chmod", host.root, *host.text("dev/null"), 0) is Errno.EPERM
    assert host.call("fchmod", 0, 0o600) is Errno.EINVAL


def test_chmod_on_a_host_directory_changes_the_hosts_file_but_no_set_id_bits(boot_host: Boot, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "escape").symlink_to("/etc/passwd")
    rig = boot_host(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path, read_only=False)))
    rig.ok("chmod", rig.root, *rig.text("mnt/a"), 0o4751)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o751
    rig.ok("fchmod", rig.open("mnt/a"), 0o600)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    rig.ok("chmod", rig.root, *rig.text("mnt"), 0o700)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert rig.call("path_mknod", rig.root, *rig.text("mnt/fifo"), S_IFIFO | 0o600, 0) is Errno.EPERM
    rig.ok("path_mknod", rig.root, *rig.text("mnt/new"), S_IFREG | 0o644, 0)
    assert (tmp_path / "new").read_bytes() == b""


def test_a_read_only_mount_refuses_to_change(boot_host: Boot, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a").write_bytes(b"x")
    rig = boot_host(setup=lambda vm: vm.mount("/mnt", HostDirectory(tmp_path, read_only=True)))
    assert rig.call("chmod", rig.root, *rig.text("mnt/a"), 0o600) is Errno.EROFS
    assert rig.call("path_access", rig.root, *rig.text("mnt/a"), 2, 0) is Errno.EROFS
    assert rig.call("path_mknod", rig.root, *rig.text("mnt/f"), S_IFIFO | 0o600, 0) is Errno.EROFS


# -- permissions ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "ids", "wanted", "errno"),
    [
        (0o700, (1000, 1000), 7, Errno.SUCCESS),
        (0o600, (1000, 1000), 1, Errno.EACCES),
        (0o077, (1000, 1000), 4, Errno.EACCES),
        (0o070, (7, 1000), 7, Errno.SUCCESS),
        (0o707, (7, 1000), 1, Errno.EACCES),
        (0o704, (7, 7), 4, Errno.SUCCESS),
        (0o704, (7, 7), 2, Errno.EACCES),
        (0o000, (ROOT, ROOT), 6, Errno.SUCCESS),
        (0o666, (ROOT, ROOT), 1, Errno.EACCES),
        (0o000, (1000, 1000), 0, Errno.SUCCESS),
        (0o777, (1000, 1000), 8, Errno.EINVAL),
    ],
)
def test_path_access_asks_one_class_of_bits(
    host: Rig, mode: int, ids: tuple[int, int], wanted: int, errno: Errno
) -> None:
    host.vm.fs.write("/tmp/a", b"", mode=mode)
    _become(host, *ids)
    for effective in (0, 1):
        assert host.call("path_access", host.root, *host.text("tmp/a"), wanted, effective) is errno


@pytest.mark.parametrize(("mode", "reads", "writes"), [(0o600, 1, 1), (0o400, 1, 0), (0o200, 0, 1), (0, 0, 0)])
def test_path_open_heeds_the_bits(host: Rig, mode: int, reads: int, writes: int) -> None:
    host.vm.fs.write("/tmp/a", b"x", mode=mode)
    for right, allowed in ((2, reads), (64, writes), (66, reads and writes)):
        made = host.call("path_open", host.root, 1, *host.text("tmp/a"), 0, right, 0, 0, 64)
        assert made is (Errno.SUCCESS if allowed else Errno.EACCES)


def test_a_file_that_is_made_without_permissions_is_open_all_the_same(host: Rig) -> None:
    host.ok("set_open_mode", 0o100)
    fd = host.open("tmp/a", CREAT)
    assert host.write(fd, b"x") == 1
    assert _mode(host, "tmp/a") == S_IFREG | 0o100
    host.open("tmp/b", CREAT)
    assert _mode(host, "tmp/b") == S_IFREG | 0o644  # the mode was for one opening


def test_set_open_mode_has_the_umask_applied(host: Rig) -> None:
    host.made("proc_umask", 0o027)
    host.ok("set_open_mode", 0o777)
    host.ok("set_open_direct", 1)
    host.open("tmp/a", CREAT, fdflags=0x20)
    assert _mode(host, "tmp/a") == S_IFREG | 0o750


# -- special files ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "errno"),
    [
        (S_IFREG | 0o644, Errno.SUCCESS),
        (0o644, Errno.SUCCESS),
        (S_IFIFO | 0o644, Errno.SUCCESS),
        (stat.S_IFCHR | 0o644, Errno.EPERM),
        (stat.S_IFBLK | 0o644, Errno.EPERM),
        (stat.S_IFDIR | 0o644, Errno.EPERM),
        (stat.S_IFSOCK | 0o644, Errno.EPERM),
        (0o170000, Errno.EINVAL),
    ],
)
def test_path_mknod_makes_files_and_fifos(host: Rig, mode: int, errno: Errno) -> None:
    assert host.call("path_mknod", host.root, *host.text("tmp/a"), mode, 0) is errno
    if errno is Errno.SUCCESS:
        assert host.call("path_mknod", host.root, *host.text("tmp/a"), mode, 0) is Errno.EEXIST
    else:
        assert not host.vm.fs.exists("/tmp/a")


def test_path_mknod_at_the_cap_on_inodes_is_enospc(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_inodes=1)})
    rig.ok("path_mknod", rig.root, *rig.text("a"), S_IFIFO | 0o600, 0)
    assert rig.call("path_mknod", rig.root, *rig.text("b"), S_IFIFO | 0o600, 0) is Errno.ENOSPC


def test_open_tmpfile_makes_a_file_that_no_name_leads_to(host: Rig) -> None:
    fd = host.made("open_tmpfile", host.root, *host.text("tmp"), RDONLY | WRONLY, 0o600)
    host.write(fd, b"abc")
    assert host.vm.fs.listdir("/tmp") == []
    assert (host.result("fd_size", fd), host.result("fd_mode", fd)) == (3, S_IFREG | 0o600)
    assert host.vm.usage()["max_inodes"].used == 1
    host.ok("fd_close", fd)
    assert host.vm.usage()["max_inodes"].used == 0
    assert host.call("open_tmpfile", host.root, *host.text("tmp"), RDONLY, 0o600, 64) is Errno.EINVAL
    assert host.call("open_tmpfile", host.root, *host.text("dev"), WRONLY, 0o600, 64) is Errno.ENOTSUP


def test_path_renameat2_with_noreplace_leaves_what_is_there(host: Rig) -> None:
    host.vm.fs.write("/tmp/a", b"a")
    host.vm.fs.write("/tmp/b", b"b")
    both = host.root, *host.text("tmp/a"), host.root, *host.text("tmp/b")
    assert host.call("path_renameat2", *both, 1) is Errno.EEXIST
    assert host.call("path_renameat2", *both, 2) is Errno.EINVAL
    host.ok("path_renameat2", *both, 0)
    assert host.vm.fs.read("/tmp/b") == b"a"


@pytest.mark.parametrize(
    ("size", "errno"),
    [(0, Errno.SUCCESS), (1 << 20, Errno.SUCCESS), (-1, Errno.EINVAL), ((1 << 63) - 1, Errno.SUCCESS)],
)
def test_ftruncate(host: Rig, size: int, errno: Errno) -> None:
    fd = host.create("/tmp/a", b"abc")
    assert host.call("ftruncate", fd, size) is errno
    assert host.result("fd_size", fd) == (size if errno is Errno.SUCCESS else 3)


def test_ftruncate_of_what_is_not_written_is_einval(host: Rig) -> None:
    host.vm.fs.write("/tmp/a", b"abc")
    assert host.call("ftruncate", host.open("tmp/a", rights=2), 0) is Errno.EINVAL
    assert host.call("ftruncate", 0, 0) is Errno.EINVAL
    assert host.call("ftruncate", FIRST_TAGGED, 0) is Errno.EBADF


def test_path_statfs_tells_of_the_caps(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_filesystem_bytes="1MiB", max_temp_storage_bytes="64KiB", max_inodes=100)})
    found = {}
    for path in ("home", "tmp", "proc"):
        outs = [rig.space(8) for _ in range(5)]
        rig.ok("path_statfs", rig.root, *rig.text(path), *outs, writes=[(out, 8) for out in outs])
        found[path] = [rig.number(out, 8) for out in outs]
    assert found["home"] == [1 << 20, 0, 1 << 20, 100, 100]
    assert found["tmp"] == [1 << 16, 0, 1 << 16, 100, 100]
    assert found["proc"] == [0] * 5


# -- where paths start ------------------------------------------------------------------------------------------------
def _cwd(boot_host: Boot) -> Rig:
    def setup(vm: AgentVM) -> None:
        vm.fs.write("/home/user/a", b"here", parents=True)
        vm.fs.write("/b", b"above")

    return boot_host(setup=setup)


@pytest.mark.parametrize("fd", [*CWD_NUMBERS, FIRST_TAGGED])
@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("b", 5),
        ("/b", 5),
        ("../b", 5),
        ("../../../b", 5),
        ("home/../b", 5),
        ("home/user/../../../../b", 5),
        ("/../b", 5),
    ],
)
def test_nothing_is_above_the_root(boot_host: Boot, fd: int, path: str, size: int) -> None:
    rig = _cwd(boot_host)
    assert rig.result("path_size", fd, *rig.text(path), 1) == size
    rig.ok("path_filestat_get", fd, 1, *rig.text(path), 64)
    assert rig.number(64 + 32, 8) == size


@pytest.mark.parametrize("path", ["../../b", "../../../../b", "../user/../../b"])
def test_a_directory_that_was_opened_can_be_left_upwards(boot_host: Boot, path: str) -> None:
    rig = _cwd(boot_host)
    fd = rig.open_dir("home/user")
    assert rig.result("path_size", fd, *rig.text(path), 1) == 5


@pytest.mark.parametrize("fd", CWD_NUMBERS)
def test_what_stands_for_the_working_directory_is_no_descriptor(host: Rig, fd: int) -> None:
    for name, *arguments in (("fd_fdstat_get", 64), ("fd_filestat_get", 64), ("fd_dup", 64), ("fd_getfd", 64)):
        assert host.call(str(name), fd, *map(int, arguments)) is Errno.EBADF


def test_a_program_without_the_root_stays_below_what_it_was_given(boot_host: Boot) -> None:
    rig = boot_host(setup=lambda vm: vm.fs.write("/home/a", b"x"), preopens=("/home",))
    assert rig.result("path_size", FIRST_TAGGED + 1, *rig.text("a"), 1) == 1
    for path in ("../home/a", "/home/a"):
        assert rig.result("path_size", FIRST_TAGGED + 1, *rig.text(path), 1) == -1
        assert rig.trace[-1].endswith("-> EPERM")


# -- what all have in common ------------------------------------------------------------------------------------------
PATHS = {
    "chmod": (0o644,),
    "path_chown": (UNCHANGED, UNCHANGED, 1),
    "path_access": (4, 0),
    "path_mknod": (S_IFIFO | 0o600, 0),
    "path_owner": (1, 64, 68),
}


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize(
    ("fd", "path", "errno"),
    [
        (99, "tmp/a", Errno.EBADF),
        (0, "tmp/a", Errno.ENOTDIR),
        (FIRST_TAGGED, "tmp/a/b", Errno.ENOTDIR),
        (FIRST_TAGGED, "none/a", Errno.ENOENT),
        (FIRST_TAGGED, "", Errno.ENOENT),
        (FIRST_TAGGED, "tmp/loop/x", Errno.ELOOP),
        (FIRST_TAGGED, "x" * 256, Errno.ENAMETOOLONG),
        (FIRST_TAGGED, "a\0b", Errno.EINVAL),
    ],
)
def test_calls_on_paths_fail_as_linux_has_it(host: Rig, name: str, fd: int, path: str, errno: Errno) -> None:
    host.vm.fs.write("/tmp/a", b"")
    host.vm.fs.symlink("loop", "/tmp/loop")
    assert host.call(name, fd, *host.text(path), *PATHS[name]) is errno


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("place", [(WILD, 4), (MEMORY_BYTES - 1, 4), (64, 0xFFFF_FFFF)])
def test_a_path_outside_memory_is_efault(host: Rig, name: str, place: tuple[int, int]) -> None:
    assert host.call(name, host.root, *place, *PATHS[name]) is Errno.EFAULT


@pytest.mark.parametrize(
    ("name", "arguments"), [("fd_owner", (0,)), ("path_owner", None), ("path_statfs", None), ("open_tmpfile", None)]
)
def test_a_bad_pointer_is_efault_before_anything_happens(
    host: Rig, name: str, arguments: tuple[int, ...] | None
) -> None:
    given = (
        arguments
        or {
            "path_owner": (host.root, *host.text("tmp"), 1),
            "path_statfs": (host.root, *host.text("tmp")),
            "open_tmpfile": (host.root, *host.text("tmp"), WRONLY, 0o600),
        }[name]
    )
    results = len(host.specs[name].results)
    for bad in range(results):
        outs = [WILD if index == bad else 64 + 8 * index for index in range(results)]
        assert host.call(name, *given, *outs) is Errno.EFAULT
    assert host.open_fds() == [0, 1, 2]
    assert host.vm.usage()["max_inodes"].used == 0
