"""Runs a guest at a cap beside a VM that must not notice: the sibling's rate, the host's memory, and what is left over.

A test calls `beside_a_sibling` with what the guest does, under caps that are small enough to be told from the slack.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TypeVar

import wasmtime

from agentvm import AgentVM, Limits
from agentvm.engine.capacity import host_usage
from agentvm.limits.spec import Cap, Kind

__all__ = [
    "MIB",
    "PROGRESS",
    "TIGHT",
    "Sibling",
    "assemble",
    "beside_a_sibling",
    "drives",
    "opened",
    "reset_peak",
    "resident_bytes",
]

T = TypeVar("T")
MIB = 1 << 20

#: The share of its own rate that a sibling must keep.
PROGRESS = 0.40
#: What the process may grow by beyond the guest's caps.
SLACK_BYTES = 16 * MIB
#: How long the sibling is watched, at least, and how often before its share counts as lost: other programs on the
#: machine slow it too, but not each time.
SLICE_SECONDS = 0.1
ROUNDS = 6

#: Caps as tests like them: growth past them shows.
TIGHT = Limits(
    max_memory_bytes="8MiB",
    max_filesystem_bytes="4MiB",
    max_host_write_bytes="4MiB",
    max_log_bytes="1MiB",
    max_inodes=1000,
    max_open_fds=64,
)

#: What a guest can make the host hold in memory.
_HELD = ("max_memory_bytes", "max_filesystem_bytes", "max_log_bytes", "max_wasm_stack_bytes")
#: What lies on the host's disk is there after the VM is gone.
_ON_DISK = frozenset({"max_host_write_bytes", "max_host_inodes"})
#: What all VMs together must give back.
_HOST = ("max_open_vms", "max_running_processes", "max_resident_memory_bytes")

#: Makes a host call about a thousand times a second, and computes in between; its fuel says how far it came.
_COUNTING = """(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $i i32)
    (loop $for_ever
      (local.set $i (i32.const 500000))
      (loop $count (br_if $count (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 8)))
      (br $for_ever))))"""


def assemble(text: str) -> bytes:
    """Return a module written as text as bytes."""
    return bytes(wasmtime.wat2wasm(text))


def drives(*limits: str) -> Callable[[T], T]:
    """Mark a test as one that drives guests into these limits; `test_every_limit.py` looks for the mark."""

    def mark(test: T) -> T:
        test.drives = limits  # type: ignore[attr-defined]
        return test

    return mark


class Sibling:
    """A VM whose guest computes and makes host calls for as long as the context is open."""

    def __enter__(self) -> "Sibling":
        self._vm = AgentVM(Limits(max_fuel_per_process="none", max_cpu_time_seconds="none"))
        self._process = self._vm.spawn(assemble(_COUNTING), stdin=b"", capture=True)
        deadline = monotonic() + 60
        while not self.count():
            assert monotonic() < deadline, "the sibling did not start"
            threading.Event().wait(0.001)
        return self

    def __exit__(self, *_: object) -> None:
        self._vm.close()

    def count(self) -> int:
        """How far the guest has come, in instructions, as of at most two ticks ago."""
        return self._process.usage().fuel

    def rate_while(self, action: Callable[[], T], *, again: bool = True) -> tuple[float, T]:
        """Do `action`, or do it again and again with rests as long as the first one took, for `SLICE_SECONDS` at least;
        return the guest's rate over all that time, rests included, and what came last."""
        started, first = monotonic(), self.count()
        outcomes = [action()]
        took = monotonic() - started
        while (left := started + SLICE_SECONDS - monotonic()) > 0:
            # A short action is mostly our own thread's work, which starts programs as fast as it can: a third party
            # that wants the interpreter. So that thread rests for as long as it has worked.
            threading.Event().wait(min(left, took) if again else left)
            if again and left > took:
                outcomes.clear()  # what came last may be large, and is not the guest's to hold now
                outcomes.append(action())
        return (self.count() - first) / (monotonic() - started), outcomes.pop()

    def rate(self) -> float:
        """The guest's rate while nothing else is done."""
        gate = threading.Event()
        return self.rate_while(lambda: gate.wait(SLICE_SECONDS))[0]


def resident_bytes(field: str = "VmRSS") -> int:
    """Return the memory that the process takes now, or (VmHWM) took at most since `reset_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def reset_peak() -> None:
    """Let the peak of the memory begin anew, at what is taken now."""
    Path("/proc/self/clear_refs").write_text("5")


def _host_counts() -> dict[str, Cap]:
    usage = host_usage()
    return {name: usage[name].used for name in _HOST}


@contextmanager
def opened(limits: Limits = TIGHT, **changes: int | float | str) -> Iterator[AgentVM]:
    """Open a VM; once it is closed, every gauge must be back at zero."""
    before = _host_counts()
    vm = AgentVM(limits.replace(**changes))
    with vm:
        yield vm
    left = {use.name: use.used for use in vm.usage() if use.spec.kind is Kind.GAUGE and use.used}
    assert not left.keys() - _ON_DISK, f"still held after close: {left}"
    assert _host_counts() == before, "still held of the host after close"


def _allowed_growth(limits: Limits) -> int:
    with AgentVM(limits) as vm:
        usage = vm.usage()
        return int(sum(usage[name].cap for name in _HELD)) + SLACK_BYTES


def beside_a_sibling(
    scenario: Callable[[AgentVM], T], limits: Limits = TIGHT, *, again: bool = True, **changes: int | float | str
) -> T:
    """Do `scenario` in fresh VMs beside a VM that computes, and return what the last one returned.

    The sibling must keep `PROGRESS` of the rate that it has beside an idle VM, in one of a few rounds; the memory of
    the process must never grow by more than the guest's caps and some slack. With `again` the scenario is repeated for
    as long as the sibling is watched; without, what the host's own thread does would be most of what is measured.
    """

    def once() -> T:
        with opened(limits, **changes) as vm:
            return scenario(vm)

    shares: list[float] = []
    outcomes: list[T] = []
    with Sibling() as sibling, AgentVM():
        before = resident_bytes()
        reset_peak()
        while not shares or (max(shares) < PROGRESS and len(shares) < ROUNDS):
            alone = sibling.rate()
            outcomes.clear()
            beside, outcome = sibling.rate_while(once, again=again)
            outcomes.append(outcome)
            del outcome
            shares.append(beside / alone)
        growth = resident_bytes("VmHWM") - before
    assert max(shares) >= PROGRESS, f"the sibling kept only these shares of its rate: {shares}"
    allowed = _allowed_growth(limits.replace(**changes))
    assert growth <= allowed, f"the process grew by {growth / MIB:.1f} MiB, {allowed / MIB:.1f} MiB allowed"
    return outcomes.pop()
