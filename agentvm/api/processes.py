"""The processes of a VM as the host sees them, those that programs have started too."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentvm.errors import InvalidArgument, NoSuchProcess
from agentvm.kernel.outcome import Cause, CauseKind, Signal
from agentvm.kernel.process import Process as Record
from agentvm.kernel.process import ProcessState
from agentvm.kernel.signalling import post

if TYPE_CHECKING:
    from agentvm.kernel.kernel import Kernel

__all__ = ["GuestProcess", "ProcessInfo", "find_process", "list_processes", "send_signal"]


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process as it was when it was looked at.

    `state` is the letter of proc(5): R runs or waits to compute, S sleeps, T is stopped, Z has ended and waits to be
    reaped. `ppid` is 1 for what the host started, and for what has lost its parent.
    """

    pid: int
    ppid: int
    pgid: int
    sid: int
    name: str
    argv: tuple[str, ...]
    state: str
    uid: int
    cpu_seconds: float
    memory_bytes: int
    fds: int
    started_by_host: bool


def list_processes(kernel: "Kernel") -> tuple[ProcessInfo, ...]:
    """Return all processes of a VM by number, zombies included. Takes the kernel lock."""
    with kernel.lock:
        return tuple(_describe(process) for process in sorted(kernel.processes, key=lambda process: process.pid))


def find_process(kernel: "Kernel", pid: int) -> "GuestProcess":
    """Return a handle of a process. Takes the kernel lock. Raises `NoSuchProcess`."""
    with kernel.lock:
        record = kernel.processes.find(pid)
    if record is None:
        raise NoSuchProcess(f"the VM has no process {pid}; vm.processes() lists those that it has", pid=pid)
    return GuestProcess(kernel, record)


def send_signal(kernel: "Kernel", record: Record, signal: int, *, group: bool = False) -> None:
    """Send a signal from the host to a process, or to all of its group. Takes the kernel lock for all but SIGKILL.

    Raises `InvalidArgument`.
    """
    try:
        number = Signal(signal)
    except ValueError:
        raise InvalidArgument(f"there is no signal {signal}", signal=signal) from None
    cause = Cause(CauseKind.SIGNAL, f"killed by the host with {number.name}")
    if number is Signal.SIGKILL and not group:
        record.kill(number, cause)
        return
    with kernel.lock:
        targets: Iterable[Record] = kernel.processes.group(record.pgid) if group else (record,)
        for target in targets:
            post(target, number, cause)


def _describe(process: Record) -> ProcessInfo:
    return ProcessInfo(
        pid=process.pid,
        ppid=process.ppid,
        pgid=process.pgid,
        sid=process.sid,
        name=process.image.name,
        argv=tuple(map(os.fsdecode, process.image.argv)),
        state=process.state_letter,
        uid=process.credentials.uid,
        cpu_seconds=process.cpu_time_ns() / 1e9,
        memory_bytes=int(process.gauges.gauge("max_memory_per_process_bytes").used),
        fds=len(process.fds),
        started_by_host=process.is_hosts,
    )


class GuestProcess:
    """The host's handle of any process of a VM, one that a program has started too: `vm.process(pid)`.

    Who waits for such a process is its parent; the host can look at it and signal it.
    """

    def __init__(self, kernel: "Kernel", record: Record) -> None:
        self._kernel = kernel
        self._record = record

    def __repr__(self) -> str:
        return f"<GuestProcess {self.pid} {self._record.image.name!r}: {self._record.state_letter}>"

    @property
    def pid(self) -> int:
        return self._record.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._record.state is ProcessState.RUNNING

    def info(self) -> ProcessInfo:
        """Return what it is at now."""
        with self._kernel.lock:
            return _describe(self._record)

    def kill(self) -> None:
        """End the process at once, as by SIGKILL. Does nothing if it has ended."""
        self.send_signal(Signal.SIGKILL)

    def send_signal(self, signal: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its process group. Nothing happens to those that have ended."""
        send_signal(self._kernel, self._record, signal, group=group)
