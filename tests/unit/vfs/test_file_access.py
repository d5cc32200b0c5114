"""`vm.fs`: whole files by absolute path, from the program that embeds the VM."""

import pytest

from agentvm.errno import KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.files import FileAccess
from agentvm.kernel.wait import Lock


@pytest.fixture
def fs(files):
    return FileAccess(files.vfs, Lock())


def test_what_is_written_is_read(fs):
    data = bytes(range(256)) * 9000
    fs.write("/home/f", data)
    assert fs.read("/home/f") == fs.read(b"/home/f") == data
    fs.write("/home/f", b"short")
    fs.write("/home/f", b" and more", append=True)
    assert fs.read("/home/f") == b"short and more"
    assert fs.stat("/home/f").mode == 0o644


def test_writing_makes_parents_only_when_asked(fs):
    with pytest.raises(KernelError, match="ENOENT"):
        fs.write("/a/b/f", b"x")
    fs.write("/a/b/f", b"x", parents=True)
    assert fs.read("/a/b/f") == b"x"
    assert fs.stat("/a/b").filetype is Filetype.DIRECTORY


def test_directories(fs):
    fs.mkdir("/a/b/c", parents=True)
    with pytest.raises(KernelError, match="EEXIST"):
        fs.mkdir("/a")
    fs.mkdir("/a", exist_ok=True)
    fs.write("/file", b"")
    with pytest.raises(KernelError, match="EEXIST"):
        fs.mkdir("/file", exist_ok=True)
    assert fs.listdir("/a") == ["b"]
    fs.rmdir("/a/b/c")
    assert fs.listdir("/a/b") == []


def test_names_that_are_not_utf8_come_back_as_they_were(fs):
    fs.write(b"/tmp/\xff\xfe", b"x")
    (name,) = fs.listdir("/tmp")
    assert fs.read(f"/tmp/{name}") == b"x"


def test_links_and_renames(fs):
    fs.write("/f", b"x")
    fs.symlink("f", "/link")
    fs.symlink("/nowhere", "/dangling")
    assert fs.readlink("/link") == b"f"
    assert fs.exists("/link")
    assert not fs.exists("/dangling")
    assert not fs.exists("/f/x")
    fs.rename("/f", "/g")
    assert not fs.exists("/link")
    fs.remove("/g")
    with pytest.raises(KernelError, match="EISDIR"):
        fs.remove("/home")
    with pytest.raises(KernelError, match="EINVAL"):
        fs.read("relative")


def test_rmtree_follows_no_symlink_and_stops_at_mounts(fs, files):
    fs.write("/keep/f", b"x", parents=True)
    fs.write("/tree/a/b/f", b"x", parents=True)
    fs.symlink("/keep", "/tree/a/link")
    for number in range(200):
        fs.write(f"/tree/{number}", b"")
        fs.mkdir(f"/tree/dir{number}")
    fs.rmtree("/tree")
    assert fs.read("/keep/f") == b"x"
    assert not fs.exists("/tree")
    fs.rmtree("/keep/f")
    files.vfs.mount(b"/keep/mounted", files.vfs.temporary.root)
    fs.write("/tmp/safe", b"x")
    with pytest.raises(KernelError, match="EBUSY"):
        fs.rmtree("/keep")
    assert fs.exists("/tmp/safe")
    files.vfs.unmount(b"/keep/mounted")
    fs.rmtree("/keep")
    files.charged()


def test_a_write_that_does_not_fit_fails_and_leaves_what_fitted(make_files):
    files = make_files(max_filesystem_bytes=100_000)
    fs = FileAccess(files.vfs, Lock())
    with pytest.raises(KernelError, match="ENOSPC"):
        fs.write("/f", b"x" * 200_000)
    assert 80_000 < fs.stat("/f").size < 100_000
    fs.remove("/f")
    assert files.charged() == (0, 0)


def test_a_huge_hole_is_not_read_into_memory(fs, files):
    file = files.create(b"/hole")
    file.truncate(2**40)
    with pytest.raises(KernelError, match="EFBIG"):
        fs.read("/hole")
    file.truncate(1000)
    assert fs.read("/hole", max_bytes=1000) == bytes(1000)
    with pytest.raises(KernelError, match="EFBIG"):
        fs.read("/hole", max_bytes=999)
    file.on_last_close()
    files.unlink(b"/hole")
    assert files.charged() == (0, 0)
