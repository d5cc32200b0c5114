"""The directories that a program finds open at its start."""

from agentvm.abi.rights import DIRECTORY_BASE, DIRECTORY_INHERITING
from agentvm.kernel.fd_table import FIRST_TAGGED, Descriptor
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.process import Process
from agentvm.kernel.stat import Filetype

__all__ = ["open_preopens"]


def open_preopens(kernel: Kernel, process: Process, *, uses_files: bool) -> None:
    """Preopen the directories of a process. Raises what opening them does, and EMFILE, ENFILE. Kernel lock.

    A program that imports no call on paths gets none: it could not use them, and descriptor 3 is free. One of the host
    ABI gets them apart from its other descriptors, the working directory first; see docs/rationale.md, "Why a cwd
    needs more preopens" and "Why the host ABI's directories are tagged".
    """
    cwd = process.image.cwd
    if process.has_host_abi:
        process.fds.open_tagged(FIRST_TAGGED, _directory(kernel, process, cwd, cwd))
        others = [path for path in process.preopens if path != cwd]
        for number, path in enumerate(others, FIRST_TAGGED + 1):
            process.fds.open_tagged(number, _directory(kernel, process, path, path))
        return
    if not uses_files:
        return
    names = [(path, path) for path in process.preopens]
    if cwd != b"/":
        names += [(b"/" + name, b"/" + name) for name in _top_directories(kernel)]
        names.append((cwd, b"."))
    for path, name in names:
        descriptor = _directory(kernel, process, path, name)
        try:
            process.fds.open(descriptor)
        except BaseException:
            descriptor.file.on_last_close()
            raise


def _directory(kernel: Kernel, process: Process, path: bytes, name: bytes) -> Descriptor:
    file = _open(kernel, path)
    return Descriptor(file, DIRECTORY_BASE, DIRECTORY_INHERITING, preopen=name)


def _open(kernel: Kernel, path: bytes) -> OpenFile:
    return kernel.vfs.open_at(kernel.vfs.root, path, root=kernel.vfs.root, confined=False, directory=True)


def _top_directories(kernel: Kernel) -> list[bytes]:
    root = _open(kernel, b"/")
    try:
        entries = list(root.entries(0))
    finally:
        root.on_last_close()
    return [entry.name for entry in entries if entry.filetype is Filetype.DIRECTORY and entry.name not in (b".", b"..")]
