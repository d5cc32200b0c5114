"""Whole files by path, for the program that embeds a VM: `vm.fs`. Absolute paths, nothing confined, no descriptors."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.vfs import Vfs

__all__ = ["FileAccess", "Path"]

#: A path as the embedding program writes it; text is UTF-8.
Path = str | bytes

_READ_BYTES = 1 << 20
_REMOVE_BATCH = 64


class FileAccess:
    """The VM's files. Each call takes `lock` (the kernel's) and raises `KernelError` with Linux's errno."""

    def __init__(self, vfs: Vfs, lock: AbstractContextManager[object]) -> None:
        self._vfs = vfs
        self._lock = lock

    # -- contents -----------------------------------------------------------------------------------------------------
    def read(self, path: Path, *, max_bytes: int = 256 << 20) -> bytes:
        """Return the whole contents of a file. EISDIR for a directory, EFBIG if it is longer than `max_bytes`.

        The cap is against guests that make files of holes: those cost them nothing, and the reader everything.
        """
        with self._lock, self._open(path, read=True) as file:
            size = file.stat().size
            content = bytearray()
            buffer = bytearray(min(_READ_BYTES, max(4096, size + 1)))
            while size <= max_bytes and (count := file.read_nowait([memoryview(buffer)])):
                content += memoryview(buffer)[:count]
                size = max(size, len(content))
            if size > max_bytes:
                raise KernelError(Errno.EFBIG, f"{path!r} has {size} bytes, more than max_bytes={max_bytes}")
            return bytes(content)

    def write(self, path: Path, data: bytes, *, append: bool = False, parents: bool = False, mode: int = 0o644) -> None:
        """Make `data` the contents of a file, which is created if need be; `append` keeps what is there.

        `parents`: missing directories above it are made too. ENOSPC and EFBIG leave the part that fitted.
        """
        with self._lock:
            if parents:
                self._make_parents(_absolute(path).rstrip(b"/").rpartition(b"/")[0])
            with self._open(path, write=True, create=True, truncate=not append, append=append, mode=mode) as file:
                left = memoryview(data).cast("B")
                while left:
                    left = left[file.write_nowait([left]) :]

    # -- attributes ---------------------------------------------------------------------------------------------------
    def stat(self, path: Path, *, follow: bool = True) -> FileStat:
        with self._lock:
            return self._vfs.stat_at(self._root, _absolute(path), root=self._root, confined=False, follow=follow)

    def exists(self, path: Path) -> bool:
        """Tell whether a path leads to something; a dangling symlink does not."""
        try:
            self.stat(path)
        except KernelError as error:
            if error.errno not in (Errno.ENOENT, Errno.ENOTDIR):
                raise
            return False
        return True

    def chmod(self, path: Path, mode: int) -> None:
        """Set the permission bits of a file or directory, such as 0o755 for a program."""
        with self._lock:
            self._vfs.set_mode_at(self._root, _absolute(path), root=self._root, confined=False, mode=mode)

    def readlink(self, path: Path) -> bytes:
        with self._lock:
            return self._vfs.readlink_at(self._root, _absolute(path), root=self._root, confined=False)

    # -- directories --------------------------------------------------------------------------------------------------
    def listdir(self, path: Path = "/") -> list[str]:
        """Return the names in a directory, sorted; bytes that are not UTF-8 as surrogates, as in `os.fsdecode`."""
        with self._lock, self._open(path, read=True, directory=True) as directory:
            names = [entry.name for entry in directory.entries(2)]
        return sorted(name.decode("utf-8", "surrogateescape") for name in names)

    def mkdir(self, path: Path, *, parents: bool = False, exist_ok: bool = False, mode: int = 0o755) -> None:
        """Make a directory, with `parents` the missing ones above it too. EEXIST unless `exist_ok`."""
        where = _absolute(path)
        with self._lock:
            if parents:
                self._make_parents(where.rstrip(b"/").rpartition(b"/")[0])
            try:
                self._vfs.mkdir_at(self._root, where, root=self._root, confined=False, mode=mode)
            except KernelError as error:
                if error.errno is not Errno.EEXIST or not exist_ok or not self._is_directory(where):
                    raise

    def rmdir(self, path: Path) -> None:
        with self._lock:
            self._vfs.rmdir_at(self._root, _absolute(path), root=self._root, confined=False)

    def rmtree(self, path: Path) -> None:
        """Remove a directory with all that it holds, or a single file. Symlinks are removed, not followed.

        EBUSY at a mount point inside; what was removed by then is gone.
        """
        where = _absolute(path).rstrip(b"/") or b"/"
        with self._lock:
            status = self._vfs.stat_at(self._root, where, root=self._root, confined=False, follow=False)
            if status.filetype is not Filetype.DIRECTORY:
                self._vfs.unlink_at(self._root, where, root=self._root, confined=False)
                return
            self._empty(where)
            self._vfs.rmdir_at(self._root, where, root=self._root, confined=False)

    # -- names --------------------------------------------------------------------------------------------------------
    def remove(self, path: Path) -> None:
        """Remove one name that is not a directory; EISDIR if it is one."""
        with self._lock:
            self._vfs.unlink_at(self._root, _absolute(path), root=self._root, confined=False)

    def rename(self, path: Path, new_path: Path) -> None:
        root = self._root
        with self._lock:
            self._vfs.rename_at(root, _absolute(path), root, _absolute(new_path), root=root, confined=False)

    def symlink(self, target: Path, path: Path) -> None:
        """Make `path` a symbolic link to `target`, which may be relative, absolute, or lead nowhere."""
        with self._lock:
            self._vfs.symlink_at(self._root, _absolute(path), root=self._root, confined=False, target=_to_bytes(target))

    # -- steps --------------------------------------------------------------------------------------------------------
    @property
    def _root(self) -> Node:
        return self._vfs.root

    @contextmanager
    def _open(
        self,
        path: Path,
        *,
        read: bool = False,
        write: bool = False,
        create: bool = False,
        truncate: bool = False,
        directory: bool = False,
        append: bool = False,
        mode: int = 0o644,
    ) -> Iterator[OpenFile]:
        file = self._vfs.open_at(
            self._root,
            _absolute(path),
            root=self._root,
            confined=False,
            read=read,
            write=write,
            create=create,
            truncate=truncate,
            directory=directory,
            mode=mode,
            flags=FdFlags.APPEND if append else FdFlags(0),
        )
        file.references += 1
        try:
            yield file
        finally:
            file.drop()

    def _is_directory(self, path: bytes) -> bool:
        status = self._vfs.stat_at(self._root, path, root=self._root, confined=False)
        return status.filetype is Filetype.DIRECTORY

    def _make_parents(self, path: bytes) -> None:
        made = b""
        for part in path.split(b"/"):
            if not part:
                continue
            made += b"/" + part
            try:
                self._vfs.mkdir_at(self._root, made, root=self._root, confined=False, mode=0o755)
            except KernelError as error:
                if error.errno is not Errno.EEXIST:
                    raise

    def _empty(self, path: bytes) -> None:
        """Remove all that a directory holds, at any depth, without recursion and without long paths."""
        root = self._root
        with self._open(path, read=True, directory=True) as opened:
            assert opened.node is not None
            # Each step goes one directory down by its open file, so that no path grows with the depth.
            stack = [(opened, b"")]
            try:
                while stack:
                    directory, name = stack[-1]
                    assert directory.node is not None
                    below = self._remove_files(directory)
                    if below is not None:
                        child = self._vfs.open_at(
                            directory.node, below, root=None, confined=True, directory=True, follow=False
                        )
                        stack.append((child, below))
                        continue
                    stack.pop()
                    if stack:
                        directory.on_last_close()
                        above = stack[-1][0].node
                        assert above is not None
                        self._vfs.rmdir_at(above, name, root=root, confined=True)
            finally:
                for directory, _ in stack[1:]:
                    directory.on_last_close()

    def _remove_files(self, directory: OpenFile) -> bytes | None:
        """Remove what is no directory; return the name of the first subdirectory, None if there is none."""
        assert directory.node is not None
        while batch := list(islice(directory.entries(2), _REMOVE_BATCH)):
            for entry in batch:
                if self._vfs.is_mount_point(directory.node, entry.name):
                    raise KernelError(Errno.EBUSY, f"{entry.name!r} is a mount point")
                if entry.filetype is Filetype.DIRECTORY:
                    return entry.name
                self._vfs.unlink_at(directory.node, entry.name, root=None, confined=True)
        return None


def _to_bytes(path: Path) -> bytes:
    return path.encode("utf-8", "surrogateescape") if isinstance(path, str) else bytes(path)


def _absolute(path: Path) -> bytes:
    where = _to_bytes(path)
    if not where.startswith(b"/"):
        raise KernelError(Errno.EINVAL, f"path {where!r} is not absolute")
    return where
