"""Open files of the host: each operation next to the same call of `os`, and what each refuses."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from host_rig import FILE, Host
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentvm.errno import Errno, KernelError
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.host.host_files import HostFile
from agentvm.kernel.stat import FdFlags, Filetype, Whence

BIG = 1 << 63


def open_new(root: HostDirectoryNode, name: bytes = b"f", *, flags: FdFlags = FdFlags(0)) -> HostFile:
    node = root.create(name, 0o644)
    try:
        return node.open(read=True, write=True, flags=flags)
    finally:
        node.release()


def buffers(*parts: bytes) -> list[memoryview]:
    return [memoryview(bytearray(part)) for part in parts]


def read(file: HostFile, size: int, offset: int | None = None) -> bytes:
    data = bytearray(size)
    view = [memoryview(data)]
    count = file.read_nowait(view) if offset is None else file.pread(view, offset)
    return bytes(data[:count])


def refused(errno: Errno) -> "pytest.RaisesExc[KernelError]":
    return pytest.raises(KernelError, check=lambda error: error.errno is errno)


def test_read_write_seek_and_positioned_calls(root: HostDirectoryNode, host: Host) -> None:
    file = open_new(root)
    assert file.write_nowait(buffers(b"hello ", b"", b"world")) == 11
    assert file.seek(0, Whence.CUR) == 11
    assert file.pwrite(buffers(b"J"), 0) == 1
    assert file.seek(-5, Whence.END) == 6
    assert file.readable_bytes() == 5
    assert read(file, 3) == b"wor"
    assert read(file, 99) == b"ld"
    assert read(file, 99) == b""
    assert read(file, 4, offset=0) == b"Jell"
    assert file.seek(2, Whence.SET) == 2
    assert read(file, 3) == b"llo"
    assert (host.path / "f").read_bytes() == b"Jello world"
    file.on_last_close()


def test_scattered_reads_fill_buffers_in_order(root: HostDirectoryNode) -> None:
    file = open_new(root)
    file.write_nowait(buffers(b"abcdef"))
    parts = [bytearray(2), bytearray(0), bytearray(3), bytearray(9)]
    assert file.pread([memoryview(part) for part in parts], 0) == 6
    assert [bytes(part) for part in parts] == [b"ab", b"", b"cde", b"f" + bytes(8)]
    file.on_last_close()


def test_more_buffers_than_the_host_takes_make_a_short_count(root: HostDirectoryNode) -> None:
    file = open_new(root)
    assert file.write_nowait(buffers(*[b"x"] * 1500)) == 1024
    assert file.pread(buffers(*[b"-"] * 1500), 0) == 1024
    file.on_last_close()


@pytest.mark.parametrize("positioned", [False, True])
def test_append_goes_to_the_end_also_when_positioned(root: HostDirectoryNode, host: Host, positioned: bool) -> None:
    file = open_new(root, flags=FdFlags.APPEND)
    file.write_nowait(buffers(b"one"))
    file.seek(0, Whence.SET)
    with (host.path / "f").open("ab") as other:
        other.write(b"TWO")
    data = buffers(b"three")
    assert (file.pwrite(data, 0) if positioned else file.write_nowait(data)) == 5
    assert file.seek(0, Whence.CUR) == (0 if positioned else 11)
    assert (host.path / "f").read_bytes() == b"oneTWOthree"
    file.on_last_close()


def test_append_can_be_switched(root: HostDirectoryNode, host: Host) -> None:
    file = open_new(root, flags=FdFlags.APPEND)
    file.write_nowait(buffers(b"abc"))
    file.set_flags(FdFlags.NONBLOCK)
    file.pwrite(buffers(b"X"), 0)
    file.set_flags(FdFlags.APPEND)
    file.seek(0, Whence.SET)
    file.write_nowait(buffers(b"d"))
    assert file.flags == FdFlags.APPEND
    assert (host.path / "f").read_bytes() == b"Xbcd"
    with refused(Errno.EINVAL):
        file.set_flags(FdFlags.SYNC)
    file.on_last_close()


@pytest.mark.parametrize("flags", [FdFlags.SYNC, FdFlags.DSYNC, FdFlags.RSYNC, FdFlags.SYNC | FdFlags.APPEND])
def test_sync_flags_reach_the_host(root: HostDirectoryNode, flags: FdFlags) -> None:
    open_new(root).on_last_close()
    file = root.lookup(b"f").open(read=False, write=True, flags=flags)
    file.write_nowait(buffers(b"x"))
    file.sync(data_only=True)
    file.sync(data_only=False)
    file.set_flags(flags | FdFlags.NONBLOCK)
    file.on_last_close()
    created = open_new(root, b"g", flags=flags)
    created.write_nowait(buffers(b"x"))
    created.on_last_close()


@pytest.mark.parametrize(
    ("act", "errno"),
    [
        (lambda file: file.seek(-1, Whence.SET), Errno.EINVAL),
        (lambda file: file.seek(-1, Whence.CUR), Errno.EINVAL),
        (lambda file: file.seek(-1, Whence.END), Errno.EINVAL),
        (lambda file: file.seek(BIG, Whence.SET), Errno.EINVAL),
        (lambda file: file.pread(buffers(b"x"), BIG), Errno.EINVAL),
        (lambda file: file.pwrite(buffers(b"x"), BIG), Errno.EINVAL),
        (lambda file: file.pwrite(buffers(b"x"), BIG - 1), Errno.EINVAL),
        (lambda file: file.truncate(BIG), Errno.EFBIG),
        (lambda file: file.truncate(2 * BIG), Errno.EFBIG),
        (lambda file: file.allocate(0, 0), Errno.EINVAL),
        (lambda file: file.allocate(1, BIG), Errno.EFBIG),
        (lambda file: file.allocate(2 * BIG - 1, 2 * BIG - 1), Errno.EFBIG),
        (lambda file: file.advise(0, 1, 6), Errno.EINVAL),
        (lambda file: file.entries(0), Errno.ENOTDIR),
    ],
)
def test_bad_arguments(root: HostDirectoryNode, act: Callable[[HostFile], object], errno: Errno) -> None:
    file = open_new(root)
    with refused(errno):
        act(file)
    assert file.stat().size == 0
    file.on_last_close()


@pytest.mark.parametrize("advice", range(6))
def test_advice_of_any_size_is_taken(root: HostDirectoryNode, advice: int) -> None:
    file = open_new(root)
    file.advise(0, 0, advice)
    file.advise(10, 2 * BIG - 1, advice)
    file.advise(2 * BIG - 1, 1, advice)
    file.on_last_close()


def test_what_it_was_not_opened_for_is_refused(root: HostDirectoryNode) -> None:
    open_new(root).on_last_close()
    node = root.lookup(b"f")
    reader = node.open(read=True, write=False, flags=FdFlags(0))
    writer = node.open(read=False, write=True, flags=FdFlags(0))
    neither = node.open(read=False, write=False, flags=FdFlags(0))
    for file in (reader, neither):
        for act, refusal in (
            (lambda file: file.write_nowait(buffers(b"x")), Errno.EBADF),
            (lambda file: file.pwrite(buffers(b"x"), 0), Errno.EBADF),
            (lambda file: file.truncate(0), Errno.EINVAL),
            (lambda file: file.allocate(0, 1), Errno.EBADF),
        ):
            with refused(refusal):
                act(file)
    for file in (writer, neither):
        with refused(Errno.EBADF):
            read(file, 1)
        with refused(Errno.EBADF):
            read(file, 1, offset=0)
    for file in (reader, writer, neither):
        assert file.stat().filetype is Filetype.REGULAR_FILE
        file.on_last_close()


def test_truncating_on_open_does_not_make_it_writable(root: HostDirectoryNode, host: Host) -> None:
    (host.path / "f").write_bytes(b"old")
    file = root.lookup(b"f").open(read=True, write=False, flags=FdFlags(0), truncate=True)
    assert (host.path / "f").read_bytes() == b""
    with refused(Errno.EBADF):
        file.write_nowait(buffers(b"x"))
    file.on_last_close()


def test_a_created_file_is_open_for_writing_whatever_its_mode(root: HostDirectoryNode, host: Host) -> None:
    file = root.create(b"f", 0o400).open(**FILE)
    file.write_nowait(buffers(b"data"))
    file.on_last_close()
    assert (host.path / "f").read_bytes() == b"data"
    assert (host.path / "f").stat().st_mode & 0o7777 == 0o400


def test_times_are_set_one_by_one(root: HostDirectoryNode, host: Host) -> None:
    file = open_new(root)
    file.set_times(5_000_000_001, 7_000_000_002)
    file.set_times(None, 9)
    status = (host.path / "f").stat()
    assert (status.st_atime_ns, status.st_mtime_ns) == (5_000_000_001, 9)
    file.set_times(11, None)
    assert (file.stat().atime_ns, file.stat().mtime_ns) == (11, 9)
    file.on_last_close()


def test_attributes_are_the_hosts_save_the_device(root: HostDirectoryNode, host: Host) -> None:
    (host.path / "f").write_bytes(b"12345")
    os.link(host.path / "f", host.path / "g")
    os.utime(host.path / "f", ns=(-5, 42))
    status = (host.path / "f").stat()
    file = root.lookup(b"f").open(read=True, write=False, flags=FdFlags(0))
    for seen in (file.stat(), root.lookup(b"f").stat(), root.lookup(b"g").stat()):
        assert (seen.dev, seen.ino) == (7, status.st_ino) == root.lookup(b"g").key
        assert (seen.size, seen.nlink, seen.mode) == (5, 2, status.st_mode & 0o7777)
        assert (seen.atime_ns, seen.mtime_ns, seen.ctime_ns) == (0, 42, status.st_ctime_ns)
    file.on_last_close()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.binary(max_size=40), max_size=4)),
        st.tuples(st.just("pwrite"), st.binary(max_size=40), st.integers(0, 120)),
        st.tuples(st.just("read"), st.integers(0, 60)),
        st.tuples(st.just("pread"), st.integers(0, 60), st.integers(0, 120)),
        st.tuples(st.just("seek"), st.integers(-60, 120), st.sampled_from(Whence)),
        st.tuples(st.just("truncate"), st.integers(0, 120)),
        st.tuples(st.just("allocate"), st.integers(0, 60), st.integers(0, 60)),
        st.tuples(st.just("append"), st.booleans()),
        st.tuples(st.just("outside"), st.integers(0, 120)),
    ),
    max_size=25,
)


class Reference:
    """The same operations by plain calls of `os` on another file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.append = False

    def write(self, parts: list[bytes]) -> int:
        return os.writev(self.fd, parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self.fd, data, offset)

    def read(self, size: int) -> bytes:
        return os.read(self.fd, size)

    def pread(self, size: int, offset: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def seek(self, offset: int, whence: Whence) -> int:
        return os.lseek(self.fd, offset, whence)

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def allocate(self, offset: int, length: int) -> None:
        os.posix_fallocate(self.fd, offset, length)

    def set_append(self, on: bool) -> None:
        offset = os.lseek(self.fd, 0, os.SEEK_CUR)
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR | (os.O_APPEND if on else 0))
        os.lseek(self.fd, offset, os.SEEK_SET)


def step(file: HostFile, operation: tuple[object, ...]) -> object:
    name, *arguments = operation
    match name, arguments:
        case "write", [parts]:
            return file.write_nowait([memoryview(part) for part in parts])
        case "pwrite", [data, offset]:
            return file.pwrite([memoryview(data)], offset)
        case "read", [size]:
            return read(file, size)
        case "pread", [size, offset]:
            return read(file, size, offset)
        case "append", [on]:
            return file.set_flags(FdFlags.APPEND if on else FdFlags(0))
        case _:
            return getattr(file, str(name))(*arguments)


def outcome(act: Callable[[], object]) -> object:
    try:
        return act()
    except KernelError as error:
        return error.errno.name
    except OSError as error:
        return errno.errorcode[error.errno or 0]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_any_sequence_does_what_os_does(
    root: HostDirectoryNode, host: Host, tmp_path: Path, operations: list[tuple[object, ...]]
) -> None:
    reference = Reference(tmp_path / "reference")
    used = host.used()
    file = open_new(root)
    try:
        for operation in operations:
            name, *arguments = operation
            if name == "outside":  # somebody on the host changes the size
                os.truncate(host.path / "f", arguments[0])
                os.truncate(reference.path, arguments[0])
                continue
            method = "set_append" if name == "append" else str(name)
            expected = outcome(lambda: getattr(reference, method)(*arguments))  # noqa: B023 - called at once
            assert outcome(lambda: step(file, operation)) == expected  # noqa: B023
            assert (host.path / "f").read_bytes() == reference.path.read_bytes()
            assert host.used() >= 0
    finally:
        os.close(reference.fd)
        file.on_last_close()
        root.unlink(b"f")
    assert host.used() == used or any(operation[0] == "outside" for operation in operations)
