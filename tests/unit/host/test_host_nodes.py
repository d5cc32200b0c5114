"""Directories of the host: each operation next to the same call of `os`, over every kind of thing that is there."""

import errno
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from host_rig import FILE, READ, Host

from agentvm.errno import Errno, KernelError
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.node import Node

NAMES = ("file", "other", "hard", "empty", "full", "link", "dangling", "loop", "fifo", "missing", "n" * 256)


def refused(errno: Errno) -> "pytest.RaisesExc[KernelError]":
    return pytest.raises(KernelError, check=lambda error: error.errno is errno)


def fill(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    (path / "file").write_bytes(b"file")
    (path / "other").write_bytes(b"other")
    os.link(path / "file", path / "hard")
    (path / "empty").mkdir()
    (path / "full").mkdir()
    (path / "full" / "inner").write_bytes(b"inner")
    (path / "link").symlink_to("file")
    (path / "dangling").symlink_to("nothing")
    (path / "loop").symlink_to("loop")
    os.mkfifo(path / "fifo")
    return path


def picture(path: Path) -> list[tuple[str, int, str]]:
    """Everything below `path`: names, modes, contents."""
    seen = []
    for entry in sorted(path.rglob("*")):
        status = entry.lstat()
        content = str(entry.readlink()) if entry.is_symlink() else entry.read_text() if entry.is_file() else ""
        seen.append((str(entry.relative_to(path)), status.st_mode, content))
    return seen


def by_os(act: Callable[[], object]) -> str | None:
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def by_node(act: Callable[[], object]) -> str | None:
    try:
        act()
    except KernelError as error:
        return error.errno.name
    return None


OPERATIONS: dict[str, tuple[Callable[[Path, str], object], Callable[[Node, bytes], object]]] = {
    "mkdir": (lambda at, name: os.mkdir(at / name, 0o750), lambda node, name: node.mkdir(name, 0o7750)),
    "create": (
        lambda at, name: os.close(os.open(at / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o640)),
        lambda node, name: node.create(name, 0o4640).release(),
    ),
    "symlink": (lambda at, name: os.symlink("../up", at / name), lambda node, name: node.symlink(name, b"../up")),
    "empty target": (lambda at, name: os.symlink("", at / name), lambda node, name: node.symlink(name, b"")),
    "unlink": (lambda at, name: os.unlink(at / name), lambda node, name: node.unlink(name)),
    "rmdir": (lambda at, name: os.rmdir(at / name), lambda node, name: node.rmdir(name)),
    "readlink": (lambda at, name: os.readlink(at / name), lambda node, name: node.lookup(name).readlink()),
    "link": (
        lambda at, name: os.link(at / "file", at / name, follow_symlinks=False),
        lambda node, name: node.link(name, node.lookup(b"file")),
    ),
    "link symlink": (
        lambda at, name: os.link(at / "dangling", at / name, follow_symlinks=False),
        lambda node, name: node.link(name, node.lookup(b"dangling")),
    ),
    "link directory": (
        lambda at, name: os.link(at / "empty", at / "new", follow_symlinks=False),
        lambda node, name: node.link(b"new", node.lookup(b"empty")),
    ),
    "lookup": (lambda at, name: os.lstat(at / name), lambda node, name: node.lookup(name)),
    "set_times": (
        lambda at, name: os.utime(at / name, ns=(5, 5), follow_symlinks=False),
        lambda node, name: node.lookup(name).set_times(5, 5),
    ),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_does_what_os_does(host: Host, tmp_path: Path, operation: str) -> None:
    with_os, with_node = OPERATIONS[operation]
    for number, name in enumerate(NAMES):
        actual, expected = fill(host.path / str(number)), fill(tmp_path / f"expected-{number}")
        root = host.mount(path=actual)
        done = by_node(lambda: with_node(root, os.fsencode(name)))  # noqa: B023 - called at once
        assert done == by_os(lambda: with_os(expected, name)), name  # noqa: B023
        assert picture(actual) == picture(expected), name
        root.close()


@pytest.mark.parametrize("name", [*NAMES[:-1], "full/inner"])
def test_each_rename_does_what_os_does(host: Host, tmp_path: Path, name: str) -> None:
    for number, target in enumerate([*NAMES[:-1], "full/inner", "full/new", "full/hard"]):
        actual, expected = fill(host.path / str(number)), fill(tmp_path / f"expected-{number}")
        root = host.mount(path=actual)
        full = root.lookup(b"full")
        (source, old), (destination, new) = (
            (full, path[5:]) if path.startswith("full/") else (root, path) for path in (name, target)
        )
        done = by_node(lambda: source.rename(os.fsencode(old), destination, os.fsencode(new)))  # noqa: B023
        assert done == by_os(lambda: os.rename(expected / name, expected / target)), target  # noqa: B023
        assert picture(actual) == picture(expected), target
        full.release()
        root.close()


def test_a_directory_does_not_move_into_itself(root: HostDirectoryNode) -> None:
    root.mkdir(b"a", 0o755)
    inside = root.lookup(b"a")
    inside.mkdir(b"b", 0o755)
    with refused(Errno.EINVAL):
        root.rename(b"a", inside, b"c")
    inside.release()


def test_kinds_are_told_and_only_files_and_directories_open(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(host.path / "socket"))
    kinds = {
        b"file": (Filetype.REGULAR_FILE, None),
        b"empty": (Filetype.DIRECTORY, None),
        b"link": (Filetype.SYMBOLIC_LINK, Errno.ELOOP),
        b"fifo": (Filetype.UNKNOWN, Errno.EACCES),
        b"socket": (Filetype.SOCKET_STREAM, Errno.ENXIO),
    }
    for name, (filetype, refusal) in kinds.items():
        node = root.lookup(name)
        assert (node.filetype, node.stat().filetype) == (filetype, filetype)
        if refusal is None:
            node.open(**READ).on_last_close()
        else:
            with refused(refusal):
                node.open(**READ)
        node.release()
    with refused(Errno.EISDIR):
        root.lookup(b"empty").open(**FILE)
    with refused(Errno.EISDIR):
        root.open(**READ, truncate=True)
    with refused(Errno.ENOTDIR):
        root.lookup(b"file").lookup(b"x")
    assert root.find(b"missing") is None


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"/etc", b"a\0b", b"\0"])
def test_what_is_no_name_is_refused_by_every_operation(root: HostDirectoryNode, host: Host, name: bytes) -> None:
    root.create(b"x", 0o644).release()
    file = root.lookup(b"x")
    for act in (
        lambda: root.lookup(name),
        lambda: root.find(name),
        lambda: root.create(name, 0o644),
        lambda: root.mkdir(name, 0o755),
        lambda: root.symlink(name, b"t"),
        lambda: root.link(name, file),
        lambda: root.unlink(name),
        lambda: root.rmdir(name),
        lambda: root.rename(name, root, b"y"),
        lambda: root.rename(b"x", root, name),
    ):
        with refused(Errno.EINVAL):
            act()
    file.release()
    assert os.listdir(host.path) == ["x"]


def test_symlinks_that_only_the_vm_would_understand_are_not_made(root: HostDirectoryNode, host: Host) -> None:
    with refused(Errno.EPERM):
        root.symlink(b"l", b"/etc/passwd")
    with refused(Errno.EINVAL):
        root.symlink(b"l", b"a\0b")
    assert os.listdir(host.path) == []
    (host.path / "given").symlink_to("/somewhere/else")
    assert root.lookup(b"given").readlink() == b"/somewhere/else"


def test_nothing_crosses_from_one_mount_to_another(host: Host) -> None:
    first, second = host.mount(), host.mount()
    first.create(b"f", 0o644).release()
    assert first.lookup(b"f").key != second.lookup(b"f").key
    with refused(Errno.EXDEV):
        first.rename(b"f", second, b"g")
    with refused(Errno.EXDEV):
        second.link(b"g", first.lookup(b"f"))
    with refused(Errno.EXDEV):
        first.rename(b"f", Node(), b"g")
    with refused(Errno.EXDEV):
        first.link(b"g", Node())


def test_a_child_outlives_the_release_of_its_parent(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path)
    full = root.lookup(b"full")
    inner = full.lookup(b"inner")
    full.release()
    full.release()
    with refused(Errno.EBADF):
        full.lookup(b"inner")
    assert inner.stat().size == 5
    file = inner.open(**READ)
    inner.release()
    with refused(Errno.EBADF):
        inner.stat()
    assert file.stat().size == 5
    file.on_last_close()


def test_an_open_directory_is_the_same_after_a_rename_and_a_removal(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path)
    node = root.lookup(b"empty")
    opened = node.open(**READ)
    node.release()
    ino = opened.stat().ino
    os.rename(host.path / "empty", host.path / "moved")
    assert opened.stat().ino == ino
    opened.set_times(3, 4)
    assert (host.path / "moved").stat().st_mtime_ns == 4
    opened.node.create(b"new", 0o644).release()
    assert os.listdir(host.path / "moved") == ["new"]
    opened.sync(data_only=False)
    shutil.rmtree(host.path / "moved")
    with refused(Errno.ENOENT):
        opened.node.create(b"more", 0o644)
    assert [entry.name for entry in opened.entries(0)] == [b".", b".."]
    opened.on_last_close()


def test_after_an_unmount_every_call_is_refused_and_nothing_falls_back_to_the_current_directory(
    root: HostDirectoryNode, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(host.path)
    monkeypatch.chdir(host.path)
    file = root.lookup(b"file")
    assert file.stat().size == 4
    opened = root.open(**READ)
    listing = opened.entries(0)
    root.release()
    assert root.lookup(b"file").stat().size == 4, "a mount's root is never released by a walk"
    root.close()
    root.close()
    for act in (
        lambda: root.lookup(b"file"),
        lambda: root.find(b"file"),
        root.stat,
        lambda: root.create(b"new", 0o644),
        lambda: root.mkdir(b"new", 0o755),
        lambda: root.symlink(b"new", b"t"),
        lambda: root.unlink(b"file"),
        lambda: root.rmdir(b"empty"),
        lambda: root.rename(b"file", root, b"new"),
        lambda: root.set_times(1, 1),
        file.stat,
        lambda: file.open(**READ),
        lambda: file.set_times(1, 1),
        lambda: opened.node.lookup(b"file"),
        lambda: [list(listing)],
    ):
        with refused(Errno.EBADF):
            act()
    assert "new" not in os.listdir(host.path)
    opened.on_last_close()


def test_a_swapped_file_is_opened_as_what_it_is_now(root: HostDirectoryNode, host: Host) -> None:
    fill(host.path)
    node = root.lookup(b"file")
    os.replace(host.path / "other", host.path / "file")
    file = node.open(**READ)
    data = bytearray(9)
    assert file.read_nowait([memoryview(data)]) == 5
    file.on_last_close()
    for swap, expected in ((b"fifo", Errno.EACCES), (b"link", Errno.ELOOP), (b"empty", Errno.EISDIR)):
        os.unlink(host.path / "file")
        os.rename(host.path / os.fsdecode(swap), host.path / "file")
        with refused(expected):
            node.open(**READ)
        if expected is Errno.EISDIR:
            break
    node.release()


def test_descriptors_run_out_with_enfile_and_come_back(host: Host) -> None:
    fill(host.path)
    root = host.mount()
    files = []
    with refused(Errno.ENFILE):
        while True:
            files.append(root.lookup(b"file").open(**READ))
    assert len(files) == 199
    before = picture(host.path)
    with refused(Errno.ENFILE):
        root.create(b"new", 0o644)
    assert picture(host.path) == before
    assert host.used("max_host_inodes") == 0
    for file in files:
        file.on_last_close()
    root.create(b"new", 0o644).release()


# -- permissions ------------------------------------------------------------------------------------------------------
def test_set_mode_follows_no_link_that_was_put_in_the_files_place(host: Host, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    outside.chmod(0o600)
    (host.path / "file").write_bytes(b"x")
    node = host.mount().lookup(b"file")
    (host.path / "file").unlink()
    (host.path / "file").symlink_to(outside)
    with refused(Errno.ELOOP):
        node.set_mode(0o777)
    node.release()
    assert outside.stat().st_mode & 0o777 == 0o600
