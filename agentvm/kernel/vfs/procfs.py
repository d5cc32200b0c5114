"""/proc: processes, memory, uptime, mounts, and what the VM allows and uses. Nodes are made when they are looked up."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Protocol

from agentvm.errno import Errno, KernelError
from agentvm.kernel.stat import DirEntry, Filetype
from agentvm.kernel.vfs import proc_text
from agentvm.kernel.vfs.generated import GeneratedDirectory, GeneratedFile, GeneratedLink
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.open_process import OpenProcess, descriptor_node
from agentvm.limits.usage import LimitUsage

__all__ = ["PROC_DEV", "ProcDirectory", "ProcSource"]

#: Device number of /proc.
PROC_DEV = 4

_ROOT_INO = 1
_SELF_INO = 2
_AGENTVM_INO = 3
_FIRST_TEXT_INO = 8
#: Inode numbers from here on belong to processes: so many for each, descriptors included.
_PROCESS_INOS = 1 << 32
_FIRST_FD_INO = 1 << 16


class ProcSource(Protocol):
    """What /proc asks the kernel for. Called with the kernel lock held; nothing may block."""

    def caller(self) -> OpenProcess | None:
        """Return the process that makes the current call; None for the host's own calls."""

    def pids(self) -> Sequence[int]:
        """Return the processes that there are, zombies included, in rising order."""

    def process(self, pid: int) -> OpenProcess | None:
        """Return a process, None if there is none."""

    def memory(self) -> tuple[int, int]:
        """Return how many bytes of memory the VM may have, and how many it has."""

    def load(self) -> tuple[Sequence[str], int]:
        """Return the states of all processes, and the number of the last one that was made."""

    def uptime_ns(self) -> int:
        """Return the time since the VM was made."""

    def version(self) -> str:
        """Return what runs here, in one line."""

    def mounts(self) -> Sequence[tuple[bytes, str, bool]]:
        """Return the path, the type, and whether it is read-only, of each mount."""

    def usage(self) -> Sequence[LimitUsage]:
        """Return every limit with its use; of those that each process has, the caller's own."""


_Text = Callable[[ProcSource], bytes]

_TEXTS: dict[bytes, tuple[int, _Text]] = {
    name: (number, text)
    for number, (name, text) in enumerate(
        [
            (b"loadavg", lambda source: proc_text.loadavg(*source.load())),
            (b"meminfo", lambda source: proc_text.meminfo(*source.memory())),
            (b"mounts", lambda source: proc_text.mounts(source.mounts())),
            (b"uptime", lambda source: proc_text.uptime(source.uptime_ns())),
            (b"version", lambda source: source.version().encode() + b"\n"),
        ],
        _FIRST_TEXT_INO,
    )
}
_AGENTVM_TEXTS: dict[bytes, tuple[int, _Text]] = {
    b"limits": (_AGENTVM_INO + 1, lambda source: proc_text.limits_json(source.usage())),
    b"usage": (_AGENTVM_INO + 2, lambda source: proc_text.usage_json(source.usage())),
}


class ProcDirectory(GeneratedDirectory):
    """The root of /proc."""

    __slots__ = ("_source",)

    fs_type = "proc"
    read_only = True

    def __init__(self, source: ProcSource) -> None:
        super().__init__(PROC_DEV, _ROOT_INO)
        self._source = source

    def find(self, name: bytes) -> Node | None:
        source = self._source
        if name == b"self":
            return GeneratedLink(PROC_DEV, _SELF_INO, self._self)
        if name == b"agentvm":
            return _TextDirectory(_AGENTVM_INO, source, _AGENTVM_TEXTS)
        text = _TEXTS.get(name)
        if text is not None:
            return GeneratedFile(PROC_DEV, text[0], lambda: text[1](source))
        number = _number(name)
        process = None if number is None else source.process(number)
        return None if process is None else _ProcessDirectory(process.pid, source)

    def listing(self) -> Iterator[DirEntry]:
        yield DirEntry(_SELF_INO + 1, _SELF_INO, Filetype.SYMBOLIC_LINK, b"self")
        yield DirEntry(_AGENTVM_INO + 1, _AGENTVM_INO, Filetype.DIRECTORY, b"agentvm")
        for name, (ino, _) in _TEXTS.items():
            yield DirEntry(ino + 1, ino, Filetype.REGULAR_FILE, name)
        for pid in self._source.pids():
            # A pid is never used again, so it serves as cookie, past those above.
            yield DirEntry(_process_ino(pid), _process_ino(pid), Filetype.DIRECTORY, b"%d" % pid)

    def _self(self) -> bytes:
        caller = self._source.caller()
        if caller is None:
            raise KernelError(Errno.ENOENT, "the host is no process of the VM")
        return b"%d" % caller.pid


class _TextDirectory(GeneratedDirectory):
    """A directory of texts about the whole VM."""

    __slots__ = ("_source", "_texts")

    parent_ino = _ROOT_INO

    def __init__(self, ino: int, source: ProcSource, texts: dict[bytes, tuple[int, _Text]]) -> None:
        super().__init__(PROC_DEV, ino)
        self._source = source
        self._texts = texts

    def find(self, name: bytes) -> Node | None:
        text = self._texts.get(name)
        return None if text is None else GeneratedFile(PROC_DEV, text[0], lambda: text[1](self._source))

    def listing(self) -> Iterator[DirEntry]:
        for name, (ino, _) in self._texts.items():
            yield DirEntry(ino, ino, Filetype.REGULAR_FILE, name)


_PROCESS_TEXTS: dict[bytes, tuple[int, Callable[[OpenProcess], bytes]]] = {
    b"cmdline": (3, lambda process: b"".join(argument + b"\0" for argument in process.argv)),
    b"comm": (4, lambda process: process.name.encode()[:15] + b"\n"),
    b"environ": (5, lambda process: b"".join(variable + b"\0" for variable in process.environ)),
    b"limits": (6, lambda process: proc_text.process_limits(process.limits())),
    b"stat": (7, proc_text.process_stat),
    b"status": (8, proc_text.process_status),
}
_CWD, _FD, _EXE = 9, 10, 11
#: What of a process only its own user, and root, may look at.
_PRIVATE = frozenset({b"cwd", b"environ", b"exe", b"fd"})


class _ProcessDirectory(GeneratedDirectory):
    """/proc/[pid]. The process is looked up for each use: ESRCH once it is gone."""

    __slots__ = ("_pid", "_source")

    parent_ino = _ROOT_INO

    def __init__(self, pid: int, source: ProcSource) -> None:
        super().__init__(PROC_DEV, _process_ino(pid))
        self._pid = pid
        self._source = source

    def _process(self) -> OpenProcess:
        process = self._source.process(self._pid)
        if process is None:
            raise KernelError(Errno.ESRCH, f"process {self._pid} is gone")
        return process

    def find(self, name: bytes) -> Node | None:
        if name in _PRIVATE:
            self._check_private(name)
        text = _PROCESS_TEXTS.get(name)
        if text is not None:
            return GeneratedFile(PROC_DEV, self.ino + text[0], lambda: text[1](self._process()))
        if name == b"cwd":
            return GeneratedLink(PROC_DEV, self.ino + _CWD, lambda: self._process().cwd)
        if name == b"exe":
            return GeneratedLink(PROC_DEV, self.ino + _EXE, self._exe)
        if name == b"fd":
            return _FdDirectory(self._pid, self._source)
        return None

    def _check_private(self, name: bytes) -> None:
        caller = self._source.caller()
        if caller is None or caller.pid == self._pid:
            return
        if not caller.credentials.may_look_into(self._process().credentials):
            raise KernelError(Errno.EACCES, f"{name!r} of process {self._pid} is its user's alone")

    def _exe(self) -> bytes:
        exe = self._process().exe
        if exe is None:
            raise KernelError(Errno.ENOENT, f"the program of process {self._pid} does not lie in the VM")
        return exe

    def listing(self) -> Iterator[DirEntry]:
        for name, (number, _) in _PROCESS_TEXTS.items():
            yield DirEntry(number, self.ino + number, Filetype.REGULAR_FILE, name)
        yield DirEntry(_CWD, self.ino + _CWD, Filetype.SYMBOLIC_LINK, b"cwd")
        yield DirEntry(_FD, self.ino + _FD, Filetype.DIRECTORY, b"fd")
        yield DirEntry(_EXE, self.ino + _EXE, Filetype.SYMBOLIC_LINK, b"exe")


class _FdDirectory(GeneratedDirectory):
    """/proc/[pid]/fd. Descriptors of another process are listed, but lead nowhere: EACCES."""

    __slots__ = ("_pid", "_source")

    def __init__(self, pid: int, source: ProcSource) -> None:
        super().__init__(PROC_DEV, _process_ino(pid) + _FD)
        self._pid = pid
        self._source = source

    @property
    def parent_ino(self) -> int:
        return _process_ino(self._pid)

    def find(self, name: bytes) -> Node | None:
        number = _number(name)
        process = self._source.process(self._pid)
        file = None if process is None or number is None else process.file(number)
        if number is None or file is None:
            return None
        ino = _process_ino(self._pid) + _FIRST_FD_INO + number
        target = partial(proc_text.descriptor_target, file)
        return GeneratedLink(PROC_DEV, ino, target, lambda: self._descriptor(number))

    def _descriptor(self, number: int) -> Node:
        caller = self._source.caller()
        if caller is None or caller.pid != self._pid:
            raise KernelError(Errno.EACCES, f"descriptor {number} belongs to process {self._pid}")
        return descriptor_node(caller, number)

    def listing(self) -> Iterator[DirEntry]:
        process = self._source.process(self._pid)
        for number in sorted(process.files) if process is not None else ():
            ino = _process_ino(self._pid) + _FIRST_FD_INO + number
            yield DirEntry(number + 3, ino, Filetype.SYMBOLIC_LINK, b"%d" % number)


def _process_ino(pid: int) -> int:
    return pid * _PROCESS_INOS


def _number(name: bytes) -> int | None:
    """Return a number as /proc spells it: no sign, no leading zeros."""
    if not name.isdigit() or len(name) > 10 or (name[0] == ord("0") and name != b"0"):
        return None
    return int(name)
