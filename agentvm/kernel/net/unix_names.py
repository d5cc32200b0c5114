"""Names of the Unix domain: paths, which are files of the VFS, and abstract names, which are bytes. Source: unix(7)."""

from typing import TYPE_CHECKING, NamedTuple

from agentvm.errno import Errno, KernelError
from agentvm.kernel.net.address import UnixAddress
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.vfs.sockets import SocketInode, bind_socket, find_socket
from agentvm.kernel.vfs.vfs import Vfs

if TYPE_CHECKING:
    from agentvm.kernel.net.socket import Socket

__all__ = ["Naming", "UnixNames"]

#: Abstract names that are given are five hexadecimal digits.
_AUTOMATIC = 1 << 20


class Naming(NamedTuple):
    """From where a process sees paths: its root, its working directory, and its umask."""

    root: Node | None
    cwd: bytes
    umask: int = 0

    def absolute(self, path: bytes) -> bytes:
        """Return `path` as an absolute one."""
        return path if path.startswith(b"/") else self.cwd.rstrip(b"/") + b"/" + path


class UnixNames:
    """The names of one VM. Guarded by the kernel lock. Bounded by max_sockets, as each socket has one name."""

    __slots__ = ("_abstract", "_files", "_next", "_vfs")

    def __init__(self, vfs: Vfs) -> None:
        self._vfs = vfs
        self._abstract: dict[bytes, Socket] = {}
        self._files: dict[Socket, SocketInode] = {}  # as many as there are sockets
        self._next = 0

    def bind(self, socket: "Socket", address: UnixAddress, naming: Naming) -> UnixAddress:
        """Give a socket a name, and return it. EADDRINUSE, EACCES, and what making a file fails with."""
        name = address.name
        if name is None:
            if socket.is_bound:
                assert isinstance(socket.local, UnixAddress)
                return socket.local  # as on Linux
            address = UnixAddress(self._free_name(), is_abstract=True)
            name = address.name
            assert name is not None
        if address.is_abstract:
            socket.check_unbound()
            if name in self._abstract:
                raise KernelError(Errno.EADDRINUSE, f"the abstract name {name!r} is taken")
            self._abstract[name] = socket
            return address
        self._check(naming, name)
        mode = 0o777 & ~naming.umask
        self._files[socket] = bind_socket(self._vfs, naming.absolute(name), naming.root, socket, mode)
        return address

    def find(self, address: UnixAddress, naming: Naming) -> "Socket":
        """Return the socket of this name. ECONNREFUSED: nobody has it; ENOENT: no such file; EINVAL: no name."""
        name = address.name
        if name is None:
            raise KernelError(Errno.EINVAL, "an address without a name")
        if address.is_abstract:
            found = self._abstract.get(name)
        else:
            self._check(naming, name)
            found = find_socket(self._vfs, naming.absolute(name), naming.root)
        if found is None:
            raise KernelError(Errno.ECONNREFUSED, f"no socket is bound to {name!r}")
        return found

    def release(self, socket: "Socket", address: UnixAddress) -> None:
        """The socket is gone: its abstract name is free; its file stays, as on Linux, and leads nowhere."""
        file = self._files.pop(socket, None)
        if file is not None:
            file.bound = None
        elif address.is_abstract and address.name is not None and self._abstract.get(address.name) is socket:
            del self._abstract[address.name]

    @staticmethod
    def _check(naming: Naming, name: bytes) -> None:
        if naming.root is None:
            raise KernelError(Errno.EACCES, "the process was not given the root directory, and so no paths")
        if b"\0" in name or not name:
            raise KernelError(Errno.EINVAL, f"path {name!r}")

    def _free_name(self) -> bytes:
        for _ in range(_AUTOMATIC):
            name = b"%05x" % self._next
            self._next = (self._next + 1) % _AUTOMATIC
            if name not in self._abstract:
                return name
        raise KernelError(Errno.ENOSPC, "every automatic name is taken")
