"""An open regular file of the host."""

import fcntl
import os
import time
from collections.abc import Hashable

from agentvm.errno import Errno, KernelError
from agentvm.host.beneath import set_times_at
from agentvm.host.descriptors import HostFd
from agentvm.host.host_errno import from_host
from agentvm.host.inodes import OpenInode
from agentvm.host.mount import HostMount, status_of
from agentvm.host.quota import MAX_OFFSET
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.open_inode import SETTLED_NS

__all__ = ["SYNC", "HostFile", "host_flags"]

_IOV_MAX = 1024
# Plain integers: the operators of an IntFlag cost as much as a system call.
_APPEND = int(FdFlags.APPEND)
_CUR, _END = Whence.CUR, Whence.END
SYNC = int(FdFlags.DSYNC | FdFlags.RSYNC | FdFlags.SYNC)
_HOST_FLAGS = {
    _APPEND: os.O_APPEND,
    int(FdFlags.DSYNC): os.O_DSYNC,
    int(FdFlags.RSYNC): os.O_RSYNC,
    int(FdFlags.SYNC): os.O_SYNC,
}

#: preview1 `$advice` to posix_fadvise(2).
_ADVICE = (
    os.POSIX_FADV_NORMAL,
    os.POSIX_FADV_SEQUENTIAL,
    os.POSIX_FADV_RANDOM,
    os.POSIX_FADV_WILLNEED,
    os.POSIX_FADV_DONTNEED,
    os.POSIX_FADV_NOREUSE,
)


def host_flags(flags: FdFlags) -> int:
    """Return the open(2) flags for a guest's: where writes go, and how durable they are."""
    asked, host = int(flags), 0
    if asked:
        for bit, flag in _HOST_FLAGS.items():
            if asked & bit:
                host |= flag
    return host


class HostFile(OpenFile):
    """A regular file of a host mount. The offset is ours; O_APPEND is the host's, so that appending is atomic there.

    Every call moves at most `max_io_bytes`. A write that would pass a cap on growth is short, and fails only if nothing
    fits. As on Linux, `pwrite` to a file opened with APPEND appends.
    """

    __slots__ = ("_append", "_fd", "_inode", "_mount", "_offset", "_readable", "_writable", "is_operators")

    filetype = Filetype.REGULAR_FILE
    seekable = True
    on_disk = True

    def __init__(
        self, mount: HostMount, fd: HostFd, inode: OpenInode, flags: FdFlags, *, readable: bool, writable: bool
    ) -> None:
        """Takes over `fd` and the hold on `inode`. `fd` must have O_APPEND exactly if `flags` has APPEND."""
        super().__init__(flags)
        self._append = bool(int(flags) & _APPEND)
        self._mount = mount
        self._fd = fd
        self._inode = inode
        self._readable = readable
        self._writable = writable
        self._offset = 0
        self.is_operators = mount.read_only

    def version(self) -> Hashable:
        status = status_of(self._fd)
        changed_ns = max(status.st_ctime_ns, status.st_mtime_ns)
        if time.time_ns() - changed_ns < SETTLED_NS:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def on_last_close(self) -> None:
        quota = self._mount.quota
        try:
            quota.shrink(self._mount.fds.inodes.let_go(self._inode, self._fd.number))
        finally:
            self._fd.close()

    # -- transfer -----------------------------------------------------------------------------------------------------
    def read_nowait(self, buffers: Buffers) -> int:
        count = self._read_at(buffers, self._offset)
        self._offset += count
        return count

    def pread(self, buffers: Buffers, offset: int) -> int:
        return self._read_at(buffers, _checked(offset))

    def write_nowait(self, buffers: Buffers) -> int:
        if self._append:
            return self._write_at_end(buffers, move=True)
        count = self._write_at(buffers, self._offset)
        self._offset += count
        return count

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        _checked(offset)
        if self._append:
            return self._write_at_end(buffers, move=False)
        return self._write_at(buffers, offset)

    def _read_at(self, buffers: Buffers, offset: int) -> int:
        if not self._readable:
            raise KernelError(Errno.EBADF, "not open for reading")
        if len(buffers) != 1 or len(buffers[0]) > self._mount.quota.io_bytes.top:
            buffers = self._first(buffers)
        try:
            return os.preadv(self._fd.number, buffers, offset)
        except OSError as error:
            raise from_host(error, f"read at {offset}") from None

    def _write_at(self, buffers: Buffers, offset: int) -> int:
        buffers = self._first_to_write(buffers)
        quota = self._mount.quota
        asked = len(buffers[0]) if len(buffers) == 1 else _length(buffers)
        if not asked:
            return 0
        _checked(offset + asked)  # Linux calls a range that ends past 2^63-1 invalid, and not too big
        size = quota.room_in_file(offset, asked)
        inode = self._inode
        with inode.lock:
            granted = 0
            known = inode.size
            if offset + size > known:
                # The file may have changed outside the VM: growth counts from what it is now.
                known = self._size()
                granted = quota.grow_up_to(max(0, offset + size - known), max(0, offset + 1 - known))
                size = min(size, known + granted - offset)
            count = 0
            try:
                count = os.pwritev(self._fd.number, buffers if size == asked else _cut(buffers, size), offset)
            except OSError as error:
                raise from_host(error, f"write of {size} bytes at {offset}") from None
            finally:
                end = offset + count
                if count < size and granted:
                    quota.shrink(granted - max(0, end - known) if count else granted)
                inode.size = end if count and end > known else known
        return count

    def _write_at_end(self, buffers: Buffers, *, move: bool) -> int:
        buffers = self._first_to_write(buffers)
        asked = _length(buffers)
        if not asked:
            return 0
        quota = self._mount.quota
        with self._inode.lock:
            known = self._size()
            granted = quota.grow_up_to(quota.room_in_file(known, asked), 1)
            count = 0
            try:
                count = os.writev(self._fd.number, _cut(buffers, granted))
                if move:
                    self._offset = os.lseek(self._fd.number, 0, os.SEEK_CUR)
            except OSError as error:
                raise from_host(error, f"append of {granted} bytes") from None
            finally:
                quota.shrink(granted - count)
                self._inode.size = known + count
        return count

    def _first(self, buffers: Buffers) -> Buffers:
        """Return as much of `buffers` as one call may move."""
        if len(buffers) > _IOV_MAX:
            buffers = buffers[:_IOV_MAX]
        size = _length(buffers)
        moved = self._mount.quota.call_bytes(size)
        return buffers if moved == size else _cut(buffers, moved)

    def _first_to_write(self, buffers: Buffers) -> Buffers:
        if not self._writable:
            raise KernelError(Errno.EBADF, "not open for writing")
        if len(buffers) == 1 and len(buffers[0]) <= self._mount.quota.io_bytes.top:
            return buffers
        return self._first(buffers)

    # -- offset and size ----------------------------------------------------------------------------------------------
    def seek(self, offset: int, whence: Whence) -> int:
        if whence == _CUR:
            offset += self._offset
        elif whence == _END:
            offset += self._size()
        self._offset = _checked(offset)
        return offset

    def readable_bytes(self) -> int:
        return max(0, self._size() - self._offset)

    def truncate(self, size: int) -> None:
        """Set the size. EINVAL if not open for writing, ENOSPC and EFBIG if it may not grow that far."""
        if not self._writable or size < 0:
            raise KernelError(Errno.EINVAL, f"truncate to {size}, open for writing: {self._writable}")
        self.resize(size)

    def resize(self, size: int) -> None:
        """Set the size, whatever the guest may do with this file later. The descriptor must be open for writing."""
        quota = self._mount.quota
        with self._inode.lock:
            known = self._size()
            if size > known:
                quota.check_size(size)
                quota.grow(size - known)
            try:
                os.ftruncate(self._fd.number, size)
            except OSError as error:
                if size > known:
                    quota.shrink(size - known)
                raise from_host(error, f"truncate to {size}") from None
            self._inode.size = size
            if size < known:
                quota.shrink(known - size)

    def allocate(self, offset: int, length: int) -> None:
        """posix_fallocate(3). All or nothing as far as our caps go; a full host disk may leave a part."""
        if not self._writable:
            raise KernelError(Errno.EBADF, "not open for writing")
        if length <= 0 or offset < 0:
            raise KernelError(Errno.EINVAL, f"allocate {length} bytes at {offset}")
        quota = self._mount.quota
        quota.check_size(offset + length)
        with self._inode.lock:
            known = self._size()
            asked = max(0, offset + length - known)
            quota.grow(asked)
            try:
                os.posix_fallocate(self._fd.number, offset, length)
            except OSError as error:
                raise from_host(error, f"allocate {length} bytes at {offset}") from None
            finally:
                size = self._size()
                quota.shrink(max(0, asked - max(0, size - known)))
                self._inode.size = size

    def advise(self, offset: int, length: int, advice: int) -> None:
        if not 0 <= advice < len(_ADVICE) or offset < 0 or length < 0:
            raise KernelError(Errno.EINVAL, f"advice {advice} for {length} bytes at {offset}")
        # Beyond the largest offset there is nothing to advise about.
        start = min(offset, MAX_OFFSET)
        try:
            os.posix_fadvise(self._fd.number, start, min(length, MAX_OFFSET - start), _ADVICE[advice])
        except OSError as error:
            raise from_host(error, f"advice {advice}") from None

    def sync(self, *, data_only: bool) -> None:
        try:
            if data_only:
                os.fdatasync(self._fd.number)
            else:
                os.fsync(self._fd.number)
        except OSError as error:
            raise from_host(error, "sync") from None

    # -- attributes ---------------------------------------------------------------------------------------------------
    def stat(self) -> FileStat:
        return self._mount.file_stat(status_of(self._fd))

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self._mount.require_writable("setting times")
        try:
            set_times_at(self._fd.number, None, atime_ns, mtime_ns)
        except OSError as error:
            raise from_host(error, "set times") from None

    def set_mode(self, mode: int) -> None:
        self._mount.set_mode(self._fd, mode)

    def set_flags(self, flags: FdFlags) -> None:
        """Change APPEND and NONBLOCK. EINVAL for the others, which the host fixes when a file is opened."""
        if (int(flags) ^ int(self.flags)) & SYNC:
            raise KernelError(Errno.EINVAL, f"cannot change flags {self.flags!r} to {flags!r}")
        append = bool(int(flags) & _APPEND)
        if append != self._append:
            _set_append(self._fd, on=append)
        self.flags = flags
        self._append = append

    def _size(self) -> int:
        return status_of(self._fd).st_size


def _set_append(fd: HostFd, *, on: bool) -> None:
    """Switch O_APPEND of an open file, fcntl(2) F_SETFL."""
    try:
        flags = fcntl.fcntl(fd.number, fcntl.F_GETFL)
        fcntl.fcntl(fd.number, fcntl.F_SETFL, flags | os.O_APPEND if on else flags & ~os.O_APPEND)
    except OSError as error:
        raise from_host(error, "switch of O_APPEND") from None


def _checked(offset: int) -> int:
    if not 0 <= offset <= MAX_OFFSET:
        raise KernelError(Errno.EINVAL, f"offset {offset}")
    return offset


def _length(buffers: Buffers) -> int:
    return sum(map(len, buffers))


def _cut(buffers: Buffers, size: int) -> Buffers:
    """Return the first `size` bytes of `buffers`."""
    cut = []
    for buffer in buffers:
        if len(buffer) >= size:
            cut.append(buffer[:size])
            return cut
        cut.append(buffer)
        size -= len(buffer)
    return cut
