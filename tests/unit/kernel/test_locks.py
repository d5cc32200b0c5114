"""Locks on files: ranges against a model of single bytes, chains of waiting, and what is charged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Errno, Limits, ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.process import Image, Process
from agentvm.kernel.ranges import LAST_BYTE, LockKind, Range, blocking, changed
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.registry import Registry

MOST = 12
kinds = st.sampled_from(LockKind)
requests = st.tuples(st.integers(0, 1), kinds, st.integers(0, MOST), st.integers(0, MOST))


def _kernel(**limits: int) -> Kernel:
    registry, clock = Registry(Limits(**limits)), ManualClock()
    return Kernel(registry, clock, bytes, Vfs(registry, clock), lambda: None)


def _processes(kernel: Kernel, count: int = 2) -> list[Process]:
    return [kernel.processes.spawn(Image((b"p",)), None) for _ in range(count)]


def _file(kernel: Kernel, path: bytes = b"/f") -> OpenFile:
    root = kernel.vfs.root
    return kernel.vfs.open_at(root, path, root=root, confined=False, create=True, write=True)


def _errno(kernel: Kernel, file: OpenFile, wanted: Range) -> Errno:
    try:
        kernel.locks.lock_range(file, wanted, kernel.lock, kernel.clock, waits=False)
    except KernelError as error:
        return error.errno
    return Errno.SUCCESS


@given(st.lists(requests, max_size=20))
def test_ranges_are_what_a_table_of_bytes_is(steps: list[tuple[int, LockKind, int, int]]) -> None:
    kernel = _kernel()
    owners, held = _processes(kernel), []
    table: list[dict[Process, LockKind]] = [{} for _ in range(2 * MOST + 1)]
    for index, kind, first, length in steps:
        owner = owners[index]
        wanted = Range(owner, kind, first, first + length)
        bytes_ = table[first : first + length + 1]
        others = [kind_ for byte in bytes_ for process, kind_ in byte.items() if process is not owner]
        is_free = kind is LockKind.UNLOCK or (LockKind.WRITE not in others and (kind is LockKind.READ or not others))
        if kind is not LockKind.UNLOCK:
            assert (blocking(held, wanted) is None) is is_free
        if not is_free:
            continue
        held = changed(held, wanted)
        for byte in bytes_:
            byte.pop(owner, None)
            if kind is not LockKind.UNLOCK:
                byte[owner] = kind
    seen: list[dict[Process, LockKind]] = [{} for _ in table]
    for one in held:
        for byte in seen[one.first : one.last + 1]:
            assert one.owner not in byte, "two ranges of one process overlap"
            byte[one.owner] = one.kind
    assert seen == table
    for one in held:
        assert not any(
            other is not one and (other.owner, other.kind) == (one.owner, one.kind) and other.first == one.last + 1
            for other in held
        ), "two ranges touch that are of one kind"


def test_ranges_of_one_file_do_not_touch_those_of_another() -> None:
    kernel = _kernel()
    first, second = _processes(kernel)
    assert _errno(kernel, _file(kernel, b"/a"), Range(first, LockKind.WRITE, 0, LAST_BYTE)) is Errno.SUCCESS
    assert _errno(kernel, _file(kernel, b"/b"), Range(second, LockKind.WRITE, 0, LAST_BYTE)) is Errno.SUCCESS
    assert _errno(kernel, _file(kernel, b"/a"), Range(second, LockKind.READ, 9, 9)) is Errno.EAGAIN


def test_a_split_at_the_cap_changes_nothing() -> None:
    kernel = _kernel(max_file_locks=1)
    (owner,) = _processes(kernel, 1)
    file = _file(kernel)
    assert _errno(kernel, file, Range(owner, LockKind.WRITE, 0, 9)) is Errno.SUCCESS
    assert _errno(kernel, file, Range(owner, LockKind.UNLOCK, 5, 5)) is Errno.ENOLCK
    other = kernel.processes.spawn(Image((b"q",)), None)
    found = kernel.locks.conflict(file, Range(other, LockKind.WRITE, 5, 5))
    assert found == Range(owner, LockKind.WRITE, 0, 9)


def test_a_pipe_and_a_stream_have_locks_of_their_own() -> None:
    kernel = _kernel()
    (process,) = _processes(kernel, 1)
    reader, _writer = kernel.vfs.pipes.make()
    other, _ = kernel.vfs.pipes.make()
    for file in (reader, other):
        kernel.locks.flock(process, file, kernel.lock, kernel.clock, exclusive=True, waits=False)
    with pytest.raises(KernelError, match="EAGAIN"):
        kernel.locks.flock(process, _writer, kernel.lock, kernel.clock, exclusive=True, waits=False)


def test_nothing_is_left_of_a_file_that_nobody_locks() -> None:
    kernel = _kernel()
    (process,) = _processes(kernel, 1)
    file = _file(kernel)
    kernel.locks.flock(process, file, kernel.lock, kernel.clock, exclusive=True, waits=False)
    assert _errno(kernel, file, Range(process, LockKind.READ, 0, 5)) is Errno.SUCCESS
    kernel.locks.unlock(file)
    kernel.locks.unlock(file)
    assert _errno(kernel, file, Range(process, LockKind.UNLOCK, 0, LAST_BYTE)) is Errno.SUCCESS
    assert _errno(kernel, file, Range(process, LockKind.UNLOCK, 0, LAST_BYTE)) is Errno.SUCCESS
    assert (len(kernel.locks), len(kernel.locks._by_file)) == (0, 0)
    assert kernel.registry.gauge("max_file_locks").used == 0
