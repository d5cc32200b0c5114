"""The C structures through which wasmtime calls a host memory creator."""

import ctypes
import struct
from collections.abc import Callable

from agentvm.engine import bind

__all__ = ["MemoryCreator"]

_SIZE, _ADDRESS = ctypes.c_size_t, ctypes.c_void_p
_NewMemory = ctypes.CFUNCTYPE(_SIZE, _ADDRESS, _ADDRESS, _SIZE, _SIZE, _SIZE, _SIZE, _ADDRESS)
_GetMemory = ctypes.CFUNCTYPE(_SIZE, _ADDRESS, _ADDRESS, _ADDRESS)
_GrowMemory = ctypes.CFUNCTYPE(_SIZE, _ADDRESS, _SIZE)
_Finalizer = ctypes.CFUNCTYPE(None, _ADDRESS)


class MemoryCreator:
    """The four callbacks of a memory creator. Must live as long as any engine that was configured with it.

    `new(env, type, minimum, maximum, reserved, guard, out) -> error`; it calls `describe(out, key)` on success.
    `get(key, size_out, capacity_out) -> base`, `grow(key, new_size) -> error`, `drop(key)`. Errors are `new_error`s, or
    0. Every one must return an int whatever happens: ctypes turns an exception into a wild pointer.
    """

    def __init__(
        self,
        new: Callable[[int | None, int, int, int, int, int, int], int],
        get: Callable[[int, int, int], int],
        grow: Callable[[int, int], int],
        drop: Callable[[int], None],
    ) -> None:
        self._callbacks = (_NewMemory(new), _GetMemory(get), _GrowMemory(grow), _Finalizer(drop))
        addresses = [ctypes.cast(callback, _ADDRESS).value or 0 for callback in self._callbacks]
        self._creator = ctypes.create_string_buffer(struct.pack("NNN", 0, addresses[0], 0), bind.CREATOR_BYTES)
        self._template = struct.pack("NNN", *addresses[1:])
        #: Where the `wasmtime_memory_creator_t` is.
        self.address = ctypes.addressof(self._creator)

    def describe(self, out: int, key: int) -> None:
        """Fill in the `wasmtime_linear_memory_t` at `out` for the memory called `key`."""
        ctypes.memmove(out, struct.pack("N", key) + self._template, bind.MEMORY_BYTES)
