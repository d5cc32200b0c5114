"""Each operation refuses with Linux's errno: one table for each, on one tree."""

from collections.abc import Callable

import pytest

from agentvm.errno import KernelError
from agentvm.kernel.stat import FdFlags

LONG_NAME = b"n" * 256
LONG_PATH = b"/" + b"a/" * 2048


@pytest.fixture
def tree(files):
    files.mkdir(b"/dir")
    files.mkdir(b"/dir/full")
    files.put(b"/dir/full/file")
    files.mkdir(b"/empty")
    files.put(b"/file", b"data")
    files.put(b"/other", b"data")
    files.symlink(b"/to_file", b"file")
    files.symlink(b"/to_dir", b"dir")
    files.symlink(b"/dangling", b"nowhere")
    files.symlink(b"/loop", b"loop")
    files.symlink(b"/to_file_slash", b"file/")
    return files


def errno_of(call: Callable[[], object]) -> str:
    try:
        call()
    except KernelError as error:
        return error.errno.name
    return "done"


PATHS = [
    (b"", "ENOENT"),
    (b"/missing", "ENOENT"),
    (b"/missing/", "ENOENT"),
    (b"/missing/x", "ENOENT"),
    (b"/file/x", "ENOTDIR"),
    (b"/file/", "ENOTDIR"),
    (b"/file/.", "ENOTDIR"),
    (b"/file/..", "ENOTDIR"),
    (b"/to_file/", "ENOTDIR"),
    (b"/to_file_slash", "ENOTDIR"),
    (b"/dangling", "ENOENT"),
    (b"/loop", "ELOOP"),
    (b"/loop/x", "ELOOP"),
    (b"/fi\0le", "EINVAL"),
    (b"/" + LONG_NAME, "ENAMETOOLONG"),
    (b"/" + LONG_NAME + b"/x", "ENAMETOOLONG"),
    (LONG_PATH, "ENAMETOOLONG"),
    (b"/", "done"),
    (b"/..", "done"),
    (b"/../../dir/./full/..//file/../../file", "ENOENT"),
    (b"/to_dir/full/../../file", "done"),
    (b"/to_dir/", "done"),
    (b"//file", "done"),
]


@pytest.mark.parametrize(("path", "errno"), PATHS, ids=[repr(path[:20]) for path, _ in PATHS])
def test_a_path_resolves_or_fails_as_on_linux(tree, path, errno):
    assert errno_of(lambda: tree.vfs.stat_at(tree.root, path, **tree.free)) == errno


OPENS = [
    (b"/file", {}, "done"),
    (b"/file", {"directory": True}, "ENOTDIR"),
    (b"/dir", {}, "done"),
    (b"/dir", {"write": True}, "EISDIR"),
    (b"/dir", {"truncate": True}, "EISDIR"),
    (b"/dir", {"create": True}, "EISDIR"),
    (b"/dir", {"create": True, "exclusive": True}, "EEXIST"),
    (b"/new", {"create": True, "directory": True}, "EINVAL"),
    (b"/new/", {"create": True}, "EISDIR"),
    (b"/file/", {"create": True}, "EISDIR"),
    (b"/missing/new", {"create": True}, "ENOENT"),
    (b"/file", {"create": True, "exclusive": True}, "EEXIST"),
    (b"/dangling", {"create": True, "exclusive": True}, "EEXIST"),
    (b"/dangling", {"create": True, "write": True}, "done"),
    (b"/to_file", {"follow": False}, "ELOOP"),
    (b"/to_dir", {"follow": False, "directory": True}, "ENOTDIR"),
    (b"/to_dir/", {"follow": False, "directory": True}, "done"),
    (b"/to_file", {"create": True}, "done"),
    (b"/.", {"create": True, "exclusive": True}, "EEXIST"),
    (b"/dir/.", {"create": True}, "EISDIR"),
]


@pytest.mark.parametrize(("path", "how", "errno"), OPENS, ids=[f"{path!r}-{','.join(how)}" for path, how, _ in OPENS])
def test_open(tree, path, how, errno):
    assert errno_of(lambda: tree.open(path, **how)) == errno


def test_open_with_create_through_a_dangling_symlink_makes_its_target(tree):
    tree.open(b"/dangling", create=True, write=True).on_last_close()
    assert b"nowhere" in tree.names(b"/")


ONE_PATH = {
    "mkdir": [
        (b"/dir", "EEXIST"), (b"/file/", "EEXIST"), (b"/dangling", "EEXIST"), (b"/new/", "done"), (b"/new", "done"),
        (b"/missing/new", "ENOENT"), (b"/file/new", "ENOTDIR"), (b"/", "EEXIST"), (b"/dir/.", "EEXIST"),
        (b"/" + LONG_NAME, "ENAMETOOLONG"),
    ],
    "unlink": [
        (b"/file", "done"), (b"/file/", "ENOTDIR"), (b"/dir", "EISDIR"), (b"/dir/", "EISDIR"), (b"/missing", "ENOENT"),
        (b"/to_dir", "done"), (b"/to_dir/", "ENOTDIR"), (b"/", "EISDIR"), (b"/dir/.", "EISDIR"), (b"/tmp", "EISDIR"),
    ],
    "rmdir": [
        (b"/empty", "done"), (b"/empty/", "done"), (b"/dir", "ENOTEMPTY"), (b"/file", "ENOTDIR"),
        (b"/file/", "ENOTDIR"), (b"/to_dir", "ENOTDIR"), (b"/to_dir/", "ENOTDIR"), (b"/missing", "ENOENT"),
        (b"/empty/.", "EINVAL"), (b"/empty/..", "ENOTEMPTY"), (b"/", "EBUSY"), (b"/tmp", "EBUSY"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "path", "errno"),
    [(operation, path, errno) for operation, rows in ONE_PATH.items() for path, errno in rows],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
def test_operations_on_one_path(tree, operation, path, errno):
    assert errno_of(lambda: getattr(tree, operation)(path)) == errno
    tree.charged()


TWO_PATHS = {
    "rename": [
        (b"/file", b"/new", "done"), (b"/file", b"/other", "done"), (b"/file", b"/file", "done"),
        (b"/file", b"/empty", "EISDIR"), (b"/file", b"/new/", "ENOTDIR"), (b"/file/", b"/new", "ENOTDIR"),
        (b"/dir", b"/new/", "done"), (b"/dir/", b"/new", "done"), (b"/dir", b"/empty", "done"),
        (b"/empty", b"/dir", "ENOTEMPTY"), (b"/dir", b"/file", "ENOTDIR"), (b"/dir", b"/dir/full/x", "EINVAL"),
        (b"/dir", b"/dir/x", "EINVAL"), (b"/dir/full", b"/dir", "ENOTEMPTY"),
        (b"/dir/full/file", b"/dir", "ENOTEMPTY"), (b"/missing", b"/new", "ENOENT"),
        (b"/file", b"/missing/x", "ENOENT"), (b"/dir/.", b"/new", "EBUSY"), (b"/file", b"/dir/..", "EBUSY"),
        (b"/", b"/new", "EBUSY"), (b"/file", b"/tmp/file", "EXDEV"), (b"/tmp", b"/new", "EBUSY"),
        (b"/empty", b"/tmp", "EBUSY"), (b"/to_file", b"/new", "done"), (b"/file", b"/to_dir", "done"),
    ],
    "link": [
        (b"/file", b"/new", "done"), (b"/file", b"/other", "EEXIST"), (b"/file", b"/file", "EEXIST"),
        (b"/file", b"/empty", "EEXIST"), (b"/dir", b"/new", "EPERM"), (b"/file", b"/new/", "ENOENT"),
        (b"/file/", b"/new", "ENOTDIR"), (b"/missing", b"/new", "ENOENT"), (b"/file", b"/dangling", "EEXIST"),
        (b"/loop", b"/new", "done"), (b"/dangling", b"/new", "done"), (b"/file", b"/tmp/new", "EXDEV"),
        (b"/file", b"/", "EEXIST"),
    ],
    "symlink": [
        (b"/new", b"x", "done"), (b"/new", b"/x", "done"), (b"/file", b"x", "EEXIST"), (b"/new/", b"x", "ENOENT"),
        (b"/dir/", b"x", "EEXIST"), (b"/new", b"", "ENOENT"), (b"/new", b"a\0b", "EINVAL"),
        (b"/new", b"x" * 5000, "ENAMETOOLONG"), (b"/dangling", b"x", "EEXIST"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "path", "other", "errno"),
    [(operation, *row) for operation, rows in TWO_PATHS.items() for row in rows],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else None,
)
def test_operations_on_two_paths(tree, operation, path, other, errno):
    assert errno_of(lambda: getattr(tree, operation)(path, other)) == errno
    tree.charged()


@pytest.mark.parametrize(
    ("path", "errno"), [(b"/to_file", "done"), (b"/file", "EINVAL"), (b"/dir", "EINVAL"), (b"/missing", "ENOENT")]
)
def test_readlink(tree, path, errno):
    assert errno_of(lambda: tree.vfs.readlink_at(tree.root, path, **tree.free)) == errno


OPEN_FILES = [
    ("read_nowait", ([memoryview(bytearray(1))],), "done", "EBADF", "EISDIR"),
    ("pread", ([memoryview(bytearray(1))], 0), "done", "EBADF", "EISDIR"),
    ("pread", ([memoryview(bytearray(1))], -1), "EINVAL", "EBADF", "EISDIR"),
    ("pread", ([memoryview(bytearray(1))], 2**63), "EINVAL", "EBADF", "EISDIR"),
    ("write_nowait", ([memoryview(b"x")],), "EBADF", "done", "EBADF"),
    ("pwrite", ([memoryview(b"x")], 0), "EBADF", "done", "EBADF"),
    ("pwrite", ([memoryview(b"x")], 2**63 - 1), "EBADF", "EINVAL", "EBADF"),
    ("seek", (-1, 0), "EINVAL", "EINVAL", "EISDIR"),
    ("seek", (2**63, 0), "EINVAL", "EINVAL", "EISDIR"),
    ("truncate", (0,), "EINVAL", "done", "EINVAL"),
    ("truncate", (-1,), "EINVAL", "EINVAL", "EINVAL"),
    ("allocate", (0, 0), "EINVAL", "EINVAL", "EBADF"),
    ("allocate", (0, 1), "EBADF", "done", "EBADF"),
    ("allocate", (1, 2**63 - 1), "EBADF", "EFBIG", "EBADF"),
    ("allocate", (0, 2**62), "EBADF", "ENOSPC", "EBADF"),
    ("advise", (0, 10, 0), "done", "done", "EBADF"),
    ("advise", (0, 10, 9), "EINVAL", "EINVAL", "EBADF"),
    ("advise", (2**63, 0, 0), "EINVAL", "EINVAL", "EBADF"),
]


@pytest.mark.parametrize(("method", "args", "reading", "writing", "directory"), OPEN_FILES)
def test_open_files(tree, method, args, reading, writing, directory):
    for file, errno in (
        (tree.open(b"/file"), reading),
        (tree.open(b"/file", read=False, write=True), writing),
        (tree.open(b"/dir"), directory),
    ):
        assert errno_of(lambda file=file: getattr(file, method)(*args)) == errno


CONFINED = [
    (b"/file", "EPERM"),
    (b"..", "EPERM"),
    (b"full/../..", "EPERM"),
    (b"full/../../dir/full", "EPERM"),
    (b"full/..", "done"),
    (b"out", "EPERM"),
    (b"absolute", "EPERM"),
    (b"inside", "done"),
]


@pytest.mark.parametrize(("path", "errno"), CONFINED)
def test_confined_nothing_outside_the_base_is_reached(tree, path, errno):
    tree.symlink(b"/dir/out", b"../file")
    tree.symlink(b"/dir/absolute", b"/file")
    tree.symlink(b"/dir/inside", b"full/../full")
    base = tree.root.lookup(b"dir")
    assert errno_of(lambda: tree.vfs.stat_at(base, path, root=None, confined=True)) == errno


def test_confined_an_absolute_symlink_starts_at_the_root_that_the_process_holds(tree):
    tree.symlink(b"/dir/absolute", b"/../to_file")
    base = tree.root.lookup(b"dir")
    assert tree.vfs.stat_at(base, b"absolute", root=tree.root, confined=True).size == 4


def test_confined_symlinks_to_absolute_paths_are_not_made(tree):
    make = lambda: tree.vfs.symlink_at(tree.root, b"new", root=tree.root, confined=True, target=b"/")  # noqa: E731
    assert errno_of(make) == "EPERM"


def test_append_writes_at_the_end_with_pwrite_too(tree):
    file = tree.open(b"/file", write=True, flags=FdFlags.APPEND)
    file.seek(0, 0)
    file.write_nowait([memoryview(b"12")])
    assert file.seek(0, 1) == 6
    file.pwrite([memoryview(b"X")], 0)
    assert file.seek(0, 1) == 6
    assert tree.get(b"/file") == b"data12X"


def test_a_symlink_chain_of_forty_is_followed_and_one_more_is_a_loop(tree):
    tree.symlink(b"/l0", b"file")
    for number in range(1, 41):
        tree.symlink(b"/l%d" % number, b"l%d" % (number - 1))
    assert tree.vfs.stat_at(tree.root, b"/l39", **tree.free).size == 4
    assert errno_of(lambda: tree.vfs.stat_at(tree.root, b"/l40", **tree.free)) == "ELOOP"


def test_a_removed_directory_that_is_open_is_empty_and_takes_no_entries(tree):
    directory = tree.open(b"/empty")
    tree.rmdir(b"/empty")
    node = directory.node
    assert errno_of(lambda: node.create(b"x", 0o644)) == "ENOENT"
    assert errno_of(lambda: node.mkdir(b"x", 0o755)) == "ENOENT"
    assert errno_of(lambda: tree.vfs.rename_at(tree.root, b"file", node, b"x", root=None, confined=True)) == "ENOENT"
    assert [entry.name for entry in directory.entries(0)] == [b".", b".."]
    assert directory.stat().nlink == 0
    before = tree.charged()
    directory.on_last_close()
    assert tree.charged() < before
