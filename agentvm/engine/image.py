"""Takes the initial contents of memory 0 out of a module, so that instances map them instead of copying them.

The engine's memory creator needs `memory_init_cow` off, and then each start copies every active data segment. A module
whose first segments are constant gets one sealed memfd instead, which every instance maps privately.
See docs/rationale.md, "Why data segments are cut out of modules".
"""

import fcntl
import mmap
import os
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from agentvm.engine.capacity import host_capacity
from agentvm.engine.cursor import Cursor
from agentvm.engine.module_info import PAGE_BYTES, ModuleInfo
from agentvm.engine.wasm import DATA, Layout

__all__ = ["MIN_IMAGE_BYTES", "Cut", "Image", "cut"]

#: Below this, copying at the start is cheaper than one more mapping in every instance.
MIN_IMAGE_BYTES = 16 * 1024
#: An image may hold as many bytes of holes as of data, and this: holes that a guest reads become real pages.
MAX_HOLE_BYTES = 64 * 1024
#: `(data (i32.const 0) "")`: what stands for a segment that was cut where the numbering must stay.
_EMPTY_SEGMENT = b"\x00\x41\x00\x0b\x00"
_I32_CONST, _END = 0x41, 0x0B


#: One entry for each descriptor that was closed and is still charged. Images close wherever their last reference goes,
#: perhaps in a garbage collection while this thread holds the gauge's lock: so the next image gives back the charges.
_closed: deque[None] = deque()


def _charge_descriptor() -> None:
    while _closed:
        _closed.pop()
        host_capacity().release("max_host_fds")
    host_capacity().acquire("max_host_fds")


class Image:
    """The first contents of a memory: bytes [low, high) of it, both multiples of the host's page, in a sealed memfd.

    Map `[low, high)` of `fd` privately at the same offsets. The descriptor closes with the last reference.
    """

    __slots__ = ("fd", "high", "low")

    def __init__(self, offset: int, contents: bytes | bytearray | memoryview) -> None:
        """Raises `HostLimit` at max_host_fds, OSError where the host refuses a descriptor or the memory."""
        self.fd = -1
        _charge_descriptor()
        page = mmap.PAGESIZE
        self.low = offset // page * page
        self.high = -(-(offset + len(contents)) // page) * page
        try:
            self.fd = os.memfd_create("agentvm-image", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError:
            _closed.append(None)
            raise
        os.ftruncate(self.fd, self.high)
        view, at = memoryview(contents), offset
        while view:
            written = os.pwrite(self.fd, view, at)
            view, at = view[written:], at + written
        # One instance could otherwise write into the memory of all others, if it ever came by the descriptor.
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, seals)

    @property
    def size_bytes(self) -> int:
        """Host memory that it holds."""
        return self.high - self.low

    def close(self) -> None:
        """Give the descriptor back. Idempotent; mappings stay."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)
            _closed.append(None)

    def __del__(self) -> None:
        self.close()


class Cut(NamedTuple):
    """A module in pieces to be joined, and what was taken out of it: `contents`, at `offset` of memory 0."""

    pieces: Sequence[bytes | memoryview]
    offset: int
    contents: bytes | bytearray


class _Segment(NamedTuple):
    """An active constant segment of memory 0: `length` bytes at `at` of the module, for `offset` of the memory."""

    offset: int
    at: int
    length: int


def cut(wasm: bytes, info: ModuleInfo, layout: Layout, *, min_bytes: int = MIN_IMAGE_BYTES) -> Cut | None:
    """Cut the leading constant segments of memory 0, or return None where that would change the module or not pay.

    Segments are written in order and later ones win, so cutting stops at the first active segment of memory 0 whose
    place is not a constant inside the memory's minimum: that one and all after it stay, and still trap if they must.
    Segments that `memory.init` may name keep their numbers: an empty active one, dropped at the start, traps the same.
    Raises `MalformedModule`.
    """
    span = layout.get(DATA)
    if span is None or not info.memories or info.imported_memories or span.end - span.start < min_bytes:
        return None
    cursor = Cursor(wasm, span.start, span.end, "data")
    count = cursor.u32()
    memory_bytes = info.memories[0].min_pages * PAGE_BYTES
    is_numbered = info.data_count is not None
    view = memoryview(wasm)
    segments: list[_Segment] = []
    kept: list[bytes | memoryview] = []
    for _ in range(count):
        start = cursor.at
        segment = _read_segment(cursor, memory_bytes)
        if segment is _STOP:
            cursor.at = start
            break
        if segment is None:
            kept.append(view[start : cursor.at])
            continue
        segments.append(segment)
        if is_numbered:
            kept.append(_EMPTY_SEGMENT)
    else:
        cursor.finish()
    image = _join(view, segments, min_bytes)
    if image is None:
        return None
    kept.append(view[cursor.at : span.end])
    count -= 0 if is_numbered else len(segments)
    contents = [_leb(count), *kept] if count else []
    header = [b"\x0b", _leb(sum(map(len, contents)))] if count else []
    return Cut([view[: span.header], *header, *contents, view[span.end :]], *image)


_STOP = _Segment(-1, -1, -1)


def _read_segment(cursor: Cursor, memory_bytes: int) -> _Segment | None:
    """Read past one segment: return it, None if it is not for memory 0, or `_STOP` where cutting ends."""
    flags = cursor.u32()
    if flags > 2:
        cursor.fail(f"unknown flags {flags:#x}")
    if flags == 1:
        cursor.skip(cursor.u32())
        return None
    memory = cursor.u32() if flags == 2 else 0
    if cursor.byte() != _I32_CONST:
        return _STOP
    offset = cursor.s32() & 0xFFFFFFFF
    if cursor.byte() != _END:
        return _STOP
    length = cursor.u32()
    start = cursor.at
    cursor.skip(length)
    if memory != 0:
        return None
    return _Segment(offset, start, length) if offset + length <= memory_bytes else _STOP


def _join(wasm: memoryview, segments: list[_Segment], min_bytes: int) -> tuple[int, bytearray] | None:
    """Lay the segments out in one run of bytes: (its offset, the bytes), or None if that is small or mostly holes."""
    filled = [segment for segment in segments if segment.length]
    data_bytes = sum(segment.length for segment in filled)
    if not filled or data_bytes < min_bytes:
        return None
    low = min(segment.offset for segment in filled)
    high = max(segment.offset + segment.length for segment in filled)
    if high - low > 2 * data_bytes + MAX_HOLE_BYTES:
        return None
    contents = bytearray(high - low)
    for segment in filled:
        at = segment.offset - low
        contents[at : at + segment.length] = wasm[segment.at : segment.at + segment.length]
    return low, contents


def _leb(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
