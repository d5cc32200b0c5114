"""Events of limits on their way out: to callbacks, to the log, to event loops; and that no listener hurts a VM."""

import asyncio
import fcntl
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from agentvm import (
    AgentVM,
    AsyncAgentVM,
    CauseKind,
    EventKind,
    LimitEvent,
    Limits,
    Process,
    configure_host,
    log,
    on_host_limit,
)
from agentvm.api.snapshots import usage_log
from agentvm.doctor.probe import Probe
from agentvm.engine.capacity import host_capacity
from agentvm.errors import VMClosed
from agentvm.limits.catalogue import SPECS
from tests.deadlines.measure import WakeUps, percentile
from tests.support.fixtures import guest

SECONDS = 60.0
#: What the design promises for `kill()` and `close()`; see tests/deadlines for how the machine's own lateness counts.
LATE_SECONDS, WAKE_UPS, ATTEMPTS = 0.020, 5, 3


def until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(SECONDS * 1000)):
        if condition():
            return
        gate.wait(0.001)
    pytest.fail("it never came about")


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the log goes, as JSON, at the level "warn"."""
    for name in ("AGENTVM_LOG", "AGENTVM_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    stream = io.StringIO()
    log.configure(sink=stream, format="json")
    yield stream
    log.configure()


def records(sink: io.StringIO, **wanted: object) -> list[dict[str, object]]:
    assert log.flush(SECONDS)
    found = [json.loads(line) for line in sink.getvalue().splitlines()]
    return [record for record in found if wanted.items() <= record.items()]


def refuse(vm: AgentVM, times: int = 1) -> None:
    """Have the host refused a file name that is too long."""
    for _ in range(times):
        with pytest.raises(Exception, match="ENAMETOOLONG"):
            vm.fs.write("/" + "x" * 300, b"")


# ---- callbacks ----


def test_a_callback_hears_of_the_guest_that_came_near_and_was_refused() -> None:
    heard: list[LimitEvent] = []
    with AgentVM(Limits(max_open_fds_per_process=20), name="workshop") as vm:
        vm.on_limit(heard.append)
        with Probe(vm) as probe:
            assert probe.do("open 100")[0] == "EMFILE"
            until(lambda: len(heard) == 2)
            warning, refusal = heard
            assert (warning.kind, refusal.kind) == (EventKind.WARNING, EventKind.REFUSED)
            assert {event.limit for event in heard} == {"max_open_fds_per_process"}
            assert {(event.vm, event.pid) for event in heard} == {("workshop", probe.process.pid)}
            assert (warning.observed, refusal.observed, refusal.capacity) == (16, 21, 20)
            assert "max_open_fds_per_process=40" in refusal.setting


def test_vms_have_names_of_their_own() -> None:
    with AgentVM() as one, AgentVM() as other, AgentVM(name="mine") as mine:
        assert one.name != other.name
        assert mine.name == "mine"
        assert one.name.startswith("vm-")


def test_an_event_of_the_hosts_own_call_has_no_process() -> None:
    with AgentVM() as vm:
        collector = vm.collect_events()
        refuse(vm, 5)
        (event,) = collector.events()
        assert (event.limit, event.pid, event.vm, event.count) == ("max_name_bytes", None, vm.name, 5)


def test_a_callback_can_be_taken_back() -> None:
    heard: list[LimitEvent] = []
    kept: list[LimitEvent] = []
    with AgentVM() as vm:
        forget = vm.on_limit(heard.append)
        vm.on_limit(kept.append)
        forget()
        forget()
        refuse(vm)
        until(lambda: len(kept) == 1)
    assert heard == []


def test_a_callback_that_raises_is_logged_once_and_goes_on(sink: io.StringIO) -> None:
    heard: list[LimitEvent] = []

    def fail(event: LimitEvent) -> None:
        heard.append(event)
        raise ValueError("not mine")

    with AgentVM(Limits(max_inodes=40)) as vm:
        vm.on_limit(fail)
        refuse(vm)
        assert vm.run(guest("inodes")).cause.kind is CauseKind.EXIT
        until(lambda: len(heard) >= 3)
    until(lambda: len(records(sink, level="error")) == 1)
    (record,) = records(sink, level="error")
    assert record["event"] == "a callback for limits failed; it goes on getting events"
    assert record["vm"] == vm.name
    assert "ValueError: not mine" in str(record["exception"])


def test_a_callback_may_use_and_close_its_vm() -> None:
    done = threading.Event()
    vm = AgentVM()

    def close(_event: LimitEvent) -> None:
        vm.usage()
        vm.close()
        done.set()

    vm.on_limit(close)
    vm.spawn(guest("spin"), capture=True)
    refuse(vm)
    assert done.wait(SECONDS)
    with pytest.raises(VMClosed):
        vm.on_limit(close)


def test_close_has_what_waits_told_at_once_and_waits_for_nobody() -> None:
    heard: list[LimitEvent] = []
    gate, is_here = threading.Event(), threading.Event()

    def listen(event: LimitEvent) -> None:
        heard.append(event)
        is_here.set()
        gate.wait(SECONDS)

    with AgentVM() as vm:
        vm.on_limit(listen)
        refuse(vm)
        assert is_here.wait(SECONDS)
        refuse(vm, 7)
    gate.set()
    until(lambda: [event.count for event in heard] == [1, 7])


def _takes(end: Callable[[AgentVM, Process], None], block: Callable[[AgentVM], None]) -> tuple[float, float]:
    """Return how long an end took of a VM with busy guests and a listener that stands still, and what is allowed."""
    late = []
    with WakeUps() as wake_ups:
        for _ in range(8):
            with AgentVM() as vm:
                block(vm)
                process = vm.spawn(guest("spin"), capture=True)
                refuse(vm)
                until(lambda process=process: process.usage().fuel > 0)  # type: ignore[misc]
                began = monotonic()
                end(vm, process)
                late.append(monotonic() - began)
    return percentile(late, 99), LATE_SECONDS + WAKE_UPS * percentile(wake_ups.seconds, 99)


def kill(vm: AgentVM, process: Process) -> None:
    vm.kill()
    process.wait()


def close(vm: AgentVM, _process: Process) -> None:
    vm.close()


@pytest.mark.parametrize("end", [kill, close])
@pytest.mark.parametrize("listener", ["a callback that never returns", "a log that nobody reads"])
def test_kill_and_close_are_in_time_whoever_stands_still(
    end: Callable[[AgentVM, Process], None], listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    reader, writer = os.pipe()
    stream = os.fdopen(writer, "w")
    for _ in range(fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ) // 4096):
        os.write(writer, b"x" * 4096)

    def block(vm: AgentVM) -> None:
        if listener == "a log that nobody reads":
            log.configure(sink=stream)
        else:
            vm.on_limit(lambda _: gate.wait(SECONDS))

    seen = []
    try:
        for _ in range(ATTEMPTS):
            late, allowed = _takes(end, block)
            seen.append(f"{late * 1e3:.1f} ms, {allowed * 1e3:.1f} allowed")
            if late <= allowed:
                break
        else:
            pytest.fail("; ".join(seen))
    finally:
        gate.set()
        log.configure()
        os.close(reader)  # whoever is stuck in a write gets EPIPE
        log.flush(SECONDS)


# ---- the log ----


def test_what_is_refused_is_a_warning_and_flow_is_information(sink: io.StringIO) -> None:
    log.configure(sink=sink, format="json", level="info")
    with AgentVM(Limits(max_pipe_bytes=4096)) as vm:
        refuse(vm)
        process = vm.spawn(guest("spin"), args=["stdout"])
        until(lambda: bool(vm.usage()["max_pipe_bytes"].refused))
        process.kill()
    until(lambda: len({record["limit"] for record in records(sink, vm=vm.name)}) == 2)
    (refused,) = records(sink, vm=vm.name, limit="max_name_bytes")
    assert (refused["level"], refused["kind"], refused["count"]) == ("warning", "refused", 1)
    assert {record["level"] for record in records(sink, limit="max_pipe_bytes")} == {"info"}


def test_nothing_is_noted_where_nobody_listens(sink: io.StringIO) -> None:
    from agentvm.api import events

    log.configure(sink=sink, level="error")
    with AgentVM() as vm:
        refuse(vm)
        assert events._log_outlet.is_empty
    assert records(sink) == []


def test_a_vms_name_stands_in_the_log_of_many(sink: io.StringIO) -> None:
    vms = [AgentVM() for _ in range(50)]
    for vm in vms:
        refuse(vm, 3)
    for vm in vms:
        vm.close()
    until(lambda: {record["vm"] for record in records(sink, kind="refused")} == {vm.name for vm in vms})
    assert all(sum(int(str(r["count"])) for r in records(sink, vm=vm.name)) == 3 for vm in vms)


def test_usage_is_logged_each_second_while_programs_run_and_only_then(sink: io.StringIO) -> None:
    with AgentVM() as vm:
        with vm.spawn(guest("spin"), capture=True):
            assert not usage_log.is_running  # nobody listens
        log.configure(sink=sink, format="json", level="debug")
        process = vm.spawn(guest("spin"), capture=True)
        until(lambda: len(records(sink, level="debug", vm=vm.name)) == 2)
        process.kill()
        process.wait()
        until(lambda: not usage_log.is_running)
    record = records(sink, level="debug", vm=vm.name)[0]
    usage = record["usage"]
    assert isinstance(usage, dict)
    assert usage["max_processes"] == {"used": 1, "cap": 64}
    assert all(entry["used"] for entry in usage.values())
    assert "max_processes 1 of 64" in str(record["event"])


# ---- the host's ----


def test_process_wide_limits_tell_too(sink: io.StringIO) -> None:
    heard: list[LimitEvent] = []
    cap = host_capacity().cap("max_running_processes")
    forget = on_host_limit(heard.append)
    try:
        configure_host(max_running_processes=1)
        with AgentVM() as vm, vm.spawn(guest("spin"), capture=True), pytest.raises(Exception, match="max_running"):
            vm.run(guest("hello"))
        until(lambda: any(event.kind is EventKind.REFUSED for event in heard))
    finally:
        configure_host(max_running_processes=cap)
        forget()
    event = next(event for event in heard if event.kind is EventKind.REFUSED)
    assert (event.limit, event.vm) == ("max_running_processes", None)
    assert event.setting.startswith("configure_host(max_running_processes=")
    until(lambda: bool(records(sink, limit="max_running_processes", kind="refused")))


# ---- event loops ----


async def heard_at_least(heard: list[LimitEvent], count: int) -> None:
    while len(heard) < count:
        await asyncio.sleep(0.001)


def test_coroutines_and_functions_are_called_on_the_loop() -> None:
    async def main() -> None:
        loop_thread = threading.get_ident()
        heard: list[LimitEvent] = []
        at: list[int] = []

        async def slow(event: LimitEvent) -> None:
            at.append(threading.get_ident())
            await asyncio.sleep(0.01)
            heard.append(event)

        def plain(event: LimitEvent) -> None:
            at.append(threading.get_ident())
            heard.append(event)

        async with AsyncAgentVM(Limits(max_inodes=40), name="looped") as vm:
            forget = vm.on_limit(slow)
            vm.on_limit(plain)
            await vm.run(guest("inodes"))
            await asyncio.wait_for(heard_at_least(heard, 4), SECONDS)
            forget()
            assert set(at) == {loop_thread}
            assert {(event.vm, event.limit) for event in heard} == {("looped", "max_inodes")}

    asyncio.run(main())


def test_the_next_event_waits_for_the_coroutine_and_others_become_one() -> None:
    async def main() -> None:
        heard: list[LimitEvent] = []
        go_on = asyncio.Event()
        most, now = 0, 0

        async def slow(event: LimitEvent) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            heard.append(event)
            await go_on.wait()
            now -= 1

        vm = AsyncAgentVM()
        vm.on_limit(slow)
        await asyncio.to_thread(refuse, vm._vm)
        await asyncio.wait_for(heard_at_least(heard, 1), SECONDS)
        await asyncio.to_thread(refuse, vm._vm, 9)
        await vm.close()
        assert len(heard) == 1
        go_on.set()
        await asyncio.wait_for(heard_at_least(heard, 2), SECONDS)
        assert (heard[1].count, most) == (9, 1)

    asyncio.run(main())


def test_a_loop_that_is_closed_is_no_error(sink: io.StringIO) -> None:
    heard: list[LimitEvent] = []
    vm = AgentVM()

    async def hang(event: LimitEvent) -> None:
        heard.append(event)
        await asyncio.sleep(3600)

    async def main() -> None:
        looped = AsyncAgentVM()
        looped._vm = vm
        looped.on_limit(hang)
        await asyncio.to_thread(refuse, vm)
        await asyncio.wait_for(heard_at_least(heard, 1), SECONDS)

    asyncio.run(main())  # cancels the coroutine, and closes the loop
    refuse(vm)
    vm.close()
    outlet = vm._events._announcer.outlets[-1]
    until(lambda: not outlet.is_running)  # type: ignore[attr-defined]
    assert len(heard) == 1
    assert records(sink, level="error") == []


def test_a_coroutine_that_raises_is_logged_once(sink: io.StringIO) -> None:
    async def main() -> None:
        heard: list[LimitEvent] = []

        async def fail(event: LimitEvent) -> None:
            heard.append(event)
            raise ValueError("on the loop")

        async with AsyncAgentVM() as vm:
            vm.on_limit(fail)
            await asyncio.to_thread(refuse, vm._vm)
            await asyncio.wait_for(heard_at_least(heard, 1), SECONDS)
            await asyncio.to_thread(refuse, vm._vm)
        await asyncio.wait_for(heard_at_least(heard, 2), SECONDS)

    asyncio.run(main())
    until(lambda: len(records(sink, level="error")) == 1)
    assert "on the loop" in str(records(sink, level="error")[0]["exception"])


# ---- what a VM says of its limits ----


def test_a_vm_shows_its_caps_and_says_them_in_words() -> None:
    limits = Limits(max_memory_bytes="64MiB", max_fuel="none", max_file_bytes="1MiB", on_output_full="discard")
    with AgentVM(limits) as vm:
        view = vm.limits
        assert set(view) == set(SPECS)
        assert view["max_memory_bytes"] == 64 << 20
        text = view.describe()
        vm.raise_limit(max_memory_bytes="128MiB")
        assert (view["max_memory_bytes"], vm.limits["max_memory_bytes"]) == (64 << 20, 128 << 20)
        assert not hasattr(view, "__setitem__")
    assert "memory: 64 MiB in all, 64 MiB for each process; past it: memory.grow -1 (ENOMEM)" in text
    assert "size of a file: 1 MiB" in text
    assert "only the head and the tail are kept" in text
    assert "disk reads" not in text  # there is no cap
    assert "/proc/agentvm/usage" in text
    assert len(text.splitlines()) <= 25
    assert text.isascii()


def test_the_text_stays_short_with_every_cap_set() -> None:
    given = {name: spec.maximum // 2 for name, spec in SPECS.items() if spec.can_be_unlimited}
    with AgentVM(Limits.of(given)) as vm:
        assert len(vm.limits.describe().splitlines()) <= 25


def test_proc_is_valid_json_with_every_kind_of_cap() -> None:
    limits = Limits(
        max_disk_read_bytes_per_second="10MiB/s,size=1MiB,burst=64MiB", max_disk_read_operations_per_second=5
    )
    with AgentVM(limits) as vm:
        caps, usage = (
            json.loads(vm.fs.read(f"/proc/agentvm/{name}"), parse_constant=pytest.fail) for name in ("limits", "usage")
        )
    assert set(caps) == set(usage) == set(SPECS)
    assert caps["max_disk_read_bytes_per_second"] == 10 << 20
    assert caps["max_fuel"] is None
    entry = usage["max_disk_read_operations_per_second"]
    assert set(entry) == {"kind", "scope", "used", "peak", "cap", "percent", "refused", "warnings"}
    assert (entry["kind"], entry["cap"]) == ("rate", 5)
