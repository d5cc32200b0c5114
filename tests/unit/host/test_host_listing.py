"""Listing host directories: cookies that hold while names come and go, and memory that does not grow with them."""

import os
from pathlib import Path

import pytest
from host_rig import READ, Host

from agentvm.host.host_directories import HostDirectoryNode
from agentvm.host.host_listing import HostListing
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import DirEntry, Filetype


def pieces(directory: OpenFile, size: int, cookie: int = 0) -> list[DirEntry]:
    """List in calls of `size` entries, each looking at one entry more than it keeps, as fd_readdir does."""
    seen: list[DirEntry] = []
    while True:
        kept = []
        for entry in directory.entries(cookie):
            if len(kept) == size:
                break
            kept.append(entry)
        if not kept:
            return seen
        seen += kept
        cookie = kept[-1].cookie


def fill(path: Path, count: int) -> list[bytes]:
    names = [f"name-{number:05}" for number in range(count)]
    for name in names:
        os.close(os.open(path / name, os.O_CREAT | os.O_WRONLY))
    return [os.fsencode(name) for name in names]


def test_empty_directory_has_itself_and_its_parent(root: HostDirectoryNode) -> None:
    opened = root.open(**READ)
    ino = root.stat().ino
    assert list(opened.entries(0)) == [
        DirEntry(1, ino, Filetype.DIRECTORY, b"."),
        DirEntry(2, ino, Filetype.DIRECTORY, b".."),
    ]
    assert [entry.name for entry in opened.entries(1)] == [b".."]
    assert list(opened.entries(2)) == []
    opened.on_last_close()


def test_entries_tell_inode_and_type(root: HostDirectoryNode, host: Host) -> None:
    (host.path / "file").write_bytes(b"")
    (host.path / "dir").mkdir()
    (host.path / "link").symlink_to("file")
    os.mkfifo(host.path / "fifo")
    opened = root.open(**READ)
    assert {entry.name: (entry.ino, entry.filetype) for entry in opened.entries(2)} == {
        name: (os.lstat(host.path / os.fsdecode(name)).st_ino, kind)
        for name, kind in {
            b"file": Filetype.REGULAR_FILE,
            b"dir": Filetype.DIRECTORY,
            b"link": Filetype.SYMBOLIC_LINK,
            b"fifo": Filetype.UNKNOWN,
        }.items()
    }
    opened.on_last_close()


@pytest.mark.parametrize("size", [1, 2, 7, 100, 5000])
def test_every_name_comes_once_in_pieces_of_any_size(root: HostDirectoryNode, host: Host, size: int) -> None:
    names = fill(host.path, 600)
    opened = root.open(**READ)
    seen = pieces(opened, size)
    assert [entry.cookie for entry in seen] == list(range(1, 603))
    assert sorted(entry.name for entry in seen[2:]) == names
    opened.on_last_close()


def test_removing_what_was_listed_skips_nothing(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 1500)
    opened = root.open(**READ)
    cookie, removed = 0, 0
    while kept := [entry for entry, _ in zip(opened.entries(cookie), range(64), strict=False)]:
        for entry in kept:
            if entry.name not in (b".", b".."):
                root.unlink(entry.name)
                removed += 1
        cookie = kept[-1].cookie
    assert removed == 1500
    assert os.listdir(host.path) == []
    opened.on_last_close()


def test_going_back_to_any_cookie_gives_the_same_rest(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 1200)
    opened = root.open(**READ)
    whole = list(opened.entries(0))
    for cookie in (1190, 3, 2, 700, 701, 699, 350, 1, 1202, 900, 0):
        assert list(opened.entries(cookie)) == whole[cookie:]
    opened.on_last_close()


def test_cookies_that_were_never_given_out_are_the_end(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 10)
    opened = root.open(**READ)
    assert list(opened.entries(5)) == []
    assert len(list(opened.entries(0))) == 12
    for cookie in (13, 1 << 31, (1 << 64) - 1):
        assert list(opened.entries(cookie)) == []
    opened.on_last_close()


def test_rewinding_reads_the_directory_anew(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 3)
    opened = root.open(**READ)
    assert len(list(opened.entries(0))) == 5
    fill(host.path, 6)
    (host.path / "name-00001").unlink()
    assert sorted(entry.name for entry in opened.entries(2)) == [
        f"name-{number:05}".encode() for number in (0, 2, 3, 4, 5)
    ]
    opened.on_last_close()


def test_two_readers_of_one_open_directory_do_not_cut_each_other_short(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 900)
    opened = root.open(**READ)
    first = [entry for entry, _ in zip(opened.entries(0), range(600), strict=False)]
    assert len(pieces(opened, 50)) == 902
    assert len(first) + len(list(opened.entries(first[-1].cookie))) == 902
    opened.on_last_close()


def test_names_that_are_not_utf8_can_be_seen_opened_and_removed(root: HostDirectoryNode, host: Host) -> None:
    name = b"bad-\xff\xfe"
    os.close(os.open(os.path.join(os.fsencode(host.path), name), os.O_CREAT))
    opened = root.open(**READ)
    assert [entry.name for entry in opened.entries(2)] == [name]
    root.lookup(name).open(**READ).on_last_close()
    root.unlink(name)
    assert list(opened.entries(2)) == []
    opened.on_last_close()


def test_a_listing_holds_one_descriptor_at_most_and_none_after_the_end(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path, 500)
    opened = root.open(**READ)
    before = host.fds.statistics().used
    next(opened.entries(3 if opened.entries(0) is None else 2))
    assert host.fds.statistics().used == before + 1
    next(opened.entries(2))
    assert host.fds.statistics().used == before + 1
    list(opened.entries(2))
    assert host.fds.statistics().used == before
    next(opened.entries(2))
    opened.on_last_close()
    assert host.fds.statistics().used == before


def test_what_a_listing_remembers_does_not_grow_with_the_directory(
    root: HostDirectoryNode, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentvm.host.host_listing._BATCH_BYTES", 300)
    fill(host.path, 2600)
    listing = HostListing(root.mount, root.fd)
    whole = [entry.name for entry in listing.entries(2, 0)]
    assert len(set(whole)) == 2600
    assert 64 <= len(listing._marks) <= 256
    assert len(listing._batch) <= 300
    for cookie in (2000, 10, 2599, 1234):
        assert [entry.name for entry in listing.entries(cookie, 0)] == whole[cookie - 2 :]
    listing.close()
