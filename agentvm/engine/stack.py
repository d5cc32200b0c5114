"""Threads with a stack of a given size, which Python can only set for the whole process at a time."""

import _thread
import threading
from collections.abc import Callable

from agentvm.errors import HostLimit

__all__ = ["EXTRA_BYTES", "start_thread"]

#: A runner's stack beyond what wasm may use: for wasmtime, ctypes and the interpreter, at any depth of the guest's.
EXTRA_BYTES = 1 << 20
_PAGE = 65_536

_lock = threading.Lock()


def start_thread(target: Callable[[], None], stack_bytes: int) -> None:
    """Start a thread that does not keep the interpreter from exiting. Raises `HostLimit` where the host refuses it.

    Not a `threading.Thread`: its `start` waits for the thread, and Ctrl-C in that wait breaks it.
    """
    size = -(-stack_bytes // _PAGE) * _PAGE
    with _lock:
        before = threading.stack_size()
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
