"""How deep a guest's calls are nested, in bytes of the native stack, as its ticks find it: max_wasm_stack_bytes.

wasmtime counts a guest's stack from where the runner thread entered it, and tells nobody how far it is used. But a tick
is a call out of the guest, on the same stack, so the distance between the two places is what the guest has used, within
about 1 KiB of wasmtime's own frames. The first place comes from getcontext(3), asked once on each runner thread; where
the C library lacks it (musl), no depth is known and only an overflow is noted.
"""

import ctypes
import platform
import threading

from agentvm.limits.gauge import Ceiling
from agentvm.limits.spec import UNLIMITED, Cap

__all__ = ["StackDepth", "stack_pointer"]

#: Where `ucontext_t` of glibc holds the stack pointer: gregs[REG_RSP] of x86-64, mcontext.sp of aarch64.
_POINTER_OFFSETS = {"x86_64": 160, "aarch64": 432}
#: `ucontext_t` takes 968 bytes on x86-64 and 4,560 on aarch64.
_CONTEXT_BYTES = 8192

_getcontext = getattr(ctypes.PyDLL(None), "getcontext", None)
_offset = _POINTER_OFFSETS.get(platform.machine())


def stack_pointer() -> int | None:
    """Return the calling thread's native stack pointer, about where a call into a guest would start; None: unknown."""
    if _getcontext is None or _offset is None:
        return None
    context = ctypes.create_string_buffer(_CONTEXT_BYTES)
    _getcontext(context)
    return ctypes.c_uint64.from_buffer(context, _offset).value


#: The ceiling is the VM's, and its processes tick at the same time.
_lock = threading.Lock()


class StackDepth:
    """The depth of one process. Used on its runner thread only."""

    __slots__ = ("_base", "_ceiling", "_high", "_is_deep", "_low")

    def __init__(self, ceiling: Ceiling) -> None:
        self._ceiling = ceiling
        self._base = 0
        #: Whether this process was seen so deep that it is a warning, and not yet far above that.
        self._is_deep = False
        #: Above the one and up to the other there is nothing to note.
        self._low: Cap = -UNLIMITED
        self._high: Cap = UNLIMITED

    def open(self, base: int | None) -> None:
        """The guest is about to be entered, where the stack pointer is `base`."""
        if base is not None:
            self._base = base
            self._low, self._high = -1, 0

    def look(self, address: int) -> None:
        """A tick came, with a variable of its own at `address`."""
        depth = self._base - address
        if depth > self._high or depth <= self._low:
            self._note(depth)

    def _note(self, depth: int) -> None:
        ceiling = self._ceiling
        with _lock:
            warn_at, rearm_at = ceiling.warn_at, ceiling.rearm_at
            was_deep = self._is_deep
            self._is_deep = depth >= warn_at or (was_deep and depth > rearm_at)
            # A process that never was deep must not make the VM forget that another one is.
            if self._is_deep or was_deep or depth > ceiling.peak:
                # What the tick itself adds is no overflow.
                ceiling.observe(min(depth, ceiling.cap))
            self._low = rearm_at if self._is_deep else -1
            self._high = max(depth, ceiling.peak if self._is_deep else min(ceiling.peak, warn_at - 1))

    def overflow(self) -> None:
        """The guest asked for more than the cap, and has ended by it."""
        with _lock:
            self._ceiling.refuse(self._ceiling.cap)
