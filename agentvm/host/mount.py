"""What all nodes of one mounted host directory share: how names are opened, what they cost, what guests may change."""

import os
import stat

from agentvm.errno import Errno, KernelError
from agentvm.host.beneath import FILE_FLAGS, Resolver, set_mode_of
from agentvm.host.descriptors import HostFd, HostFds
from agentvm.host.host_errno import from_host
from agentvm.host.inodes import InodeKey, OpenInode
from agentvm.host.quota import HostQuota
from agentvm.kernel.stat import FileStat, Filetype

__all__ = ["PERMISSIONS", "HostMount", "filetype_of", "not_a_file", "status_at", "status_of"]

_FILETYPES = {
    stat.S_IFREG: Filetype.REGULAR_FILE,
    stat.S_IFDIR: Filetype.DIRECTORY,
    stat.S_IFLNK: Filetype.SYMBOLIC_LINK,
    stat.S_IFCHR: Filetype.CHARACTER_DEVICE,
    stat.S_IFBLK: Filetype.BLOCK_DEVICE,
    stat.S_IFSOCK: Filetype.SOCKET_STREAM,
}
_TYPE_MASK = 0o170000
_MODE_MASK = 0o7777
#: What guests may set: set-user-ID, set-group-ID and sticky bits would act on the host.
PERMISSIONS = 0o777
_DEVICE_SHIFT = 32
#: How often a file may be swapped on the host while we open it, before we give up with EBUSY.
_SWAPS = 4


def filetype_of(mode: int) -> Filetype:
    """Return the guest's file type for an `st_mode`; a FIFO has none in preview1."""
    return _FILETYPES.get(mode & _TYPE_MASK, Filetype.UNKNOWN)


def status_at(directory: HostFd, name: bytes) -> os.stat_result:
    """Look at one name, a symlink itself."""
    try:
        return os.stat(name, dir_fd=directory.number, follow_symlinks=False)
    except OSError as error:
        raise from_host(error, f"stat of {name!r}") from None


def status_of(fd: HostFd) -> os.stat_result:
    """Look at what a descriptor stands for."""
    try:
        return os.fstat(fd.number)
    except OSError as error:
        raise from_host(error, "stat") from None


def not_a_file(name: bytes, mode: int) -> KernelError:
    """Say why something that is neither a regular file nor a directory is not opened, as Linux would."""
    if stat.S_ISLNK(mode):
        return KernelError(Errno.ELOOP, f"{name!r} is a symbolic link")
    if stat.S_ISDIR(mode):
        return KernelError(Errno.EISDIR, f"{name!r} is a directory")
    if stat.S_ISSOCK(mode):
        return KernelError(Errno.ENXIO, f"{name!r} is a socket")
    return KernelError(Errno.EACCES, f"{name!r} is a device or a FIFO of the host")


class HostMount:
    """One mounted directory. Guarded by the VM's kernel lock."""

    __slots__ = ("_dev", "_devices", "_no_atime", "fds", "quota", "read_only", "resolver")

    def __init__(self, dev: int, fds: HostFds, quota: HostQuota, resolver: Resolver, *, read_only: bool) -> None:
        self.fds = fds
        self.quota = quota
        self.resolver = resolver
        self.read_only = read_only
        self._dev = dev
        # The host's device numbers stay on the host. One row for each filesystem that the operator mounted below.
        self._devices: dict[int, int] = {}
        # A mount that must not change leaves access times alone too, as far as the host lets us.
        self._no_atime = os.O_NOATIME if read_only else 0

    def require_writable(self, what: str) -> None:
        """Raise EROFS on a read-only mount."""
        if self.read_only:
            raise KernelError(Errno.EROFS, f"{what} on a read-only mount")

    def open_name(self, directory: HostFd, name: bytes, flags: int, mode: int = 0) -> HostFd:
        """Open one name in `directory`, symlinks not followed. ENFILE at the cap, else what the host says."""
        self.fds.acquire()
        number = -1
        try:
            number = self.resolver.open_at(directory.number, name, flags, mode)
        except OSError as error:
            raise from_host(error, f"open of {name!r}") from None
        finally:
            if number < 0:
                self.fds.release()
        return HostFd(number, self.fds)

    def set_mode(self, held: HostFd, mode: int) -> None:
        """Set the permission bits of what a descriptor holds; the others would act on the host."""
        self.require_writable("setting permissions")
        try:
            set_mode_of(held.number, mode & PERMISSIONS)
        except OSError as error:
            raise from_host(error, "set permissions") from None

    def open_file(self, directory: HostFd, name: bytes, flags: int) -> HostFd:
        """Open for real what is known to be a regular file or a directory; the caller looks again what it got."""
        flags |= FILE_FLAGS
        if self._no_atime:
            try:
                return self.open_name(directory, name, flags | self._no_atime)
            except KernelError as error:
                if error.errno is not Errno.EPERM:
                    raise
                self._no_atime = 0  # only the owner of a file may ask for it: give up for this mount
        return self.open_name(directory, name, flags)

    def open_held(
        self, directory: HostFd, name: bytes, flags: int, *, expected: InodeKey | None = None, for_real: bool
    ) -> tuple[HostFd, OpenInode]:
        """Open `name` and hold its inode. `for_real`: to read or write; ELOOP, EACCES, ... if it is no regular file.

        The inode is held before it is opened, and both must be the same: so of all who close it and remove its names,
        in any VM, exactly one counts the bytes that get free. EBUSY if the host keeps replacing the file.
        """
        inodes = self.fds.inodes
        for _ in range(_SWAPS):
            if expected is None:
                status = status_at(directory, name)
                if for_real and not stat.S_ISREG(status.st_mode):
                    raise not_a_file(name, status.st_mode)
                expected = status.st_dev, status.st_ino
            inode = inodes.hold(expected)
            try:
                fd = self.open_file(directory, name, flags) if for_real else self.open_name(directory, name, flags)
                status = status_of(fd)
            except KernelError:
                inodes.let_go(inode, -1)
                raise
            if inode.key == (status.st_dev, status.st_ino) and (stat.S_ISREG(status.st_mode) or not for_real):
                with inode.lock:
                    inode.size = max(inode.size, status.st_size)
                return fd, inode
            inodes.let_go(inode, -1)
            fd.close()
            expected = None
        raise KernelError(Errno.EBUSY, f"{name!r} is being replaced on the host")

    def key_of(self, status: os.stat_result) -> tuple[int, int]:
        """Return (dev, ino) as the guest sees them."""
        return self._device(status.st_dev), status.st_ino

    def file_stat(self, status: os.stat_result) -> FileStat:
        """Translate a host's stat. Times before 1970, which preview1 cannot express, become 0."""
        mode = status.st_mode
        atime_ns, mtime_ns, ctime_ns = status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns
        return FileStat(
            self._devices.get(status.st_dev) or self._device(status.st_dev),
            status.st_ino,
            _FILETYPES.get(mode & _TYPE_MASK, Filetype.UNKNOWN),
            status.st_nlink,
            status.st_size,
            atime_ns if atime_ns > 0 else 0,
            mtime_ns if mtime_ns > 0 else 0,
            ctime_ns if ctime_ns > 0 else 0,
            mode & _MODE_MASK,
        )

    def _device(self, host_dev: int) -> int:
        dev = self._devices.get(host_dev)
        if dev is None:
            dev = self._devices[host_dev] = self._dev | len(self._devices) << _DEVICE_SHIFT
        return dev
