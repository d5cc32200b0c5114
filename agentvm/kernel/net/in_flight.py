"""Descriptors on their way from one process to another in a message. Source: unix(7), SCM_RIGHTS.

They are charged to max_open_fds like those in a table. Sockets may be on their way through themselves: `InFlight` knows
all of them, so that nothing stays when the VM is closed, and `collect` finds those that nobody can reach.
"""

from collections.abc import Iterable, Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import OpenFile
from agentvm.limits.gauge import Gauge

__all__ = ["MOST_RIGHTS", "InFlight", "Parcel"]

#: Descriptors of one message, at most (Linux's SCM_MAX_FD).
MOST_RIGHTS = 253


class Parcel:
    """The descriptors of one message. Whoever takes the message opens them, or drops them."""

    __slots__ = ("_owner", "descriptors", "queue_of")

    def __init__(self, owner: "InFlight", descriptors: list[Descriptor]) -> None:
        self._owner = owner
        self.descriptors = descriptors
        #: The socket in whose queue the message waits.
        self.queue_of: OpenFile | None = None

    def __len__(self) -> int:
        return len(self.descriptors)

    def take(self) -> Iterator[Descriptor]:
        """Iterate over the descriptors, each as one that is on its way no more: it is to be opened before the next.

        What is not asked for any more, is dropped.
        """
        self._owner.parcels.discard(self)
        descriptors, self.descriptors = self.descriptors, []
        try:
            while descriptors:
                descriptor = descriptors.pop(0)
                self._owner.gauge.release()
                try:
                    yield descriptor
                finally:
                    _drop(descriptor)
        finally:
            for descriptor in descriptors:
                self._owner.gauge.release()
                _drop(descriptor)

    def drop(self) -> None:
        """Close the descriptors: the message is thrown away, or its reader did not ask for them."""
        for _ in self.take():
            pass


class InFlight:
    """Every parcel of a VM. Guarded by the kernel lock; bounded by max_open_fds."""

    __slots__ = ("gauge", "parcels")

    def __init__(self, gauge: Gauge) -> None:
        """`gauge` is max_open_fds."""
        self.gauge = gauge
        self.parcels: set[Parcel] = set()

    def pack(self, descriptors: Iterable[Descriptor]) -> Parcel:
        """Return a parcel of copies. EINVAL: more than MOST_RIGHTS; ENFILE: max_open_fds is reached."""
        copies = [descriptor.copy() for descriptor in descriptors]
        if len(copies) > MOST_RIGHTS:
            raise KernelError(Errno.EINVAL, f"{len(copies)} descriptors in one message, {MOST_RIGHTS} are allowed")
        if self.gauge.used + len(copies) > self.gauge.cap:
            self.collect()
        self.gauge.acquire(len(copies))
        for copy in copies:
            copy.file.references += 1
        parcel = Parcel(self, copies)
        self.parcels.add(parcel)
        return parcel

    def collect(self) -> None:
        """Drop what is on its way in sockets that are themselves on their way, and that no process can reach."""
        inside: dict[OpenFile, int] = {}
        for parcel in self.parcels:
            for descriptor in parcel.descriptors:
                inside[descriptor.file] = inside.get(descriptor.file, 0) + 1
        lost = {file for file, count in inside.items() if file.references == count}
        while saved := self._reachable(lost):
            lost -= saved
        for parcel in [parcel for parcel in self.parcels if parcel.queue_of in lost]:
            parcel.drop()

    def _reachable(self, lost: set[OpenFile]) -> set[OpenFile]:
        """Return those of `lost` that wait in a queue which a process can read."""
        return {
            descriptor.file
            for parcel in self.parcels
            if parcel.queue_of is None or parcel.queue_of not in lost
            for descriptor in parcel.descriptors
            if descriptor.file in lost
        }

    def close(self) -> None:
        """Drop all of them: the VM is closed."""
        while self.parcels:
            self.parcels.pop().drop()


def _drop(descriptor: Descriptor) -> None:
    file = descriptor.file
    file.references -= 1
    if file.references == 0:
        file.on_last_close()
