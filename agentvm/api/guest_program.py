"""Reads a program out of a VM's files for the engine."""

from agentvm.api.guest_file import GuestFile
from agentvm.engine.program import GuestProgram
from agentvm.engine.validate import limit_refusal, quote
from agentvm.errno import Errno, KernelError
from agentvm.errors import AgentVMError, InvalidArgument, NotRunnable, ProgramNotFound
from agentvm.kernel.stat import Filetype
from agentvm.kernel.vfs.files import FileAccess
from agentvm.limits.spec import Cap

__all__ = ["open_guest_file"]

_BYTES_LIMIT = "max_guest_module_bytes"
#: No file is longer.
_LONGEST = (1 << 63) - 1


def open_guest_file(file: GuestFile, files: FileAccess) -> GuestProgram:
    """Return the program at a path. Guests may change the file meanwhile: what is read is what is checked and run.

    Raises `ProgramNotFound`, `NotRunnable` for what is no regular file, `InvalidArgument` for what is no path.
    """
    path = file.path
    try:
        status = files.stat(path)
    except KernelError as error:
        raise _unreadable(path, error) from None
    if status.filetype is not Filetype.REGULAR_FILE:
        kind = "a directory" if status.filetype is Filetype.DIRECTORY else "not a regular file"
        raise NotRunnable(f"{quote(path)} in the VM is {kind}: name a .wasm file", path=path)

    def read(cap: Cap) -> bytes:
        try:
            return files.read(path, max_bytes=int(min(cap, _LONGEST)))
        except KernelError as error:
            if error.errno is Errno.EFBIG:  # it has grown since
                raise limit_refusal(_BYTES_LIMIT, max(status.size, cap + 1), cap) from None
            raise _unreadable(path, error) from None

    return GuestProgram(read, status.size)


def _unreadable(path: str, error: KernelError) -> AgentVMError:
    if error.errno in {Errno.ENOENT, Errno.ENOTDIR}:
        return ProgramNotFound(f"there is no file {quote(path)} in the VM", path=path)
    if error.errno is Errno.EINVAL:
        return InvalidArgument(f"{quote(path)} is no path inside the VM: {error.detail}", path=path)
    return NotRunnable(f"{quote(path)} in the VM cannot be read: {error}", path=path, errno=error.errno.name)
