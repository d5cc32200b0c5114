"""What the kernel tells about a file: its type, its attributes, the flags it was opened with.

Source: WASI preview1 `$filetype`, `$filestat`, `$fdflags`, `$whence`; POSIX `<sys/stat.h>`.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from agentvm.kernel.credentials import DEFAULT_GID, DEFAULT_UID

__all__ = [
    "S_IFBLK",
    "S_IFCHR",
    "S_IFDIR",
    "S_IFIFO",
    "S_IFLNK",
    "S_IFMT",
    "S_IFREG",
    "S_IFSOCK",
    "DirEntry",
    "FdFlags",
    "FileStat",
    "Filetype",
    "Whence",
]

#: File types as st_mode has them: inode(7).
S_IFMT: Final = 0o170000
S_IFIFO: Final = 0o010000
S_IFCHR: Final = 0o020000
S_IFDIR: Final = 0o040000
S_IFBLK: Final = 0o060000
S_IFREG: Final = 0o100000
S_IFLNK: Final = 0o120000
S_IFSOCK: Final = 0o140000


class Filetype(IntEnum):
    """Type of a file; preview1 has none for pipes, which report `UNKNOWN`."""

    UNKNOWN = 0
    BLOCK_DEVICE = 1
    CHARACTER_DEVICE = 2
    DIRECTORY = 3
    REGULAR_FILE = 4
    SOCKET_DGRAM = 5
    SOCKET_STREAM = 6
    SYMBOLIC_LINK = 7


#: What st_mode says of each type. A pipe is what preview1 has no type for.
_TYPE_BITS: Final = {
    Filetype.UNKNOWN: S_IFIFO,
    Filetype.BLOCK_DEVICE: S_IFBLK,
    Filetype.CHARACTER_DEVICE: S_IFCHR,
    Filetype.DIRECTORY: S_IFDIR,
    Filetype.REGULAR_FILE: S_IFREG,
    Filetype.SOCKET_DGRAM: S_IFSOCK,
    Filetype.SOCKET_STREAM: S_IFSOCK,
    Filetype.SYMBOLIC_LINK: S_IFLNK,
}


class FdFlags(IntFlag):
    """Flags of an open file description, shared by all its descriptors."""

    APPEND = 1
    DSYNC = 2
    NONBLOCK = 4
    RSYNC = 8
    SYNC = 16


class Whence(IntEnum):
    """Where an offset counts from."""

    SET = 0
    CUR = 1
    END = 2


@dataclass(slots=True)
class FileStat:
    """Attributes of a file. Times are nanoseconds since 1970, `size` is in bytes, `mode` holds permission bits only."""

    dev: int
    ino: int
    filetype: Filetype
    nlink: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    mode: int
    uid: int = DEFAULT_UID
    gid: int = DEFAULT_GID
    #: What device a device file stands for: makedev(3).
    rdev: int = 0

    @property
    def st_mode(self) -> int:
        """The permission bits and the file type, as stat(2) packs them."""
        return self.mode | _TYPE_BITS[self.filetype]


class DirEntry(NamedTuple):
    """One name in a directory. `cookie` resumes a listing right after this entry, whatever changes meanwhile."""

    cookie: int
    ino: int
    filetype: Filetype
    name: bytes
