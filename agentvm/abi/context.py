"""What a call works with: the process that makes it, its memory, and the kernel."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from agentvm.abi.memory import GuestMemory
from agentvm.abi.rights import FD_READ, FD_WRITE, Rights, applicable
from agentvm.errno import Errno, KernelError
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.fd_table import CWD_NUMBERS, FIRST_TAGGED, Descriptor
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.lending import Lent, remaining
from agentvm.kernel.open_file import Buffers, OpenFile
from agentvm.kernel.outcome import Signal
from agentvm.kernel.process import Process
from agentvm.kernel.signalling import post
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.vfs.node import Node
from agentvm.kernel.wait import Readiness, block_until

if TYPE_CHECKING:
    from agentvm.abi.trace import CallTrace

__all__ = ["CallContext", "remaining"]

_SET_SIZE = int(Rights.FD_FILESTAT_SET_SIZE)
_NEW_FILE_MODE = 0o666
_WRITES = _SET_SIZE | int(Rights.FD_ALLOCATE)


class CallContext:
    """One per process. The generated callbacks and the handlers read its attributes; nobody else does."""

    __slots__ = ("clock", "descriptors", "disk", "kernel", "lock", "max_io_bytes", "memory", "open_mode", "process",
                 "trace", "vfs")  # fmt: skip

    def __init__(self, kernel: Kernel, process: Process, trace: "CallTrace | None" = None) -> None:
        """With `trace`, the process must be linked so that its calls are reported."""
        self.trace = trace
        self.kernel = kernel
        self.process = process
        self.lock = kernel.lock
        self.clock = kernel.clock
        self.vfs = kernel.vfs
        self.disk = kernel.disk
        self.descriptors = process.fds.by_number
        self.memory = GuestMemory(kernel.registry.ceiling("max_iovecs"))
        self.max_io_bytes = kernel.registry.ceiling("max_io_bytes")
        #: The permission bits of the file that the next path_open makes; 0 for those of preview1.
        self.open_mode = 0

    # -- descriptors --------------------------------------------------------------------------------------------------
    def descriptor(self, fd: int, rights: int = 0) -> Descriptor:
        """Return an open descriptor that has all of `rights`; EBADF, ENOTCAPABLE."""
        descriptor = self.descriptors.get(fd)
        if descriptor is None or descriptor.rights & rights != rights:
            raise self.refusal(fd, rights)
        return descriptor

    def file(self, fd: int, rights: int = 0) -> OpenFile:
        """Return the open file of a descriptor that is no directory; EBADF, ENOTCAPABLE."""
        file = self.descriptor(fd, rights).file
        if file.filetype is Filetype.DIRECTORY:
            raise KernelError(Errno.EBADF, f"fd {fd} is a directory")
        return file

    def directory(self, fd: int, rights: int) -> Node:
        """Return the node of an open directory; EBADF, ENOTDIR, ENOTCAPABLE."""
        descriptor = self.descriptors.get(fd)
        if descriptor is None:
            raise KernelError(Errno.EBADF, f"fd {fd} is not open")
        node = descriptor.file.node
        if node is None:
            raise KernelError(Errno.ENOTDIR, f"fd {fd} is not a directory")
        if descriptor.rights & rights != rights:
            raise self.refusal(fd, rights)
        return node

    def at(self, fd: int, path: bytes, rights: int) -> tuple[Node, bytes, bool]:
        """Return where a path starts, the path from there, and whether it must stay below; EBADF, ENOTDIR, ENOTCAPABLE.

        A program of the host ABI that was given the root may go anywhere. There an absolute path starts at the root
        whatever `fd` is, and so does one with ".." from a directory that the host gave it: nothing else has a parent.
        """
        process = self.process
        if not process.has_host_abi:
            return self.directory(fd, rights), path, True
        if fd in CWD_NUMBERS:
            fd = FIRST_TAGGED
        if process.root is None:
            return self.directory(fd, rights), path, True
        if path[:1] == b"/":
            return process.root, path, False
        base = self.directory(fd, rights)
        if b".." in path:
            start = self.descriptors[fd].preopen
            if start is not None:
                return process.root, start + b"/" + path, False
        return base, path, False

    @property
    def maker(self) -> Credentials | None:
        """Who makes files, and whom their bits bind; None for a plain preview1 program, which has no user."""
        return self.process.credentials if self.process.has_host_abi else None

    def take_open_mode(self) -> int:
        """Return the permission bits, before the umask, of a file that is made now: they hold for one opening."""
        mode, self.open_mode = self.open_mode, 0
        return mode or _NEW_FILE_MODE

    def refusal(self, fd: int, rights: int) -> KernelError:
        """Say why a descriptor can't be used: EBADF where POSIX gives it, ENOTCAPABLE for rights that only WASI has."""
        descriptor = self.descriptors.get(fd)
        if descriptor is None:
            return KernelError(Errno.EBADF, f"fd {fd} is not open")
        missing = rights & ~descriptor.rights
        names = str(Rights(missing))
        inapplicable = missing & ~applicable(descriptor.file)
        if missing & (FD_READ | FD_WRITE) or inapplicable:
            return KernelError(Errno.EBADF, f"fd {fd} lacks {names}")
        if missing & _WRITES and not descriptor.rights & FD_WRITE:  # libc did not ask for it: it opened for reading
            return KernelError(Errno.EINVAL if missing & _SET_SIZE else Errno.EBADF, f"fd {fd} lacks {names}")
        return KernelError(Errno.ENOTCAPABLE, f"fd {fd} lacks {names}")

    @staticmethod
    def drop(file: OpenFile) -> None:
        """Give back a reference to an open file that a call has taken."""
        file.drop()

    def await_opening(self, file: OpenFile, child: Process | None = None) -> None:
        """Sleep until an open file has its other end. Raises `Interrupted` and `GuestKilled`; the file is closed then.

        For a `child` that is being made, no signal but a fatal one ends the wait, its own or the caller's.
        """
        queue = file.waiters
        assert queue is not None, f"{type(file).__name__} waits for another end but has no wait queue"
        try:
            block_until(
                self.process,
                self.lock,
                self.clock,
                [queue],
                lambda: not file.is_opening or (child is not None and child.ending is not None),
                is_interruptible=child is None,
            )
        except BaseException:
            file.on_last_close()
            raise

    # -- transfers that may wait --------------------------------------------------------------------------------------
    def wait_for(self, file: OpenFile, ready: int, lent: Lent | None = None) -> None:
        """Sleep until `file` is ready for that, or something was done with what is `lent` to it."""
        timeout_ns = file.timeout_ns(ready)
        deadline_ns = None if timeout_ns is None else self.clock.monotonic_ns() + timeout_ns
        if lent is None:
            self.wait_until(file, ready, lambda: bool(file.readiness() & ready), deadline_ns)
            return
        file.lend(lent, ready)
        try:
            self.wait_until(
                file,
                ready,
                lambda: (lent.done > 0 if ready & Readiness.READ else not lent.rest) or bool(file.readiness() & ready),
                deadline_ns,
            )
        finally:
            file.take_back(lent)

    def wait_until(
        self, file: OpenFile, ready: int, condition: Callable[[], bool], deadline_ns: int | None = None
    ) -> None:
        """Sleep until `condition()` holds, which changes as `file` becomes ready for that. EAGAIN at the deadline."""
        queues = tuple(file.queues(ready))
        assert queues, f"{type(file).__name__} would block but has no wait queue"
        if not block_until(self.process, self.lock, self.clock, queues, condition, deadline_ns):
            raise KernelError(Errno.EAGAIN, "the time is over that the descriptor lets a call wait")

    def read(self, file: OpenFile, buffers: Buffers) -> int:
        """Read, waiting for data unless the file is non-blocking."""
        if file.is_stream:
            buffers = self.clip(buffers)
        while True:
            try:
                return file.read_nowait(buffers)
            except KernelError as error:
                if error.errno is not Errno.EAGAIN or file.flags & FdFlags.NONBLOCK:
                    raise
            lent = Lent(self.process, buffers)
            self.wait_for(file, Readiness.READABLE, lent)
            if lent.done:
                return lent.done

    def write(self, file: OpenFile, buffers: Buffers) -> int:
        """Write to a stream, waiting for room until all is written, unless the file is non-blocking.

        What was written before an error is reported as a count; the error then comes with the next call.
        """
        rest = self.clip(buffers)
        done = 0
        while True:
            try:
                written = file.write_nowait(rest)
            except KernelError as error:
                if error.errno is Errno.EPIPE:
                    self.signal_broken_pipe()
                if error.errno is not Errno.EAGAIN or file.flags & FdFlags.NONBLOCK:
                    if done:
                        return done
                    raise
                written, is_over = self._wait_to_write(file, rest, is_begun=bool(done))
                if is_over:
                    return done + written
            done += written
            rest = remaining(rest, written)
            if not rest or file.flags & FdFlags.NONBLOCK:
                return done

    def _wait_to_write(self, file: OpenFile, rest: Buffers, *, is_begun: bool) -> tuple[int, bool]:
        """Sleep until there is room. Return how much a reader took meanwhile, and whether a signal ends the call,
        which has written something then."""
        lent = Lent(self.process, rest)
        try:
            self.wait_for(file, Readiness.WRITABLE, lent)
        except KernelError:  # EINTR, or the end of the time that the descriptor lets a call wait
            if is_begun or lent.done:
                return lent.done, True
            raise
        return lent.done, False

    def signal_broken_pipe(self) -> None:
        """Send SIGPIPE to a program that can do something about it: one of the host ABI. Others find EPIPE."""
        if self.process.has_host_abi:
            post(self.process, Signal.SIGPIPE)

    def clip(self, buffers: Buffers) -> Buffers:
        """Keep the first max_io_bytes of `buffers`."""
        room = self.max_io_bytes.cap
        total = sum(map(len, buffers))
        if total <= self.max_io_bytes.top or self.max_io_bytes.observe(total):
            return buffers
        clipped = []
        for buffer in buffers:
            clipped.append(buffer[: int(room)])
            room -= len(clipped[-1])
        return clipped
