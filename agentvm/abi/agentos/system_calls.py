"""host_system: what uname(2) tells of a VM."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, OutBuffer
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError

__all__ = ["get_identity"]

#: By field: the host's name, the system, its release and version, the machine, and the domain.
_IDENTITY = (b"agentvm", b"Linux", b"6.1.0", b"#1 agentvm", b"wasm32", b"(none)")


@syscall({Errno.EINVAL: "there is no such field", Errno.ENAMETOOLONG: "the text and its NUL do not fit"}, locked=False)
def get_identity(_ctx: CallContext, field: Number, buffer: OutBuffer) -> None:
    """Tell a field of uname(2), with a NUL: 0 host name, 1 system, 2 release, 3 version, 4 machine, 5 domain."""
    if field >= len(_IDENTITY):
        raise KernelError(Errno.EINVAL, f"field {field} of {len(_IDENTITY)}")
    text = _IDENTITY[field] + b"\0"
    if len(text) > len(buffer):
        raise KernelError(Errno.ENAMETOOLONG, f"{len(text)} bytes do not fit into {len(buffer)}")
    buffer[: len(text)] = text
