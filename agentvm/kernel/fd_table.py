"""The descriptors of one process, over open file descriptions that processes may share."""

import heapq
from collections.abc import Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.limits.gauge import Gauge

__all__ = ["Descriptor", "FdTable"]


class Descriptor:
    """What one number stands for: an open file, and what this descriptor may do with it (preview1 `$rights`)."""

    __slots__ = ("file", "inheriting", "preopen", "rights")

    def __init__(self, file: OpenFile, rights: int, inheriting: int, preopen: bytes | None = None) -> None:
        self.file = file
        self.rights = rights
        self.inheriting = inheriting
        #: The path under which a directory was given to the program at its start.
        self.preopen = preopen


class FdTable:
    """Lowest free number first, as POSIX asks. Guarded by the kernel lock.

    `per_process` and `per_vm` are charged one for each descriptor; the table owns one reference to each file.
    """

    def __init__(self, per_process: Gauge, per_vm: Gauge) -> None:
        self._per_process = per_process
        self._per_vm = per_vm
        self.by_number: dict[int, Descriptor] = {}
        # The numbers below _next that are free, a heap. Each was in use once, so there are at most as many as the peak
        # of the gauge.
        self._free: list[int] = []
        self._next = 0

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.by_number))

    def __len__(self) -> int:
        return len(self.by_number)

    def get(self, number: int) -> Descriptor:
        """Return a descriptor; EBADF if it is not open."""
        descriptor = self.by_number.get(number)
        if descriptor is None:
            raise KernelError(Errno.EBADF, f"fd {number} is not open")
        return descriptor

    def reserve(self) -> None:
        """Raise EMFILE or ENFILE if no further descriptor can be had, taking none. EMFILE wins where both are full."""
        for gauge in (self._per_process, self._per_vm):
            if gauge.used + 1 > gauge.cap:
                gauge.acquire()

    def open(self, descriptor: Descriptor) -> int:
        """Put `descriptor` at the lowest free number; EMFILE, ENFILE. The file is left alone on failure."""
        if self._per_process.used < self._per_process.cap:  # or it refuses, and nothing was taken of the other
            self._per_vm.acquire()
        self._per_process.acquire()
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self.by_number[number] = descriptor
        descriptor.file.references += 1
        return number

    def close(self, number: int) -> None:
        """Close a descriptor; EBADF."""
        descriptor = self.by_number.pop(number, None)
        if descriptor is None:
            raise KernelError(Errno.EBADF, f"fd {number} is not open")
        heapq.heappush(self._free, number)
        self._release_slot()
        _drop(descriptor.file)

    def renumber(self, source: int, target: int) -> None:
        """Move `source` to the number `target`, closing what is there, in one step; EBADF if either is not open.

        Source: preview1 `fd_renumber`, which unlike dup2(2) asks that the target be open.
        """
        moved, replaced = self.get(source), self.get(target)
        if source == target:
            return
        self.by_number[target] = moved
        del self.by_number[source]
        heapq.heappush(self._free, source)
        self._release_slot()
        _drop(replaced.file)

    def close_all(self) -> None:
        for number in list(self):
            self.close(number)

    def _release_slot(self) -> None:
        self._per_process.release()
        self._per_vm.release()


def _drop(file: OpenFile) -> None:
    file.references -= 1
    if file.references == 0:
        file.on_last_close()
