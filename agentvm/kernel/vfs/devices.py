"""/dev: null, zero, full, random, urandom, tty, and the links to the caller's own descriptors.

A directory is all that a VM holds of it; device nodes are made when they are looked up. Source: null(4), random(4),
full(4), tty(4).
"""

from collections.abc import Callable, Iterator
from enum import Enum

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.stat import DirEntry, FdFlags, FileStat, Filetype, Whence
from agentvm.kernel.vfs.generated import GeneratedDirectory, GeneratedLink, GeneratedNode
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_process import OpenProcess, descriptor_node

__all__ = ["DEVICES_DEV", "DeviceDirectory"]

#: Device number of /dev.
DEVICES_DEV = 3

_ROOT_INO = 1
#: One read of random bytes returns at most this many: making them takes time that no kill can shorten.
_RANDOM_BYTES = 1 << 20
_ZEROS = memoryview(bytes(64 << 10))


class _Kind(Enum):
    """What a device does; the value is its name."""

    NULL = b"null"
    ZERO = b"zero"
    FULL = b"full"
    RANDOM = b"random"
    URANDOM = b"urandom"
    TTY = b"tty"


#: makedev(3) of each.
_NUMBERS = {
    _Kind.NULL: 1 << 8 | 3,
    _Kind.ZERO: 1 << 8 | 5,
    _Kind.FULL: 1 << 8 | 7,
    _Kind.RANDOM: 1 << 8 | 8,
    _Kind.URANDOM: 1 << 8 | 9,
    _Kind.TTY: 5 << 8,
}
_KINDS = {kind.value: (number, kind) for number, kind in enumerate(_Kind, _ROOT_INO + 1)}
_LINKS = {
    name: (number, target)
    for number, (name, target) in enumerate(
        [
            (b"fd", b"/proc/self/fd"),
            (b"stdin", b"/proc/self/fd/0"),
            (b"stdout", b"/proc/self/fd/1"),
            (b"stderr", b"/proc/self/fd/2"),
        ],
        _ROOT_INO + 1 + len(_KINDS),
    )
}
_STANDARD = {b"stdin": 0, b"stdout": 1, b"stderr": 2}


class DeviceDirectory(GeneratedDirectory):
    """The root of /dev. `caller` returns the process that makes the current call, None for the host's own calls."""

    __slots__ = ("_caller", "_random_bytes")

    fs_type = "devtmpfs"

    def __init__(self, random_bytes: Callable[[int], bytes], caller: Callable[[], OpenProcess | None]) -> None:
        super().__init__(DEVICES_DEV, _ROOT_INO)
        self._random_bytes = random_bytes
        self._caller = caller

    def find(self, name: bytes) -> Node | None:
        device = _KINDS.get(name)
        if device is not None:
            return _Device(device[0], device[1], self._random_bytes, self._caller)
        link = _LINKS.get(name)
        if link is None:
            return None
        ino, target = link
        number = _STANDARD.get(name)
        if number is None:
            return GeneratedLink(DEVICES_DEV, ino, lambda: target)
        return GeneratedLink(DEVICES_DEV, ino, lambda: target, lambda: descriptor_node(self._caller(), number))

    def listing(self) -> Iterator[DirEntry]:
        # A cookie is the inode number and one: the first device's number is 2, its cookie 3.
        for name, (ino, _) in _KINDS.items():
            yield DirEntry(ino + 1, ino, Filetype.CHARACTER_DEVICE, name)
        for name, (ino, _) in _LINKS.items():
            yield DirEntry(ino + 1, ino, Filetype.SYMBOLIC_LINK, name)


class _Device(GeneratedNode):
    __slots__ = ("_caller", "_kind", "random_bytes")

    filetype = Filetype.CHARACTER_DEVICE
    mode = 0o666

    def __init__(
        self,
        ino: int,
        kind: _Kind,
        random_bytes: Callable[[int], bytes],
        caller: Callable[[], OpenProcess | None],
    ) -> None:
        super().__init__(DEVICES_DEV, ino)
        self._kind = kind
        self.random_bytes = random_bytes
        self._caller = caller

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if self._kind is _Kind.TTY:
            return self._terminal(write=write)
        return _OpenDevice(self, self._kind, flags, read=read, write=write)

    def _terminal(self, *, write: bool) -> OpenFile:
        """Return the standard stream of the caller that is a terminal; ENXIO if it has none."""
        process = self._caller()
        for number in (1, 2, 0) if write else (0, 1, 2):
            file = None if process is None else process.file(number)
            if file is not None and file.filetype is Filetype.CHARACTER_DEVICE and not isinstance(file, _OpenDevice):
                return file
        raise KernelError(Errno.ENXIO, "the process has no terminal")

    def stat(self) -> FileStat:
        status = super().stat()
        status.rdev = _NUMBERS[self._kind]
        return status

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Accept it, as `touch /dev/null` expects; a device keeps no times."""


class _OpenDevice(OpenFile):
    __slots__ = ("_device", "_kind", "_readable", "_writable")

    filetype = Filetype.CHARACTER_DEVICE
    seekable = True

    def __init__(self, device: _Device, kind: _Kind, flags: FdFlags, *, read: bool, write: bool) -> None:
        super().__init__(flags)
        self._device = device
        self._kind = kind
        self._readable = read
        self._writable = write

    def read_nowait(self, buffers: Buffers) -> int:
        if not self._readable:
            raise KernelError(Errno.EBADF, "not open for reading")
        if self._kind is _Kind.NULL:
            return 0
        if self._kind in (_Kind.ZERO, _Kind.FULL):
            for buffer in buffers:
                for start in range(0, len(buffer), len(_ZEROS)):
                    piece = buffer[start : start + len(_ZEROS)]
                    piece[:] = _ZEROS[: len(piece)]
            return sum(map(len, buffers))
        done = 0
        for buffer in buffers:
            count = min(len(buffer), _RANDOM_BYTES - done)
            buffer[:count] = self._device.random_bytes(count)
            done += count
        return done

    def write_nowait(self, buffers: Buffers) -> int:
        if not self._writable:
            raise KernelError(Errno.EBADF, "not open for writing")
        if self._kind is _Kind.FULL:
            raise KernelError(Errno.ENOSPC, "/dev/full is always full")
        return sum(map(len, buffers))

    def pread(self, buffers: Buffers, offset: int) -> int:
        return self.read_nowait(buffers)

    def pwrite(self, buffers: Buffers, offset: int) -> int:
        return self.write_nowait(buffers)

    def seek(self, offset: int, whence: Whence) -> int:
        return 0  # as on Linux, whatever is asked

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        pass

    def stat(self) -> FileStat:
        return self._device.stat()
