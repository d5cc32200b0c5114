"""Processes that open, duplicate, inherit, lock, move and close: after every step all gauges equal a recount.

Nothing here waits: what would is refused. At the end, when all processes have ended, every gauge is zero.
"""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agentvm.abi.rights import FILE_BASE
from agentvm.clock import ManualClock
from agentvm.errno import KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.guest_pipe import GuestPipe
from agentvm.kernel.kernel import Kernel
from agentvm.kernel.outcome import Cause, CauseKind, ExitStatus
from agentvm.kernel.process import Ending, Image
from agentvm.kernel.ranges import LAST_BYTE, LockKind, Range
from agentvm.kernel.stat import S_IFIFO, FdFlags
from agentvm.kernel.vfs.vfs import Vfs
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

CAPS = Limits(
    max_processes=4,
    max_open_fds=20,
    max_open_fds_per_process=9,
    max_pipes=3,
    max_file_locks=5,
    max_pipe_bytes=4096,
    max_inodes=6,
)
REFUSALS = {"EMFILE", "ENFILE", "EAGAIN", "ENOLCK", "EBADF", "EINVAL", "EPIPE", "ENXIO", "ENOENT", "EEXIST", "ENOSPC"}
GAUGES = ("max_processes", "max_open_fds", "max_pipes", "max_file_locks", "max_inodes", "max_filesystem_bytes")
FILES, FIFOS = (b"/a", b"/b"), (b"/p", b"/q")
whom, which = st.integers(0, 3), st.integers(0, 9)


class Descriptors(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.registry = Registry(CAPS)
        clock = ManualClock(step_ns=1)
        self.kernel = Kernel(self.registry, clock, bytes, Vfs(self.registry, clock), lambda: None)
        self.processes = [self.kernel.processes.spawn(Image((b"p",)), None)]
        for path in FIFOS:
            self._at("mknod", path, mode=S_IFIFO | 0o600)

    # -- shorthands ---------------------------------------------------------------------------------------------------
    def _at(self, what, path, **options):
        vfs = self.kernel.vfs
        return getattr(vfs, f"{what}_at")(vfs.root, path, root=vfs.root, confined=False, **options)

    def _process(self, index):
        return self.processes[index % len(self.processes)]

    def _descriptor(self, index, number):
        fds = self._process(index).fds
        numbers = list(fds)
        return (fds, numbers[number % len(numbers)]) if numbers else (fds, 0)

    def _try(self, call, *arguments, **options):
        try:
            return call(*arguments, **options)
        except KernelError as error:
            if error.errno.name not in REFUSALS:
                raise
            return None

    def _put(self, index, *files):
        """Open what was made, or close it."""
        for file in files:
            if file is not None and self._try(self._process(index).fds.open, Descriptor(file, FILE_BASE, 0)) is None:
                file.on_last_close()

    # -- what processes do --------------------------------------------------------------------------------------------
    @rule(index=whom, path=st.sampled_from(FILES))
    def open_file(self, index, path):
        self._put(
            index, self._try(self._at, "open", path, create=True, write=True, maker=self._process(index).credentials)
        )

    @rule(index=whom, path=st.sampled_from(FIFOS), read=st.booleans(), write=st.booleans())
    def open_fifo(self, index, path, read, write):
        read = read or not write
        flags = FdFlags.NONBLOCK
        self._put(index, self._try(self._at, "open", path, read=read, write=write, flags=flags, waits=True))

    @rule(index=whom)
    def make_pipe(self, index):
        self._put(index, *(self._try(self.kernel.vfs.pipes.make) or ()))

    @rule(index=whom, number=which)
    def duplicate(self, index, number):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number:
            self._try(fds.open, fds.get(number).copy())

    @rule(index=whom, number=which, goal=st.integers(0, 12))
    def duplicate_onto(self, index, number, goal):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number and number != goal:
            self._try(fds.open_at, goal, fds.get(number).copy())

    @rule(index=whom, number=which, lowest=st.integers(0, 12))
    def duplicate_from(self, index, number, lowest):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number:
            self._try(fds.open_from, lowest, fds.get(number).copy())

    @rule(index=whom, number=which, goal=which)
    def renumber(self, index, number, goal):
        fds, number = self._descriptor(index, number)
        self._try(fds.renumber, number, self._descriptor(index, goal)[1])

    @rule(index=whom, number=which)
    def close(self, index, number):
        fds, number = self._descriptor(index, number)
        self._try(fds.close, number)

    @rule(index=whom, number=which, size=st.integers(0, 5000))
    def write(self, index, number, size):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number:
            self._try(fds.get(number).file.write_nowait, [memoryview(bytes(size))])

    @rule(index=whom, number=which, size=st.integers(0, 5000))
    def read(self, index, number, size):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number:
            self._try(fds.get(number).file.read_nowait, [memoryview(bytearray(size))])

    @rule(index=whom, number=which, exclusive=st.booleans(), unlock=st.booleans())
    def flock(self, index, number, exclusive, unlock):
        fds, number = self._descriptor(index, number)
        locks, kernel = self.kernel.locks, self.kernel
        if number not in fds.by_number:
            return
        file = fds.get(number).file
        if unlock:
            locks.unlock(file)
        else:
            process = self._process(index)
            self._try(locks.flock, process, file, kernel.lock, kernel.clock, exclusive=exclusive, waits=False)

    @rule(index=whom, number=which, kind=st.sampled_from(LockKind), first=st.integers(0, 9), length=st.integers(0, 9))
    def lock_range(self, index, number, kind, first, length):
        fds, number = self._descriptor(index, number)
        if number in fds.by_number:
            wanted = Range(self._process(index), kind, first, first + length - 1 if length else LAST_BYTE)
            kernel, file = self.kernel, fds.get(number).file
            self._try(kernel.locks.lock_range, file, wanted, kernel.lock, kernel.clock, waits=False)

    @rule(path=st.sampled_from(FILES + FIFOS))
    def unlink(self, path):
        self._try(self._at, "unlink", path)
        if path in FIFOS:
            self._try(self._at, "mknod", path, mode=S_IFIFO | 0o600)

    @rule(index=whom)
    def spawn(self, index):
        parent = self._process(index)
        child = self._try(self.kernel.processes.spawn, Image((b"c",)), None, parent=parent)
        if child is None:
            return
        try:
            child.fds.inherit(parent.fds, list(parent.fds))
        except KernelError as error:
            self.kernel.processes.discard(child)
            if error.errno.name not in REFUSALS:
                raise
        else:
            self.processes.append(child)

    @rule(index=whom)
    def end(self, index):
        if len(self.processes) > 1:
            self._end(self._process(index))

    def _end(self, process):
        table = self.kernel.processes
        table.exit(process, Ending(ExitStatus.exited(0), Cause(CauseKind.EXIT, "done")))
        table.reap(process)
        self.processes.remove(process)

    # -- what must hold -----------------------------------------------------------------------------------------------
    @invariant()
    def gauges_equal_a_recount(self):
        used = {name: self.registry.gauge(name).used for name in GAUGES}
        files = {descriptor.file: 0 for process in self.processes for descriptor in process.fds.by_number.values()}
        for process in self.processes:
            assert process.gauges.gauge("max_open_fds_per_process").used == len(process.fds)
            for descriptor in process.fds.by_number.values():
                files[descriptor.file] += 1
        assert {file: file.references for file in files} == files
        pipes = {getattr(file, "pipe", getattr(file, "_pipe", None)) for file in files}
        trees = [self.kernel.vfs.memory.recount(), self.kernel.vfs.temporary.recount()]
        assert used == {
            "max_processes": len(self.processes),
            "max_open_fds": sum(len(process.fds) for process in self.processes),
            "max_pipes": sum(isinstance(pipe, GuestPipe) for pipe in pipes),
            "max_file_locks": len(self.kernel.locks),
            "max_inodes": sum(tree.inodes for tree in trees),
            "max_filesystem_bytes": sum(tree.charged_bytes for tree in trees),
        }
        for locks in self.kernel.locks._by_file.values():
            assert set(locks.flocks) <= set(files), "a file is locked that nobody has open"
            assert {one.owner for one in locks.ranges} <= set(self.processes), "who has ended has a lock"
            assert not locks.is_idle

    def teardown(self):
        for process in list(self.processes):
            self._end(process)
        self.kernel.close()
        assert {name: self.registry.gauge(name).used for name in GAUGES} == dict.fromkeys(GAUGES, 0)
        assert not self.registry._objects
        assert not len(self.kernel.locks)


Descriptors.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestDescriptors = pytest.mark.timeout(300)(Descriptors.TestCase)
