"""The processes of a VM: who runs, who has ended and waits to be reaped, and who belongs together."""

from collections.abc import Iterator

from agentvm.errno import Errno, KernelError
from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.outcome import Signal
from agentvm.kernel.process import INIT_PID, Ending, Image, Process, ProcessState
from agentvm.kernel.rlimits import Resource, enforce, limits_of
from agentvm.kernel.signalling import is_orphaned, post
from agentvm.kernel.signals import SA_NOCLDWAIT, Reaction
from agentvm.kernel.stalls import StallWatch
from agentvm.kernel.vfs.node import Node
from agentvm.limits.registry import Registry

__all__ = ["ProcessTable"]


class ProcessTable:
    """Guarded by the kernel lock. A zombie holds its place, as on Linux, until it is reaped."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._places = registry.gauge("max_processes")
        self._by_pid: dict[int, Process] = {}
        self._last_pid = INIT_PID
        #: Notes when all of them wait for each other.
        self.stalls = StallWatch(self._by_pid.values(), kills=registry.setting("on_stall") == "kill")

    def __iter__(self) -> Iterator[Process]:
        return iter(list(self._by_pid.values()))

    def __len__(self) -> int:
        return len(self._by_pid)

    @property
    def last_pid(self) -> int:
        """The number of the process that was made last."""
        return self._last_pid

    def find(self, pid: int) -> Process | None:
        """Return a process that runs or is a zombie, None if there is none."""
        return self._by_pid.get(pid)

    def get(self, pid: int) -> Process:
        """Return a process that runs or is a zombie; ESRCH."""
        process = self._by_pid.get(pid)
        if process is None:
            raise KernelError(Errno.ESRCH, f"no process {pid}")
        return process

    def group(self, pgid: int) -> list[Process]:
        """Return the members of a process group, zombies included."""
        return [process for process in self._by_pid.values() if process.pgid == pgid]

    def set_group(self, caller: Process, process: Process, pgid: int) -> None:
        """Put `process` into a group; 0 means one of its own. ESRCH, EPERM, EACCES, EINVAL. Source: setpgid(2)."""
        if pgid < 0:
            raise KernelError(Errno.EINVAL, f"group {pgid}")
        if process is not caller and process.parent is not caller:
            raise KernelError(Errno.ESRCH, f"process {process.pid} is no child of process {caller.pid}")
        if process.sid != caller.sid or process.sid == process.pid:
            raise KernelError(Errno.EPERM, f"process {process.pid} leads a session, or is of another one")
        if process is not caller and process.has_executed:
            raise KernelError(Errno.EACCES, f"process {process.pid} has become another program")
        pgid = pgid or process.pid
        if pgid != process.pid and not any(member.sid == process.sid for member in self.group(pgid)):
            raise KernelError(Errno.EPERM, f"there is no group {pgid} in session {process.sid}")
        process.pgid = pgid

    # -- life ---------------------------------------------------------------------------------------------------------
    def spawn(self, image: Image, root: Node | None, *, parent: Process | None = None) -> Process:
        """Make a process with an empty fd table. EAGAIN: the table is full; E2BIG, EINVAL: `image` is.

        Without `parent` the host starts it, and reaps it.
        """
        self.check(image)
        if parent is not None and parent.rlimits is not None:
            self._check_user(parent, limits_of(parent, Resource.NPROC)[0])
        self._places.acquire()
        self._last_pid += 1
        gauges = self._registry.open_process(self._last_pid)
        fds = FdTable(gauges.gauge("max_open_fds_per_process"), self._registry.gauge("max_open_fds"))
        process = Process(self._last_pid, parent, image, fds, gauges, root)
        process.watch, process.neighbours = self.stalls, self._by_pid.values()
        self._by_pid[process.pid] = process
        if parent is not None:
            parent.children[process.pid] = process
            gauges.tighten_as(parent.gauges)
            if parent.rlimits is not None:
                process.rlimits = parent.rlimits.copy()
                enforce(process)
        return process

    def _check_user(self, parent: Process, most: int) -> None:
        """Raise EAGAIN if the parent's user has as many processes as the parent may see it have; root may."""
        own = parent.credentials
        count = sum(process.credentials.uid == own.uid for process in self._by_pid.values())
        if count >= most and not own.is_root:
            raise KernelError(Errno.EAGAIN, f"user {own.uid} has {count} processes (RLIMIT_NPROC is {most})")

    def check(self, image: Image) -> None:
        """Raise E2BIG or EINVAL for arguments or an environment that no program can be started with."""
        for name, strings in (("max_argv_bytes", image.argv), ("max_env_bytes", image.environ)):
            for string in strings:
                if b"\0" in string:
                    raise KernelError(Errno.EINVAL, f"{string!r} holds a NUL byte")
            self._registry.ceiling(name).check(sum(map(len, strings)) + len(strings))

    def exit(self, process: Process, ending: Ending) -> None:
        """The process has ended: close what it holds, give its children to process 1, and tell its parent.

        It stays as a zombie, unless nobody will ask for it.
        """
        assert process.state is ProcessState.RUNNING
        process.ending = ending
        process.fds.close_all()
        self._registry.close_process(process.gauges)
        process.state = ProcessState.ZOMBIE
        process.alarm = None
        self.stalls.zombies += 1
        process.stopped_by = None
        process.ended.set()
        self._orphan_children(process)
        self._tell_parent(process)
        self.stalls.look()

    def _orphan_children(self, process: Process) -> None:
        """Process 1 adopts them, and reaps those that have ended; a group left stopped is hung up (setpgid(2))."""
        children, process.children = process.children, {}
        for child in children.values():
            child.parent = None
            if child.state is ProcessState.ZOMBIE:
                self._remove(child)
        for pgid in {process.pgid, *(child.pgid for child in children.values())}:
            self._hang_up_if_orphaned(pgid)

    def _hang_up_if_orphaned(self, pgid: int) -> None:
        members = [member for member in self.group(pgid) if member.state is ProcessState.RUNNING]
        if any(member.is_stopped for member in members) and is_orphaned(members, pgid):
            for member in members:
                post(member, Signal.SIGHUP)
                post(member, Signal.SIGCONT)

    def _tell_parent(self, process: Process) -> None:
        parent = process.parent
        if parent is None:
            if not process.is_hosts:
                self._remove(process)
            return
        child_signal = parent.signals.disposition(Signal.SIGCHLD)
        if child_signal.reaction is Reaction.IGNORE or child_signal.flags & SA_NOCLDWAIT:
            self._remove(process)
        if child_signal.reaction is not Reaction.IGNORE:
            post(parent, Signal.SIGCHLD)
        parent.child_events.notify()

    def reap(self, process: Process) -> None:
        """Give the place of a zombie back. Does nothing if it was reaped already."""
        if process.state is ProcessState.ZOMBIE:
            self._remove(process)

    def discard(self, process: Process) -> None:
        """Take back a process that never ran. Does nothing if it was taken back, or has ended."""
        if process.state is ProcessState.RUNNING:
            process.fds.close_all()
            self._registry.close_process(process.gauges)
            self._remove(process)

    def _remove(self, process: Process) -> None:
        if process.state is ProcessState.ZOMBIE:
            self.stalls.zombies -= 1
        process.state = ProcessState.REAPED
        if process.parent is not None:
            process.parent.children.pop(process.pid, None)
            process.parent = None
        del self._by_pid[process.pid]
        self._places.release()
