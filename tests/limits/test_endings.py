"""Limits that end a guest: each death looks like Linux's, names its limit, and is nobody else's business."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agentvm import AgentVM, CauseKind, Result, Signal
from tests.limits.harness import MIB, beside_a_sibling, drives, opened
from tests.limits.texts import grow_tables, hold_exceptions
from tests.support.fixtures import guest, wat

PAGE = 65_536


@dataclass(frozen=True)
class Death:
    """A guest that a limit ends: by which signal, and under which caps."""

    limit: str
    signal: Signal
    args: tuple[str, ...]
    limits: dict[str, int | float | str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.limit} {self.args[0]}"


#: With a limit that stops even the modes which neither compute nor spend fuel.
SPINS = ("busy", "clock", "yield", "sleep", "naps", "copy", "random", "files")
DEATHS = (
    *(Death("max_wall_time_seconds", Signal.SIGKILL, (mode,), {"max_wall_time_seconds": 0.1}) for mode in SPINS),
    *(
        Death("max_cpu_time_seconds", Signal.SIGXCPU, (mode,), {"max_cpu_time_seconds": 0.1})
        for mode in SPINS
        if mode != "sleep"
    ),
    *(
        Death("max_fuel_per_process", Signal.SIGXCPU, (mode,), {"max_fuel_per_process": 3_000_000})
        for mode in ("busy", "clock", "yield")
    ),
    *(Death("max_fuel", Signal.SIGXCPU, (mode,), {"max_fuel": 3_000_000}) for mode in ("busy", "clock", "yield")),
)


@drives(*(death.limit for death in DEATHS))
@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_spent_budget_ends_the_guest_and_is_named(death: Death) -> None:
    limits = {"max_memory_bytes": "40MiB"} | death.limits
    result = beside_a_sibling(lambda vm: vm.run(guest("spin"), args=death.args), **limits)
    assert (result.exit_code, result.signal) == (None, death.signal)
    cause = result.cause
    assert (cause.kind, cause.limit, cause.cap) == (CauseKind.LIMIT, death.limit, death.limits[death.limit])
    assert cause.observed is not None
    assert cause.observed >= cause.cap
    assert death.limit in cause.message
    assert f"--limit {death.limit}=" in (cause.setting or "")
    assert result.usage[death.limit].refused >= 1


def compiled(program: Path | bytes) -> Path | bytes:
    """Return a program that is compiled and cached: a timeout is for the compile too."""
    with AgentVM() as vm:
        vm.spawn(program).close()
    return program


def test_timeout_of_a_run_ends_it_like_the_limit() -> None:
    program = compiled(guest("spin"))
    result = beside_a_sibling(lambda vm: vm.run(program, args=["busy"], timeout=0.1))
    assert (result.signal, result.cause.limit, result.cause.cap) == (Signal.SIGKILL, "max_wall_time_seconds", 0.1)


def test_a_start_function_that_never_ends_is_ended() -> None:
    program = compiled(wat("startloop"))
    result = beside_a_sibling(lambda vm: vm.run(program, timeout=0.1))
    assert (result.signal, result.cause.limit) == (Signal.SIGKILL, "max_wall_time_seconds")


# -- the stack --------------------------------------------------------------------------------------------------------


def overflowed(result: Result) -> bool:
    return (
        result.signal is Signal.SIGSEGV
        and result.cause.kind is CauseKind.TRAP
        and "max_wasm_stack_bytes" in result.cause.message
        and len(result.cause.backtrace) > 1
    )


@drives("max_wasm_stack_bytes")
@pytest.mark.parametrize("args", [["depth", "100000"], ["endless"]], ids=["100,000 deep", "endless"])
def test_recursion_past_the_stack_is_sigsegv(args: list[str]) -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("stack"), args=args))
    assert overflowed(result), result.describe()
    assert result.stdout == b"start\n"


def test_recursion_that_fills_linear_memory_is_sigsegv() -> None:
    result = beside_a_sibling(lambda vm: vm.run(guest("stack"), args=["frames"]))
    assert (result.signal, result.cause.kind) == (Signal.SIGSEGV, CauseKind.TRAP)


def test_stack_of_64_mib_carries_100000_calls_and_ends_endless_ones() -> None:
    def scenario(vm: AgentVM) -> tuple[Result, Result]:
        return vm.run(guest("stack"), args=["depth", "100000"]), vm.run(guest("stack"), args=["endless"])

    deep, endless = beside_a_sibling(scenario, max_wasm_stack_bytes="64MiB")
    assert deep.stdout == b"start\ndepth 100000\n"
    assert overflowed(endless), endless.describe()


def test_stack_of_the_default_carries_10000_calls() -> None:
    with opened() as vm:
        assert vm.run(guest("stack"), args=["depth", "10000"]).check().stdout == b"start\ndepth 10000\n"


# -- tables and exceptions --------------------------------------------------------------------------------------------


@drives("max_table_elements")
def test_table_grows_to_the_cap_and_no_further() -> None:
    def scenario(vm: AgentVM) -> Result:
        return vm.run(wat("tables"))

    assert beside_a_sibling(scenario, max_memory_bytes="128MiB").exit_code == 10
    assert beside_a_sibling(scenario, max_table_elements=300_000, max_memory_bytes="128MiB").exit_code == 3


def test_hundred_growing_tables_stay_within_one_cap() -> None:
    """A cap for each table would let them take 800 MiB."""
    result = beside_a_sibling(lambda vm: vm.run(grow_tables(100)), max_tables=100, max_memory_bytes="24MiB")
    assert result.exit_code == 0
    assert result.usage["max_memory_bytes"].peak <= 24 * MIB


def test_exceptions_are_charged_to_memory() -> None:
    with opened() as vm:
        plain, throwing = (vm.run(wat(name)).usage.peak_memory_bytes for name in ("multimemory", "exceptions"))
    assert plain == 2 * PAGE
    assert throwing > PAGE, "the GC heap counts beside the guest's one page"


@pytest.mark.parametrize("limit", ["max_memory_bytes", "max_memory_per_process_bytes"])
def test_exceptions_that_fill_the_heap_end_the_guest_alone(limit: str) -> None:
    limits = {"max_memory_bytes": "4MiB", limit: "2MiB"}
    result = beside_a_sibling(lambda vm: vm.run(hold_exceptions(100_000)), **limits)
    assert result.signal is not None, "4 MB of exceptions do not fit"
    assert result.cause.kind in (CauseKind.LIMIT, CauseKind.TRAP), result.describe()
    assert result.usage[limit].refused >= 1
    assert result.usage[limit].peak <= 2 * MIB


def test_exceptions_that_fit_can_be_held() -> None:
    with opened(max_memory_bytes="64MiB") as vm:
        assert vm.run(hold_exceptions(1000)).exit_code == 0
