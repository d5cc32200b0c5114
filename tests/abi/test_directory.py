"""preview1 listing of directories: with buffers of any size, and while the directory changes."""

import struct
from typing import NamedTuple

import pytest

from agentvm import Errno
from agentvm.kernel.stat import Filetype
from tests.abi.rig import Rig

HEAD = 24


class Entry(NamedTuple):
    cookie: int
    ino: int
    filetype: int
    name: str


def _page(rig: Rig, fd: int, size: int, cookie: int) -> tuple[list[Entry], int]:
    """Return the whole entries of one call, and how many bytes it used."""
    buffer = rig.space(size)
    rig.ok("fd_readdir", fd, buffer, size, cookie, 64, writes=[(64, 4), (buffer, size)])
    used = rig.number(64)
    data, entries, start = rig.read(buffer, used), [], 0
    while start + HEAD <= used:
        following, ino, length, filetype = struct.unpack_from("<QQIB", data, start)
        name = data[start + HEAD : start + HEAD + length]
        if len(name) < length:
            break
        entries.append(Entry(following, ino, filetype, name.decode()))
        start += HEAD + length
    return entries, used


def _list(rig: Rig, fd: int, size: int) -> list[str]:
    """List a directory as programs do: from the last whole entry on, until a buffer is not full."""
    names: list[str] = []
    cookie = 0
    while True:
        entries, used = _page(rig, fd, size, cookie)
        names += [entry.name for entry in entries]
        if used < size:
            return names
        assert entries, "a buffer too small for one entry makes no progress"
        cookie = entries[-1].cookie


def _directory(rig: Rig, *names: str) -> int:
    rig.vm.fs.mkdir("/tmp/d")
    for name in names:
        rig.vm.fs.write(f"/tmp/d/{name}", b"")
    return rig.open_dir("tmp/d")


def test_fd_readdir_starts_with_dot_and_dot_dot(rig: Rig) -> None:
    fd = _directory(rig, "file")
    rig.vm.fs.mkdir("/tmp/d/sub")
    rig.ok("path_symlink", *rig.text("file"), fd, *rig.text("link"))
    entries, used = _page(rig, fd, 1000, 0)
    assert [entry.name for entry in entries] == [".", "..", "file", "sub", "link"]
    kinds = [entry.filetype for entry in entries]
    assert kinds == [Filetype.DIRECTORY] * 2 + [Filetype.REGULAR_FILE, Filetype.DIRECTORY, Filetype.SYMBOLIC_LINK]
    assert used == sum(HEAD + len(entry.name) for entry in entries)
    assert rig.trace[-1].endswith("cookie=0, result=64) -> OK")


def test_fd_readdir_tells_the_inode_numbers_of_stat(rig: Rig) -> None:
    fd = _directory(rig, "file")
    inodes = {entry.name: entry.ino for entry in _page(rig, fd, 1000, 0)[0]}
    for name in (".", "file"):
        rig.ok("path_filestat_get", fd, 0, *rig.text(name), 128)
        assert rig.number(128 + 8, 8) == inodes[name]


@pytest.mark.parametrize("size", [*range(HEAD + 10, HEAD + 40), 100, 4096])
def test_fd_readdir_of_any_size_lists_every_name_once(rig: Rig, size: int) -> None:
    names = [f"name-{i}" for i in range(9)] + ["x" * 10]
    assert _list(rig, _directory(rig, *names), size) == [".", "..", *names]


def test_fd_readdir_cuts_the_entry_that_does_not_fit(rig: Rig) -> None:
    fd = _directory(rig, "abcdef")
    whole, used = _page(rig, fd, 1000, 2)
    assert [entry.name for entry in whole] == ["abcdef"]
    for size in range(used):
        buffer = rig.space(size + 1)
        rig.ok("fd_readdir", fd, buffer, size, 2, 64, writes=[(64, 4), (buffer, size)])
        assert rig.number(64) == size
    entries, used = _page(rig, fd, HEAD + 6, 2)
    assert (len(entries), used) == (1, HEAD + 6)  # full: there may be more


def test_fd_readdir_from_beyond_the_end_is_empty(rig: Rig) -> None:
    fd = _directory(rig, "a")
    last = _page(rig, fd, 1000, 0)[0][-1].cookie
    for cookie in (last, last + 1, 1 << 62, (1 << 64) - 1):
        assert _page(rig, fd, 100, cookie) == ([], 0)


def test_fd_readdir_cookies_stay_good_while_the_directory_changes(rig: Rig) -> None:
    """Names that stay are listed exactly once, whatever comes and goes between two calls."""
    stable = [f"keep-{i:02}" for i in range(30)]
    fd = _directory(rig, *stable, *[f"gone-{i:02}" for i in range(30)])
    seen: list[str] = []
    cookie = 0
    for step in range(200):
        entries, used = _page(rig, fd, 70, cookie)
        seen += [entry.name for entry in entries]
        if used < 70:
            break
        cookie = entries[-1].cookie
        if step < 30:
            rig.vm.fs.remove(f"/tmp/d/gone-{step:02}")
            rig.vm.fs.write(f"/tmp/d/new-{step:02}", b"")
    assert [name for name in seen if name.startswith("keep")] == stable
    assert len(seen) == len(set(seen))


def test_fd_readdir_of_a_removed_directory_is_empty_or_gone(rig: Rig) -> None:
    fd = _directory(rig)
    rig.ok("path_remove_directory", 3, *rig.text("tmp/d"))
    assert [name for name in _list(rig, fd, 100) if name not in (".", "..")] == []


def test_fd_readdir_of_a_file_or_stream_is_enotdir(rig: Rig) -> None:
    for fd in (0, rig.create("/tmp/a")):
        assert rig.call("fd_readdir", fd, 100, 50, 0, 64) is Errno.ENOTDIR
