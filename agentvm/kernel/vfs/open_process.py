"""What /dev and /proc may see of a process: a view of it, and its descriptors as files that can be opened again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from agentvm.errno import Errno, KernelError
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.rlimits import Resource
from agentvm.kernel.stat import FdFlags, FileStat, Filetype
from agentvm.kernel.vfs.node import Node

__all__ = ["OpenProcess", "descriptor_node"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenProcess:
    """A process as it is now. `state` is the letter of proc(5); `limits` are those of getrlimit(2), soft and hard."""

    pid: int
    ppid: int
    name: str
    pgid: int = 0
    sid: int = 0
    state: str = "R"
    #: Where its program lies in the VM; None for one that the host brought.
    exe: bytes | None = None
    argv: tuple[bytes, ...] = ()
    environ: tuple[bytes, ...] = ()
    cwd: bytes = b"/"
    umask: int = 0o022
    cpu_time_ns: int = 0
    memory_bytes: int = 0
    files: Mapping[int, OpenFile] = field(default_factory=dict)
    limits: Callable[[], Mapping[Resource, tuple[int, int]]] = dict
    credentials: Credentials = Credentials()
    #: What waits, is blocked, ignored, and handled: a bit for each signal.
    signals: tuple[int, int, int, int] = (0, 0, 0, 0)

    def file(self, number: int) -> OpenFile | None:
        """Return what a descriptor is open on, None if it is closed."""
        return self.files.get(number)


def descriptor_node(process: OpenProcess | None, number: int) -> Node:
    """Return a node whose `open` gives the very file that `number` is open on, like dup(2). ENOENT if it is closed."""
    file = None if process is None else process.file(number)
    if file is None:
        raise KernelError(Errno.ENOENT, f"descriptor {number} is not open")
    return file.node if file.node is not None else _DescriptorNode(file)


class _DescriptorNode(Node):
    """An open file seen as a node. Opening shares the file with its offset: Linux opens regular files anew."""

    __slots__ = ("_file",)

    def __init__(self, file: OpenFile) -> None:
        self._file = file

    @property
    def filetype(self) -> Filetype:  # type: ignore[override]
        return self._file.filetype

    @property
    def on_disk(self) -> bool:  # type: ignore[override]
        return self._file.on_disk

    @property
    def key(self) -> tuple[int, int]:
        status = self._file.stat()
        return (status.dev, status.ino)

    def stat(self) -> FileStat:
        return self._file.stat()

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        self._file.set_times(atime_ns, mtime_ns)

    def open(self, *, read: bool, write: bool, flags: FdFlags, truncate: bool = False) -> OpenFile:
        if truncate and self._file.filetype is Filetype.REGULAR_FILE:
            self._file.truncate(0)
        return self._file
