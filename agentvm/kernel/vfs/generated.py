"""Read-only nodes whose contents the kernel makes up: the building blocks of /dev and /proc."""

from collections.abc import Callable, Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_inode import OpenDirectory
from agentvm.kernel.vfs.space import MAX_OFFSET

__all__ = ["GeneratedDirectory", "GeneratedFile", "GeneratedLink", "GeneratedNode"]

#: Longer texts are not kept while they are open, but made anew by each read: an open file costs at most this much.
_KEPT_BYTES = 16 << 10


class GeneratedNode(Node):
    """A node with a fixed place, and no times. Two nodes with the same numbers are the same file."""

    __slots__ = ("dev", "ino")

    mode = 0o444
    nlink = 1

    def __init__(self, dev: int, ino: int) -> None:
        self.dev = dev
        self.ino = ino

    @property
    def key(self) -> tuple[int, int]:
        return (self.dev, self.ino)

    def stat(self) -> FileStat:
        return FileStat(self.dev, self.ino, self.filetype, self.nlink, 0, 0, 0, 0, self.mode, 0, 0)

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        raise KernelError(Errno.EROFS)

    def set_mode(self, mode: int) -> None:
        raise KernelError(Errno.EROFS)

    def set_owner(self, uid: int, gid: int) -> None:
        raise KernelError(Errno.EROFS)


class GeneratedDirectory(GeneratedNode):
    """A directory that nobody can change. A kind says what is in it, by `find` and `listing`."""

    __slots__ = ()

    filetype = Filetype.DIRECTORY
    mode = 0o555
    nlink = 2

    def find(self, name: bytes) -> Node | None:
        raise NotImplementedError

    def listing(self) -> Iterator[DirEntry]:
        """Iterate over the entries by rising cookie, from 3 on."""
        raise NotImplementedError

    @property
    def parent_ino(self) -> int:
        """The inode number that ".." shows."""
        return self.ino

    def lookup(self, name: bytes) -> Node:
        node = self.find(name)
        if node is None:
            raise KernelError(Errno.ENOENT, f"no entry {name!r}")
        return node

    def entries(self, cookie: int) -> Iterator[DirEntry]:
        if cookie < 1:
            yield DirEntry(1, self.ino, Filetype.DIRECTORY, b".")
        if cookie < 2:
            yield DirEntry(2, self.parent_ino, Filetype.DIRECTORY, b"..")
        for entry in self.listing():
            if entry.cookie > cookie:
                yield entry

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if write or truncate:
            raise KernelError(Errno.EISDIR)
        return OpenDirectory(self, flags)

    def create(self, name: bytes, mode: int) -> Node:
        raise self._refusal(name)

    def mkdir(self, name: bytes, mode: int) -> None:
        raise self._refusal(name)

    def mkfifo(self, name: bytes, mode: int) -> None:
        raise self._refusal(name)

    def symlink(self, name: bytes, target: bytes) -> None:
        raise self._refusal(name)

    def link(self, name: bytes, node: Node) -> None:
        raise self._refusal(name)

    def unlink(self, name: bytes) -> None:
        raise self._refusal(name)

    def rmdir(self, name: bytes) -> None:
        raise self._refusal(name)

    def rename(self, name: bytes, target: Node, target_name: bytes) -> None:
        raise self._refusal(name)

    def _refusal(self, name: bytes) -> KernelError:
        return KernelError(Errno.EROFS, f"{name!r} is in a read-only filesystem")


class GeneratedLink(GeneratedNode):
    """A symbolic link whose target is made when it is asked for; `destination` may lead straight to a node."""

    __slots__ = ("_destination", "_target")

    filetype = Filetype.SYMBOLIC_LINK
    mode = 0o777

    def __init__(
        self, dev: int, ino: int, target: Callable[[], bytes], destination: Callable[[], Node] | None = None
    ) -> None:
        super().__init__(dev, ino)
        self._target = target
        self._destination = destination

    def readlink(self) -> bytes:
        return self._target()

    def jump(self) -> Node | None:
        return None if self._destination is None else self._destination()

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        raise KernelError(Errno.ELOOP, "a symbolic link is not followed here")


class GeneratedFile(GeneratedNode):
    """A file whose text is made when it is opened. Its size is reported as 0, as in Linux's /proc."""

    __slots__ = ("_text",)

    filetype = Filetype.REGULAR_FILE

    def __init__(self, dev: int, ino: int, text: Callable[[], bytes]) -> None:
        super().__init__(dev, ino)
        self._text = text

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if write or truncate:
            raise KernelError(Errno.EACCES, "this file is only for reading")
        return _OpenText(self, self._text, flags)


class _OpenText(OpenFile):
    """An open generated file."""

    __slots__ = ("_file", "_kept", "_position", "_text")

    filetype = Filetype.REGULAR_FILE
    seekable = True

    def __init__(self, file: GeneratedFile, text: Callable[[], bytes], flags: FdFlags) -> None:
        super().__init__(flags)
        self._file = file
        self._text = text
        self._position = 0
        content = text()
        self._kept = content if len(content) <= _KEPT_BYTES else None

    def _content(self) -> bytes:
        return self._text() if self._kept is None else self._kept

    def read_nowait(self, buffers: Buffers) -> int:
        count = self.pread(buffers, self._position)
        self._position += count
        return count

    def pread(self, buffers: Buffers, offset: int) -> int:
        if not 0 <= offset <= MAX_OFFSET:
            raise KernelError(Errno.EINVAL, f"offset {offset} is out of range")
        content = memoryview(self._content())[offset:]
        done = 0
        for buffer in buffers:
            count = min(len(buffer), len(content) - done)
            buffer[:count] = content[done : done + count]
            done += count
        return done

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        raise KernelError(Errno.EBADF, "not open for writing")

    def seek(self, offset: int, whence: Whence) -> int:
        if whence == Whence.CUR:
            offset += self._position
        elif whence == Whence.END:
            offset += len(self._content())
        if not 0 <= offset <= MAX_OFFSET:
            raise KernelError(Errno.EINVAL, f"offset {offset} is out of range")
        self._position = offset
        return offset

    def allocate(self, offset: int, length: int) -> None:
        raise KernelError(Errno.EBADF, "not open for writing")

    def advise(self, offset: int, length: int, advice: int) -> None:
        pass

    def sync(self, *, data_only: bool) -> None:
        pass

    def stat(self) -> FileStat:
        return self._file.stat()

    def readable_bytes(self) -> int:
        return max(0, len(self._content()) - self._position)
