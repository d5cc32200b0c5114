"""How late guests end after a deadline or a kill, and how slow a neighbour gets: for tests and the benchmark."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from time import monotonic
from types import TracebackType

from agentvm import AgentVM, Limits, Process
from tests.support.fixtures import guest

__all__ = ["ENDS", "KINDS", "WakeUps", "hello_seconds", "lateness", "percentile", "running"]

#: What a guest may be at when its time is over, and the mode of the guest "spin" that does it.
KINDS = {
    "spins": "busy",
    "sleeps in poll_oneoff": "sleep",
    "waits on stdin": "stdin",
    "writes to a full pipe": "stdout",
    "makes the cheapest call": "clock",
    "is throttled at the disk": "files",
    "is throttled at the processor": "busy",
}
ENDS = ("kill", "deadline")

#: How many guests are made ready at a time, at most: beside 64 others, getting there takes longer than being killed.
_BATCH = 16
_READY_SECONDS = 60.0
_END_SECONDS = 60.0
_PIPE_BYTES = 4096

_LIMITS = Limits(
    max_processes="none",
    max_open_fds="none",
    max_memory_bytes="none",
    max_cpu_time_seconds="none",
    max_cpu_percent="none",
    max_fuel_per_process="none",
    max_pipe_bytes=_PIPE_BYTES,
)
#: What a kind needs besides. A fifth of a core is little enough that nearly all wait, and enough to get ready.
_RATES = {
    "is throttled at the disk": {"max_disk_write_operations_per_second": 1},
    "is throttled at the processor": {"max_cpu_percent": 20},
}


def percentile(values: list[float], percent: float) -> float:
    """Return the value that `percent` of all do not pass."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class WakeUps:
    """How late a bare thread of another process wakes up meanwhile: what the machine itself is good for.

    It shares the processors with the guests, and nothing else: not the interpreter, whose delays are ours.
    """

    _SCRIPT = """
import json, sys, threading, time
gate, late, end = threading.Lock(), [], threading.Event()
gate.acquire()
threading.Thread(target=lambda: (sys.stdin.read(), end.set()), daemon=True).start()
print(flush=True)
while not end.is_set():
    due = time.monotonic() + 0.003
    gate.acquire(timeout=0.003)
    late.append(time.monotonic() - due)
print(json.dumps(late))
"""

    def __enter__(self) -> "WakeUps":
        #: Set when the context is left.
        self.seconds: list[float] = []
        command = [sys.executable, "-c", self._SCRIPT]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        said, _ = self._process.communicate(timeout=60)
        self.seconds = json.loads(said)


def _until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + _READY_SECONDS
    gate = threading.Event()
    while not condition():
        assert monotonic() < deadline, "a guest did not get ready"
        gate.wait(0.0005)


def _limits(kind: str) -> Limits:
    return _LIMITS.replace(**_RATES.get(kind, {}))


def _start(vm: AgentVM, kind: str, timeout: float | None = None) -> Process:
    return vm.spawn(guest("spin"), args=[KINDS[kind]], timeout=timeout)


def _is_at_it(process: Process, kind: str) -> bool:
    """Whether a guest that said "spinning" has come to what it is there for."""
    launched = process._launched
    if kind == "writes to a full pipe":
        return len(launched.stdout._pipe.data) >= _PIPE_BYTES
    if kind in ("sleeps in poll_oneoff", "waits on stdin", *_RATES):
        assert launched.execution is not None
        return not launched.execution.statistics().is_computing
    return True


def _wait_ready(processes: list[Process], kind: str) -> None:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.read(9) == b"spinning\n"
    for process in processes:
        _until(lambda process=process: _is_at_it(process, kind))  # type: ignore[misc]


@contextmanager
def running(kind: str, count: int) -> Iterator[None]:
    """Run `count` guests of another VM that are at `kind`."""
    with AgentVM(_limits(kind)) as vm:
        _wait_ready([_start(vm, kind) for _ in range(count)], kind)
        yield


class _End:
    """The moment at which a process ended."""

    def __init__(self, process: Process) -> None:
        self._noted = threading.Event()
        self._at = 0.0
        process.add_done_callback(self._note)

    def _note(self) -> None:
        self._at = monotonic()
        self._noted.set()

    def wait(self) -> float:
        assert self._noted.wait(_END_SECONDS), "a guest did not end"
        return self._at


def _killed_late(vm: AgentVM, kind: str, batch: int, random: Random) -> list[float]:
    victims = [_start(vm, kind) for _ in range(batch)]
    _wait_ready(victims, kind)
    late = []
    for victim in victims:
        threading.Event().wait(random.uniform(0, 0.012))  # anywhere within a tick
        end = _End(victim)
        asked = monotonic()
        victim.kill()
        late.append(end.wait() - asked)
        victim.wait(_END_SECONDS)
    return late


def _timed_out_late(vm: AgentVM, kind: str, batch: int, random: Random) -> list[float]:
    victims = []
    for _ in range(batch):
        timeout = random.uniform(0.03, 0.09)
        due = monotonic() + timeout
        victim = _start(vm, kind, timeout)
        victims.append((victim, due, _End(victim)))
    late = []
    for victim, due, end in victims:
        late.append(end.wait() - due)
        result = victim.wait(_END_SECONDS)
        assert result.cause.limit == "max_wall_time_seconds", result.describe()
    return late


def lateness(kind: str, neighbours: int, trials: int, end: str = "kill") -> list[float]:
    """Return for each of `trials` guests at `kind` the seconds from a kill, or a deadline, to its end, while as many
    `neighbours` of another VM are at the same.

    `end` is "kill" (from `Process.kill` on) or "deadline" (from the end of the timeout on, which runs from the call
    of `spawn`, whatever the guest has come to by then).
    """
    measure = _killed_late if end == "kill" else _timed_out_late
    random, late = Random(f"{kind} {neighbours} {end}"), list[float]()
    with running(kind, neighbours), AgentVM(_limits(kind)) as vm:
        while len(late) < trials:
            batch = min(trials - len(late), max(1, min(_BATCH, neighbours // 4)))
            late += measure(vm, kind, batch, random)
    return late


def hello_seconds(trials: int) -> list[float]:
    """How long it takes to create a VM, run a hello in it and close it."""
    taken = []
    for _ in range(trials):
        started = monotonic()
        with AgentVM() as vm:
            vm.run(guest("hello")).check()
        taken.append(monotonic() - started)
    return taken
