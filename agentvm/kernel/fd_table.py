"""The descriptors of one process, over open file descriptions that processes may share."""

import heapq
from collections.abc import Callable, Iterable, Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.limits.gauge import Gauge

__all__ = ["CWD_NUMBERS", "FIRST_TAGGED", "Descriptor", "FdTable"]

#: Preopened directories of a program of the host ABI have numbers from here on, apart from those that `open` gives.
FIRST_TAGGED = 0x4000_0003
#: The lowest number that is no ordinary one.
_LOWEST_TAGGED = 0x4000_0000
#: What stands for the working directory, the first of these, where a call of the host ABI takes a path: AT_FDCWD, -1.
CWD_NUMBERS = (0xFFFF_FFFE, 0xFFFF_FFFF)
#: Ordinary descriptors have lower numbers than this, whatever the caps.
_MOST = 1 << 20


class Descriptor:
    """What one number stands for: an open file, and what this descriptor may do with it (preview1 `$rights`)."""

    __slots__ = ("cloexec", "file", "inheriting", "preopen", "rights")

    def __init__(
        self,
        file: OpenFile,
        rights: int,
        inheriting: int,
        preopen: bytes | None = None,
        *,
        cloexec: bool = False,
    ) -> None:
        self.file = file
        self.rights = rights
        self.inheriting = inheriting
        #: The path under which a directory was given to the program at its start.
        self.preopen = preopen
        #: Whether exec and spawn close it (FD_CLOEXEC).
        self.cloexec = cloexec

    def copy(self, *, cloexec: bool = False) -> "Descriptor":
        """Return another descriptor of the same open file, as dup(2) makes one."""
        return Descriptor(self.file, self.rights, self.inheriting, self.preopen, cloexec=cloexec)


class FdTable:
    """Lowest free number first, as POSIX asks. Guarded by the kernel lock.

    `per_process` and `per_vm` are charged one for each ordinary descriptor; the table owns one reference to each file.
    """

    def __init__(self, per_process: Gauge, per_vm: Gauge) -> None:
        self._per_process = per_process
        self._per_vm = per_vm
        self.by_number: dict[int, Descriptor] = {}
        # The numbers below _next that are free, a heap. Each is below the highest that was in use.
        self._free: list[int] = []
        self._next = 0
        #: Every ordinary number that is given out is lower.
        self._limit = _MOST
        #: Told of each file that a descriptor is closed of; set where the process has record locks.
        self.on_close: Callable[[OpenFile], None] | None = None

    def __iter__(self) -> Iterator[int]:
        """Iterate over the ordinary numbers, lowest first."""
        return iter(sorted(number for number in self.by_number if number < _LOWEST_TAGGED))

    def __len__(self) -> int:
        return sum(number < _LOWEST_TAGGED for number in self.by_number)

    def get(self, number: int) -> Descriptor:
        """Return a descriptor; EBADF if it is not open."""
        descriptor = self.by_number.get(number)
        if descriptor is None:
            raise KernelError(Errno.EBADF, f"fd {number} is not open")
        return descriptor

    def limit_numbers(self, limit: int) -> None:
        """Give out no number from `limit` on: RLIMIT_NOFILE. What is open stays."""
        self._limit = min(limit, _MOST)

    def reserve(self, count: int = 1) -> None:
        """Raise EMFILE or ENFILE if not so many can be had, taking none. EMFILE wins where both are full."""
        if self._limit != _MOST:
            numbers = heapq.nsmallest(count, self._free)
            self._check_number(numbers[-1] if len(numbers) == count else self._next + count - len(numbers) - 1)
        for gauge in (self._per_process, self._per_vm):
            if gauge.used + count > gauge.cap:
                gauge.acquire(count)

    def open(self, descriptor: Descriptor) -> int:
        """Put `descriptor` at the lowest free number; EMFILE, ENFILE. The file is left alone on failure."""
        if self._limit != _MOST:
            self._check_number(self._free[0] if self._free else self._next)
        self._take_slot()
        if self._free:
            number = heapq.heappop(self._free)
        else:
            number = self._next
            self._next += 1
        self.by_number[number] = descriptor
        descriptor.file.references += 1
        return number

    def _check_number(self, number: int) -> None:
        if number >= self._limit:
            raise KernelError(Errno.EMFILE, f"the process gives out numbers below {self._limit} (RLIMIT_NOFILE)")

    def _take_slot(self) -> None:
        if self._per_process.used < self._per_process.cap:  # or it refuses, and nothing was taken of the other
            self._per_vm.acquire()
        self._per_process.acquire()

    def open_at(self, number: int, descriptor: Descriptor) -> None:
        """Put `descriptor` at a number, closing what is there, in one step: dup2(2).

        EBADF for a number that none can have, ENFILE. The file is left alone on failure.
        """
        if number >= self._limit or number >= self._per_process.cap:
            raise KernelError(Errno.EBADF, f"no descriptor has the number {number}")
        replaced = self.by_number.get(number)
        if replaced is None:
            self._take_slot()
            self._claim(number)
        descriptor.file.references += 1
        self.by_number[number] = descriptor
        if replaced is not None:
            self._drop(replaced.file)

    def open_from(self, lowest: int, descriptor: Descriptor) -> int:
        """Put `descriptor` at the lowest free number from `lowest` on: F_DUPFD. EINVAL, EMFILE, ENFILE."""
        if lowest >= self._limit or lowest >= self._per_process.cap:
            raise KernelError(Errno.EINVAL, f"no descriptor has a number from {lowest} on")
        number = lowest
        while number in self.by_number:
            number += 1
        self._check_number(number)
        if number >= self._per_process.cap:
            raise KernelError(Errno.EMFILE, f"every number from {lowest} on is taken")
        self._take_slot()
        self._claim(number)
        descriptor.file.references += 1
        self.by_number[number] = descriptor
        return number

    def open_tagged(self, number: int, descriptor: Descriptor) -> None:
        """Put a directory of the host ABI at its number, apart from the ordinary ones and charged to none: there are as
        many as the operator has mounts."""
        assert number >= _LOWEST_TAGGED
        descriptor.file.references += 1
        self.by_number[number] = descriptor

    def _claim(self, number: int) -> None:
        """Take one free number out of turn."""
        if number >= self._next:
            for free in range(self._next, number):
                heapq.heappush(self._free, free)
            self._next = number + 1
        else:
            self._free.remove(number)
            heapq.heapify(self._free)

    def close(self, number: int) -> None:
        """Close a descriptor; EBADF, for one that the host gave to the program too."""
        if number >= _LOWEST_TAGGED:
            raise KernelError(Errno.EBADF, f"fd {number:#x} cannot be closed")
        descriptor = self.by_number.pop(number, None)
        if descriptor is None:
            raise KernelError(Errno.EBADF, f"fd {number} is not open")
        heapq.heappush(self._free, number)
        self._release_slot()
        file = descriptor.file
        if file.references == 1 and file.on_release is None and self.on_close is None:  # nearly always
            file.references = 0
            file.on_last_close()
        else:
            self._drop(file)

    def close_from(self, lowest: int) -> None:
        """Close all ordinary descriptors from a number on: close_range(2)."""
        self.close_each(number for number in self if number >= lowest)

    def close_each(self, numbers: Iterable[int]) -> None:
        """Close each of `numbers` that is open."""
        for number in list(numbers):
            if number in self.by_number:
                self.close(number)

    def close_on_exec(self) -> None:
        """Close what a new program does not inherit."""
        self.close_each(number for number in self if self.by_number[number].cloexec)

    def renumber(self, source: int, target: int) -> None:
        """Move `source` to the number `target`, closing what is there, in one step; EBADF if either is not open.

        Source: preview1 `fd_renumber`, which unlike dup2(2) asks that the target be open.
        """
        moved, replaced = self.get(source), self.get(target)
        if source == target:
            return
        if source >= _LOWEST_TAGGED or target >= _LOWEST_TAGGED:
            raise KernelError(Errno.EBADF, f"fd {max(source, target):#x} cannot be moved")
        self.by_number[target] = moved
        del self.by_number[source]
        heapq.heappush(self._free, source)
        self._release_slot()
        self._drop(replaced.file)

    def inherit(self, parent: "FdTable", keep: Iterable[int]) -> None:
        """Take over the descriptors `keep` of `parent`, at their numbers; EMFILE, ENFILE. Only into an empty table."""
        for number in keep:
            descriptor = parent.by_number[number]
            self._take_slot()
            self._claim(number)
            self.by_number[number] = descriptor.copy(cloexec=descriptor.cloexec)
            descriptor.file.references += 1

    def close_all(self) -> None:
        """Close everything, what the host gave too."""
        for number in list(self):
            self.close(number)
        self.close_tagged()

    def close_tagged(self) -> None:
        """Take back what the host gave to a program that is replaced."""
        for number in sorted(number for number in self.by_number if number >= _LOWEST_TAGGED):
            self._drop(self.by_number.pop(number).file)

    def _drop(self, file: OpenFile) -> None:
        if self.on_close is not None:
            self.on_close(file)
        file.drop()

    def _release_slot(self) -> None:
        self._per_process.release()
        self._per_vm.release()
