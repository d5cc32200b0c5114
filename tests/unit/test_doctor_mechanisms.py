"""With any of the mechanisms that enforce the limits out of order, the doctor says so, in the right row, and fails."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agentvm import log
from agentvm.bounded import ByteQueue, ItemQueue
from agentvm.cli.doctor import examine
from agentvm.config.config import Config
from agentvm.doctor.check import Rig
from agentvm.engine import bind, validate
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.compile_caps import CompileCaps
from agentvm.engine.cpu_rate import CpuRate
from agentvm.engine.execution import Execution
from agentvm.engine.ledger import MemoryAccount
from agentvm.engine.module import LoadRequest
from agentvm.engine.process_time import ProcessTime
from agentvm.engine.slots import RunSlots, Ticket
from agentvm.engine.ticker import Ticker
from agentvm.host.descriptors import HostFds
from agentvm.host.quota import HostQuota
from agentvm.kernel.captured import CapturedOutput
from agentvm.kernel.disk import Throttle
from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.net.backlog import Backlog
from agentvm.kernel.pipe import PipeWriter
from agentvm.kernel.stdio import StreamedOutput
from agentvm.kernel.vfs.space import SpaceAccount
from agentvm.limits.gauge import Ceiling, Counter, Gauge
from agentvm.limits.rate import Window
from agentvm.limits.spec import UNLIMITED
from tests.support.doctor_rigs import PATIENCE_SECONDS

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    yield
    log.configure()


def failed_rows(capsys: pytest.CaptureFixture[str], *names: str, config: Config | None = None) -> list[str]:
    """Run the doctor, which must fail, on some limits; return the rows that it marks, by their names."""
    config = config or Config.resolve(None, {}, search=False)
    status = examine(config, names, rig=Rig(patience_seconds=PATIENCE_SECONDS))
    shown = capsys.readouterr().out.splitlines()
    assert status == 1, shown
    failed = [line for line in shown if line.startswith("FAIL")]
    assert not [line for line in failed if "Error" in line], "it failed for another reason"
    rows = [line.split("  ")[1] for line in failed]
    assert shown[-1].startswith(f"{len(rows)} of ")
    assert all(row in shown[-1] for row in rows)
    return rows


def _set(owner: Any, **replacements: Any) -> Break:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for name, value in replacements.items():
            patch.setattr(owner, name, value)

    return apply


def _both(one: Break, other: Break) -> Break:
    def apply(patch: pytest.MonkeyPatch) -> None:
        one(patch)
        other(patch)

    return apply


# -- the mechanisms ---------------------------------------------------------------------------------------------------


def _take_all(account: MemoryAccount, size: int) -> bool:
    account._move(size)
    return True


def _endless_fuel(patch: pytest.MonkeyPatch) -> None:
    set_fuel = bind.set_fuel
    patch.setattr(bind, "set_fuel", lambda context, fuel: set_fuel(context, fuel + (1 << 50)))


def _tables_without_gauges(patch: pytest.MonkeyPatch) -> None:
    make = FdTable.__init__

    def init(table: FdTable, *gauges: Gauge) -> None:
        make(table, *(Gauge(gauge.spec, UNLIMITED) for gauge in gauges))

    patch.setattr(FdTable, "__init__", init)


def _keep_all(output: CapturedOutput, buffers: list[memoryview]) -> int:
    return sum(output._kept.write(buffer) for buffer in buffers)


def _put_all(queue: ByteQueue, buffers: list[memoryview]) -> int:
    for buffer in buffers:
        queue.data += buffer
    return sum(map(len, buffers))


def _put_item(queue: ItemQueue[object], item: object) -> None:
    queue._items.append(item)
    queue.level.set(len(queue._items))


def _enter_all(slots: RunSlots, ticket: Ticket) -> None:
    with slots._lock:
        if not ticket.held:
            slots._grant(ticket)
    slots._on_busy()


def _acquire_all(gauge: Gauge, amount: int = 1) -> None:
    gauge.set(gauge.used + amount)


def _nothing(*_: Any, **__: Any) -> None:
    pass


MECHANISMS: dict[str, tuple[Break, tuple[str, ...]]] = {
    "the ledger lets everything through": (
        _set(MemoryAccount, _take=_take_all),
        ("max_memory_bytes", "max_memory_per_process_bytes", "on_memory_full", "max_resident_memory_bytes"),
    ),
    "nobody looks at CPU time": (_set(ProcessTime, check=lambda _: False), ("max_cpu_time_seconds",)),
    "the ticker looks at no deadline": (_set(Ticker, _due=lambda _: []), ("max_wall_time_seconds",)),
    "the epoch callback does nothing": (_set(Execution, tick=lambda *_: 0), ("max_cpu_time_seconds",)),
    "fuel never runs out": (_endless_fuel, ("max_fuel", "max_fuel_per_process")),
    "descriptor tables have no gauges": (_tables_without_gauges, ("max_open_fds_per_process", "max_open_fds")),
    "gauges let everything through": (
        _set(Gauge, acquire=_acquire_all),
        ("max_processes", "max_open_fds", "max_sockets", "max_inodes"),
    ),
    "ceilings let everything through": (
        _set(Ceiling, observe=lambda *_: True),
        ("max_file_bytes", "max_argv_bytes", "max_path_bytes", "max_name_bytes", "max_symlinks", "max_iovecs",
         "max_poll_subscriptions", "max_io_bytes"),
    ),
    "files are charged to nobody": (
        _set(SpaceAccount, acquire=_nothing, acquire_some=lambda _, amount, step: amount, release=_nothing),
        ("max_filesystem_bytes", "max_temp_storage_bytes"),
    ),
    "host mounts count nothing": (
        _set(HostQuota, grow=_nothing, grow_up_to=lambda _, size, least: size, shrink=_nothing, add_name=_nothing),
        ("max_host_write_bytes", "max_host_inodes"),
    ),
    "captured output is not counted": (_set(CapturedOutput, write_nowait=_keep_all), ("max_log_bytes",)),
    "streamed output is not counted": (
        _set(StreamedOutput, write_nowait=PipeWriter.write_nowait), ("max_output_bytes",)
    ),
    "pipes take everything": (_set(ByteQueue, put=_put_all), ("max_pipe_bytes",)),
    "queues take everything": (
        _both(_set(ItemQueue, put=_put_item), _set(Backlog, has_room=True)),
        ("max_listener_backlog", "max_waiting_calls"),
    ),
    "nobody pays for CPU time": (
        _set(CpuRate, charge=lambda *_: False, must_wait=lambda _: False), ("max_cpu_percent",)
    ),
    "nobody pays for the disk": (
        _set(Throttle, charge=_nothing, hold_back=_nothing),
        ("max_disk_read_bytes_per_second", "max_disk_write_bytes_per_second",
         "max_disk_read_operations_per_second", "max_disk_write_operations_per_second"),
    ),
    "actions are not counted": (_set(Window, take=lambda *_: 0.0), ("max_actions_per_hour",)),
    "parts of modules are not counted": (
        _set(validate, cap_check=lambda _: _nothing, check_caps=_nothing),
        ("max_tables", "max_memories", "max_types", "max_imports", "max_exports", "max_functions", "max_globals",
         "max_segments", "max_custom_sections"),
    ),
    "compiling has no caps": (
        _set(LoadRequest, compile_caps=lambda _, program: CompileCaps(1e6, 1 << 46, program.seconds_limit)),
        ("max_compile_seconds", "max_compile_memory_bytes"),
    ),
    "every guest gets a run slot": (_set(RunSlots, enter=_enter_all), ("max_computing_processes",)),
    "the host has room for everything": (
        _set(HostCapacity, acquire=_nothing, release=_nothing, hold_place=_nothing),
        ("max_open_vms", "max_running_processes"),
    ),
    "descriptors of the host are not counted": (_set(HostFds, acquire=_nothing, release=_nothing), ("max_host_fds",)),
    "refusals are not recorded": (_set(Counter, refuse=_nothing), ("max_open_fds", "max_path_bytes", "max_fuel")),
    "warnings never come": (_set(Counter, _warn=_nothing), ("warn_percent", "rearm_percent")),
}  # fmt: skip


@pytest.mark.parametrize("case", MECHANISMS)
def test_mechanism_out_of_order_is_seen(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    apply, names = MECHANISMS[case]
    with monkeypatch.context() as patch:
        apply(patch)
        assert failed_rows(capsys, *names) == list(names)
