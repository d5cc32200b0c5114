"""Listing a host directory: small cookies and bounded memory, however many names it has."""

import os
import struct
from bisect import bisect_right
from collections.abc import Iterator

from agentvm.host.beneath import read_directory
from agentvm.host.descriptors import HostFd
from agentvm.host.host_errno import from_host
from agentvm.host.mount import HostMount, filetype_of
from agentvm.kernel.stat import DirEntry, Filetype

__all__ = ["HostListing"]

_HEAD = struct.Struct("<QqHB")  # struct linux_dirent64: inode, offset of the next record, record length, type
_BATCH_BYTES = 8192
_MAX_BATCH = _BATCH_BYTES // 24  # no record is shorter
_MAX_MARKS = 256
_DOTS_COOKIE = 2

_FILETYPES = {
    1: Filetype.UNKNOWN,
    2: Filetype.CHARACTER_DEVICE,
    4: Filetype.DIRECTORY,
    6: Filetype.BLOCK_DEVICE,
    8: Filetype.REGULAR_FILE,
    10: Filetype.SYMBOLIC_LINK,
    12: Filetype.SOCKET_STREAM,
}


class HostListing:
    """The entries of one open directory. "." has cookie 1, ".." cookie 2, then names are numbered as they are read.

    Numbers are small, so that they survive `telldir` of a 32-bit guest. Held for it, and bounded by `max_open_fds`
    times this: one batch of 8 KiB as the host packed it, at most 256 marks (a number, and where in the directory it
    stands), and a descriptor until the end is reached. Going on where a listing stopped is exact whatever changes
    meanwhile, and so is going back within the last batch. Going elsewhere counts from the nearest mark, and is exact
    unless names right there were removed since. A cookie that was never given out is the end. Cookie 0 reads the
    directory anew.

    Names are the host's bytes, also where those are not UTF-8: what is there can be seen, and removed.
    """

    __slots__ = ("_batch", "_directory", "_fd", "_first", "_highest", "_marks", "_mount", "_next_offset", "_resume")

    _resume: tuple[int, int]

    def __init__(self, mount: HostMount, directory: HostFd) -> None:
        self._mount = mount
        self._directory = directory
        self._fd: HostFd | None = None
        self._highest = _DOTS_COOKIE  # the highest number ever given out
        self._marks: list[tuple[int, int]] = [(_DOTS_COOKIE, 0)]
        self._go_to(_DOTS_COOKIE, 0)

    def close(self) -> None:
        if self._fd is not None:
            self._fd.close()
            self._fd = None

    def entries(self, cookie: int, ino: int) -> Iterator[DirEntry]:
        """Iterate over the entries after `cookie`; `ino` is the directory's own, which is told for ".." too."""
        if cookie < 1:
            yield DirEntry(1, ino, Filetype.DIRECTORY, b".")
        if cookie < _DOTS_COOKIE:
            yield DirEntry(_DOTS_COOKIE, ino, Filetype.DIRECTORY, b"..")
        if cookie <= _DOTS_COOKIE:
            self._go_to(_DOTS_COOKIE, 0)
        elif cookie > self._highest:
            return
        elif not self._first <= cookie <= self._first + _MAX_BATCH:
            self._go_to_mark(cookie)
        yield from self._names_after(cookie)

    def _names_after(self, cookie: int) -> Iterator[DirEntry]:
        number, position = self._resume if self._resume[0] == cookie else (self._first, 0)
        while True:
            batch = self._batch
            while position < len(batch):
                start = position
                ino, self._next_offset, length, kind = _HEAD.unpack_from(batch, start)
                position += length
                name = batch[start + _HEAD.size : batch.index(0, start + _HEAD.size)]
                if name in (b".", b".."):
                    continue
                number += 1
                if number > cookie:
                    # The caller usually takes one entry too many, and asks for it again.
                    self._resume = number - 1, start
                    self._highest = max(self._highest, number)
                    yield DirEntry(number, ino, _FILETYPES.get(kind) or self._filetype(name), name)
            if not self._read_batch(number):
                return
            position = 0

    def _go_to_mark(self, cookie: int) -> None:
        after = bisect_right(self._marks, cookie, key=lambda mark: mark[0])
        self._go_to(*self._marks[after - 1])

    def _go_to(self, number: int, offset: int) -> None:
        self._batch = b""
        self._first = number  # the number before the first one of the batch
        self._resume = number, 0  # a number in the batch, and where the record after it stands
        self._next_offset = offset  # where the host goes on after the last record that was looked at
        self.close()

    def _read_batch(self, number: int) -> bool:
        """Replace the batch by the next one, which goes on after `number`. At the end keep it, and return False."""
        try:
            if self._fd is None:
                flags = os.O_RDONLY | os.O_DIRECTORY
                self._fd = self._mount.open_file(self._directory, b".", flags)
                os.lseek(self._fd.number, self._next_offset, os.SEEK_SET)
            batch = read_directory(self._fd.number, _BATCH_BYTES)
        except FileNotFoundError:
            batch = b""  # the directory was removed: readdir(3) says that it is empty
        except OSError as error:
            raise from_host(error, "read of a directory") from None
        if not batch:
            self.close()
            return False
        self._batch = batch
        self._first = number
        self._resume = number, 0
        if number > self._marks[-1][0]:
            if len(self._marks) == _MAX_MARKS:
                del self._marks[1::2]
            self._marks.append((number, self._next_offset))
        return True

    def _filetype(self, name: bytes) -> Filetype:
        """Ask for the type where the filesystem does not tell it in the listing."""
        try:
            return filetype_of(os.stat(name, dir_fd=self._directory.number, follow_symlinks=False).st_mode)
        except OSError:
            return Filetype.UNKNOWN  # removed since
