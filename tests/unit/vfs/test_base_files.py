"""The files that every VM starts with: shared and free until they change, and then like any other."""

import pytest

from agentvm.errno import KernelError
from agentvm.kernel.vfs.base_files import BASE_FILES
from agentvm.kernel.vfs.space import NAME_COST

PASSWD = BASE_FILES[b"etc/passwd"]


def charged(files):
    usage = files.vfs.memory.recount()
    space, inodes = (files.registry.gauge(name).used for name in ("max_filesystem_bytes", "max_inodes"))
    assert (usage.charged_bytes, usage.inodes) == (space, inodes)
    return space


def test_they_cost_nothing_and_are_roots(files):
    assert charged(files) == 0
    assert files.get(b"/etc/passwd") == PASSWD
    assert charged(files) == 0
    status = files.vfs.stat_at(files.root, b"/etc/passwd", **files.free)
    assert (status.size, status.uid, status.gid, status.mode) == (len(PASSWD), 0, 0, 0o644)
    inode = files.vfs.memory.root.children[b"etc"][1].children[b"passwd"][1]
    assert inode.chunks.startswith(PASSWD)


def write(file, data, offset):
    assert file.pwrite([memoryview(data)], offset) == len(data)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda file: write(file, b"X", 0), b"X" + PASSWD[1:]),
        (lambda file: write(file, b"more", len(PASSWD)), PASSWD + b"more"),
        (lambda file: write(file, b"far", 200_000), PASSWD.ljust(200_000, b"\0") + b"far"),
        (lambda file: file.truncate(5), PASSWD[:5]),
        (lambda file: file.truncate(0), b""),
        (lambda file: file.truncate(300), PASSWD.ljust(300, b"\0")),
        (lambda file: file.allocate(0, 5000), PASSWD.ljust(5000, b"\0")),
    ],
    ids=["overwrite", "append", "far", "cut", "empty", "grow", "allocate"],
)
def test_a_change_is_charged_and_stays_in_its_vm(files, change, expected):
    file = files.open(b"/etc/passwd", write=True)
    change(file)
    file.on_last_close()
    assert files.get(b"/etc/passwd") == expected
    assert (charged(files) > 0) == (expected not in (b"", PASSWD.ljust(300, b"\0")))
    assert BASE_FILES[b"etc/passwd"] is PASSWD
    files.vfs.close()
    assert files.registry.gauge("max_filesystem_bytes").used == 0


def test_a_change_that_finds_no_space_is_enospc_and_changes_nothing(make_files):
    files = make_files(max_filesystem_bytes=64)
    file = files.open(b"/etc/passwd", write=True)
    for change in (lambda: write(file, b"X", 0), lambda: file.truncate(5), lambda: file.allocate(0, 500)):
        with pytest.raises(KernelError, match="ENOSPC"):
            change()
    assert files.get(b"/etc/passwd") == PASSWD
    assert charged(files) == 0
    file.truncate(0)
    assert files.get(b"/etc/passwd") == b""


def test_further_names_are_charged(files):
    files.link(b"/etc/passwd", b"/etc/other")
    assert charged(files) == NAME_COST + len(b"other")
    files.rename(b"/etc/passwd", b"/etc/longer-name")
    assert charged(files) == 2 * NAME_COST + len(b"other") + len(b"longer-name")
    files.rename(b"/etc/longer-name", b"/etc/passwd")
    files.unlink(b"/etc/other")
    assert charged(files) == 0
    files.unlink(b"/etc/passwd")
    assert charged(files) == 0
    files.put(b"/etc/passwd", b"x")
    assert charged(files) > 0
