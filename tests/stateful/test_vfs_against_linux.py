"""The same operations on our filesystem and on a Linux tmpfs: same results, errnos and trees, and nothing uncharged."""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from agentvm.clock import ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.access import check_access
from agentvm.kernel.credentials import ROOT, Credentials
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

# Deep enough that the ".." of the paths below never climb out of the directory that is compared.
NEST = "/".join(f"w{level}" for level in range(12))
SEEN_BYTES = 300_000
FILETYPES = {
    stat.S_IFREG: Filetype.REGULAR_FILE,
    stat.S_IFDIR: Filetype.DIRECTORY,
    stat.S_IFLNK: Filetype.SYMBOLIC_LINK,
    stat.S_IFIFO: Filetype.UNKNOWN,
}

names = st.sampled_from(["a", "b", "c", "d"])
parts = st.one_of(names, names, names, names, st.sampled_from([".", ".."]))
paths = st.builds(
    lambda parts, tail: "/".join(parts) + tail,
    st.lists(parts, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/"]),
)
targets = st.one_of(paths, names, st.just("."))
offsets = st.one_of(st.integers(0, 200), st.integers(4000, 4200), st.integers(65_000, 66_000), st.integers(0, 200_000))
lengths = st.one_of(st.integers(0, 100), st.integers(4000, 4200), st.integers(60_000, 140_000))


#: All may read what they made, and go into it: else a plain user could not look at the tree.
modes = st.sampled_from([0o700, 0o711, 0o744, 0o750, 0o777])
#: Whoever runs the tests owns what is made on Linux, and root may do more than others.
WHOEVER_MADE_IT = Credentials.of(ROOT, ROOT) if os.geteuid() == ROOT else Credentials()


def outcome(call: Callable[[], object]) -> object:
    """The result of a call, or the name of the error that it ended with."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno]  # type: ignore[index]
    except KernelError as error:
        return error.errno.name


class Pair:
    """The same open file on both sides."""

    def __init__(self, fd: int, file: OpenFile, *, append: bool) -> None:
        self.fd = fd
        self.file = file
        self.append = append
        self.is_directory = file.filetype is Filetype.DIRECTORY
        self.is_fifo = file.is_stream


def describe(host: os.stat_result) -> tuple[object, ...]:
    filetype = FILETYPES[stat.S_IFMT(host.st_mode)]
    size = host.st_size if filetype is not Filetype.DIRECTORY else 0
    return filetype, host.st_nlink, size, stat.S_IMODE(host.st_mode)


def describe_ours(ours: FileStat) -> tuple[object, ...]:
    size = ours.size if ours.filetype is not Filetype.DIRECTORY else 0
    return ours.filetype, ours.nlink, size, ours.mode


class VfsAgainstLinux(RuleBasedStateMachine):
    """Ours is `self.vfs`; Linux's is a directory of a tmpfs where there is one."""

    files = Bundle("files")

    def __init__(self) -> None:
        super().__init__()
        shared = Path("/dev/shm")
        self.top = Path(tempfile.mkdtemp(prefix="agentvm-", dir=shared if shared.is_dir() else None))
        self.top_fd = os.open(self.top, os.O_RDONLY)
        self.umask = os.umask(0)
        self.registry = Registry(Limits())
        self.vfs = Vfs(self.registry, ManualClock(step_ns=1))
        self.keys = {"root": self.vfs.root, "confined": False}
        made = ""
        for part in NEST.split("/"):
            made += f"/{part}"
            Path(f"{self.top}{made}").mkdir(mode=0o755)
            self.vfs.mkdir_at(self.vfs.root, made.encode(), **self.keys, mode=0o755)
        self.pairs: list[Pair] = []
        self.differed = False

    def teardown(self) -> None:
        for pair in self.pairs:
            os.close(pair.fd)
            pair.file.on_last_close()
        self.check_charges()
        on_linux, in_ours = self.tree_on_linux(), self.tree_in_ours()
        os.umask(self.umask)
        os.close(self.top_fd)
        shutil.rmtree(self.top)
        self.vfs.close()
        assert self.differed or in_ours == on_linux
        assert self.registry.gauge("max_filesystem_bytes").used == 0
        assert self.registry.gauge("max_inodes").used == 0

    def host(self, path: str) -> str:
        return f"{self.top}/{NEST}/{path}"

    def ours(self, path: str) -> bytes:
        return f"/{NEST}/{path}".encode()

    def same(self, host: Callable[[], object], ours: Callable[[], object]) -> object:
        expected, got = outcome(host), outcome(ours)
        self.differed = self.differed or got != expected
        assert got == expected
        return got

    # -- whole state --------------------------------------------------------------------------------------------------
    @invariant()
    def check_charges(self) -> None:
        usage = self.vfs.memory.recount()
        assert usage.charged_bytes == self.registry.gauge("max_filesystem_bytes").used
        assert usage.inodes == self.registry.gauge("max_inodes").used

    def tree_on_linux(self) -> dict[str, object]:
        tree: dict[str, object] = {}
        for folder, folders, names in os.walk(self.top / "w0"):
            for name in [*folders, *names]:
                path = Path(folder) / name
                status = path.lstat()
                data: object = None
                if stat.S_ISREG(status.st_mode):
                    with path.open("rb") as file:
                        data = file.read(SEEN_BYTES)
                elif stat.S_ISLNK(status.st_mode):
                    data = os.readlink(path).encode()
                tree[str(path.relative_to(self.top))] = (describe(status), data)
        return tree

    def tree_in_ours(self) -> dict[str, object]:
        tree: dict[str, object] = {}
        pending = ["w0"]
        while pending:
            folder = pending.pop()
            directory = self.vfs.open_at(self.vfs.root, f"/{folder}".encode(), **self.keys, directory=True)
            for entry in list(directory.entries(2)):
                path = f"{folder}/{entry.name.decode()}"
                node = directory.node.lookup(entry.name)  # type: ignore[union-attr]
                data: object = None
                if entry.filetype is Filetype.DIRECTORY:
                    pending.append(path)
                elif entry.filetype is Filetype.SYMBOLIC_LINK:
                    data = node.readlink()
                elif entry.filetype is Filetype.REGULAR_FILE:
                    file = node.open(read=True, write=False, flags=FdFlags(0))
                    buffer = bytearray(SEEN_BYTES)
                    data = bytes(buffer[: file.pread([memoryview(buffer)], 0)])
                    file.on_last_close()
                tree[path] = (describe_ours(node.stat()), data)
            directory.on_last_close()
        return tree

    # -- open files ---------------------------------------------------------------------------------------------------
    @rule(
        target=files,
        path=paths,
        access=st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
        create=st.booleans(),
        exclusive=st.booleans(),
        directory=st.sampled_from([False, False, False, True]),
        truncate=st.sampled_from([False, False, True]),
        follow=st.booleans(),
        append=st.booleans(),
        mode=st.sampled_from([0o644, 0o600, 0o755]),
    )
    def open(self, path, access, create, exclusive, directory, truncate, follow, append, mode):
        flags = access | create * os.O_CREAT | (create and exclusive) * os.O_EXCL | directory * os.O_DIRECTORY
        # Without waiting: nobody would come to the other end of a FIFO.
        flags |= truncate * os.O_TRUNC | (not follow) * os.O_NOFOLLOW | append * os.O_APPEND | os.O_NONBLOCK
        opened: list[OpenFile] = []
        fds: list[int] = []

        def on_host() -> object:
            fds.append(os.open(self.host(path), flags, mode))
            return describe(os.fstat(fds[0]))

        def in_ours() -> object:
            opened.append(
                self.vfs.open_at(
                    self.vfs.root,
                    self.ours(path),
                    **self.keys,
                    read=access != os.O_WRONLY,
                    write=access != os.O_RDONLY,
                    create=create,
                    exclusive=create and exclusive,
                    directory=directory,
                    truncate=truncate,
                    follow=follow,
                    mode=mode,
                    flags=FdFlags.NONBLOCK | (FdFlags.APPEND if append else FdFlags(0)),
                    waits=True,
                )
            )
            return describe_ours(opened[0].stat())

        if create and directory and os.uname().release < "6.4":
            return multiple()
        self.same(on_host, in_ours)
        if not opened:
            return multiple()
        self.pairs.append(Pair(fds[0], opened[0], append=append))
        return self.pairs[-1]

    def live(self, pair: Pair) -> bool:
        return pair in self.pairs

    @rule(pair=files)
    def close(self, pair):
        if self.live(pair):
            self.pairs.remove(pair)
            os.close(pair.fd)
            pair.file.on_last_close()

    @rule(pair=files, data=lengths, fill=st.integers(1, 255), split=st.booleans())
    def write(self, pair, data, fill, split):
        if not self.live(pair):
            return
        content = bytes([fill]) * data
        cut = data // 3 if split else data
        pieces = [content[:cut], content[cut:]]
        self.same(
            lambda: os.writev(pair.fd, pieces), lambda: pair.file.write_nowait([memoryview(piece) for piece in pieces])
        )

    @rule(pair=files, data=lengths, fill=st.integers(1, 255), offset=offsets)
    def pwrite(self, pair, data, fill, offset):
        if not self.live(pair):
            return
        content = bytes([fill]) * data
        self.same(lambda: os.pwrite(pair.fd, content, offset), lambda: pair.file.pwrite([memoryview(content)], offset))

    def filled(self, count: int, read: Callable[[bytearray], int]) -> bytes:
        buffer = bytearray(b"?" * count)
        return bytes(buffer[: read(buffer)])

    @rule(pair=files, count=lengths)
    def read(self, pair, count):
        if self.live(pair):
            self.same(
                lambda: os.read(pair.fd, count),
                lambda: self.filled(count, lambda buffer: pair.file.read_nowait([memoryview(buffer)])),
            )

    @rule(pair=files, count=lengths, offset=offsets)
    def pread(self, pair, count, offset):
        if self.live(pair):
            self.same(
                lambda: os.pread(pair.fd, count, offset),
                lambda: self.filled(count, lambda buffer: pair.file.pread([memoryview(buffer)], offset)),
            )

    @rule(
        pair=files,
        offset=st.one_of(st.integers(-100, 200), st.integers(-70_000, 140_000), st.just(2**63 - 1), st.just(-(2**63))),
        whence=st.sampled_from(list(Whence)),
    )
    def seek(self, pair, offset, whence):
        # With APPEND Linux still checks the offset that it does not use: not worth having.
        if self.live(pair) and not pair.is_directory and not (pair.append and offset > 2**62):
            self.same(lambda: os.lseek(pair.fd, offset, int(whence)), lambda: pair.file.seek(offset, whence))

    @rule(pair=files, size=st.one_of(offsets, st.just(-1), st.just(2**50)))
    def truncate(self, pair, size):
        if self.live(pair):
            self.same(lambda: os.ftruncate(pair.fd, size), lambda: pair.file.truncate(size))

    @rule(pair=files, offset=offsets, length=st.one_of(lengths, st.just(-1), st.just(2**63 - 1)))
    def allocate(self, pair, offset, length):
        if self.live(pair) and not pair.is_directory and not pair.is_fifo:
            self.same(lambda: os.posix_fallocate(pair.fd, offset, length), lambda: pair.file.allocate(offset, length))

    @rule(pair=files)
    def fstat(self, pair):
        if self.live(pair):
            self.same(lambda: describe(os.fstat(pair.fd)), lambda: describe_ours(pair.file.stat()))

    @rule(pair=files)
    def readdir_open(self, pair):
        if self.live(pair) and pair.is_directory:
            self.same(
                lambda: sorted(os.listdir(pair.fd)),
                lambda: sorted(entry.name.decode() for entry in pair.file.entries(2)),
            )

    # -- paths --------------------------------------------------------------------------------------------------------
    @rule(path=paths, mode=st.sampled_from([0o755, 0o700]))
    def mkdir(self, path, mode):
        self.same(
            lambda: os.mkdir(self.host(path), mode),
            lambda: self.vfs.mkdir_at(self.vfs.root, self.ours(path), **self.keys, mode=mode),
        )

    @rule(path=paths, mode=st.sampled_from([0o600, 0o644]))
    def mkfifo(self, path, mode):
        self.same(
            lambda: os.mkfifo(self.host(path), mode),
            lambda: self.vfs.mknod_at(self.vfs.root, self.ours(path), **self.keys, mode=stat.S_IFIFO | mode),
        )

    @rule(path=paths, mode=modes)
    def chmod(self, path, mode):
        self.same(
            lambda: os.chmod(self.host(path), mode),
            lambda: self.vfs.set_mode_at(self.vfs.root, self.ours(path), **self.keys, mode=mode),
        )

    @rule(pair=files, mode=modes)
    def fchmod(self, pair, mode):
        if self.live(pair):
            self.same(lambda: os.fchmod(pair.fd, mode), lambda: pair.file.set_mode(mode))

    @rule(path=paths, wanted=st.integers(0, 7))
    def access(self, path, wanted):
        def in_ours() -> bool:
            status = self.vfs.stat_for_access(self.vfs.root, self.ours(path), **self.keys, writes=bool(wanted & 2))
            check_access(WHOEVER_MADE_IT, status, wanted, effective=False)
            return True

        # os.access says no for every error: the errno of a path is compared elsewhere.
        self.same(lambda: os.access(self.host(path), wanted), lambda: outcome(in_ours) is True)

    @rule(path=paths)
    def rmdir(self, path):
        self.same(
            lambda: os.rmdir(self.host(path)),
            lambda: self.vfs.rmdir_at(self.vfs.root, self.ours(path), **self.keys),
        )

    @rule(path=paths)
    def unlink(self, path):
        self.same(
            lambda: os.unlink(self.host(path)),
            lambda: self.vfs.unlink_at(self.vfs.root, self.ours(path), **self.keys),
        )

    @rule(path=paths, new=paths, follow=st.booleans())
    def link(self, path, new, follow):
        self.same(
            # Only with a directory descriptor does os.link follow symlinks.
            lambda: os.link(self.host(path), self.host(new), src_dir_fd=self.top_fd, follow_symlinks=follow),
            lambda: self.vfs.link_at(
                self.vfs.root, self.ours(path), self.vfs.root, self.ours(new), **self.keys, follow=follow
            ),
        )

    @rule(pointing=targets, path=paths)
    def symlink(self, pointing, path):
        self.same(
            lambda: os.symlink(pointing, self.host(path)),
            lambda: self.vfs.symlink_at(self.vfs.root, self.ours(path), **self.keys, target=pointing.encode()),
        )

    @rule(path=paths, new=paths)
    def rename(self, path, new):
        self.same(
            lambda: os.rename(self.host(path), self.host(new)),
            lambda: self.vfs.rename_at(self.vfs.root, self.ours(path), self.vfs.root, self.ours(new), **self.keys),
        )

    @rule(path=paths, follow=st.booleans())
    def stat(self, path, follow):
        self.same(
            lambda: describe(os.stat(self.host(path), follow_symlinks=follow)),
            lambda: describe_ours(self.vfs.stat_at(self.vfs.root, self.ours(path), **self.keys, follow=follow)),
        )

    @rule(path=paths)
    def readlink(self, path):
        self.same(
            lambda: os.readlink(self.host(path).encode()),
            lambda: self.vfs.readlink_at(self.vfs.root, self.ours(path), **self.keys),
        )

    @rule(path=paths, time=st.integers(0, 2**60))
    def set_times(self, path, time):
        def on_host() -> int:
            os.utime(self.host(path), ns=(time, time))
            return os.stat(self.host(path)).st_mtime_ns

        def in_ours() -> int:
            self.vfs.set_times_at(
                self.vfs.root, self.ours(path), **self.keys, follow=True, atime_ns=time, mtime_ns=time
            )
            return self.vfs.stat_at(self.vfs.root, self.ours(path), **self.keys).mtime_ns

        self.same(on_host, in_ours)


@pytest.fixture(autouse=True)
def _no_leftovers() -> Iterator[None]:
    umask = os.umask(0)
    yield
    os.umask(umask)


def run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        VfsAgainstLinux,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_ours_behaves_like_linux() -> None:
    run(examples=60, steps=40)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ours_behaves_like_linux_at_length() -> None:
    run(examples=400, steps=80)
