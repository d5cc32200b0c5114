"""Linear memories and GC heaps of guests: mapped, grown and unmapped here, and charged to the ledger first.

wasmtime calls the four callbacks at the end of this file, on the runner thread of the guest that `current` names.
A memory's whole address range is reserved, so it never moves; growing makes more of it accessible.
"""

import ctypes
import itertools
import mmap
from functools import cache
from typing import TYPE_CHECKING

from agentvm.engine import bind
from agentvm.engine.current import current
from agentvm.engine.memory_creator import MemoryCreator
from agentvm.errno import Errno, KernelError

if TYPE_CHECKING:
    from agentvm.engine.image import Image
    from agentvm.engine.ledger import MemoryAccount

__all__ = ["GuestMemories", "LinearMemory", "creator", "live_memories"]

_libc = ctypes.CDLL(None)
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_munmap = _libc.munmap
_munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_mprotect = _libc.mprotect
_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_view_of = ctypes.pythonapi.PyMemoryView_FromMemory
_view_of.restype = ctypes.py_object
_view_of.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]

_NONE, _RW = 0, mmap.PROT_READ | mmap.PROT_WRITE
_PRIVATE = mmap.MAP_PRIVATE
_MAP_FIXED = 0x10
_RESERVE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
_FAILED = ctypes.c_void_p(-1).value
_WRITABLE = 0x200  # PyBUF_WRITE
_size_at = ctypes.c_size_t.from_address

REFUSED = b"the memory is refused"


class LinearMemory:
    """One mapping: `size` of its `reserved` bytes can be used, and a guard follows them."""

    __slots__ = ("_account", "base", "is_heap", "mapped", "reserved", "size")

    def __init__(self, account: "MemoryAccount", base: int, size: int, reserved: int, mapped: int) -> None:
        self._account = account
        self.base = base
        self.size = size
        self.reserved = reserved
        self.mapped = mapped
        self.is_heap = False

    def grow(self, size: int) -> bool:
        """Make `size` bytes usable, charging the difference; False if a cap or the host refuses."""
        more = size - self.size
        # Past the reservation lies the guard that keeps VMs apart: nothing may ever eat it.
        if more < 0 or size > self.reserved:
            return False
        acquire = self._account.try_acquire_heap if self.is_heap else self._account.try_acquire
        if not acquire(more):
            return False
        if _mprotect(self.base, size, _RW):
            self._account.release(more)
            return False
        self.size = size
        return True

    def unmap(self) -> None:
        """Give the mapping and the charge back."""
        base, self.base = self.base, 0
        size, self.size = self.size, 0
        if base:
            _munmap(base, self.mapped)
            self._account.release(size)


class GuestMemories:
    """The memories of one process, in the order in which they were made."""

    __slots__ = ("_account", "_defined", "_exported", "_image", "_made", "_minimum", "host_refused", "resolved")

    def __init__(self, account: "MemoryAccount", minimums: tuple[int, ...], exported: int | None) -> None:
        """`minimums` holds the module's memories in bytes; `exported` is the index of the one called "memory"."""
        self._account = account
        self._defined = len(minimums)
        self._minimum = minimums[0] if minimums else 0
        self._exported = exported
        self._image: Image | None = None
        self._made: list[LinearMemory] = []
        #: The exported memory, once the instance is there and tells it for sure.
        self.resolved: LinearMemory | None = None
        #: Bytes of address space that the host itself refused last, or 0.
        self.host_refused = 0

    def use_image(self, image: "Image | None") -> None:
        """Map this over the start of memory 0 when it is made."""
        self._image = image

    def make(self, minimum: int, reserved: int, guard: int) -> LinearMemory | None:
        """Map a new memory; None if a cap or the host refuses."""
        if minimum > reserved or not self._account.try_acquire(minimum):
            return None
        base = _mmap(None, reserved + guard, _NONE, _RESERVE, -1, 0)
        if base is None or base == _FAILED:
            self._account.release(minimum)
            self.host_refused = reserved + guard
            return None
        memory = LinearMemory(self._account, base, minimum, reserved, reserved + guard)
        if (minimum and _mprotect(base, minimum, _RW)) or not self._map_image(memory):
            memory.unmap()
            self.host_refused = minimum
            return None
        # A GC heap is made before all memories, and starts with no bytes.
        memory.is_heap = not minimum and not self._made
        self._made.append(memory)
        return memory

    def _map_image(self, memory: LinearMemory) -> bool:
        image = self._image
        if image is None or not memory.size or memory.size != self._minimum:
            return True
        self._image = None
        if image.high > memory.size:
            return False
        place, length = memory.base + image.low, image.high - image.low
        return bool(_mmap(place, length, _RW, _PRIVATE | _MAP_FIXED, image.fd, image.low) == place)

    def settle(self) -> bool:
        """The instance is there. Whether the order of the memories alone tells which one is exported: no GC heap."""
        if len(self._made) != self._defined or self._exported is None:
            return False
        self.resolved = self._made[self._exported]
        return True

    def resolve(self, base: int) -> None:
        """Note which memory is exported as "memory": the one at `base`."""
        self.resolved = next(iter([memory for memory in self._made if memory.base == base]), None)

    def view(self) -> memoryview:
        """Return all bytes of the memory exported as "memory", as it is now. Raises EFAULT if there is none."""
        memory = self.resolved or self._guess()
        if memory is None or not memory.base:
            raise KernelError(Errno.EFAULT, "the module exports no memory")
        view: memoryview = _view_of(memory.base, memory.size, _WRITABLE)
        return view

    def _guess(self) -> LinearMemory | None:
        """While the start function runs no export can be asked for, but the order of the memories is known."""
        if self._exported is None:
            return None
        heaps = 1 if len(self._made) > self._defined else 0
        index = self._exported + heaps
        return self._made[index] if index < len(self._made) else None

    @property
    def mapped(self) -> int:
        """How many memories are mapped now."""
        return sum(1 for memory in self._made if memory.base)

    def unmap_rest(self) -> None:
        """Unmap what wasmtime did not give back. Only after the store is gone."""
        for memory in self._made:
            memory.unmap()


# ---- the callbacks: an int on every path, whatever happens ----

_memories: dict[int, LinearMemory] = {}  # bounded by max_running_processes x (max_memories + 1)
_keys = itertools.count(1)


def live_memories() -> int:
    """Return how many guest memories of all VMs are mapped."""
    return len(_memories)


@cache
def _nowhere() -> tuple[int, int]:
    """An address range like a memory's that nothing can be read from, for a `get` that fails. (base, reserved)"""
    from agentvm.engine.config import GUARD_BYTES, RESERVATION_BYTES

    base = _mmap(None, RESERVATION_BYTES + GUARD_BYTES, _NONE, _RESERVE, -1, 0)
    if base is None or base == _FAILED:
        raise MemoryError("the host refused 4 GiB of address space")
    return base, RESERVATION_BYTES


def _new(_env: int | None, _kind: int, minimum: int, _maximum: int, reserved: int, guard: int, out: int) -> int:
    try:
        memory = current.execution.memories.make(minimum, reserved, guard)
        if memory is None:
            return bind.new_error(REFUSED)
        key = next(_keys)
        _memories[key] = memory
        _creator().describe(out, key)
        return 0
    except BaseException as error:  # noqa: BLE001 - a callback must return
        return _fail(error)


def _get(key: int, size: int, capacity: int) -> int:
    try:
        memory = _memories[key]
        _size_at(size).value = memory.size
        _size_at(capacity).value = memory.reserved
        return memory.base
    except BaseException as error:  # noqa: BLE001 - a callback must return
        return _lost(error, size, capacity)


def _grow(key: int, size: int) -> int:
    try:
        if _memories[key].grow(size):
            return 0
        return bind.new_error(REFUSED)
    except BaseException as error:  # noqa: BLE001 - a callback must return
        return _fail(error)


def _drop(key: int) -> None:
    try:
        _memories.pop(key).unmap()
    except BaseException as error:  # noqa: BLE001 - a callback must return
        _fail_quietly(error)


def _fail(error: BaseException) -> int:
    try:
        return current.execution.fail_callback(error)
    except BaseException:  # noqa: BLE001 - a callback must return
        return bind.new_error(REFUSED)


def _fail_quietly(error: BaseException) -> None:
    try:
        current.execution.note_bug(error)
    except BaseException:  # noqa: BLE001, S110 - a callback must return
        pass


def _lost(error: BaseException, size: int, capacity: int) -> int:
    """No error can be returned from `get`: give the guest a memory in which every access faults, and end it."""
    _fail_quietly(error)
    base, reserved = _nowhere()
    _size_at(size).value = 0
    _size_at(capacity).value = reserved
    return base


@cache
def _creator() -> MemoryCreator:
    _nowhere()
    return MemoryCreator(_new, _get, _grow, _drop)


def creator() -> MemoryCreator:
    """Return the one memory creator of the process. It is never freed."""
    return _creator()
