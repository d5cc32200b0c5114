"""The signal handlers by which wasmtime turns faults of guests into traps: kept, watched, and put back.

If anything installs its own handler after the first engine (`faulthandler.enable()` does), the next trap of a guest
would kill the host. See docs/rationale.md, "Why the host's signal handlers are watched".
"""

import ctypes
import signal
import sys
import threading

from agentvm import log

__all__ = ["ensure", "in_force", "save"]

_SIGNALS = (signal.SIGSEGV, signal.SIGILL, signal.SIGFPE, signal.SIGBUS)
#: `struct sigaction` of Linux is 152 bytes with glibc, less with musl; the handler is its first field.
_ACTION_BYTES = 160

_lock = threading.Lock()
_is_linux = sys.platform.startswith("linux")


def _sigaction() -> "ctypes._NamedFuncPointer | None":
    if not _is_linux:
        return None
    function = ctypes.PyDLL(None).sigaction
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    return function


class _Watched:
    """One signal: the action that the engine installed, and a buffer to read the present one into."""

    __slots__ = ("_action", "_present", "number", "present", "wanted", "where_present", "where_wanted")

    def __init__(self, number: int) -> None:
        self.number = number
        self._action = ctypes.create_string_buffer(_ACTION_BYTES)
        self._present = ctypes.create_string_buffer(_ACTION_BYTES)
        self.where_wanted = ctypes.addressof(self._action)
        self.where_present = ctypes.addressof(self._present)
        #: The handler as it was just read.
        self.present = ctypes.c_size_t.from_buffer(self._present)
        #: The engine's.
        self.wanted = 0

    def read_wanted(self) -> None:
        """Take the handler that was just read into the other buffer as the engine's."""
        self.wanted = ctypes.c_size_t.from_buffer(self._action).value


_watched: list[_Watched] = []
_query = _sigaction()
_warned = False


def save() -> None:
    """Note the handlers as they are now. Called once, right after the first engine was made."""
    with _lock:
        if _watched or _query is None:
            return
        for number in _SIGNALS:
            watched = _Watched(int(number))
            _query(watched.number, None, watched.where_wanted)
            watched.read_wanted()
            _watched.append(watched)


def ensure() -> None:
    """Put back every handler that somebody replaced, and warn once. Any thread; a few us when all is well."""
    if _query is None:
        return
    taken: list[str] = []
    with _lock:
        for watched in _watched:
            _query(watched.number, None, watched.where_present)
            if watched.present.value != watched.wanted:
                _query(watched.number, watched.where_wanted, None)
                taken.append(signal.Signals(watched.number).name)
    if taken:
        _warn(taken)


def in_force() -> dict[str, bool]:
    """Return, for each signal that the engine handles, whether its handler is the one there now. Changes nothing.

    Empty before the first engine, and on systems where handlers are not watched.
    """
    found: dict[str, bool] = {}
    if _query is not None:
        with _lock:
            for watched in _watched:
                _query(watched.number, None, watched.where_present)
                if watched.wanted != signal.SIG_DFL:
                    found[signal.Signals(watched.number).name] = watched.present.value == watched.wanted
    return found


def _warn(taken: list[str]) -> None:
    global _warned  # noqa: PLW0603 - once for the process
    if _warned:
        return
    _warned = True
    log.warn(
        f"another part of this program replaced the handlers of {', '.join(taken)} after the first VM was opened; they "
        "were put back, or a guest's trap would end this process. Call faulthandler.enable() and the like before.",
    )
