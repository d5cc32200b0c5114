"""Processes: who has a place in the table, and what an end gives back."""

import pytest

from agentvm import Cause, CauseKind, Errno, Limits, Signal
from agentvm.errno import KernelError
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.outcome import ExitStatus
from agentvm.kernel.process import Ending, GuestKilled, Image, Process, ProcessState
from agentvm.kernel.process_table import ProcessTable
from agentvm.limits.registry import Registry

DONE = Ending(ExitStatus.exited(0), Cause(CauseKind.EXIT))


def _spawn(table: ProcessTable, *argv: bytes, environ: tuple[bytes, ...] = ()) -> Process:
    return table.spawn(Image(argv or (b"p",), environ), None)


def _errno(call: object, *arguments: object, **options: object) -> Errno:
    with pytest.raises(KernelError) as caught:
        call(*arguments, **options)  # type: ignore[operator]
    return caught.value.errno


def test_pids_start_at_2_and_are_not_used_again() -> None:
    table = ProcessTable(Registry(Limits()))
    first = _spawn(table)
    table.exit(first, DONE)
    table.reap(first)
    assert (first.pid, first.ppid, _spawn(table).pid) == (2, 1, 3)
    assert _errno(table.get, 2) is Errno.ESRCH
    assert table.get(3).pid == 3


def test_a_zombie_holds_its_place_until_it_is_reaped() -> None:
    registry = Registry(Limits(max_processes=2))
    table = ProcessTable(registry)
    first, _ = _spawn(table), _spawn(table)
    table.exit(first, DONE)
    assert first.state is ProcessState.ZOMBIE
    assert first.ended.is_set()
    assert _errno(_spawn, table) is Errno.EAGAIN
    table.reap(first)
    table.reap(first)
    assert first.state is ProcessState.REAPED
    _spawn(table)
    assert (registry.gauge("max_processes").used, len(table)) == (2, 2)


def test_the_end_of_a_process_closes_its_files() -> None:
    registry = Registry(Limits())
    process = _spawn(table := ProcessTable(registry))
    for _ in range(3):
        process.fds.open(Descriptor(OpenFile(), 0, 0))
    assert registry.gauge("max_open_fds").used == 3
    table.exit(process, DONE)
    assert registry.gauge("max_open_fds").used == 0
    assert registry.snapshot()["max_open_fds_per_process"].peak == 3


def test_a_process_that_never_ran_leaves_nothing_behind() -> None:
    registry = Registry(Limits())
    process = _spawn(table := ProcessTable(registry))
    process.fds.open(Descriptor(OpenFile(), 0, 0))
    table.discard(process)
    assert (len(table), list(table)) == (0, [])
    assert (registry.gauge("max_processes").used, registry.gauge("max_open_fds").used) == (0, 0)


@pytest.mark.parametrize("name", ["max_argv_bytes", "max_env_bytes"])
def test_arguments_and_environment_are_counted_with_their_nuls(name: str) -> None:
    table = ProcessTable(Registry(Limits.of({name: 10})))
    fits, too_long = (b"1234", b"5678"), (b"1234", b"56789")
    if name == "max_argv_bytes":
        _spawn(table, *fits)
        assert _errno(_spawn, table, *too_long) is Errno.E2BIG
    else:
        _spawn(table, environ=fits)
        assert _errno(_spawn, table, environ=too_long) is Errno.E2BIG
    assert len(table) == 1


def test_a_nul_in_an_argument_is_einval() -> None:
    table = ProcessTable(Registry(Limits()))
    assert _errno(_spawn, table, b"a\0b") is Errno.EINVAL
    assert _errno(_spawn, table, environ=(b"A=\0",)) is Errno.EINVAL
    assert len(table) == 0


def test_the_first_ending_decides() -> None:
    process = _spawn(ProcessTable(Registry(Limits())))
    told: list[int] = []
    process.on_kill = lambda: told.append(1)
    process.raise_if_killed()
    assert process.kill(Signal.SIGTERM)
    assert not process.kill(Signal.SIGKILL)
    process.exit(0)
    assert process.ending is not None
    assert (process.ending.status, told) == (ExitStatus.signalled(Signal.SIGTERM), [1])
    assert process.check_at == float("-inf")
    with pytest.raises(GuestKilled):
        process.raise_if_killed()


def test_a_program_that_ended_by_itself_is_not_killed() -> None:
    process = _spawn(ProcessTable(Registry(Limits())))
    process.exit(3)
    assert not process.kill(Signal.SIGKILL)
    assert process.ending is not None
    assert process.ending.status == ExitStatus.exited(3)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (ExitStatus.exited(0), 0),
        (ExitStatus.exited(255), 255),
        (ExitStatus.exited(256), 0),
        (ExitStatus.exited(0xFFFF_FFFF), 255),
        (ExitStatus.signalled(Signal.SIGKILL), 137),
    ],
)
def test_a_shell_sees_128_and_the_signal_or_the_low_byte(status: ExitStatus, code: int) -> None:
    assert status.shell_code == code
