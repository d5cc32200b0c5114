"""The pipes that programs make, and those of their open FIFOs: at most max_pipes at a time in a VM. Source: pipe(2)."""

from agentvm.kernel.pipe import Pipe, PipeReader, PipeWriter
from agentvm.kernel.stat import FileStat, Filetype
from agentvm.limits.registry import Registry

__all__ = ["PIPES_DEV", "GuestPipe", "Pipes"]

#: Device number of pipes without a name.
PIPES_DEV = 5


class GuestPipe(Pipe):
    """A pipe that holds a place in max_pipes until both its ends are gone."""

    __slots__ = ("_place", "ino", "reopens")

    def __init__(self, registry: Registry, ino: int, *, reopens: bool) -> None:
        """ENFILE: max_pipes is reached."""
        self._place = registry.gauge("max_pipes")
        self._place.acquire()
        super().__init__(registry)
        self.ino = ino
        self.reopens = reopens

    def lose(self, *, reader: bool) -> None:
        super().lose(reader=reader)
        if not (self.readers or self.writers):
            self._place.release()


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
        pipe = GuestPipe(self._registry, self._last_ino, reopens=False)
        return _Reader(pipe), _Writer(pipe)

    def make_named(self, ino: int) -> GuestPipe:
        """Return the pipe of a FIFO that is being opened; ENFILE: max_pipes is reached."""
        return GuestPipe(self._registry, ino, reopens=True)


def _stat(pipe: GuestPipe) -> FileStat:
    return FileStat(PIPES_DEV, pipe.ino, Filetype.UNKNOWN, 1, 0, 0, 0, 0, 0o600)
