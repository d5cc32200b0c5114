"""Where the bytes of a program come from: a host file, bytes in memory, or a file that a guest wrote."""

import errno
import os
import stat
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol

from agentvm.engine.validate import limit_refusal, quote
from agentvm.errors import InvalidArgument, NotRunnable, ProgramNotFound
from agentvm.limits.spec import Cap

__all__ = ["GuestProgram", "Program", "ProgramSource", "open_program"]

#: A file that changed this recently may change again within one tick of the file system's clock, unseen.
_SETTLED_NS = 2 * 10**9


@dataclass(frozen=True, slots=True)
class GuestProgram:
    """A file of a VM. `read` returns its bytes, at most so many, or raises `NotRunnable`; equal `identity` means equal
    bytes (None: always read)."""

    read: Callable[[Cap], bytes]
    size_bytes: int
    identity: Hashable = None
    #: Whether no guest can have written it, so that it has the operator's caps.
    is_operators: bool = False


#: What can be run: the bytes of a module, the path of a host file, or a guest's file.
ProgramSource = bytes | bytearray | memoryview | str | os.PathLike[str] | GuestProgram


class Program(Protocol):
    """The bytes, when they are needed, and the limits that they are under. `identity` is None where nothing short of
    reading tells them apart."""

    bytes_limit: str
    seconds_limit: str
    identity: Hashable
    size_bytes: int

    def read(self, cap: Cap) -> bytes:
        """Return all bytes. Raises `ModuleLimit` past the cap, and `NotRunnable`."""


def open_program(source: ProgramSource) -> Program:
    """Raises `ProgramNotFound`, `NotRunnable` for what is not a readable file, `InvalidArgument`."""
    if isinstance(source, GuestProgram):
        return _FromGuest(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return _FromBytes(bytes(source))
    return _FromFile(os.fspath(source))


class _FromBytes:
    bytes_limit = "max_module_bytes"
    seconds_limit = "max_compile_seconds"
    identity: Hashable = None

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size_bytes = len(data)

    def read(self, cap: Cap) -> bytes:
        return self._data


class _FromGuest:
    def __init__(self, program: GuestProgram) -> None:
        kind = "" if program.is_operators else "guest_"
        self.bytes_limit, self.seconds_limit = f"max_{kind}module_bytes", f"max_{kind}compile_seconds"
        self._read = program.read
        self.identity: Hashable = None if program.identity is None else ("guest", program.identity)
        self.size_bytes = program.size_bytes

    def read(self, cap: Cap) -> bytes:
        return self._read(cap)


class _FromFile:
    """A host file. Its identity is (device, inode, size, modified, changed): no program can set the last of these back.

    A file younger than two seconds has none, because a later change could leave all five as they are. Identities are
    kept in this process's memory only: on disk they would be wrong after a restored backup or a reused inode.
    """

    bytes_limit = "max_module_bytes"
    seconds_limit = "max_compile_seconds"

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        _check_kind(path, status)
        self.size_bytes = status.st_size
        self.identity: Hashable = _identity(status)

    def read(self, cap: Cap) -> bytes:
        try:
            # O_NONBLOCK: whatever has taken the file's place since, opening it does not hang.
            with open(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                _check_kind(self._path, status)
                data = _read_all(file.fileno(), status.st_size, cap)
                after = os.fstat(file.fileno())
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
                raise  # nothing is wrong with the file
            raise _unreadable(self._path, error) from error
        self.size_bytes = len(data)
        self.identity = _identity(after) if _identity(status) == _identity(after) else None
        return data


def _identity(status: os.stat_result) -> Hashable:
    if time.time_ns() - max(status.st_ctime_ns, status.st_mtime_ns) < _SETTLED_NS:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read_all(fd: int, size: int, cap: Cap) -> bytes:
    """Read to the end, one byte past the cap at most: the file may have grown since its size was asked."""
    if size > cap:
        raise limit_refusal("max_module_bytes", size, cap)
    pieces: list[bytes] = []
    total = 0
    while True:
        piece = os.read(fd, max(size - total, 0) + 1)
        if not piece:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.append(piece)
        total += len(piece)
        if total > cap:
            raise limit_refusal("max_module_bytes", total, cap)


def _check_kind(path: str, status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = "a directory" if stat.S_ISDIR(status.st_mode) else "not a regular file"
    raise NotRunnable(f"{quote(path)} is {kind}: pass a .wasm file", path=path)


def _unreadable(path: str, error: OSError | ValueError) -> ProgramNotFound | NotRunnable | InvalidArgument:
    if isinstance(error, ValueError):
        return InvalidArgument(f"{quote(path)} is no path: {error}", path=path)
    if error.errno in {errno.ENOENT, errno.ENOTDIR}:
        return ProgramNotFound(f"there is no file {quote(path)}", path=path)
    return NotRunnable(f"{quote(path)} cannot be read: {error.strerror}", path=path)
