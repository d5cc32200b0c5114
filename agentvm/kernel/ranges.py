"""The byte ranges that processes have locked in one file: conflicts, and splitting and joining. Source: fcntl(2)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from agentvm.kernel.process import Process

__all__ = ["LAST_BYTE", "LockKind", "Range", "blocking", "changed"]

#: The last byte that any file can have: a range up to it goes on to the end of the file, wherever that is.
LAST_BYTE = (1 << 63) - 1


class LockKind(IntEnum):
    """What is asked for: the numbers of fcntl(2)."""

    READ = 0
    WRITE = 1
    UNLOCK = 2


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes from `first` to `last`, both included, that `owner` has locked or asks for."""

    owner: Process
    kind: LockKind
    first: int
    last: int

    def overlaps(self, other: "Range") -> bool:
        return self.first <= other.last and other.first <= self.last


def blocking(held: list[Range], wanted: Range) -> Range | None:
    """Return the lowest range of another process that does not let `wanted` be; None if none does."""
    found = None
    for other in held:
        if (
            other.owner is not wanted.owner
            and LockKind.WRITE in (other.kind, wanted.kind)
            and other.overlaps(wanted)
            and (found is None or other.first < found.first)
        ):
            found = other
    return found


def changed(held: list[Range], wanted: Range) -> list[Range]:
    """Return what is held once `wanted` is: its owner's ranges are cut, split, and joined where they touch."""
    kept: list[Range] = []
    first, last = wanted.first, wanted.last
    for other in held:
        if other.owner is not wanted.owner:
            kept.append(other)
        elif other.kind is wanted.kind and other.first <= last + 1 and first <= other.last + 1:
            first, last = min(first, other.first), max(last, other.last)
        else:
            kept += _rests(other, wanted)
    if wanted.kind is not LockKind.UNLOCK:
        kept.append(replace(wanted, first=first, last=last))
    return kept


def _rests(held: Range, wanted: Range) -> Iterator[Range]:
    """Iterate over what is left of a range beside another one."""
    if not held.overlaps(wanted):
        yield held
        return
    if held.first < wanted.first:
        yield replace(held, last=wanted.first - 1)
    if held.last > wanted.last:
        yield replace(held, first=wanted.last + 1)
