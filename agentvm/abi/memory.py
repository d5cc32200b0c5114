"""Guest memory as the calls see it: one cached view, and every pointer checked before it is used.

Linear memory only grows and never moves, so a hit in the cached view stays valid; a miss asks once for the current size
and is EFAULT if the range still lies outside.
"""

from struct import Struct
from typing import Protocol

from agentvm.errno import Errno, KernelError
from agentvm.limits.gauge import Ceiling

__all__ = ["GuestMemory", "MemorySource"]

_IOVEC = Struct("<II").unpack_from
_EMPTY = memoryview(b"")


class MemorySource(Protocol):
    """Where the engine keeps the memory that the module exports as "memory"."""

    def view(self) -> memoryview:
        """Return a flat view of all of it as it is now; EFAULT if there is none."""


class _NoMemory:
    def view(self) -> memoryview:
        raise KernelError(Errno.EFAULT, "the module exports no memory")


class GuestMemory:
    """Bounds-checked access to a guest's memory. Pointers and lengths are unsigned 32-bit integers."""

    __slots__ = ("_iovecs", "_source", "size", "view")

    def __init__(self, iovecs: Ceiling) -> None:
        self._iovecs = iovecs
        self._source: MemorySource = _NoMemory()
        self.view = _EMPTY
        self.size = 0

    def attach(self, source: MemorySource) -> None:
        """Use another memory from now on."""
        self._source = source
        self.view = _EMPTY
        self.size = 0

    def detach(self) -> None:
        """Forget the memory: it is about to be unmapped."""
        self.attach(_NoMemory())

    def refresh(self, end: int) -> None:
        """Look at the memory's size again; EFAULT if it still ends before `end`."""
        self.view = self._source.view()
        self.size = len(self.view)
        if end > self.size:
            raise KernelError(Errno.EFAULT, f"memory ends at {self.size:#x}, before {end:#x}")

    def span(self, pointer: int, length: int) -> memoryview:
        """Return the guest's bytes [pointer, pointer + length); EFAULT."""
        end = pointer + length
        if end > self.size:
            self.refresh(end)
        return self.view[pointer:end]

    def path(self, pointer: int, length: int) -> bytes:
        """Return a copy of a path; EFAULT, and EILSEQ if it is not UTF-8 (preview1 `string`)."""
        end = pointer + length
        if end > self.size:
            self.refresh(end)
        path = bytes(self.view[pointer : min(end, pointer + _LONGEST_COPY)])
        if not path.isascii():
            try:
                path.decode()
            except UnicodeDecodeError:
                raise KernelError(Errno.EILSEQ, "the path is not valid UTF-8") from None
        return path

    def buffers(self, pointer: int, count: int) -> tuple[memoryview, ...]:
        """Return the buffers that an iovec array describes; EFAULT, EINVAL for too many or more than 2^32-1 bytes."""
        if count == 1:  # nearly always
            if pointer + 8 > self.size:
                self.refresh(pointer + 8)
            start, length = _IOVEC(self.view, pointer)
            length += start
            if length > self.size:
                self.refresh(length)
            return (self.view[start:length],)
        self._iovecs.check(count)
        end = pointer + 8 * count
        if end > self.size:
            self.refresh(end)
        spans, total = [], 0
        for place in range(pointer, end, 8):
            start, length = _IOVEC(self.view, place)
            total += length
            spans.append(self.span(start, length))
        if total > 0xFFFF_FFFF:
            raise KernelError(Errno.EINVAL, f"iovecs of {total} bytes together")
        return tuple(spans)


#: A path is refused long before this (max_path_bytes), so no guest makes the host copy more.
_LONGEST_COPY = 1 << 21
