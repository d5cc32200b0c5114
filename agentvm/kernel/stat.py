"""What the kernel tells about a file: its type, its attributes, the flags it was opened with.

Source: WASI preview1 `$filetype`, `$filestat`, `$fdflags`, `$whence`; POSIX `<sys/stat.h>`.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

__all__ = ["DirEntry", "FdFlags", "FileStat", "Filetype", "Whence"]


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


class DirEntry(NamedTuple):
    """One name in a directory. `cookie` resumes a listing right after this entry, whatever changes meanwhile."""

    cookie: int
    ino: int
    filetype: Filetype
    name: bytes
