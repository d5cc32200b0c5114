"""/dev and /proc: what each file gives, and that nobody can change them."""

import json

import pytest

from agentvm.errno import KernelError
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.rlimits import INFINITY, Resource
from agentvm.kernel.stat import FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.devices import DeviceDirectory
from agentvm.kernel.vfs.open_process import OpenProcess
from agentvm.kernel.vfs.procfs import ProcDirectory


class Terminal(OpenFile):
    filetype = Filetype.CHARACTER_DEVICE

    def stat(self):
        return FileStat(9, 1, self.filetype, 1, 0, 0, 0, 0, 0o620)


class Source:
    """Two processes, the second of which makes the calls unless a test says otherwise."""

    def __init__(self, files):
        self.files = files
        self.calling = 7
        self.open = {}

    def caller(self):
        return self.process(self.calling)

    def pids(self):
        return [5, 7]

    def process(self, pid):
        if pid not in self.pids():
            return None
        return OpenProcess(
            pid=pid,
            ppid=1,
            name="guest",
            argv=(b"guest", b"--flag"),
            environ=(b"A=1", b"B=" + b"x" * 40_000),
            cwd=b"/home",
            cpu_time_ns=2_500_000_000,
            memory_bytes=1 << 20,
            files=self.open if pid == 7 else {0: Terminal()},
            pgid=4,
            sid=3,
            state="S",
            exe=b"/bin/guest" if pid == 7 else None,
            limits=lambda: dict.fromkeys(Resource, (200, 256)) | {Resource.FSIZE: (INFINITY, INFINITY)},
            credentials=Credentials(10, 20, 30, 40, 50, 60, (7, 8)) if pid == 7 else Credentials.of(11, 11),
            signals=(0x4000, 0x20000, 0x1000, 1),
        )

    def memory(self):
        return 512 << 20, 12 << 20

    def load(self):
        return ["S", "R"], 9

    def uptime_ns(self):
        return 12_345_678_900

    def version(self):
        return "agentvm test"

    def mounts(self):
        return [(b"/", "tmpfs", False), (b"/with space", "host", True)]

    def usage(self):
        return self.files.registry.usage()


@pytest.fixture
def source(files):
    source = Source(files)
    files.vfs.mount(b"/dev", DeviceDirectory(lambda count: b"R" * count, source.caller))
    files.vfs.mount(b"/proc", ProcDirectory(source))
    return source


def read(file, count, offset=None):
    buffer = bytearray(b"?" * count)
    views = [memoryview(buffer)[: count // 2], memoryview(buffer)[count // 2 :]]
    done = file.read_nowait(views) if offset is None else file.pread(views, offset)
    return bytes(buffer[:done])


def text(files, path):
    file = files.open(path)
    pieces = []
    while piece := read(file, 1000):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("name", "expected"),
    [(b"null", b""), (b"zero", bytes(100)), (b"full", bytes(100)), (b"random", b"R" * 100), (b"urandom", b"R" * 100)],
)
def test_reading_devices(files, source, name, expected):
    file = files.open(b"/dev/" + name)
    assert read(file, 100) == read(file, 100, offset=1000) == expected
    assert file.stat().filetype is Filetype.CHARACTER_DEVICE
    with pytest.raises(KernelError, match="EBADF"):
        file.write_nowait([memoryview(b"x")])


def test_zeros_fill_large_buffers_and_random_bytes_come_in_pieces(files, source):
    assert read(files.open(b"/dev/zero"), 200_001) == bytes(200_001)
    assert len(read(files.open(b"/dev/random"), 3 << 20)) == 1 << 20


@pytest.mark.parametrize("name", [b"null", b"zero", b"random", b"urandom"])
def test_devices_swallow_what_is_written(files, source, name):
    file = files.open(b"/dev/" + name, read=False, write=True, truncate=True, create=True)
    assert file.write_nowait([memoryview(b"123"), memoryview(b"45")]) == 5
    assert file.pwrite([memoryview(b"123")], 10) == 3
    assert file.seek(5, Whence.SET) == 0
    with pytest.raises(KernelError, match="EBADF"):
        read(file, 1)


def test_the_full_device_has_no_space(files, source):
    with pytest.raises(KernelError, match="ENOSPC"):
        files.open(b"/dev/full", write=True).write_nowait([memoryview(b"x")])


@pytest.mark.parametrize("path", [b"/dev/new", b"/proc/new", b"/proc/self/new", b"/proc/agentvm/new"])
def test_nothing_can_be_made_there(files, source, path):
    for operation in (files.put, files.mkdir, lambda path: files.symlink(path, b"x")):
        with pytest.raises(KernelError, match="EROFS"):
            operation(path)


@pytest.mark.parametrize("path", [b"/dev/null", b"/proc/self/fd", b"/proc/self", b"/proc/7", b"/proc/version"])
def test_nothing_can_be_removed_or_moved_there(files, source, path):
    files.put(b"/file")
    is_directory = path in (b"/proc/self/fd", b"/proc/7")
    with pytest.raises(KernelError, match="EISDIR" if is_directory else "EROFS"):
        files.unlink(path)
    with pytest.raises(KernelError, match="EROFS" if is_directory else "ENOTDIR"):
        files.rmdir(path)
    for old, new in ((path, b"/file"), (path, b"/dev/new")):
        with pytest.raises(KernelError, match="EROFS"):
            files.rename(old, new)
    with pytest.raises(KernelError, match="EXDEV"):
        files.rename(b"/file", b"/dev/new")


def test_standard_streams_are_the_callers_own_open_files(files, source):
    source.open = {0: files.create(b"/in", b"input"), 1: Terminal()}
    assert files.open(b"/dev/stdin") is source.open[0]
    assert files.open(b"/dev/fd/0") is source.open[0]
    assert files.open(b"/proc/self/fd/1", write=True) is source.open[1]
    assert files.open(b"/dev/tty") is source.open[1]
    assert files.vfs.stat_at(files.root, b"/dev/stdin", **files.free) == source.open[0].stat()
    assert files.vfs.readlink_at(files.root, b"/dev/stdout", **files.free) == b"/proc/self/fd/1"
    assert files.vfs.readlink_at(files.root, b"/proc/7/fd/1", **files.free) == b"character_device:[9:1]"
    for path, errno in ((b"/dev/stderr", "ENOENT"), (b"/proc/5/fd/0", "EACCES"), (b"/proc/self/fd/9", "ENOENT")):
        with pytest.raises(KernelError, match=errno):
            files.open(path)
    source.open = {}
    with pytest.raises(KernelError, match="ENXIO"):
        files.open(b"/dev/tty")


def test_a_directory_descriptor_can_be_walked_through(files, source):
    files.mkdir(b"/d")
    files.put(b"/d/f", b"x")
    source.open = {3: files.open(b"/d")}
    assert files.get(b"/proc/self/fd/3/f") == b"x"


def test_the_host_has_no_descriptors_there(files, source):
    source.calling = None
    for path in (b"/dev/stdin", b"/proc/self", b"/proc/self/fd/0"):
        with pytest.raises(KernelError, match="ENOENT"):
            files.open(path)


def test_listings(files, source):
    source.open = {0: Terminal(), 11: Terminal()}
    assert {b"null", b"zero", b"full", b"random", b"urandom", b"tty", b"fd", b"stdin"} <= set(files.names(b"/dev"))
    assert files.names(b"/proc") == [
        b"self", b"agentvm", b"loadavg", b"meminfo", b"mounts", b"uptime", b"version", b"5", b"7",
    ]  # fmt: skip
    assert files.names(b"/proc/7/fd") == [b"0", b"11"]


@pytest.mark.parametrize("path", [b"/dev", b"/proc", b"/proc/7", b"/proc/agentvm", b"/proc/7/fd"])
def test_listings_resume_at_every_cookie_and_agree_with_lookups(files, source, path):
    source.open = {0: Terminal(), 11: Terminal()}
    directory = files.open(path)
    entries = list(directory.entries(0))
    assert [entry.name for entry in entries[:2]] == [b".", b".."]
    assert [entry.cookie for entry in entries] == sorted({entry.cookie for entry in entries})
    assert len({entry.ino for entry in entries[2:]}) == len(entries) - 2
    for position, entry in enumerate(entries):
        assert list(directory.entries(entry.cookie)) == entries[position + 1 :]
        if position >= 2:
            status = directory.node.lookup(entry.name).stat()
            assert (status.ino, status.filetype) == (entry.ino, entry.filetype)


def test_status_tells_ids_and_signals(files, source):
    status = dict(row.split(b":\t", 1) for row in text(files, b"/proc/self/status").splitlines())
    assert (status[b"State"], status[b"Groups"]) == (b"S (sleeping)", b"7 8 ")
    assert (status[b"Uid"], status[b"Gid"]) == (b"10\t20\t30\t20", b"40\t50\t60\t50")
    masks = [int(status[name], 16) for name in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")]
    assert masks == [0, 0x4000, 0x20000, 0x1000, 1]


def test_exe_and_loadavg(files, source):
    assert files.vfs.readlink_at(files.root, b"/proc/self/exe", **files.free) == b"/bin/guest"
    assert text(files, b"/proc/loadavg") == b"1.00 1.00 1.00 1/2 9\n"


@pytest.mark.parametrize("name", [b"environ", b"exe", b"cwd", b"fd"])
def test_what_belongs_to_another_user_is_eacces(files, source, name):
    with pytest.raises(KernelError, match="EACCES"):
        files.vfs.stat_at(files.root, b"/proc/5/" + name, **files.free)
    assert text(files, b"/proc/5/cmdline") == b"guest\0--flag\0"


def test_process_files(files, source):
    assert text(files, b"/proc/self/cmdline") == b"guest\0--flag\0"
    assert text(files, b"/proc/7/environ") == b"A=1\0B=" + b"x" * 40_000 + b"\0"
    assert text(files, b"/proc/5/comm") == b"guest\n"
    assert b"Pid:\t7\n" in text(files, b"/proc/self/status")
    fields = text(files, b"/proc/self/stat").split()
    assert (fields[0], fields[1], fields[2], fields[13], fields[22]) == (b"7", b"(guest)", b"S", b"250", b"1048576")
    assert len(fields) == 24
    assert (fields[3:8], fields[19]) == ([b"1", b"4", b"3", b"0", b"-1"], b"1")
    limits = text(files, b"/proc/self/limits").splitlines()
    assert limits[8] == b"Max open files            200                  256                  files     "
    assert limits[2] == b"Max file size             unlimited            unlimited            bytes     "
    assert len(limits) == 17
    assert files.vfs.readlink_at(files.root, b"/proc/self/cwd", **files.free) == b"/home"
    with pytest.raises(KernelError, match="ENOENT"):
        files.open(b"/proc/6/status")
    for name in (b"07", b"+7", b"7 ", b"99999999999"):
        with pytest.raises(KernelError, match="ENOENT"):
            files.open(b"/proc/" + name)


def test_a_process_that_ended_is_gone_for_its_open_directory_too(files, source):
    directory = files.open(b"/proc/7")
    source.pids = lambda: [5]
    with pytest.raises(KernelError, match="ESRCH"):
        directory.node.lookup(b"status").open(read=True, write=False, flags=FdFlags(0))


def test_files_about_the_vm(files, source):
    assert text(files, b"/proc/meminfo").startswith(b"MemTotal:         524288 kB\nMemFree:          512000 kB\n")
    assert text(files, b"/proc/uptime") == b"12.35 0.00\n"
    assert text(files, b"/proc/version") == b"agentvm test\n"
    assert text(files, b"/proc/mounts") == b"tmpfs / tmpfs rw 0 0\nhost /with\\040space host ro 0 0\n"
    with pytest.raises(KernelError, match="EACCES"):
        files.open(b"/proc/version", write=True)


def test_a_guest_sees_its_budget(files, source):
    files.put(b"/f", b"x" * 10_000)
    limits = json.loads(text(files, b"/proc/agentvm/limits"))
    usage = json.loads(text(files, b"/proc/agentvm/usage"))
    assert limits["max_filesystem_bytes"] == 64 << 20
    assert limits["max_fuel"] is None
    assert usage["max_filesystem_bytes"]["used"] == files.charged()[0]
    assert set(usage) == set(limits) == {limit.name for limit in files.registry.usage()}


def test_an_open_text_stays_as_it_was(files, source):
    file = files.open(b"/proc/agentvm/usage")
    first = read(file, 100, offset=0)
    files.put(b"/f", b"x" * 100_000)
    rest = read(file, 100_000, offset=100)
    assert json.loads(first + rest)["max_inodes"]["used"] == 0
    assert file.seek(0, Whence.END) == len(first + rest)
    assert read(file, 10) == b""
    for range_ in (-1, 2**63):
        with pytest.raises(KernelError, match="EINVAL"):
            file.seek(range_, Whence.SET)
