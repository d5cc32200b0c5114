"""The outer wall as a sum: what each cap lets a process hold is in it, and the formats are the kernel's."""

import pytest

from agentvm.host import cgroup_limits as wall_module
from agentvm.host.block_device import BlockDevice
from agentvm.host.cgroup_limits import OuterWall, derive_wall, wall_files
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from agentvm.limits.declare import GIB, MIB
from agentvm.limits.host_catalogue import SHARE_OF_VMS
from agentvm.limits.rate import Rate

SDA, SDB = BlockDevice("8:0", "/dev/sda"), BlockDevice("8:16", "/dev/sdb")


def wall_of(cores: int = 2, **limits: object) -> OuterWall:
    return derive_wall(Caps(Limits(**limits)), cores=cores)  # type: ignore[arg-type]


def test_memory_is_the_sum_of_what_the_caps_let_a_vm_hold() -> None:
    small = {
        "max_processes": 2,
        "max_log_bytes": 3 * MIB,
        "max_wasm_stack_bytes": 3 * MIB,
        "max_argv_bytes": 1 * MIB,
        "max_env_bytes": 1 * MIB,
        "max_open_fds": 16,
        "max_pipe_bytes": 1 * MIB,
        "max_filesystem_bytes": 5 * MIB,
        "max_memory_bytes": 7 * MIB,
        "max_compile_memory_bytes": 256 * MIB,
    }
    cached_modules, own = 512 * MIB, wall_module.HOST_MEMORY_BYTES
    expected = 7 * MIB + 5 * MIB + 2 * (3 + 3 + 1 + 1 + 1 + 1) * MIB + 16 * MIB + 256 * MIB + cached_modules + own
    assert wall_of(**small).memory_bytes == expected


@pytest.mark.parametrize("name", wall_module._MEMORY_FACTORS)
def test_every_cap_that_lets_memory_grow_raises_the_wall(name: str) -> None:
    caps = {"max_cached_module_bytes": 512 * MIB, **Caps(Limits())}
    before, after = (derive_wall(values, cores=2).memory_bytes for values in (caps, {**caps, name: caps[name] * 4}))
    assert before is not None
    assert after is not None
    assert after > before


@pytest.mark.parametrize("name", ["max_filesystem_bytes", "max_log_bytes", "max_processes", "max_open_fds"])
def test_without_one_of_its_caps_there_is_no_sum_and_the_cap_at_fault_is_named(name: str) -> None:
    wall = wall_of(**{name: "none"})
    assert wall.memory_bytes is None
    (missing,) = wall.not_enforced
    assert missing.cap == "max_memory_bytes"
    assert name in missing.why


def test_an_operator_who_sets_no_memory_limit_misses_none() -> None:
    wall = wall_of(max_memory_bytes="none")
    assert (wall.memory_bytes, wall.not_enforced) == (None, ())


def test_a_sum_beyond_any_machine_is_no_wall() -> None:
    wall = wall_of(max_processes=2**50, max_log_bytes=2**50)
    assert wall.memory_bytes is None
    assert wall.not_enforced


def test_what_the_engine_leaves_to_the_embedding_program_is_no_guests_loss() -> None:
    memory = wall_of(max_memory_bytes=1000 * GIB).memory_bytes
    assert memory is not None
    assert memory * SHARE_OF_VMS >= 1000 * GIB


def test_memory_is_whole_mebibytes_so_that_the_kernel_rounds_nothing() -> None:
    wall = wall_of(max_memory_bytes=64 * MIB + 1)
    assert wall.memory_bytes is not None
    assert wall.memory_bytes % MIB == 0
    assert 0 < wall.memory_bytes - sum(wall.memory_parts.values()) < MIB


@pytest.mark.parametrize("percent", [1, 10, 50, 100, 400])
def test_cpu_is_a_quota_of_a_short_period(percent: int) -> None:
    (cpu,) = (file for file in wall_files(wall_of(max_cpu_percent=percent), ()) if file.name == "cpu.max")
    quota, period = map(int, cpu.value.split())
    assert quota * 100 == (percent + wall_module.HOST_CPU_PERCENT) * period
    assert quota >= 1000, "the kernel takes no less"
    assert period <= 20_000, "who used its share waits for the next one, and its killer with it"


def test_tasks_are_the_processes_threads_and_the_hosts() -> None:
    assert wall_of(cores=3, max_processes=10).tasks == 10 * 4 + 64 + 3 * 16


def test_numbers_that_the_kernel_does_not_take_are_no_wall() -> None:
    assert wall_of(max_processes="none").tasks is None
    assert wall_of(max_processes=2**22, max_memory_bytes="none").tasks is None
    assert wall_of(max_cpu_percent="none").cpu_percent is None


def test_each_disk_gets_the_rates_that_are_set() -> None:
    wall = wall_of(max_disk_read_bytes_per_second="10MiB/s", max_disk_write_operations_per_second=0.5e3)
    lines = [file.value for file in wall_files(wall, [SDA, SDB]) if file.name == "io.max"]
    assert lines == ["8:0 rbps=10485760 wiops=500", "8:16 rbps=10485760 wiops=500"]
    assert wall.disk_caps == ("max_disk_read_bytes_per_second", "max_disk_write_operations_per_second")


def test_all_four_rates_have_the_kernels_names() -> None:
    wall = wall_of(
        max_disk_read_bytes_per_second=1,
        max_disk_write_bytes_per_second=2,
        max_disk_read_operations_per_second=3,
        max_disk_write_operations_per_second=4,
    )
    (line,) = (file.value for file in wall_files(wall, [SDA]) if file.name == "io.max")
    assert line == "8:0 rbps=1 wbps=2 riops=3 wiops=4"


def test_a_bucket_counts_with_its_rate_and_a_fraction_of_one_as_one() -> None:
    wall = wall_of(max_disk_read_bytes_per_second=Rate(1000, size=5, burst=9), max_disk_read_operations_per_second=1.5)
    assert wall.disk == {"rbps": 1000, "riops": 1}


def test_no_rates_no_io_max() -> None:
    assert [file.name for file in wall_files(wall_of(), [SDA])] == [
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "cpu.max",
        "pids.max",
    ]
