"""The packed records of preview1, and how `wasi_unstable` lays them out. Source: `typenames.witx` of both."""

from struct import Struct
from typing import NamedTuple

from agentvm.kernel.stat import DirEntry, FileStat

__all__ = [
    "DIRENT_SIZE",
    "FdStat",
    "PollClock",
    "PollEvent",
    "PollFile",
    "pack_dirent",
    "pack_event",
    "pack_fdstat",
    "pack_filestat",
    "pack_filestat_unstable",
    "pack_prestat",
    "pack_u16",
    "pack_u32",
    "pack_u64",
    "unpack_subscription",
    "unpack_subscription_unstable",
]

pack_u16 = Struct("<H").pack_into
pack_u32 = Struct("<I").pack_into
pack_u64 = Struct("<Q").pack_into

_FDSTAT = Struct("<B x H 4x Q Q")
_FILESTAT = Struct("<Q Q B 7x Q Q Q Q Q")
_FILESTAT_UNSTABLE = Struct("<Q Q B 3x I Q Q Q Q")
_PRESTAT = Struct("<B 3x I")
_DIRENT = Struct("<Q Q I B 3x")
_EVENT = Struct("<Q H B 5x Q H 6x")
_SUBSCRIPTION_HEAD = Struct("<Q B").unpack_from
_SUBSCRIPTION_CLOCK = Struct("<I 4x Q Q H").unpack_from
_SUBSCRIPTION_FILE = Struct("<I").unpack_from

DIRENT_SIZE = _DIRENT.size
assert (_FDSTAT.size, _FILESTAT.size, _FILESTAT_UNSTABLE.size, _PRESTAT.size) == (24, 64, 56, 8)
assert (DIRENT_SIZE, _EVENT.size) == (24, 32)


class FdStat(NamedTuple):
    """Preview1 `$fdstat`."""

    filetype: int
    flags: int
    rights: int
    inheriting: int


class PollClock(NamedTuple):
    """A subscription to a point in time: `timeout_ns` is relative unless `absolute`."""

    userdata: int
    clock_id: int
    timeout_ns: int
    absolute: bool


class PollFile(NamedTuple):
    """A subscription to a descriptor that becomes readable (`kind` 1) or writable (2)."""

    userdata: int
    kind: int
    fd: int


class PollEvent(NamedTuple):
    """Preview1 `$event`."""

    userdata: int
    error: int
    kind: int
    readable_bytes: int = 0
    hangup: bool = False


def pack_fdstat(view: memoryview, pointer: int, stat: FdStat) -> None:
    _FDSTAT.pack_into(view, pointer, *stat)


def pack_filestat(view: memoryview, pointer: int, stat: FileStat) -> None:
    _FILESTAT.pack_into(
        view,
        pointer,
        stat.dev,
        stat.ino,
        stat.filetype,
        stat.nlink,
        stat.size,
        stat.atime_ns,
        stat.mtime_ns,
        stat.ctime_ns,
    )


def pack_filestat_unstable(view: memoryview, pointer: int, stat: FileStat) -> None:
    """In `wasi_unstable` the link count has 32 bits."""
    _FILESTAT_UNSTABLE.pack_into(
        view,
        pointer,
        stat.dev,
        stat.ino,
        stat.filetype,
        min(stat.nlink, 0xFFFF_FFFF),
        stat.size,
        stat.atime_ns,
        stat.mtime_ns,
        stat.ctime_ns,
    )


def pack_prestat(view: memoryview, pointer: int, name_length: int) -> None:
    """A preopened directory is the only kind of prestat (tag 0)."""
    _PRESTAT.pack_into(view, pointer, 0, name_length)


def pack_dirent(entry: DirEntry) -> bytes:
    """Return the record of a directory entry with its name right behind it."""
    return _DIRENT.pack(entry.cookie, entry.ino, len(entry.name), entry.filetype) + entry.name


def pack_event(view: memoryview, pointer: int, event: PollEvent) -> None:
    _EVENT.pack_into(
        view, pointer, event.userdata, event.error, event.kind, event.readable_bytes, 1 if event.hangup else 0
    )


def unpack_subscription(view: memoryview, pointer: int) -> PollClock | PollFile | None:
    """Read a subscription of 48 bytes; None for an unknown kind or flag."""
    return _unpack(view, pointer, clock_offset=16)


def unpack_subscription_unstable(view: memoryview, pointer: int) -> PollClock | PollFile | None:
    """Read a subscription of 56 bytes: in `wasi_unstable` a clock's starts with an identifier of its own."""
    return _unpack(view, pointer, clock_offset=24)


def _unpack(view: memoryview, pointer: int, *, clock_offset: int) -> PollClock | PollFile | None:
    userdata, kind = _SUBSCRIPTION_HEAD(view, pointer)
    if kind == 0:
        clock_id, timeout_ns, _precision, flags = _SUBSCRIPTION_CLOCK(view, pointer + clock_offset)
        return PollClock(userdata, clock_id, timeout_ns, flags == 1) if flags <= 1 else None
    if kind in (1, 2):
        (fd,) = _SUBSCRIPTION_FILE(view, pointer + 16)
        return PollFile(userdata, kind, fd)
    return None
