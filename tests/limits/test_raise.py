"""The operator raises a cap while the guest runs, and the guest that was refused gets on."""

from time import monotonic

import pytest

from agentvm import AgentVM, Process, Signal
from agentvm.errors import InvalidLimit
from tests.limits.harness import TIGHT, opened
from tests.limits.texts import retry

PAGE = 65_536


def until_it_waits(process: Process) -> None:
    """Wait until the guest was refused and said so; it waits for a byte then."""
    assert process.stdout is not None
    assert process.stdout.read(4) == b"full"


def go_on(process: Process) -> int | None:
    assert process.stdin is not None
    process.stdin.write(b"x")
    return process.wait(60).exit_code


@pytest.mark.parametrize(
    ("kind", "limits", "higher"),
    [
        ("fds", {"max_open_fds_per_process": 20}, {"max_open_fds_per_process": 21}),
        (
            "fds",
            {"max_open_fds": 20, "max_open_fds_per_process": 20},
            {"max_open_fds": 21, "max_open_fds_per_process": 21},
        ),
        ("memory", {"max_memory_per_process_bytes": 20 * PAGE}, {"max_memory_per_process_bytes": 21 * PAGE}),
        (
            "memory",
            {"max_memory_bytes": 20 * PAGE},
            {"max_memory_bytes": 21 * PAGE, "max_memory_per_process_bytes": 21 * PAGE},
        ),
    ],
    ids=["fds of the process", "fds of the VM", "memory of the process", "memory of the VM"],
)
def test_refused_guest_gets_on(kind: str, limits: dict[str, int], higher: dict[str, int]) -> None:
    with opened(**limits) as vm, vm.spawn(retry(kind)) as process:
        until_it_waits(process)
        vm.raise_limit(**higher)
        assert go_on(process) == 0
    with opened(**limits) as vm, vm.spawn(retry(kind)) as process:
        until_it_waits(process)
        assert go_on(process) != 0, "without it the guest is refused again"


@pytest.mark.parametrize("limit", ["max_fuel", "max_fuel_per_process"])
def test_refuelled_guest_gets_on(limit: str) -> None:
    with opened(**{limit: 100_000}) as vm, vm.spawn(retry("fuel")) as process:
        until_it_waits(process)
        vm.raise_limit(max_fuel_per_process=10_000_000, max_fuel="none")
        assert go_on(process) == 0
    with opened(**{limit: 100_000}) as vm, vm.spawn(retry("fuel")) as process:
        until_it_waits(process)
        assert go_on(process) is None
        assert process.wait().signal is Signal.SIGXCPU


def outlives_its_deadline(seconds: float) -> bool:
    """Raise the wall time of a guest that waits, let the first deadline pass, and see whether it still runs."""
    with AgentVM(TIGHT.replace(max_wall_time_seconds=seconds)) as vm, vm.spawn(retry("wait")) as process:
        if process.stdout.read(4) != b"full":
            return False
        vm.raise_limit(max_wall_time_seconds=3600)
        if not process.running:
            return False  # the machine was too slow for this deadline
        with pytest.raises(TimeoutError):
            process.wait(timeout=seconds + 0.05)
        assert process.usage().wall_seconds > seconds
        return go_on(process) == 0


def test_raised_wall_time_moves_the_deadline() -> None:
    started = monotonic()
    seconds = 0.2
    while not outlives_its_deadline(seconds):
        seconds *= 3
        assert monotonic() - started < 60, "no deadline was long enough"


def test_cap_cannot_be_lowered_nor_a_value_be_odd() -> None:
    with opened() as vm:
        for wrong in ({"max_open_fds": 3}, {"max_open_fds": "many"}, {"max_beauty": 3}, {"warn_percent": 90}):
            with pytest.raises(InvalidLimit):
                vm.raise_limit(**wrong)
        assert vm.usage()["max_open_fds"].cap == 64
