"""`limits=` of one program: tighter caps than its VM gives, never looser ones, and for that program alone."""

import asyncio
import json
from collections.abc import Mapping

import pytest

from agentvm import AgentVM, AsyncAgentVM, Limits, Process, Result, Signal
from agentvm.errors import InvalidArgument, InvalidLimit, MemoryTooLarge, ModuleLimit
from agentvm.limits.catalogue import SPECS
from agentvm.limits.registry import Registry
from agentvm.limits.spec import UNLIMITED
from tests.limits.harness import assemble
from tests.limits.texts import retry
from tests.support.fixtures import guest, wat

PAGE = 65_536
LIMIT = "max_open_fds_per_process"
#: What `memory grow` holds beside its pages is less.
BESIDE = 1000
OURS = [name for name, spec in SPECS.items() if spec.can_be_tightened]
OTHERS = [name for name, spec in SPECS.items() if not spec.can_be_tightened]
FIVE_PAGES = '(module (memory (export "memory") 5) (func (export "_start")))'


def pages(result: Result) -> int:
    """How many pages `memory grow` came to."""
    return int(result.check().stdout_text.split()[1])


def lines_of_proc_limits(result: Result) -> dict[str, str]:
    """Linux's names, and the soft caps there."""
    rows = result.check().stdout_text.splitlines()[1:]
    return {row[:25].strip(): row[26:47].strip() for row in rows}


# -- what may be given ------------------------------------------------------------------------------------------------


def test_the_limits_of_one_process_are_those_that_a_process_has() -> None:
    assert set(OURS) == {
        *("max_open_fds_per_process", "max_log_bytes", "max_output_bytes", "max_memory_per_process_bytes"),
        *("max_fuel_per_process", "max_cpu_time_seconds", "max_wall_time_seconds"),
    }


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_limit_is_refused_with_those_that_there_are(name: str) -> None:
    value = SPECS[name].minimum or 1
    with AgentVM() as vm, pytest.raises(InvalidLimit) as refused:
        vm.run(guest("hello"), limits={name: value})
    assert str(refused.value).startswith(f"{name} cannot be set for one process")
    assert refused.value.values["limit"] == name


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("max_memory_bytes", "max_memory_per_process_bytes"),
        ("max_open_fds", "max_open_fds_per_process"),
        ("max_fuel", "max_fuel_per_process"),
    ],
)
def test_the_counterpart_of_a_limit_of_the_vm_is_named(name: str, ours: str) -> None:
    with AgentVM() as vm, pytest.raises(InvalidLimit, match=f"for one process there is {ours}$"):
        vm.run(guest("hello"), limits={name: 1_000_000})


@pytest.mark.parametrize("name", OURS)
def test_a_cap_may_only_tighten(name: str) -> None:
    cap = 1_000_000
    with AgentVM(Limits(**{name: cap}, max_open_fds=cap + 1)) as vm:
        with pytest.raises(InvalidLimit, match="may only tighten") as refused:
            vm.run(guest("hello"), limits={name: cap + 1})
        assert refused.value.values == {"limit": name, "cap": cap, "observed": cap + 1}
        with pytest.raises(InvalidLimit, match="may only tighten"):
            vm.run(guest("hello"), limits={name: "none"})
        vm.run(guest("hello"), limits={name: cap}).check()
        vm.raise_limit(**{name: cap + 1})
        vm.run(guest("hello"), limits={name: cap + 1}).check()


def test_a_setting_of_the_vm_is_refused() -> None:
    with AgentVM() as vm, pytest.raises(InvalidLimit, match="on_output_full is a setting of the whole VM"):
        vm.run(guest("hello"), limits=Limits(on_output_full="discard"))


@pytest.mark.parametrize("limits", [None, {}, Limits(), {"max_log_bytes": None}])
def test_no_limits_are_those_of_the_vm(limits: Limits | Mapping[str, None] | None) -> None:
    with AgentVM(Limits(max_memory_per_process_bytes=20 * PAGE + BESIDE)) as vm:
        assert pages(vm.run(guest("memory"), args=["grow"], limits=limits)) == 20


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_memory_per_process_bytes="1MiB"),
        {"max_memory_per_process_bytes": "1MiB"},
        {"max-memory-per-process-bytes": PAGE * 16},
    ],
    ids=["Limits", "a mapping", "as a flag spells it"],
)
def test_limits_are_a_record_or_a_mapping(limits: Limits | Mapping[str, str]) -> None:
    with AgentVM() as vm:
        assert pages(vm.run(guest("memory"), args=["grow"], limits=limits)) == 15


# -- each cap ---------------------------------------------------------------------------------------------------------


def test_memory_of_one_program_alone() -> None:
    with AgentVM(Limits(max_memory_per_process_bytes=30 * PAGE + BESIDE)) as vm:
        assert (
            pages(vm.run(guest("memory"), args=["grow"], limits={"max_memory_per_process_bytes": 20 * PAGE + BESIDE}))
            == 20
        )
        assert pages(vm.run(guest("memory"), args=["grow"])) == 30
        assert vm.usage()["max_memory_per_process_bytes"].cap == 30 * PAGE + BESIDE


def test_module_that_starts_with_more_memory_is_refused_with_the_tighter_cap() -> None:
    with AgentVM() as vm:
        module = assemble(FIVE_PAGES)
        vm.run(module).check()
        with pytest.raises(MemoryTooLarge) as refused:
            vm.run(module, limits={"max_memory_per_process_bytes": 4 * PAGE})
        assert refused.value.values["cap"] == 4 * PAGE
        assert refused.value.values["observed"] == 5 * PAGE
        assert vm.usage()["max_processes"].used == 0
        vm.run(module, limits={"max_memory_per_process_bytes": 5 * PAGE}).check()


def test_tables_are_planned_within_the_tighter_memory() -> None:
    with AgentVM() as vm:
        roomy, tight = (
            vm.run(wat("tables"), limits=limits).usage.peak_memory_bytes
            for limits in (None, {"max_memory_per_process_bytes": "1MiB"})
        )
        assert tight < roomy
        assert tight <= 1 << 20
        with pytest.raises((ModuleLimit, MemoryTooLarge)):
            vm.run(wat("tables"), limits={"max_memory_per_process_bytes": PAGE})


def test_cpu_time_of_one_program_alone() -> None:
    with AgentVM() as vm:
        result = vm.run(guest("spin"), limits={"max_cpu_time_seconds": 0.1})
        assert (result.signal, result.cause.limit, result.cause.cap) == (Signal.SIGXCPU, "max_cpu_time_seconds", 0.1)
        vm.run(guest("hello")).check()


def test_wall_time_of_one_program_alone() -> None:
    with AgentVM(Limits(max_wall_time_seconds=3600)) as vm:
        result = vm.run(guest("spin"), args=["sleep"], limits={"max_wall_time_seconds": 0.1})
        assert (result.signal, result.cause.limit, result.cause.cap) == (Signal.SIGKILL, "max_wall_time_seconds", 0.1)


def test_of_a_timeout_and_a_tighter_wall_time_the_lower_counts() -> None:
    with AgentVM() as vm:
        for timeout, wall in ((0.1, 60), (60, 0.1)):
            result = vm.run(guest("spin"), args=["sleep"], timeout=timeout, limits={"max_wall_time_seconds": wall})
            assert (result.cause.limit, result.cause.cap) == ("max_wall_time_seconds", 0.1)


def test_fuel_of_one_program_alone() -> None:
    with AgentVM(Limits(max_fuel="none")) as vm:
        result = vm.run(guest("spin"), limits={"max_fuel_per_process": 1_000_000})
        assert (result.signal, result.cause.limit) == (Signal.SIGXCPU, "max_fuel_per_process")
        assert result.cause.cap == 1_000_000


def test_descriptors_of_one_program_alone() -> None:
    with AgentVM() as vm:
        few = vm.run(guest("fds"), args=["open"], limits={"max_open_fds_per_process": 10})
        assert few.stdout_text.splitlines()[:2] == ["opened 6", "errno EMFILE"]
        many = vm.run(guest("fds"), args=["open"])
        assert many.stdout_text.splitlines()[:2] == ["opened 252", "errno EMFILE"]
        with pytest.raises(InvalidArgument, match="EMFILE"):
            vm.run(guest("hello"), limits={"max_open_fds_per_process": 2})


def test_captured_output_of_one_program_alone() -> None:
    with AgentVM() as vm:
        result = vm.run(guest("output"), args=["stdout", "5000"], limits={"max_log_bytes": 1000})
        assert (len(result.stdout + result.stderr), result.truncated) == (1000, True)
        assert not vm.run(guest("output"), args=["stdout", "5000"]).truncated


def test_streamed_output_of_one_program_alone() -> None:
    def streamed(limits: dict[str, int] | None) -> bytes:
        with vm.spawn(guest("output"), args=["both", "4000", "1000"], stdin=b"", limits=limits) as process:
            assert process.stdout
            assert process.stderr
            return process.stdout.read() + process.stderr.read()

    with AgentVM() as vm:
        assert len(streamed({"max_output_bytes": 2500})) == 2500
        assert len(streamed(None)) == 8000


# -- every door, and what does not change it --------------------------------------------------------------------------


def test_reactor_has_its_own_caps() -> None:
    module = assemble(
        '(module (memory (export "memory") 1) (func (export "grow") (result i32) (memory.grow (i32.const 4))))'
    )
    with AgentVM() as vm:
        with vm.instantiate(module, limits={"max_memory_per_process_bytes": 4 * PAGE}) as instance:
            assert instance.call("grow") == -1
        with vm.instantiate(module) as instance:
            assert instance.call("grow") == 1


def test_the_async_twin_has_them_too() -> None:
    async def scenario() -> None:
        limits = {"max_memory_per_process_bytes": 20 * PAGE + BESIDE}
        async with AsyncAgentVM() as vm:
            assert pages(await vm.run(guest("memory"), args=["grow"], limits=limits)) == 20
            async with await vm.spawn(
                guest("memory"), args=["grow"], stdin=b"", capture=True, limits=limits
            ) as process:
                assert pages(await process.wait()) == 20
            with pytest.raises(InvalidLimit):
                await vm.instantiate(guest("reactor"), limits={"max_processes": 1})

    asyncio.run(scenario())


def refused_once(process: Process) -> None:
    assert process.stdout
    assert process.stdout.read(4) == b"full"


def test_raising_the_vms_cap_leaves_a_tightened_process_tightened() -> None:
    with AgentVM(Limits(max_open_fds_per_process=30)) as vm:
        tight = vm.spawn(retry("fds"), limits={"max_open_fds_per_process": 20})
        loose = vm.spawn(retry("fds"))
        for process in (tight, loose):
            refused_once(process)
        vm.raise_limit(max_open_fds_per_process=40)
        for process in (tight, loose):
            assert process.stdin
            process.stdin.write(b"x")
        assert loose.wait(60).exit_code == 0
        assert tight.wait(60).exit_code != 0


def test_raising_the_vms_wall_time_leaves_a_tighter_deadline() -> None:
    with AgentVM(Limits(max_wall_time_seconds=60)) as vm:
        process = vm.spawn(guest("spin"), args=["sleep"], limits={"max_wall_time_seconds": 0.3})
        vm.raise_limit(max_wall_time_seconds=3600)
        result = process.wait(60)
        assert (result.cause.limit, result.cause.cap) == ("max_wall_time_seconds", 0.3)


@pytest.mark.parametrize("name", OURS)
def test_no_process_can_raise_its_own_cap(name: str) -> None:
    most = 100_000
    gauges = Registry(Limits(**{name: most}, max_open_fds=most)).open_process()
    for asked, cap in ((most + 1, most), (UNLIMITED, most), (70, 70), (most, 70), (UNLIMITED, 70), (20, 20)):
        gauges.tighten(name, asked)
        assert (gauges.cap(name), gauges.gauge(name).cap, gauges.caps[name]) == (cap, cap, cap)


def test_a_process_finds_its_own_budget_in_proc() -> None:
    with AgentVM() as vm, vm.spawn(guest("fds"), args=["hold", "/f", "100"]) as other:
        assert other.stdout
        assert other.stdout.read(10).startswith(b"opened")
        limits, usage = (
            json.loads(vm.run(guest("cat"), args=[f"/proc/agentvm/{name}"], limits={LIMIT: 20}).check().stdout)
            for name in ("limits", "usage")
        )
        assert vm.usage()[LIMIT].used > 100
    assert (limits[LIMIT], limits["max_open_fds"]) == (20, 1024)
    assert usage[LIMIT]["cap"] == 20
    assert 3 < usage[LIMIT]["used"] < 10
    assert usage["max_open_fds"]["used"] > 100


def test_proc_limits_shows_the_caps_of_that_process() -> None:
    cat = guest("cat")
    own = {"max_open_fds_per_process": 10, "max_memory_per_process_bytes": "1MiB", "max_cpu_time_seconds": 7}
    with AgentVM() as vm:
        tight = lines_of_proc_limits(vm.run(cat, args=["/proc/self/limits"], limits=own))
        loose = lines_of_proc_limits(vm.run(cat, args=["/proc/self/limits"]))
    assert (tight["Max open files"], tight["Max address space"], tight["Max cpu time"]) == ("10", str(1 << 20), "7")
    assert (loose["Max open files"], loose["Max address space"], loose["Max cpu time"]) == ("256", str(128 << 20), "60")
    assert tight["Max processes"] == loose["Max processes"] == "64"
