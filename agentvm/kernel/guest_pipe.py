"""The pipes that programs make, and those of their open FIFOs: at most max_pipes at a time in a VM. Source: pipe(2)."""

from agentvm.kernel.pipe import Pipe, PipeReader, PipeWriter
from agentvm.kernel.stat import FileStat, Filetype
from agentvm.kernel.wait import WaitQueue
from agentvm.limits.registry import Registry

__all__ = ["PIPES_DEV", "GuestPipe", "NamedPipe", "Pipes"]

#: Device number of pipes without a name.
PIPES_DEV = 5


class GuestPipe(Pipe):
    """A pipe that holds a place in max_pipes until both its ends are gone."""

    __slots__ = ("_place", "ino")

    def __init__(self, registry: Registry, ino: int = 0, waiters: WaitQueue | None = None) -> None:
        """ENFILE: max_pipes is reached."""
        self._place = registry.gauge("max_pipes")
        self._place.acquire()
        super().__init__(registry, waiters)
        self.ino = ino

    def lose(self, *, reader: bool) -> None:
        super().lose(reader=reader)
        if not (self.readers or self.writers):
            self._place.release()


class NamedPipe(GuestPipe):
    """What lies between the ends of a FIFO that is open. Its ends come and go; one may be both: O_RDWR."""

    __slots__ = ("reader_opens", "writer_opens")

    reopens = True

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry, waiters=WaitQueue("the other end of a FIFO"))
        #: How often it was opened for either, ever: who waits for a partner looks for a change.
        self.reader_opens = 0
        self.writer_opens = 0


class _Reader(PipeReader):
    __slots__ = ()

    pipe: GuestPipe

    def stat(self) -> FileStat:
        return _stat(self.pipe)


class _Writer(PipeWriter):
    __slots__ = ()

    pipe: GuestPipe

    def stat(self) -> FileStat:
        return _stat(self.pipe)


class Pipes:
    """Makes the pipes of one VM. Guarded by the kernel lock."""

    __slots__ = ("_last_ino", "_registry")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._last_ino = 0

    def make(self) -> tuple[PipeReader, PipeWriter]:
        """Return the two ends of a new pipe; ENFILE: max_pipes is reached."""
        self._last_ino += 1
        pipe = GuestPipe(self._registry, self._last_ino)
        return _Reader(pipe), _Writer(pipe)

    def make_named(self) -> "NamedPipe":
        """Return the pipe of a FIFO that is being opened; ENFILE: max_pipes is reached."""
        return NamedPipe(self._registry)


def _stat(pipe: GuestPipe) -> FileStat:
    return FileStat(PIPES_DEV, pipe.ino, Filetype.UNKNOWN, 1, 0, 0, 0, 0, 0o600)
