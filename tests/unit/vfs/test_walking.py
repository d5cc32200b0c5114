"""Walking paths: mounts, nodes that must be released, and depths and sizes that would break recursion."""

import sys

import pytest

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.files import FileAccess
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenDirectory
from agentvm.kernel.vfs.space import SpaceAccount
from agentvm.kernel.vfs.tree import MemoryFilesystem
from agentvm.kernel.wait import Lock


class Handle(Node):
    """A node of another filesystem that is made by each lookup and must be released, as those of the host are."""

    live = 0
    most = 0
    transient = True

    def __init__(self, inner, *, transient=True):
        self.inner = inner
        self.filetype = inner.filetype
        self.transient = transient
        self.released = False
        if transient:
            Handle.live += 1
            Handle.most = max(Handle.most, Handle.live)

    @property
    def key(self):
        return self.inner.key

    def release(self):
        assert self.transient, "the root of a mount is not the walker's"
        assert not self.released, "released twice"
        self.released = True
        Handle.live -= 1

    def stat(self):
        return self.inner.stat()

    def readlink(self):
        return self.inner.readlink()

    def lookup(self, name):
        assert not self.released
        return Handle(self.inner.lookup(name))

    def create(self, name, mode):
        return Handle(self.inner.create(name, mode))

    def open(self, *, read, write, flags, truncate=False):
        if self.filetype is Filetype.DIRECTORY:
            return OpenDirectory(Handle(self.inner), flags)
        return self.inner.open(read=read, write=write, flags=flags, truncate=truncate)

    def mkdir(self, name, mode):
        self.inner.mkdir(name, mode)

    def symlink(self, name, target):
        self.inner.symlink(name, target)

    def link(self, name, node):
        if not isinstance(node, Handle):
            raise KernelError(Errno.EXDEV)
        self.inner.link(name, node.inner)

    def unlink(self, name):
        self.inner.unlink(name)

    def rmdir(self, name):
        self.inner.rmdir(name)

    def rename(self, name, target, target_name):
        if not isinstance(target, Handle):
            raise KernelError(Errno.EXDEV)
        self.inner.rename(name, target.inner, target_name)

    def entries(self, cookie):
        return self.inner.entries(cookie)


def other_filesystem(files, dev=20):
    account = SpaceAccount(files.registry.gauge("max_filesystem_bytes"), files.registry.ceiling("max_file_bytes"))
    return MemoryFilesystem(
        pipes=files.vfs.pipes, dev=dev, account=account, inodes=files.registry.gauge("max_inodes"), clock=files.clock
    )


@pytest.fixture
def host(files):
    """The root of a filesystem like the host's; afterwards no node of it may be held."""
    Handle.live = Handle.most = 0
    yield Handle(other_filesystem(files).root, transient=False)
    assert Handle.live == 0


def remount(files, path, node):
    files.vfs.mount(path, node)
    files.root = files.vfs.root
    files.free["root"] = files.root


def test_walks_release_every_node_they_took(files, host):
    remount(files, b"/src", host)
    files.mkdir(b"/src/a")
    files.mkdir(b"/src/a/b")
    files.put(b"/src/a/b/f", b"data")
    files.symlink(b"/src/link", b"a/b/../b/./f")
    files.symlink(b"/src/loop", b"loop")
    files.symlink(b"/src/up", b"/src/a")
    assert files.get(b"/src/link") == b"data"
    assert files.get(b"/src/up/b/f") == b"data"
    directory = files.open(b"/src/a")
    assert [entry.name for entry in directory.entries(2)] == [b"b"]
    assert files.vfs.stat_at(directory.node, b"b/f", root=None, confined=True).size == 4
    assert files.vfs.stat_at(directory.node, b"b", root=None, confined=True).filetype is Filetype.DIRECTORY
    directory.on_last_close()
    files.link(b"/src/a/b/f", b"/src/a/g")
    files.rename(b"/src/a/g", b"/src/a/b/f")
    for path in (b"/src/loop", b"/src/loop/x", b"/src/a/b/f/x", b"/src/a/x/y", b"/src/a/b/f/", b"/src/" + b"n" * 256):
        with pytest.raises(KernelError):
            files.vfs.stat_at(files.root, path, **files.free)
    for operation in (files.unlink, files.rmdir):
        with pytest.raises(KernelError):
            operation(b"/src/a")
    with pytest.raises(KernelError, match="EXDEV"):
        files.rename(b"/src/a", b"/home/a")
    files.unlink(b"/src/link")


def test_a_long_path_holds_few_nodes_and_dot_dot_finds_the_others_again(files, host):
    remount(files, b"/src", host)
    directory = host.inner
    for _ in range(600):
        directory.mkdir(b"d", 0o755)
        directory = directory.lookup(b"d")
    directory.create(b"f", 0o644)
    down = b"/src" + b"/d" * 600
    assert files.vfs.stat_at(files.root, down + b"/f", **files.free).filetype is Filetype.REGULAR_FILE
    assert files.vfs.stat_at(files.root, down + b"/.." * 599 + b"/d/d", **files.free).ino == 18
    assert files.vfs.stat_at(files.root, down + b"/.." * 600 + b"/../src/d", **files.free).ino == 16
    assert files.vfs.stat_at(files.root, down + b"/../" * 590 + b"d" + b"/d" * 5, **files.free).ino == 31
    assert Handle.most <= 40


def test_a_host_directory_at_the_root_keeps_the_mounts_below_it(files, host):
    memory_device = other_filesystem(files, dev=21)
    memory_device.root.create(b"null", 0o666)
    files.vfs.mount(b"/dev", memory_device.root)
    remount(files, b"/", host)
    assert files.vfs.stat_at(files.root, b"/dev/null", **files.free).dev == 21
    assert files.vfs.stat_at(files.root, b"dev/../tmp/../dev/null", **files.free).dev == 21
    assert files.names(b"/") == []
    files.put(b"/tmp/f", b"x")
    assert files.vfs.stat_at(files.root, b"/tmp/f", **files.free).dev == 2
    assert files.vfs.stat_at(files.root, b"/", **files.free).dev == 20


def test_mounts_nest_hide_what_is_below_and_go_away(files):
    first, second = other_filesystem(files, 21), other_filesystem(files, 22)
    files.mkdir(b"/a")
    files.put(b"/a/hidden")
    files.vfs.mount(b"/a/b/c", second.root)
    files.vfs.mount(b"/a", first.root)
    assert files.vfs.stat_at(files.root, b"/a", **files.free).dev == 21
    assert files.vfs.stat_at(files.root, b"/a/b/c", **files.free).dev == 22
    assert files.vfs.stat_at(files.root, b"/a/b/c/../..", **files.free).dev == 21
    assert files.vfs.stat_at(files.root, b"/a/b/c/../../..", **files.free).dev == 1
    assert files.names(b"/a") == [b"b"]
    assert [path for path, _ in files.vfs.mounts()] == [b"/", b"/a", b"/a/b/c", b"/tmp"]
    files.vfs.unmount(b"/a/")
    assert b"hidden" in files.names(b"/a")
    assert files.vfs.stat_at(files.root, b"/a/b/c", **files.free).dev == 22
    files.vfs.unmount(b"/a/b/c")
    assert files.vfs.stat_at(files.root, b"/a/b/c", **files.free).dev == 1
    with pytest.raises(KernelError, match="EINVAL"):
        files.vfs.unmount(b"/a")


@pytest.mark.parametrize(
    ("path", "errno"), [(b"relative", "EINVAL"), (b"/file/x", "ENOTDIR"), (b"/file/x/y", "ENOTDIR")]
)
def test_a_mount_that_fails_changes_nothing(files, path, errno):
    files.put(b"/file")
    with pytest.raises(KernelError, match=errno):
        files.vfs.mount(path, other_filesystem(files).root)
    assert [path for path, _ in files.vfs.mounts()] == [b"/", b"/tmp"]


def test_a_single_file_can_be_mounted(files):
    filesystem = other_filesystem(files)
    file = filesystem.root.create(b"f", 0o644)
    files.vfs.mount(b"/home/config", file)
    assert files.vfs.stat_at(files.root, b"/home/config", **files.free).dev == 20
    with pytest.raises(KernelError, match="EBUSY"):
        files.unlink(b"/home/config")


def test_a_tree_ten_thousand_deep_is_made_renamed_listed_and_removed(files):
    base = files.root
    stack = []
    for _ in range(10_000):
        files.vfs.mkdir_at(base, b"d", root=None, confined=True)
        opened = files.vfs.open_at(base, b"d", root=None, confined=True, directory=True)
        base = opened.node
        stack.append(opened)
    files.vfs.rename_at(stack[5000].node, b"d", files.root, b"half", root=None, confined=True)
    with pytest.raises(KernelError, match="EINVAL"):
        files.vfs.rename_at(files.root, b"half", base, b"x", root=None, confined=True)
    assert files.charged()[1] == 10_000
    for opened in stack:
        opened.on_last_close()
    del stack, base, opened
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(200)
    try:
        access = FileAccess(files.vfs, Lock())
        access.rmtree("/half")
        access.rmtree("/d")
    finally:
        sys.setrecursionlimit(limit)
    assert files.charged() == (0, 0)


def test_a_deep_tree_is_dropped_with_its_filesystem(files):
    directory = files.root
    for _ in range(10_000):
        directory.mkdir(b"d", 0o755)
        directory = directory.lookup(b"d")
    directory = None
    files.vfs.close()
    assert files.registry.gauge("max_inodes").used == 0
