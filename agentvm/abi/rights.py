"""Rights of descriptors. Source: WASI preview1 `$rights`."""

from enum import IntFlag

from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import Filetype

__all__ = [
    "ALL",
    "CONNECTION",
    "DIRECTORY_BASE",
    "DIRECTORY_INHERITING",
    "FD_READ",
    "FD_WRITE",
    "FILE_BASE",
    "LISTENER",
    "STDIN",
    "STDOUT",
    "Rights",
    "applicable",
]


class Rights(IntFlag):
    """What a descriptor may be used for."""

    FD_DATASYNC = 1 << 0
    FD_READ = 1 << 1
    FD_SEEK = 1 << 2
    FD_FDSTAT_SET_FLAGS = 1 << 3
    FD_SYNC = 1 << 4
    FD_TELL = 1 << 5
    FD_WRITE = 1 << 6
    FD_ADVISE = 1 << 7
    FD_ALLOCATE = 1 << 8
    PATH_CREATE_DIRECTORY = 1 << 9
    PATH_CREATE_FILE = 1 << 10
    PATH_LINK_SOURCE = 1 << 11
    PATH_LINK_TARGET = 1 << 12
    PATH_OPEN = 1 << 13
    FD_READDIR = 1 << 14
    PATH_READLINK = 1 << 15
    PATH_RENAME_SOURCE = 1 << 16
    PATH_RENAME_TARGET = 1 << 17
    PATH_FILESTAT_GET = 1 << 18
    PATH_FILESTAT_SET_SIZE = 1 << 19
    PATH_FILESTAT_SET_TIMES = 1 << 20
    FD_FILESTAT_GET = 1 << 21
    FD_FILESTAT_SET_SIZE = 1 << 22
    FD_FILESTAT_SET_TIMES = 1 << 23
    PATH_SYMLINK = 1 << 24
    PATH_REMOVE_DIRECTORY = 1 << 25
    PATH_UNLINK_FILE = 1 << 26
    POLL_FD_READWRITE = 1 << 27
    SOCK_SHUTDOWN = 1 << 28
    SOCK_ACCEPT = 1 << 29


# Plain integers: an IntFlag operation costs a microsecond, and these are tested at every call.
ALL = (1 << 30) - 1
_DIRECTORY = Filetype.DIRECTORY
_SOCKETS = (Filetype.SOCKET_STREAM, Filetype.SOCKET_DGRAM)
FD_READ = int(Rights.FD_READ)
FD_WRITE = int(Rights.FD_WRITE)

#: What applies to a regular file, or a device.
FILE_BASE = int(
    Rights.FD_DATASYNC
    | Rights.FD_READ
    | Rights.FD_SEEK
    | Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_SYNC
    | Rights.FD_TELL
    | Rights.FD_WRITE
    | Rights.FD_ADVISE
    | Rights.FD_ALLOCATE
    | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_SIZE
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.POLL_FD_READWRITE
)

#: What applies to a directory itself.
DIRECTORY_BASE = int(
    Rights.FD_FDSTAT_SET_FLAGS
    | Rights.FD_SYNC
    | Rights.FD_DATASYNC
    | Rights.FD_ADVISE
    | Rights.PATH_CREATE_DIRECTORY
    | Rights.PATH_CREATE_FILE
    | Rights.PATH_LINK_SOURCE
    | Rights.PATH_LINK_TARGET
    | Rights.PATH_OPEN
    | Rights.FD_READDIR
    | Rights.PATH_READLINK
    | Rights.PATH_RENAME_SOURCE
    | Rights.PATH_RENAME_TARGET
    | Rights.PATH_FILESTAT_GET
    | Rights.PATH_FILESTAT_SET_SIZE
    | Rights.PATH_FILESTAT_SET_TIMES
    | Rights.FD_FILESTAT_GET
    | Rights.FD_FILESTAT_SET_TIMES
    | Rights.PATH_SYMLINK
    | Rights.PATH_REMOVE_DIRECTORY
    | Rights.PATH_UNLINK_FILE
    | Rights.POLL_FD_READWRITE
)

#: What files and directories opened through a directory may have.
DIRECTORY_INHERITING = DIRECTORY_BASE | FILE_BASE

#: A stream lacks the rights to seek: isatty(3) of wasi-libc looks for that. What else makes no sense for it, such as
#: fd_allocate, says so itself, with the errno that Linux gives.
_STREAM = FILE_BASE & ~int(Rights.FD_SEEK | Rights.FD_TELL)
STDIN = _STREAM & ~FD_WRITE
STDOUT = _STREAM & ~FD_READ
CONNECTION = _STREAM | int(Rights.SOCK_SHUTDOWN)
LISTENER = STDIN | int(Rights.SOCK_ACCEPT)


def applicable(file: OpenFile) -> int:
    """Return the rights that mean something for a file of this kind."""
    if file.seekable:
        return FILE_BASE
    filetype = file.filetype
    if filetype is _DIRECTORY:
        return DIRECTORY_BASE
    if filetype in _SOCKETS:
        return CONNECTION | LISTENER
    return _STREAM
