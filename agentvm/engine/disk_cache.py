"""Compiled modules on disk. They are native code that will run in this process, so the directory must be ours alone.

A file holds the code as wasmtime wrote it, then what is known about the module, the contents cut out of it, and a
footer with a digest of all that. It is checked through the same descriptor that is mapped afterwards.
See docs/rationale.md, "Why the cache trusts a directory and not a file".
"""

import errno
import os
import stat
import struct
import threading
import time
from dataclasses import dataclass
from typing import NamedTuple

from agentvm import log
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.digest import DIGEST_BYTES, digest_file
from agentvm.limits.spec import Cap

__all__ = ["CacheInfo", "DiskCache", "Stored", "default_directory"]

#: magic, bytes of code, bytes of info, bytes of contents, offset of the contents in memory; then the digest.
_FOOTER = struct.Struct("<8sQQQQ")
_MAGIC = b"agentvm\x01"
_SUFFIX, _TEMPORARY = ".cwasm", ".tmp"
#: A temporary file this old was left by a process that died.
_STALE_SECONDS = 3600
_COPY_BYTES = 16 << 20
#: Too many files are pruned like too many bytes: listing the directory has to stay quick.
_BYTES, _FILES = "max_cache_bytes", "max_cache_files"


@dataclass(frozen=True, slots=True)
class CacheInfo:
    """What the cache on disk holds. `directory` is None when it is off; then `reason` says why."""

    directory: str | None
    entries: int
    size_bytes: int
    max_bytes: Cap
    max_entries: Cap
    reason: str = ""


class Stored(NamedTuple):
    """A verified entry. `fd` is the caller's to close; the code is its first `code_bytes` bytes."""

    fd: int
    code_bytes: int
    info: bytes
    offset: int
    contents: bytes


class _Refused(Exception):
    """The directory cannot be trusted, or not be used."""


def default_directory() -> str | None:
    """Return `$AGENTVM_CACHE_DIR`, `$XDG_CACHE_HOME/agentvm` or `~/.cache/agentvm`; None if that says "off"."""
    chosen = os.environ.get("AGENTVM_CACHE_DIR", "")
    if chosen:
        return None if chosen.lower() in {"off", "none", "0"} else os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG base directory specification has relative ones ignored
        base = os.path.expanduser("~/.cache")
    return os.path.join(base, "agentvm") if os.path.isabs(base) else None


class DiskCache:
    """A directory of compiled modules, shared with other processes of the same user. Any thread may call any method.

    Nothing here fails a program: an unusable directory is a cache that is off, with one warning.
    """

    def __init__(self, directory: str | None, capacity: HostCapacity) -> None:
        self.directory = directory
        self._capacity = capacity
        self._lock = threading.Lock()
        # Guarded by the lock
        self._reason = "" if directory else "it is switched off"
        self._has_warned = False
        self._fd = -1

    # Entries

    def load(self, key: str) -> Stored | None:
        """Return the verified entry of `key` and mark it used, or None. A damaged one is removed."""
        directory = self._open()
        if directory < 0:
            return None
        name = key + _SUFFIX
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)
        except OSError:
            return None
        stored = None
        try:
            stored = _verify(fd)
            if stored is None:
                log.warn(f"the cached module {name} is damaged; it is removed and compiled again")
                _unlink(name, directory)
            else:
                os.utime(fd)  # pruning takes the least recently used
        except OSError:
            stored = None
        finally:
            if stored is None:
                os.close(fd)
        return stored

    def store(self, key: str, code_fd: int, info: bytes, offset: int, contents: bytes | bytearray) -> int:
        """Write an entry and return a descriptor of it, to be closed by the caller; -1 if it was not cached."""
        directory = self._open()
        if directory < 0:
            return -1
        code_bytes = os.fstat(code_fd).st_size
        size = code_bytes + len(info) + len(contents) + _FOOTER.size + DIGEST_BYTES
        max_bytes = self._capacity.cap(_BYTES)
        if size > max_bytes:
            self._capacity.refuse(_BYTES, size)
            self._warn(f"a compiled module of {size:,} bytes does not fit into max_cache_bytes, {max_bytes:,}")
            return -1
        pruned = self._make_room(directory, size)
        name, temporary = key + _SUFFIX, f"{key}.{os.urandom(8).hex()}{_TEMPORARY}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = -1
        try:
            fd = os.open(temporary, flags, 0o600, dir_fd=directory)
            _copy(code_fd, fd, code_bytes)
            _append(fd, info, contents, _FOOTER.pack(_MAGIC, code_bytes, len(info), len(contents), offset))
            _append(fd, digest_file(fd, size - DIGEST_BYTES))
            os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            _unlink(temporary, directory)
            self._warn(f"the compiled module could not be written to {self.directory}: {error.strerror}")
            return -1
        self._note(pruned.left_bytes + size, pruned.left_files + 1)
        return fd

    def discard(self, key: str) -> None:
        """Remove the entry of `key`, if there is one."""
        directory = self._open()
        if directory >= 0:
            _unlink(key + _SUFFIX, directory)

    # The whole

    def info(self) -> CacheInfo:
        """Return where the cache is and what it holds."""
        directory = self._open()
        if directory < 0:
            return CacheInfo(None, 0, 0, *self._caps(), self._reason)
        entries = [entry for entry in _entries(directory) if entry.name.endswith(_SUFFIX)]
        held = sum(entry.size for entry in entries)
        self._note(held, len(entries))
        return CacheInfo(self.directory, len(entries), held, *self._caps())

    def prune(self, max_bytes: Cap | None = None) -> int:
        """Remove the least recently used entries until `max_bytes` (default: the cap) are left; return bytes freed."""
        directory = self._open()
        if directory < 0:
            return 0
        most_bytes, most_files = self._caps()
        return self._prune(directory, most_bytes if max_bytes is None else max_bytes, most_files).freed_bytes

    def clear(self) -> int:
        """Remove every entry; return the bytes freed. Running programs keep what they have mapped."""
        return self.prune(-1)

    def close(self) -> None:
        """Give the directory's descriptor back. A later call opens it again."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _caps(self) -> tuple[Cap, Cap]:
        return self._capacity.cap(_BYTES), self._capacity.cap(_FILES)

    def _note(self, size_bytes: int, files: int) -> None:
        """Note what lies in the directory now: other processes change it too."""
        self._capacity.note(_BYTES, size_bytes)
        self._capacity.note(_FILES, files)

    def _make_room(self, directory: int, size: int) -> "_Pruned":
        """Remove what was used longest ago until one more file of `size` bytes fits."""
        max_bytes, max_files = self._caps()
        pruned = self._prune(directory, max_bytes - size, max_files - 1)
        asked = pruned.left_bytes + pruned.freed_bytes + size, pruned.left_files + pruned.freed_files + 1
        for name, amount, cap in zip((_BYTES, _FILES), asked, (max_bytes, max_files), strict=True):
            if amount > cap:
                self._capacity.refuse(name, amount)
        return pruned

    def _prune(self, directory: int, max_bytes: Cap, max_files: Cap) -> "_Pruned":
        try:
            entries = sorted(_entries(directory), key=lambda entry: entry.used_ns)
        except OSError:
            return _Pruned(0, 0, 0, 0)
        stale_ns = time.time_ns() - _STALE_SECONDS * 10**9
        held, count = sum(entry.size for entry in entries), len(entries)
        freed_bytes = freed_files = 0
        for entry in entries:
            is_temporary = entry.name.endswith(_TEMPORARY)
            if is_temporary and entry.used_ns > stale_ns:
                continue  # another process is writing it
            if not is_temporary and held - freed_bytes <= max_bytes and count - freed_files <= max_files:
                continue
            _unlink(entry.name, directory)
            freed_bytes, freed_files = freed_bytes + entry.size, freed_files + 1
        pruned = _Pruned(held - freed_bytes, count - freed_files, freed_bytes, freed_files)
        self._note(pruned.left_bytes, pruned.left_files)
        return pruned

    # The directory

    def _open(self) -> int:
        with self._lock:
            if self._fd >= 0 and not os.fstat(self._fd).st_nlink:  # someone removed the directory
                os.close(self._fd)
                self._fd = -1
            if self._fd < 0 and not self._reason:
                try:
                    assert self.directory is not None
                    self._fd = _open_directory(self.directory)
                except _Refused as refusal:
                    self._reason = str(refusal)
                except OSError:  # the host is out of descriptors: not cached this time
                    return -1
            fd, reason = self._fd, self._reason
        if fd < 0 and self.directory is not None:
            self._warn(f"the module cache is off: {reason}")
        return fd

    def _warn(self, text: str) -> None:
        with self._lock:
            has_warned, self._has_warned = self._has_warned, True
        if not has_warned:
            log.warn(text)


class _Entry(NamedTuple):
    name: str
    size: int
    used_ns: int


class _Pruned(NamedTuple):
    """What a look at the directory left there, and what it removed."""

    left_bytes: int
    left_files: int
    freed_bytes: int
    freed_files: int


def _entries(directory: int) -> list[_Entry]:
    found = []
    with os.scandir(directory) as listing:
        for entry in listing:
            if not entry.name.endswith((_SUFFIX, _TEMPORARY)):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # pruned by another process
                continue
            found.append(_Entry(entry.name, status.st_size, status.st_mtime_ns))
    return found


def _open_directory(path: str) -> int:
    """Open the cache directory, made if needed. Raises `_Refused` where someone else could have put files there,
    and OSError where the host is out of descriptors."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            pass
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:
            raise
        is_link = os.path.islink(path)
        raise _Refused(f"{path} is a symbolic link" if is_link else f"{path}: {error.strerror}") from error
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        os.close(fd)
        raise _Refused(f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o077:
        os.close(fd)
        raise _Refused(f"others have access to {path} (mode {stat.S_IMODE(status.st_mode):o}): chmod 700 {path}")
    return fd


def _verify(fd: int) -> Stored | None:
    """Check an open entry: ours, a regular file, undamaged."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        return None
    end = status.st_size - DIGEST_BYTES
    if end < _FOOTER.size:
        return None
    footer = os.pread(fd, _FOOTER.size + DIGEST_BYTES, end - _FOOTER.size)
    magic, code_bytes, info_bytes, contents_bytes, offset = _FOOTER.unpack_from(footer)
    if magic != _MAGIC or code_bytes + info_bytes + contents_bytes + _FOOTER.size != end:
        return None
    if digest_file(fd, end) != footer[_FOOTER.size :]:
        return None
    info = os.pread(fd, info_bytes, code_bytes)
    contents = os.pread(fd, contents_bytes, code_bytes + info_bytes)
    if len(info) + len(contents) != info_bytes + contents_bytes:
        return None
    return Stored(fd, code_bytes, info, offset, contents)


def _copy(source: int, target: int, size: int) -> None:
    at = 0
    while at < size:
        moved = os.sendfile(target, source, at, min(_COPY_BYTES, size - at))
        if not moved:
            raise OSError(0, "the compiled code is shorter than it was")
        at += moved


def _append(fd: int, *pieces: bytes | bytearray) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while view:
            view = view[os.write(fd, view) :]


def _unlink(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass
