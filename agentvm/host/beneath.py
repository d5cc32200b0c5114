"""The system calls of confined mounts: each takes a directory's descriptor and one name, and follows no symlink.

`openat2` with RESOLVE_BENEATH where the host has it (Linux 5.6), else `openat` with O_NOFOLLOW. A name is one path
component, so both are confined; openat2 refuses once more, in the host's kernel. Raises `OSError`.
Source: openat2(2), getdents64(2), utimensat(2), linux/openat2.h.
"""

import ctypes
import errno
import os
import platform

__all__ = ["DIRECTORY_FLAGS", "FILE_FLAGS", "NAME_FLAGS", "Resolver", "read_directory", "set_mode_of", "set_times_at"]

#: To hold a directory: nothing is opened for real, no read permission is asked.
DIRECTORY_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_PATH | os.O_DIRECTORY
#: To hold any kind of file, symlinks and devices included, without opening it.
NAME_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_PATH
#: To open a regular file: a FIFO that was put in its place does not block, a terminal does not become ours.
FILE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY

_SYS_OPENAT2 = 437  # the same on every architecture
_SYS_GETDENTS64 = 61 if platform.machine() == "aarch64" else 217
_RESOLVE = 0x02 | 0x04 | 0x08  # NO_MAGICLINKS | NO_SYMLINKS | BENEATH; the operator's nested mounts may be crossed

_AT_SYMLINK_NOFOLLOW = 0x100
_UTIME_OMIT = (1 << 30) - 2
_NS = 1_000_000_000


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_HOW_BYTES = ctypes.sizeof(_OpenHow)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_int64), ("nanoseconds", ctypes.c_int64))


_libc = ctypes.CDLL(None, use_errno=True)
# Item access makes a function object of its own each time, so that argument types do not clash.
_openat2 = _libc["syscall"]
_openat2.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
_openat2.restype = ctypes.c_long
_getdents64 = _libc["syscall"]
_getdents64.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_getdents64.restype = ctypes.c_long
_utimensat = _libc["utimensat"]
_utimensat.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int)
_utimensat.restype = ctypes.c_int
_futimens = _libc["futimens"]
_futimens.argtypes = (ctypes.c_int, ctypes.c_void_p)
_futimens.restype = ctypes.c_int


class Resolver:
    """Opens names below a directory. Safe to share between threads."""

    __slots__ = ("_hows", "uses_openat2")

    def __init__(self, *, use_openat2: bool) -> None:
        self.uses_openat2 = use_openat2
        # One record for each combination of flags that we use, and what points to it: a few dozen at most.
        self._hows: dict[int, ctypes._CArgObject] = {}

    @classmethod
    def probe(cls, dir_fd: int) -> "Resolver":
        """Return the strictest resolver that the host has; `dir_fd` is any directory."""
        try:
            os.close(cls(use_openat2=True).open_at(dir_fd, b".", DIRECTORY_FLAGS))
        except OSError:  # ENOSYS before Linux 5.6; EPERM or EACCES in containers that filter the call
            return cls(use_openat2=False)
        return cls(use_openat2=True)

    def open_at(self, dir_fd: int, name: bytes, flags: int, mode: int = 0) -> int:
        """Open `name`, one component without NUL, in the directory `dir_fd`; return a descriptor."""
        if not self.uses_openat2:
            return os.open(name, flags, mode, dir_fd=dir_fd)
        how = self._hows.get(flags) if mode == 0 else None
        if how is None:
            how = ctypes.byref(_OpenHow(flags, mode, _RESOLVE))
            if mode == 0:
                self._hows[flags] = how
        while True:
            fd: int = _openat2(_SYS_OPENAT2, dir_fd, name, how, _HOW_BYTES)
            if fd >= 0:
                return fd
            _raise_unless_interrupted()


def _raise_unless_interrupted() -> None:
    """Raise the error of the last call, save EINTR: that call is made again, as PEP 475 has it for those of `os`."""
    number = ctypes.get_errno()
    if number != errno.EINTR:
        raise OSError(number, os.strerror(number))


def read_directory(fd: int, size: int) -> bytes:
    """Return the next records of the open directory `fd`, as the host packs them, at most `size` bytes; b"" at its end.

    A record is: u64 inode, i64 offset of the next one, u16 length of the record, u8 type, name, NUL, padding.
    """
    buffer = ctypes.create_string_buffer(size)
    while True:
        count: int = _getdents64(_SYS_GETDENTS64, fd, ctypes.byref(buffer), size)
        if count >= 0:
            return buffer.raw[:count]
        _raise_unless_interrupted()


def set_mode_of(held_fd: int, mode: int) -> None:
    """Set the permission bits of what a descriptor holds, one made with `NAME_FLAGS` too: fchmod(2) wants others."""
    os.chmod(b"/proc/self/fd/%d" % held_fd, mode)


def set_times_at(dir_fd: int, name: bytes | None, atime_ns: int | None, mtime_ns: int | None) -> None:
    """Set the times of `name` in `dir_fd`, a symlink's own; without a name, those of the open file `dir_fd`.

    Nanoseconds since 1970; None leaves a time as it is, in one step, which `os.utime` cannot.
    """
    times = (_Timespec * 2)(_timespec(atime_ns), _timespec(mtime_ns))
    if name is None:
        failed = _futimens(dir_fd, ctypes.byref(times))
    else:
        failed = _utimensat(dir_fd, name, ctypes.byref(times), _AT_SYMLINK_NOFOLLOW)
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _timespec(time_ns: int | None) -> _Timespec:
    if time_ns is None:
        return _Timespec(0, _UTIME_OMIT)
    return _Timespec(time_ns // _NS, time_ns % _NS)
