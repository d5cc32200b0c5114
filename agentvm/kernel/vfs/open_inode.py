"""Open regular files and directories. One buffer that lies in the chunk used last goes a short way, without loops."""

from collections.abc import Hashable, Iterator
from typing import TYPE_CHECKING

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.space import MAX_OFFSET

if TYPE_CHECKING:
    from agentvm.kernel.vfs.inode import FileInode

__all__ = ["SETTLED_NS", "OpenDirectory", "OpenInode"]

_NO_FLAGS = FdFlags(0)
# Attributes of an enum cost far more than global names.
_APPEND = int(FdFlags.APPEND)
_CUR, _END = Whence.CUR, Whence.END
#: A file that changed this recently may change again within one tick of the clock, unseen.
SETTLED_NS = 2_000_000_000
#: Advice values of preview1 `$advice`: normal, sequential, random, willneed, dontneed, noreuse.
_HIGHEST_ADVICE = 5


class OpenInode(OpenFile):
    """An open regular file of the in-memory filesystem. It counts as an opener of its inode until its last close."""

    __slots__ = ("append", "inode", "position", "readable", "writable")

    filetype = Filetype.REGULAR_FILE
    seekable = True
    on_disk = True

    def __init__(self, inode: "FileInode", flags: FdFlags, read: bool, write: bool) -> None:
        # Not through super(), and no keywords: opening is a hot path.
        self.flags = flags
        self.references = 0
        self.on_release = None
        self.inode = inode
        self.position = 0
        self.readable = read
        self.writable = write
        self.append = 0 if flags is _NO_FLAGS else int(flags) & _APPEND

    def on_last_close(self) -> None:
        self.inode.closed()

    def set_flags(self, flags: FdFlags) -> None:
        self.flags = flags
        self.append = int(flags) & _APPEND

    # -- transfer -----------------------------------------------------------------------------------------------------
    def read_nowait(self, buffers: Buffers) -> int:
        count = self.pread(buffers, self.position)
        self.position += count
        return count

    def pread(self, buffers: Buffers, offset: int) -> int:
        if not self.readable:
            raise KernelError(Errno.EBADF, "not open for reading")
        inode = self.inode
        if inode.atime_ns <= inode.ctime_ns or inode.atime_ns <= inode.mtime_ns:
            inode.atime_ns = inode.now()
        window = inode.window
        if window is not None and len(buffers) == 1:
            buffer = buffers[0]
            end = offset + len(buffer)
            start = offset - inode.window_start
            if start >= 0 and end <= inode.window_end:
                if end <= inode.size:
                    buffer[:] = window[start : end - inode.window_start]
                    return len(buffer)
                count = inode.size - offset
                if count > 0:
                    buffer[:count] = window[start : start + count]
                    return count
        return inode.read_into(buffers, offset)

    def write_nowait(self, buffers: Buffers) -> int:
        offset = self.inode.size if self.append else self.position
        count = self.pwrite(buffers, offset)
        if count:
            self.position = offset + count
        return count

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        """Write at `offset`; with APPEND at the end, as Linux and so wasmtime do (pwrite(2), BUGS)."""
        if not self.writable:
            raise KernelError(Errno.EBADF, "not open for writing")
        inode = self.inode
        if self.append:
            offset = inode.size
        if len(buffers) == 1:
            buffer = buffers[0]
            end = offset + len(buffer)
            start = offset - inode.window_start
            if start >= 0 and offset < end <= inode.writable_end:
                inode.window[start : end - inode.window_start] = buffer  # type: ignore[index]
                if end > inode.size:
                    inode.size = end
                inode.mtime_ns = inode.ctime_ns = inode.now()
                return end - offset
        count = inode.write_from(buffers, offset)
        if count:
            inode.touch()
        return count

    def seek(self, offset: int, whence: Whence) -> int:
        if whence == _CUR:
            offset += self.position
        elif whence == _END:
            offset += self.inode.size
        if not 0 <= offset <= MAX_OFFSET:
            raise KernelError(Errno.EINVAL, f"offset {offset} is out of range")
        self.position = offset
        return offset

    def readable_bytes(self) -> int:
        return max(0, self.inode.size - self.position)

    def version(self) -> Hashable:
        inode = self.inode
        if inode.now() - inode.ctime_ns < SETTLED_NS:
            return None
        # The filesystem itself stands for its VM: its name in memory is not used again while somebody has it.
        return inode.filesystem, inode.ino, inode.size, inode.ctime_ns

    # -- attributes ---------------------------------------------------------------------------------------------------
    def stat(self) -> FileStat:
        return self.inode.stat()

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.inode.set_times(atime_ns, mtime_ns)

    def set_mode(self, mode: int) -> None:
        self.inode.set_mode(mode)

    def set_owner(self, uid: int, gid: int) -> None:
        self.inode.set_owner(uid, gid)

    @property
    def stored_bytes(self) -> int:
        return self.inode.held_bytes()

    def truncate(self, size: int) -> None:
        if not self.writable:
            raise KernelError(Errno.EINVAL, "not open for writing")
        self.inode.resize(size)

    def allocate(self, offset: int, length: int) -> None:
        if offset < 0 or length <= 0:  # Linux looks at the range first
            raise KernelError(Errno.EINVAL, f"no range: {length} bytes at {offset}")
        if not self.writable:
            raise KernelError(Errno.EBADF, "not open for writing")
        self.inode.allocate(offset, length)
        self.inode.touch()

    def advise(self, offset: int, length: int, advice: int) -> None:
        """Check the arguments; there is nothing to prepare. EINVAL as posix_fadvise(2)."""
        if not (0 <= advice <= _HIGHEST_ADVICE and 0 <= offset <= MAX_OFFSET and 0 <= length <= MAX_OFFSET):
            raise KernelError(Errno.EINVAL, f"advice {advice} for {length} bytes at {offset}")

    def sync(self, *, data_only: bool) -> None:
        pass


class OpenDirectory(OpenFile):
    """An open directory of any filesystem. It owns `node` and releases it at the last close."""

    __slots__ = ("node",)

    filetype = Filetype.DIRECTORY
    node: Node

    def __init__(self, node: Node, flags: FdFlags = FdFlags(0)) -> None:
        self.flags = flags
        self.references = 0
        self.on_release = None
        self.node = node

    @property
    def on_disk(self) -> bool:  # type: ignore[override]
        return self.node.on_disk

    def on_last_close(self) -> None:
        self.node.release()

    def entries(self, cookie: int) -> Iterator[DirEntry]:
        return self.node.entries(cookie)

    def stat(self) -> FileStat:
        return self.node.stat()

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.node.set_times(atime_ns, mtime_ns)

    def set_mode(self, mode: int) -> None:
        self.node.set_mode(mode)

    def set_owner(self, uid: int, gid: int) -> None:
        self.node.set_owner(uid, gid)

    def sync(self, *, data_only: bool) -> None:
        pass

    # -- refusals -----------------------------------------------------------------------------------------------------
    def read_nowait(self, buffers: Buffers) -> int:
        raise KernelError(Errno.EISDIR)

    def pread(self, buffers: Buffers, offset: int) -> int:
        raise KernelError(Errno.EISDIR)

    def write_nowait(self, buffers: Buffers) -> int:
        raise KernelError(Errno.EBADF, "a directory is never open for writing")

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        raise KernelError(Errno.EBADF, "a directory is never open for writing")

    def seek(self, offset: int, whence: Whence) -> int:
        raise KernelError(Errno.EISDIR, "a directory is resumed with cookies")

    def truncate(self, size: int) -> None:
        raise KernelError(Errno.EINVAL, "a directory has no size to set")

    def allocate(self, offset: int, length: int) -> None:
        raise KernelError(Errno.EBADF, "a directory is never open for writing")

    def advise(self, offset: int, length: int, advice: int) -> None:
        raise KernelError(Errno.EBADF, "a directory has no data to advise on")
