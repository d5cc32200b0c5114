"""From the name of a program to the module that is to run, and its arguments: PATH, scripts, and what may be executed.

Source: execve(2), posix_spawnp(3).
"""

from dataclasses import dataclass

from agentvm.errno import Errno, KernelError
from agentvm.kernel.launcher import Executable
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.vfs import Vfs

__all__ = ["Found", "Search", "absolute_path"]

_MAGIC = b"\0asm"
#: The first line of a script counts up to here, and so many interpreters may be scripts themselves (binfmt_script.c).
_LINE_BYTES, _MOST_INTERPRETERS = 256, 5
_EXECUTABLE = 0o111
#: Where execvp(3) goes on to the next directory of PATH, in glibc and in musl.
_GOES_ON = frozenset({Errno.ENOENT, Errno.ENOTDIR, Errno.EACCES})


@dataclass(frozen=True, slots=True)
class Found:
    """A module to run, open, with the arguments that it gets. Whoever has it closes it."""

    program: Executable
    argv: tuple[bytes, ...]

    def close(self) -> None:
        self.program.file.on_last_close()


def absolute_path(path: bytes, cwd: bytes) -> bytes:
    """Return `path` as seen from `cwd`."""
    return path if path.startswith(b"/") else cwd.rstrip(b"/") + b"/" + path


class Search:
    """Finds programs for one process. Needs the kernel lock."""

    def __init__(self, vfs: Vfs, root: Node | None, cwd: bytes) -> None:
        """EACCES for a process that was not given the VM's root: it can name no program."""
        if root is None:
            raise KernelError(Errno.EACCES, "the process was not given the root directory, and so no programs")
        self._vfs = vfs
        self._root = root
        self._cwd = cwd

    def find(self, name: bytes, argv: tuple[bytes, ...], search_path: bytes | None = None) -> Found:
        """Return the module that `name` leads to. With `search_path` a name without a slash is looked for there.

        ENOENT, EACCES (not executable, or no regular file), ENOEXEC (neither a module nor a script), ENOTDIR, ELOOP.
        """
        if not name:
            raise KernelError(Errno.ENOENT, "an empty path")
        if search_path is None or b"/" in name:
            return self._interpret(absolute_path(name, self._cwd), name, argv)
        refusal: KernelError | None = None
        for directory in search_path.split(b":"):
            path = directory + b"/" + name if directory else name
            try:
                return self._interpret(absolute_path(path, self._cwd), path, argv)
            except KernelError as error:
                if error.errno not in _GOES_ON:
                    raise
                # EACCES tells more than that the other directories have no such file.
                if refusal is None or error.errno is Errno.EACCES:
                    refusal = error
        raise refusal or KernelError(Errno.ENOENT, f"no directory to look for {name!r} in")

    def open(self, file: OpenFile, path: bytes, argv: tuple[bytes, ...]) -> Found:
        """As `find`, for a file that is open already (fexecve): the caller keeps it."""
        file.references += 1
        try:
            _check(file, path)
            return self._take(file, path, path, argv, _MOST_INTERPRETERS)
        finally:
            file.references -= 1

    def _interpret(self, path: bytes, shown: bytes, argv: tuple[bytes, ...], left: int = _MOST_INTERPRETERS) -> Found:
        try:
            file = self._vfs.open_at(self._root, path, root=self._root, confined=False)
        except KernelError as error:
            if error.errno is not Errno.ENXIO:
                raise
            raise KernelError(Errno.EACCES, f"{path!r} is no regular file") from None
        try:
            _check(file, path)
            found = self._take(file, path, shown, argv, left)
        except BaseException:
            file.on_last_close()
            raise
        if found.program.file is not file:
            file.on_last_close()
        return found

    def _take(self, file: OpenFile, path: bytes, shown: bytes, argv: tuple[bytes, ...], left: int) -> Found:
        head = bytearray(_LINE_BYTES)
        start = bytes(head[: file.pread([memoryview(head)], 0)])
        if start.startswith(_MAGIC):
            program = Executable(file, path, is_operators=file.is_operators, identity=file.version())
            return Found(program, argv)
        if not start.startswith(b"#!"):
            raise KernelError(Errno.ENOEXEC, f"{path!r} is neither a WebAssembly module nor a script")
        if not left:
            raise KernelError(Errno.ELOOP, f"{path!r}: more than {_MOST_INTERPRETERS} interpreters")
        interpreter, option = _first_line(start)
        if not interpreter:
            raise KernelError(Errno.ENOEXEC, f"{path!r} names no interpreter, or one that is too long")
        arguments = (interpreter, *([option] if option else []), shown, *argv[1:])
        return self._interpret(absolute_path(interpreter, self._cwd), interpreter, arguments, left - 1)


def _check(file: OpenFile, path: bytes) -> None:
    status = file.stat()
    if status.filetype is not Filetype.REGULAR_FILE or not status.mode & _EXECUTABLE:
        raise KernelError(Errno.EACCES, f"{path!r} is no executable file")


def _first_line(start: bytes) -> tuple[bytes, bytes]:
    """Return the interpreter that a script names, and its one argument. No interpreter if it is longer than `start`."""
    if len(start) == _LINE_BYTES and len(start[2:].lstrip(b" \t").split(maxsplit=1)) == 1 and b"\n" not in start:
        return b"", b""
    line = start[2:].partition(b"\n")[0].strip(b" \t")
    interpreter, _, option = line.replace(b"\t", b" ").partition(b" ")
    return interpreter, option.strip(b" ")
