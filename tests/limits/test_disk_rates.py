"""Disk rates: which calls count and for how much, who waits and for how long, and that a wait ends at once.

Times are exact: the clock is virtual, so that a wait moves it, or stands until a test moves it.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentvm import AgentVM, Errno, HostDirectory, Limits, ManualClock, Process, Signal
from agentvm.abi.preview1 import PREVIEW1
from agentvm.abi.rights import FILE_BASE
from agentvm.abi.syscall import Disk
from agentvm.errors import GuestFailed, InvalidLimit
from tests.abi.baseline import BASELINES
from tests.abi.rig import CREAT, TRUNC, Rig
from tests.bench.rates import Measured, disk
from tests.limits.crossing import until
from tests.limits.harness import drives
from tests.support.fixtures import guest

NS = 1_000_000_000
RATES = {
    (kind, unit): f"max_disk_{kind}_{unit}_per_second" for kind in ("read", "write") for unit in ("operations", "bytes")
}
READ_BYTES, WRITE_BYTES = RATES["read", "bytes"], RATES["write", "bytes"]
READ_OPERATIONS, WRITE_OPERATIONS = RATES["read", "operations"], RATES["write", "operations"]
#: More than any test moves: nobody waits, but all is counted.
AMPLE = dict.fromkeys(RATES.values(), "1GiB/s")
AMPLE.update({READ_OPERATIONS: "1000000/s", WRITE_OPERATIONS: "1000000/s"})

#: What `taken` of the four buckets is: operations and bytes read, operations and bytes written.
Taken = tuple[float, float, float, float]
NOTHING: Taken = (0, 0, 0, 0)


@contextmanager
def rigged(clock: ManualClock | None = None, mount: Path | None = None, **rates: object) -> Iterator[Rig]:
    with AgentVM(Limits(**(rates or AMPLE)), clock=clock or ManualClock()) as vm:
        if mount is not None:
            vm.mount("/mnt", HostDirectory(mount))
        yield Rig(vm, "preview1", [], env={"A": "1"}, listeners=1)


def taken(rig: Rig) -> Taken:
    buckets = [rig.vm._kernel.registry.bucket(name).taken for name in RATES.values()]
    return (buckets[0], buckets[1], buckets[2], buckets[3])


def cost(rig: Rig, action: Callable[[], object]) -> Taken:
    """Return what `action` takes from the four buckets."""
    before = taken(rig)
    action()
    now = taken(rig)
    return (now[0] - before[0], now[1] - before[1], now[2] - before[2], now[3] - before[3])


# -- which calls count ------------------------------------------------------------------------------------------------

#: What each baseline call moves, where it moves bytes.
BYTES = {"fd_read": 7, "fd_pread": 7, "fd_write": 7, "fd_pwrite": 7, "path_readlink": len("target")}


@pytest.mark.parametrize("name", BASELINES)
def test_call_takes_what_it_is_declared_to(name: str) -> None:
    disk = PREVIEW1[name].disk
    with rigged() as rig:
        arguments = BASELINES[name].make(rig)
        spent = cost(rig, lambda: rig.ok(name, *arguments))
    size = BYTES.get(name, 0)
    if name == "fd_readdir":
        assert spent[:1] + spent[2:] == (1, 0, 0)
        assert 0 < spent[1] <= 200
    elif disk is None:
        assert spent == NOTHING
    elif disk is Disk.READ:
        assert spent == (1, size, 0, 0)
    else:
        assert spent == (0, 0, 1, size)


def test_calls_that_move_no_data_on_a_disk_are_not_declared_to() -> None:
    free = {name for name, spec in PREVIEW1.items() if spec.disk is None}
    assert {name for name in free if name.startswith("path_")} == set()
    assert {name for name in free if name.startswith("fd_")} == {
        *("fd_advise", "fd_close", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_fdstat_set_rights"),
        *("fd_prestat_dir_name", "fd_prestat_get", "fd_renumber", "fd_seek", "fd_tell"),
    }
    assert all(PREVIEW1[name].locked for name in PREVIEW1 if name not in free)


@pytest.mark.parametrize(("oflags", "spent"), [(0, (1, 0, 0, 0)), (CREAT, (0, 0, 1, 0)), (TRUNC, (0, 0, 1, 0))])
def test_opening_is_a_read_unless_it_makes_or_empties_the_file(oflags: int, spent: Taken) -> None:
    with rigged() as rig:
        rig.vm.fs.write("/file", b"12345")
        assert cost(rig, lambda: rig.open("file", oflags)) == spent


@pytest.mark.parametrize(
    ("name", "errno", "spent"),
    [
        ("path_filestat_get", Errno.ENOENT, (1, 0, 0, 0)),
        ("path_unlink_file", Errno.ENOENT, (0, 0, 1, 0)),
        ("fd_read", Errno.EBADF, NOTHING),
    ],
)
def test_call_that_fails_counts_where_it_came_to_a_disk(name: str, errno: Errno, spent: Taken) -> None:
    with rigged() as rig:
        arguments = {
            "path_filestat_get": lambda: [3, 0, *rig.text("none"), rig.space(64)],
            "path_unlink_file": lambda: [3, *rig.text("none")],
            "fd_read": lambda: [99, *rig.iovecs((rig.space(8), 8)), rig.space(4)],
        }[name]()
        assert cost(rig, lambda: rig.call(name, *arguments) is errno) == spent


@pytest.mark.parametrize("path", ["dev/null", "dev/zero", "proc/self/status", "proc/agentvm/usage"])
def test_devices_and_proc_do_not_count(path: str) -> None:
    def use() -> None:
        fd = rig.open(path, rights=FILE_BASE if path.startswith("dev") else 2)
        rig.read_fd(fd, 100)
        rig.ok("path_filestat_get", 3, 1, *rig.text(path), rig.space(64))

    with rigged() as rig:
        assert cost(rig, use) == NOTHING


@pytest.mark.parametrize("path", ["proc/self/cwd/file", "proc/self/fd/{fd}", "dev/fd/{fd}", "proc/self/cwd/none"])
def test_files_count_that_are_reached_through_proc(path: str) -> None:
    with rigged() as rig:
        fd = rig.create("/file", b"12345")
        where = rig.text(path.format(fd=fd))
        assert cost(rig, lambda: rig.call("path_filestat_get", 3, 1, *where, rig.space(64))) == (1, 0, 0, 0)


def test_streams_and_sockets_do_not_count() -> None:
    def use() -> None:
        rig.write(1, b"hello")
        rig.read_fd(0, 5)

    with rigged() as rig:
        assert cost(rig, use) == NOTHING


def test_host_mounts_count_like_files_in_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with rigged(mount=tmp_path) as rig:
        assert cost(rig, lambda: rig.open("mnt/file")) == (1, 0, 0, 0)
        fd = rig.open("mnt/file")
        assert cost(rig, lambda: rig.read_fd(fd, 4)) == (1, 4, 0, 0)
        assert cost(rig, lambda: rig.write(fd, b"abc")) == (0, 0, 1, 3)
        assert cost(rig, lambda: rig.ok("fd_sync", fd)) == (0, 0, 1, 0)


def test_the_hosts_own_calls_do_not_count() -> None:
    with rigged() as rig:
        assert cost(rig, lambda: rig.vm.fs.write("/file", bytes(100_000))) == NOTHING
        assert cost(rig, lambda: rig.vm.fs.read("/file")) == NOTHING


def test_rates_never_make_a_call_fail_or_short() -> None:
    with rigged(**{WRITE_BYTES: 1, READ_BYTES: 1}) as rig:
        fd = rig.create("/file")
        assert rig.write(fd, b"x" * 5000) == 5000
        rig.ok("fd_seek", fd, 0, 0, rig.space(8))
        assert rig.read_fd(fd, 5000) == b"x" * 5000


# -- how long a call waits --------------------------------------------------------------------------------------------


@drives(WRITE_BYTES)
def test_bytes_written_take_exactly_the_time_that_the_rate_says() -> None:
    clock = ManualClock()
    with rigged(clock, **{WRITE_BYTES: "1000/s,size=100"}) as rig:
        fd = rig.create("/file")
        for count, seconds in ((100, 0), (1, 0.001), (500, 0.501), (2000, 2.501)):
            rig.write(fd, b"x" * count)
            assert clock.monotonic_ns() == pytest.approx(seconds * NS, abs=10)
        assert rig.vm.usage()[WRITE_BYTES].refused == 3


@drives(READ_BYTES)
def test_bytes_read_take_exactly_the_time_that_the_rate_says() -> None:
    clock = ManualClock()
    with rigged(clock, **{READ_BYTES: "1000/s,size=100"}) as rig:
        fd = rig.create("/file", bytes(5000))
        rig.read_fd(fd, 4100)
        assert clock.monotonic_ns() == pytest.approx(4 * NS, abs=10)
        rig.write(fd, bytes(5000))
        assert clock.monotonic_ns() == pytest.approx(4 * NS, abs=10), "writes have a rate of their own"


@drives(READ_OPERATIONS, WRITE_OPERATIONS)
@pytest.mark.parametrize(
    ("limit", "call"), [(READ_OPERATIONS, "path_filestat_get"), (WRITE_OPERATIONS, "path_filestat_set_times")]
)
def test_operations_take_exactly_the_time_that_the_rate_says(limit: str, call: str) -> None:
    clock = ManualClock()
    with rigged(clock, **{limit: "10/s,size=5"}) as rig:
        arguments = BASELINES[call].make(rig)
        for done in range(1, 26):
            rig.ok(call, *arguments)
            assert clock.monotonic_ns() == pytest.approx(max(0, done - 5) * NS / 10, abs=100)


def test_a_burst_passes_once_and_never_again() -> None:
    clock = ManualClock()
    with rigged(clock, **{WRITE_BYTES: "1000/s,size=100,burst=3000"}) as rig:
        fd = rig.create("/file")
        rig.write(fd, bytes(3100))
        assert clock.monotonic_ns() == 0
        clock.advance(3600 * NS)
        rig.write(fd, bytes(1100))
        assert clock.monotonic_ns() == pytest.approx(3601 * NS, abs=10)


def test_guest_sees_the_same_times_in_every_deterministic_run() -> None:
    def said() -> tuple[bytes, int]:
        with AgentVM(Limits(**{WRITE_BYTES: "10KiB/s"}), deterministic=True) as vm:
            result = vm.run(guest("probe"), stdin=b"fill 100000 /file\n")
            return result.check().stdout, vm._kernel.clock.monotonic_ns()

    first = said()
    assert first == said()
    assert first[0] == b"OK 100000\n"
    assert first[1] > 9 * NS


# -- who waits, on a clock that stands --------------------------------------------------------------------------------


class StandingClock:
    """A clock that moves only when the test moves it, and then wakes whoever sleeps."""

    resolution_ns = 1
    is_virtual = True

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._now = 0
        self._sleepers: list[threading.Lock] = []

    def monotonic_ns(self) -> int:
        return self._now

    def realtime_ns(self) -> int:
        return self._now

    def wait(self, gate: threading.Lock, timeout_ns: int | None) -> None:
        if timeout_ns is None:
            gate.acquire()
            return
        with self._changed:
            self._sleepers.append(gate)
            self._changed.notify_all()
        gate.acquire()
        with self._changed:
            if gate in self._sleepers:
                self._sleepers.remove(gate)

    def advance(self, seconds: float) -> None:
        """Move on, and wake everybody, to look whether it is time."""
        with self._changed:
            self._now += round(seconds * NS)
        for gate in self.forget():
            gate.release()

    def forget(self) -> list[threading.Lock]:
        """Return who sleeps, and count them anew: somebody is about to wake them."""
        with self._changed:
            sleepers, self._sleepers = self._sleepers, []
        return sleepers

    def until_asleep(self, count: int = 1) -> None:
        """Wait until so many sleep with a deadline."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._sleepers) >= count, 60), "nobody sleeps"


class Call:
    """A call that a guest makes on a thread of its own."""

    def __init__(self, rig: Rig, size: int, path: str = "/file") -> None:
        fd, out = rig.create(path), rig.space(4)
        arguments = (fd, *rig.iovecs((0, size)), out)
        self.rig, self.path = rig, path
        self._thread = threading.Thread(target=self._make, args=arguments)
        self.errno: Errno | None = None
        self.error: GuestFailed | None = None
        self._thread.start()

    def _make(self, *arguments: int) -> None:
        try:
            self.errno = Errno(self.rig.instance.call("fd_write", *arguments))
        except GuestFailed as error:
            self.error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    @property
    def has_begun(self) -> bool:
        return self.rig.vm.fs.stat(self.path).size > 0

    def join(self) -> None:
        self._thread.join(60)
        assert self.is_over


@contextmanager
def standing(rigs: int, **rates: str) -> Iterator[tuple[StandingClock, list[Rig]]]:
    clock = StandingClock()
    with AgentVM(Limits(**rates), clock=clock) as vm:
        yield clock, [Rig(vm, "preview1", []) for _ in range(rigs)]


def test_rate_that_is_raised_counts_from_then_on_for_who_waits_already() -> None:
    with standing(1, **{WRITE_BYTES: "100/s,size=100"}) as (clock, [rig]):
        call = Call(rig, 1000)
        clock.until_asleep()  # owes 900
        clock.advance(4)
        clock.until_asleep()  # owes 500
        clock.forget()
        rig.vm.raise_limit(**{WRITE_BYTES: "1000/s,size=100"})
        clock.until_asleep()
        clock.advance(0.4)
        clock.until_asleep()  # owes 100
        assert not call.is_over
        clock.advance(0.11)
        call.join()
        assert call.errno is Errno.SUCCESS
        assert rig.vm.usage()[WRITE_BYTES].refused == 1, "it is one wait, whatever happened meanwhile"


def test_rate_that_is_lifted_ends_every_wait() -> None:
    with standing(2, **{WRITE_BYTES: 1, WRITE_OPERATIONS: 1}) as (clock, rigs):
        calls = [Call(rig, 50_000, f"/{i}") for i, rig in enumerate(rigs)]
        clock.until_asleep()
        rigs[0].vm.raise_limit(**{WRITE_BYTES: "none", WRITE_OPERATIONS: "none"})
        for call in calls:
            call.join()
        assert [call.errno for call in calls] == [Errno.SUCCESS] * 2


def test_rate_cannot_be_set_on_a_vm_that_has_none() -> None:
    with AgentVM() as vm, pytest.raises(InvalidLimit, match="can only be raised"):
        vm.raise_limit(**{WRITE_BYTES: "10MiB"})


def test_call_holds_back_while_another_process_owes() -> None:
    with standing(2, **{WRITE_BYTES: "100/s,size=100"}) as (clock, [first, second]):
        owing = Call(first, 1000, "/first")
        clock.until_asleep()
        waiting = Call(second, 50, "/second")
        clock.until_asleep(2)
        assert (owing.has_begun, waiting.has_begun) == (True, False)
        clock.advance(8.9)
        clock.until_asleep(2)
        assert not waiting.has_begun
        clock.advance(0.2)
        owing.join()
        clock.until_asleep()  # it owes for itself now
        assert waiting.has_begun
        clock.advance(0.5)
        waiting.join()


def test_debt_of_a_process_that_was_killed_is_paid_by_who_comes_next() -> None:
    with standing(2, **{WRITE_BYTES: "100/s,size=100"}) as (clock, [first, second]):
        killed = Call(first, 1000, "/first")
        clock.until_asleep()
        first.instance._launched.record.kill(Signal.SIGKILL)
        killed.join()
        assert killed.error is not None
        heir = Call(second, 50, "/second")
        clock.until_asleep()
        assert not heir.has_begun
        clock.advance(9)
        clock.until_asleep()
        assert heir.has_begun
        clock.advance(0.5)
        heir.join()


def test_a_process_that_is_killed_while_it_holds_back_lets_the_next_one_pass() -> None:
    with standing(3, **{WRITE_BYTES: "100/s,size=100"}) as (clock, rigs):
        calls = [Call(rigs[0], 1000, "/0")]
        clock.until_asleep()
        queue = rigs[0].vm._kernel.disk.write._queue
        for number in (1, 2):
            calls.append(Call(rigs[number], 100, f"/{number}"))
            until(lambda number=number: len(queue) == number, "a call that waits")
        clock.until_asleep(2)
        rigs[1].instance._launched.record.kill(Signal.SIGKILL)
        calls[1].join()
        clock.until_asleep(2)
        clock.advance(9)
        calls[0].join()
        clock.until_asleep()
        assert [call.has_begun for call in calls] == [True, False, True]
        clock.advance(1)
        calls[2].join()


def test_those_who_wait_begin_one_after_the_other() -> None:
    """However many processes wait, only one at a time begins a transfer that will put them all into debt again."""
    with standing(4, **{WRITE_BYTES: "100/s,size=100"}) as (clock, rigs):
        calls = [Call(rigs[0], 1100, "/0")]
        clock.until_asleep()
        queue = rigs[0].vm._kernel.disk.write._queue
        for number in range(1, 4):
            calls.append(Call(rigs[number], 1000, f"/{number}"))
            until(lambda number=number: len(queue) == number, "a call that waits")
        for number in range(4):
            clock.until_asleep(1 if number == 3 else 2)  # the one that pays, and the next
            assert [call.has_begun for call in calls] == [True] * (number + 1) + [False] * (3 - number)
            clock.advance(10)
            calls[number].join()


# -- a wait ends at once ----------------------------------------------------------------------------------------------


def throttled(vm: AgentVM) -> Process:
    """Return a guest that waits for hours."""
    before = vm.usage()[WRITE_BYTES].refused
    process = vm.spawn(guest("probe"), stdin=b"fill 60000 /file\n")
    until(lambda: vm.usage()[WRITE_BYTES].refused > before, "a wait")
    return process


def test_throttled_guest_holds_no_run_slot() -> None:
    with AgentVM(Limits(**{WRITE_BYTES: "1/s"})) as vm:
        process = throttled(vm)
        until(lambda: not process._launched.execution.statistics().is_computing, "a free run slot")
        assert process.usage().cpu_seconds < 5


def test_throttled_guest_ends_by_kill_deadline_and_close() -> None:
    with AgentVM(Limits(**{WRITE_BYTES: "1/s"}, max_wall_time_seconds=3600)) as vm:
        process = throttled(vm)
        process.kill()
        assert process.wait(60).signal is Signal.SIGKILL
        late = vm.run(guest("probe"), stdin=b"fill 60000 /file\n", timeout=0.2)
        assert late.cause.limit == "max_wall_time_seconds"
        last = throttled(vm)
    assert last.wait(60).signal is Signal.SIGKILL


def test_no_rate_costs_no_call_anything() -> None:
    with AgentVM(Limits(max_cpu_time_seconds=5)) as plain, AgentVM(Limits(**{READ_BYTES: "1GiB/s"})) as rated:
        for vm in (plain, rated):
            vm.run(guest("hello")).check()
        assert plain._kernel.disk is None
        assert not plain._machine._calls._rated
        assert rated._machine._calls._rated


# -- on the host's clock ----------------------------------------------------------------------------------------------

ATTEMPTS = 3


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("guests", "busy"), [(1, 0), (4, 0), (1, 4)], ids=["one", "four", "one beside four busy ones"])
@pytest.mark.parametrize("megabytes", [1, 10])
@pytest.mark.parametrize("kind", ["read", "write"])
def test_guests_get_what_the_cap_says_within_a_tenth(kind: str, megabytes: int, guests: int, busy: int) -> None:
    seen: list[Measured] = []
    while not seen or not seen[-1].is_close:  # other programs on the machine disturb one measurement, not all
        assert len(seen) < ATTEMPTS, "\n".join(map(str, seen))
        seen.append(disk(kind, megabytes, guests=guests, neighbours=busy))
