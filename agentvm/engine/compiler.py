"""Compiles modules in a process that can be killed: bounded in time, memory and number, and cancelled at once.

The other side is `compile_worker.py`. A job's connection is a socket pair: closing our sending side ends the job.
"""

import atexit
import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from agentvm.engine.cancel import Cancel, interrupted
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.compile_caps import CompileCaps, CompileCost
from agentvm.engine.compile_worker import MAX_REQUEST_BYTES, REFUSED, Options
from agentvm.engine.config import EngineProfile
from agentvm.engine.validate import quote_reason, refusal_of
from agentvm.engine.zygote import Zygote
from agentvm.errors import CompileLimit, HostLimit
from agentvm.limits.amount import format_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.spec import Cap, Unit

__all__ = ["CompileResult", "Compiler", "MemoryFile"]

#: How long a killed job may take to report its end; after that it is left to the compiler process to reap.
_GRACE_SECONDS = 0.010
#: How long the compiler process may take to start a job: it imports the engine first.
_START_SECONDS = 60.0
_PROGRESS_SECONDS = 0.1
_NOTES_BYTES = 4096


class MemoryFile:
    """An anonymous file in memory. Closes with its last reference, or by `close()`."""

    __slots__ = ("fd",)

    def __init__(self, name: str) -> None:
        """Raises OSError where the host refuses one more descriptor."""
        self.fd = -1
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC)

    @property
    def size_bytes(self) -> int:
        return os.fstat(self.fd).st_size

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append all of `pieces`."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(self.fd, view) :]

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class CompileResult(NamedTuple):
    """Compiled code in a file of memory, and what it took."""

    code: MemoryFile
    cost: CompileCost


class _Report(NamedTuple):
    """How a job ended: its wait status, None if it was given up before that was known."""

    status: int | None
    cost: CompileCost
    why: str  # "ended", "cancelled", "late", or "unstarted"


class Compiler:
    """Runs at most max_compile_jobs compilations at once, first come first served. Any thread may call it."""

    def __init__(self, capacity: HostCapacity) -> None:
        self._slots = _Slots(capacity)
        self._zygote = Zygote()
        atexit.register(self.close)

    def compile(
        self,
        wasm: Sequence[bytes | memoryview],
        profile: EngineProfile,
        *,
        caps: CompileCaps,
        cancel: Cancel | None = None,
        progress: Callable[[float], None] | None = None,
        charge: Callable[[CompileCost], None] | None = None,
    ) -> CompileResult:
        """Compile the module whose pieces are `wasm`. Blocks; `cancel` ends it within milliseconds.

        `progress` gets the seconds since the start now and then; `charge` gets what was spent, also when it fails.
        Raises `CompileLimit`, `MalformedModule`, `FeatureDisabled`, `HostLimit`, or `EngineUnsupported` when the
        compiler process cannot be started.
        """
        self._slots.enter(cancel)
        try:
            job = _Job(wasm)
            try:
                options: Options = {
                    "profile": dataclasses.asdict(profile),
                    "seconds": min(float(caps.seconds), 1e6),
                    "memory_bytes": int(min(caps.memory_bytes, 1 << 46)),
                }
                self._zygote.send(job.request_fds, options)
                report = job.wait(options["seconds"], cancel, progress)
            finally:
                job.disconnect()
            is_done = report.status == 0 and report.why == "ended"
            cost = report.cost._replace(peak_bytes=job.read_peak()) if is_done else report.cost
            if charge is not None:
                charge(cost)
            if is_done:
                return CompileResult(job.out, cost)
            self._refuse(job, report, caps)
        finally:
            self._slots.leave()

    def _refuse(self, job: "_Job", report: _Report, caps: CompileCaps) -> NoReturn:
        status, notes = report.status, job.read_notes()
        if report.why == "cancelled":
            raise interrupted(report.cost.cpu_seconds)
        if report.why == "late" or (status is not None and status & 0x7F in {signal.SIGXCPU}):
            raise _limit(caps.seconds_limit, max(report.cost.seconds, caps.seconds), caps.seconds, report)
        if report.why == "unstarted":
            raise HostLimit(f"the compiler could not start a job: {notes or 'it does not answer'}", limit=None)
        if status is None:
            self._zygote.explain_death()
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == REFUSED:
            raise refusal_of(notes)
        if "memory allocation" in notes or "Cannot allocate" in notes or "Resource temporarily" in notes:
            raise _limit("max_compile_memory_bytes", caps.memory_bytes, caps.memory_bytes, report)
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"status {os.WEXITSTATUS(status)}"
        raise CompileLimit(
            f"the compiler died on this module ({how}{': ' + quote_reason(notes) if notes else ''}); "
            "the module is hostile, or hit a bug of the compiler",
            limit=None,
            cpu_seconds=report.cost.cpu_seconds,
        )

    def close(self) -> None:
        """End the compiler process and every job. A later `compile` starts a new one."""
        self._zygote.close()


def _limit(name: str, observed: Cap, cap: Cap, report: _Report) -> CompileLimit:
    spec = SPECS[name]
    setting = spec.setting(max(1, math.ceil(cap * 2)))
    return CompileLimit(
        f"compiling the module takes more {'time' if spec.unit is Unit.SECONDS else 'memory'} than {name} allows, "
        f"{format_amount(spec.unit, cap)}; raise it with {setting}",
        limit=name,
        observed=observed,
        cap=cap,
        setting=setting,
        cpu_seconds=report.cost.cpu_seconds,
    )


class _Slots:
    """At most max_compile_jobs threads are in; the rest queue, first come first served, one entry for each."""

    def __init__(self, capacity: HostCapacity) -> None:
        self._lock = capacity.lock
        self._running = capacity.gauge("max_compile_jobs")
        self._queue: deque[threading.Event] = deque()
        capacity.manage("max_compile_jobs", self._resize)

    def _resize(self, cap: Cap) -> None:
        with self._lock:
            self._running.set_cap(cap)
            self._admit()

    def _admit(self) -> None:
        while self._queue and self._running.used < self._running.cap:
            self._running.acquire()
            self._queue.popleft().set()

    def enter(self, cancel: Cancel | None) -> None:
        """Raises `CompileLimit` when cancelled first."""
        with self._lock:
            if self._running.try_acquire():
                return
            gate = threading.Event()
            self._queue.append(gate)
        take_back = cancel.subscribe(gate.set) if cancel is not None else None
        try:
            gate.wait()
        except BaseException:
            self._withdraw(gate)
            raise
        finally:
            if take_back is not None:
                take_back()
        if cancel is not None and cancel.cancelled:
            self._withdraw(gate)
            raise interrupted()

    def _withdraw(self, gate: threading.Event) -> None:
        """Leave the queue, or the place that was given in the meantime."""
        with self._lock:
            if gate in self._queue:
                self._queue.remove(gate)
                return
        self.leave()

    def leave(self) -> None:
        with self._lock:
            self._running.release()
            self._admit()


class _Job:
    """One compilation, owned by the thread that waits for it."""

    def __init__(self, wasm: Sequence[bytes | memoryview]) -> None:
        """Raises `HostLimit` where the host refuses descriptors or memory."""
        self._wake = -1
        self._poll = select.poll()
        try:
            self._wasm = MemoryFile("agentvm-wasm")
            self.out = MemoryFile("agentvm-code")
            self._notes = MemoryFile("agentvm-notes")
            self._wasm.write(wasm)
            self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            raise HostLimit(f"the host refused what compiling needs: {error.strerror}", errno=error.errno) from error

    @property
    def request_fds(self) -> list[int]:
        return [self._theirs.fileno(), self._wasm.fd, self.out.fd, self._notes.fd]

    def wait(self, seconds: float, cancel: Cancel | None, progress: Callable[[float], None] | None) -> _Report:
        """Wait for the end, at most `seconds` after the child started; then, or when cancelled, have it killed."""
        self._theirs.close()
        self._poll.register(self._ours, select.POLLIN)
        if cancel is None:
            return self._watch(seconds, None, progress)
        self._poll.register(self._wake, select.POLLIN)
        take_back = cancel.subscribe(self._interrupt)
        try:
            return self._watch(seconds, cancel, progress)
        finally:
            take_back()

    def _interrupt(self) -> None:
        self._stop()
        os.eventfd_write(self._wake, 1)

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)

    def _watch(self, seconds: float, cancel: Cancel | None, progress: Callable[[float], None] | None) -> _Report:
        begun = time.monotonic()
        deadline, why, is_started = begun + _START_SECONDS, "ended", False
        while True:
            now = time.monotonic()
            if why == "ended" and cancel is not None and cancel.cancelled:
                why, deadline = "cancelled", now + _GRACE_SECONDS
            elif why == "ended" and now >= deadline:
                why, deadline = "late" if is_started else "unstarted", now + _GRACE_SECONDS
                self._stop()
            if now >= deadline:
                return _Report(None, CompileCost(now - begun, now - begun), why)
            if progress is not None and why == "ended":
                progress(now - begun)
            if not self._is_readable(deadline - now if progress is None else min(deadline - now, _PROGRESS_SECONDS)):
                continue
            record = self._receive()
            if "pid" not in record:
                is_cancelled = cancel is not None and cancel.cancelled  # its end may wake us before the cancellation
                return self._ended(record, "cancelled" if is_cancelled else why, time.monotonic() - begun)
            if why == "ended":
                begun, is_started = time.monotonic(), True
                deadline = begun + seconds

    @staticmethod
    def _ended(record: Mapping[str, float], why: str, wall_seconds: float) -> _Report:
        if "failed" in record:
            return _Report(None, CompileCost(0.0, 0.0), "unstarted")
        status, cost = record.get("status"), CompileCost(record.get("cpu_seconds", 0.0), wall_seconds)
        return _Report(None if status is None else int(status), cost, why)

    def _is_readable(self, seconds: float) -> bool:
        """Wait for a record, at most so long. False also when a cancellation woke us."""
        ready = [fd for fd, _ in self._poll.poll(seconds * 1000 + 1)]
        if self._ours.fileno() in ready:
            return True
        if ready:
            self._poll.unregister(self._wake)  # it stays readable, and has said what it had to
        return False

    def _receive(self) -> dict[str, float]:
        try:
            text = self._ours.recv(MAX_REQUEST_BYTES)
        except OSError:
            text = b""
        record: dict[str, float] = json.loads(text) if text else {}
        return record

    def read_notes(self) -> str:
        """What the child left on its standard error: its last words."""
        size = self._notes.size_bytes
        return os.pread(self._notes.fd, _NOTES_BYTES, max(0, size - _NOTES_BYTES)).decode(errors="replace").strip()

    def read_peak(self) -> int:
        """Return the address space that a child took which did its work, in bytes; 0 if it does not know."""
        notes = self.read_notes()
        return int(notes) if notes.isdecimal() else 0

    def disconnect(self) -> None:
        """Let go of the child; it dies if it still runs, even if a fork of this program holds our end too."""
        with contextlib.suppress(OSError):
            self._ours.shutdown(socket.SHUT_RDWR)
        self._ours.close()
        self._theirs.close()
        self._wasm.close()
        os.close(self._wake)
