"""What the operator asks for beyond a cap is a typed error with the limit and its values, and takes nothing."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentvm import AgentVM, Limits, Signal
from agentvm.engine.capacity import configure_host, host_usage
from agentvm.errors import (
    AgentVMError,
    HostLimit,
    InvalidArgument,
    InvalidLimit,
    MemoryTooLarge,
    ModuleLimit,
    ProcessLimit,
)
from tests.limits.harness import MIB, beside_a_sibling, drives, opened
from tests.limits.texts import HUNDRED_TABLES
from tests.support.fixtures import guest, wat

PAGE = 65_536


def refusal(
    scenario: Callable[[AgentVM], object], kind: type[AgentVMError], **limits: int | float | str
) -> AgentVMError:
    """Return what `scenario` raises beside a sibling."""

    def caught(vm: AgentVM) -> AgentVMError:
        with pytest.raises(kind) as raised:
            scenario(vm)
        return raised.value

    return beside_a_sibling(caught, again=False, **limits)


def facts(error: AgentVMError) -> tuple[object, ...]:
    return tuple(error.values.get(name) for name in ("limit", "observed", "cap"))


# -- argv, env --------------------------------------------------------------------------------------------------------


@drives("max_argv_bytes")
def test_arguments_past_the_cap_are_e2big() -> None:
    error = refusal(lambda vm: vm.run(guest("argv"), args=["x" * 990]), InvalidArgument, max_argv_bytes=1000)
    assert facts(error) == ("max_argv_bytes", len("argv.wasm") + 1 + 990 + 1, 1000)
    assert error.values["errno"] == "E2BIG"
    assert "--limit max_argv_bytes=" in str(error)


@drives("max_env_bytes")
def test_environment_past_the_cap_is_e2big() -> None:
    error = refusal(lambda vm: vm.run(guest("argv"), env={"A": "x" * 998}), InvalidArgument, max_env_bytes=1000)
    assert facts(error) == ("max_env_bytes", 1001, 1000)
    assert error.values["errno"] == "E2BIG"


def test_arguments_and_environment_at_the_cap_arrive_whole() -> None:
    with opened(max_argv_bytes=1000, max_env_bytes=1000) as vm:
        args = ["--sizes", "x" * (1000 - len("argv.wasm") - 1 - len("--sizes") - 1 - 1)]
        said = vm.run(guest("argv"), args=args, env={"A": "x" * 997}).check().stdout_text.splitlines()
    assert said == ["argc 3", "argv bytes 1000", "env 1", "env bytes 1000"]


def test_a_million_arguments_are_refused() -> None:
    error = refusal(lambda vm: vm.run(guest("argv"), args=["a"] * 1_000_000), InvalidArgument)
    assert facts(error)[::2] == ("max_argv_bytes", MIB)


# -- processes --------------------------------------------------------------------------------------------------------


@drives("max_processes")
def test_one_process_too_many_is_eagain_until_another_is_reaped() -> None:
    def scenario(vm: AgentVM) -> AgentVMError:
        sleepers = [vm.spawn(guest("spin"), args=["sleep"]) for _ in range(2)]
        with pytest.raises(ProcessLimit) as raised:
            vm.run(guest("hello"))
        sleepers[0].close()
        vm.run(guest("hello")).check()
        assert vm.usage()["max_processes"].refused == 1
        return raised.value

    error = beside_a_sibling(scenario, max_processes=2)
    assert facts(error) == ("max_processes", 3, 2)
    assert error.values["errno"] == "EAGAIN"


def test_a_process_that_nobody_reaped_still_counts() -> None:
    with opened(max_processes=1) as vm:
        ended = vm.spawn(guest("hello"), stdin=b"", capture=True)
        while ended.running:
            pass
        with pytest.raises(ProcessLimit):
            vm.run(guest("hello"))
        ended.wait()
        vm.run(guest("hello")).check()


@drives("max_sockets")
def test_one_listener_too_many_is_enfile() -> None:
    error = refusal(lambda vm: vm.spawn(guest("hello"), listeners=3), InvalidArgument, max_sockets=2)
    assert error.values["errno"] == "ENFILE"
    assert facts(error) == ("max_sockets", 3, 2)


def test_descriptors_for_the_streams_count() -> None:
    error = refusal(lambda vm: vm.run(guest("hello")), InvalidArgument, max_open_fds=2)
    assert error.values["errno"] in ("EMFILE", "ENFILE")


# -- modules ----------------------------------------------------------------------------------------------------------


@drives("max_memories", "max_tables", "max_table_elements", "max_memory_per_process_bytes")
@pytest.mark.parametrize(
    ("module", "limits", "kind", "expected"),
    [
        ("manymemories", {}, ModuleLimit, ("max_memories", 5, 4)),
        ("manytables", {}, ModuleLimit, ("max_tables", 5, 4)),
        ("bigmemory", {}, MemoryTooLarge, ("max_memory_per_process_bytes", 1 << 32, 8 * MIB)),
        ("hundred tables", {"max_tables": 100}, ModuleLimit, ("max_table_elements", 2_000_000, 1_000_000)),
    ],
    ids=["max_memories", "max_tables", "4 GiB of memory", "100 tables of a million elements"],
)
def test_module_past_a_cap_is_refused_before_it_runs(
    module: str, limits: dict[str, int | float | str], kind: type[AgentVMError], expected: tuple[object, ...]
) -> None:
    program = HUNDRED_TABLES if module == "hundred tables" else wat(module)
    error = refusal(lambda vm: vm.run(program), kind, **limits)
    assert facts(error) == expected


@drives("max_module_bytes")
def test_module_of_too_many_bytes_is_refused() -> None:
    size = guest("argv").stat().st_size
    limits = {"max_guest_module_bytes": 1, "max_module_bytes": size - 1}
    error = refusal(lambda vm: vm.run(guest("argv")), ModuleLimit, **limits)
    assert facts(error) == ("max_module_bytes", size, size - 1)


def test_start_that_finds_too_little_memory_left_is_a_typed_error_and_takes_nothing() -> None:
    def scenario(vm: AgentVM) -> AgentVMError:
        with vm.spawn(guest("memory"), args=["hold", "50"]) as holder:
            said = b""
            while b"touched 50" not in said:
                said += holder.stdout.read(100)
            with pytest.raises(MemoryTooLarge) as raised:
                vm.run(guest("memory"), args=["peak"])
            assert len(list(vm._kernel.processes)) == 1
        vm.run(guest("memory"), args=["peak"]).check()
        return raised.value

    error = beside_a_sibling(scenario, max_memory_bytes=54 * PAGE)
    assert error.values["errno"] == "ENOMEM"
    assert facts(error)[::2] == ("max_memory_bytes", 54 * PAGE)


# -- the whole process ------------------------------------------------------------------------------------------------


@pytest.fixture
def host() -> Iterator[Callable[..., None]]:
    """Set process-wide caps, and put back what was there."""
    before = {use.name: use.cap for use in host_usage()}
    yield configure_host
    configure_host(**before)


def used(name: str) -> int:
    return int(host_usage()[name].used)


@drives("max_running_processes")
def test_one_running_process_too_many_in_all_vms_is_eagain(host: Callable[..., None]) -> None:
    host(max_running_processes=used("max_running_processes") + 2)
    with opened() as one, opened() as other:
        sleepers = [vm.spawn(guest("spin"), args=["sleep"]) for vm in (one, other)]
        with pytest.raises(HostLimit, match="max_running_processes") as raised:
            other.run(guest("hello"))
        assert facts(raised.value)[0] == "max_running_processes"
        assert len(list(other._kernel.processes)) == 1, "the refused one left nothing behind"
        sleepers[0].close()
        other.run(guest("hello")).check()


@drives("max_open_vms")
def test_one_open_vm_too_many_is_a_typed_error(host: Callable[..., None]) -> None:
    now = used("max_open_vms")
    host(max_open_vms=now + 2)
    with AgentVM(), AgentVM():
        with pytest.raises(HostLimit, match="max_open_vms") as raised:
            AgentVM()
        assert facts(raised.value) == ("max_open_vms", now + 3, now + 2)
    AgentVM().close()
    forgotten = AgentVM()
    del forgotten
    assert used("max_open_vms") == now


@drives("max_resident_memory_bytes")
def test_memory_of_all_vms_together_is_capped(host: Callable[..., None]) -> None:
    with opened() as one, opened() as other:
        host(max_resident_memory_bytes=used("max_resident_memory_bytes") + 100 * PAGE)
        with one.spawn(guest("memory"), args=["hold", "50"]) as holder:
            said = b""
            while b"touched 50" not in said:
                said += holder.stdout.read(100)
            refused = other.run(guest("memory"), args=["single", "60"])
        assert refused.stdout_text.splitlines() == ["grow refused", "pages more 0"]
        assert other.run(guest("memory"), args=["single", "60"]).stdout_text.startswith("grow OK")


@drives("max_computing_processes")
def test_guests_take_turns_where_only_one_may_compute(host: Callable[..., None]) -> None:
    host(max_computing_processes=1)
    with opened() as one, opened() as other:
        spinners = [vm.spawn(guest("spin"), args=["busy"], capture=True) for vm in (one, one, other)]
        while min(process.usage().cpu_seconds for process in spinners) < 0.03:
            pass
        computing = [process._launched.execution.statistics().is_computing for process in spinners]
        assert sum(computing) <= 1
        for process in spinners:
            process.kill()
            assert process.wait(60).signal is Signal.SIGKILL


# -- limits themselves ------------------------------------------------------------------------------------------------


def test_explicit_process_cap_above_that_of_the_vm_is_a_typed_error() -> None:
    with pytest.raises(InvalidLimit, match="max_memory_bytes"):
        AgentVM(Limits(max_memory_bytes="1MiB", max_memory_per_process_bytes="2MiB"))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_into_a_regular_file_is_capped_by_max_log_bytes(stream: str, tmp_path: Path) -> None:
    """Else a guest fills the operator's disk through `agentvm run guest.wasm > file`."""
    main = "import sys; from agentvm.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "run", "--limit", "max_log_bytes=300000"]
    command += ["--dir", f"{tmp_path}::/", str(guest("output")), stream, "5000000"]
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        quiet = {**os.environ, "AGENTVM_LOG": "error"}  # our own lines about the limit are not the guest's
        done = subprocess.run(
            command, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL, timeout=100, check=False, env=quiet
        )
    assert done.returncode == 1
    assert (out if stream == "stdout" else err).stat().st_size == 300_000
    assert (tmp_path / "output.report").read_text().splitlines()[:2] == ["wrote 300000", "errno ENOSPC"]
