"""Threads with a stack of a given size, which Python can only set for the whole process at a time."""

import _thread
import ctypes
import threading
from collections.abc import Callable

from agentvm.errors import HostLimit

__all__ = ["EXTRA_BYTES", "give_back", "start_thread"]

#: A runner's stack beyond what wasm may use: for wasmtime, ctypes and the interpreter, at any depth of the guest's.
EXTRA_BYTES = 1 << 20
_PAGE = 65_536
#: Around where a guest is entered: what is above may be in use, what is this far below never is.
_MARGIN_BYTES = 256 << 10
#: A stack that is no larger than this keeps its pages: to fault them in again costs more than they do.
_SMALL_BYTES = 4 << 20
_MADV_DONTNEED = 4
_M_MMAP_THRESHOLD = -3

_libc = ctypes.CDLL(None)
_madvise = _libc.madvise
_madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

_lock = threading.Lock()


def start_thread(target: Callable[[], None], stack_bytes: int) -> None:
    """Start a thread that does not keep the interpreter from exiting. Raises `HostLimit` where the host refuses it.

    Not a `threading.Thread`: its `start` waits for the thread, and Ctrl-C in that wait breaks it.
    """
    size = -(-stack_bytes // _PAGE) * _PAGE
    with _lock:
        before = threading.stack_size()
        if size > _SMALL_BYTES + EXTRA_BYTES:
            _map_large_pieces()
        try:
            threading.stack_size(size)
            _thread.start_new_thread(target, ())
        except (RuntimeError, MemoryError, ValueError) as error:
            raise HostLimit(
                f"the host refused a thread with a stack of {size} bytes: {error}",
                limit="max_running_processes",
                stack_bytes=size,
            ) from error
        finally:
            threading.stack_size(before)


def _map_large_pieces() -> None:
    """Have the C library's allocator map every large piece by itself, and unmap it when it is freed. Idempotent.

    See docs/rationale.md, "Why a large stack sets the allocator". Source: mallopt(3); musl has no such setting, and
    needs none.
    """
    mallopt = getattr(_libc, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _SMALL_BYTES)


def give_back(pointer: int | None, wasm_stack_bytes: int) -> None:
    """Give the pages back that a guest has used of the calling runner's stack: the next may run on another runner.

    `pointer` is the stack pointer at which guests are entered, None where it is not known. Source: madvise(2).
    """
    if pointer is None or wasm_stack_bytes <= _SMALL_BYTES:
        return
    low = -(-(pointer - wasm_stack_bytes - _MARGIN_BYTES) // _PAGE) * _PAGE
    high = (pointer - _MARGIN_BYTES) // _PAGE * _PAGE
    _madvise(low, high - low, _MADV_DONTNEED)
