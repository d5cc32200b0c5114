"""Streams to and from guests: nothing lost, nothing kept, nobody stuck, and a kill comes through wherever they wait."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from agentvm import AgentVM, Limits, Process
from agentvm.api.reactor import Instance
from agentvm.errors import GuestFailed, InvalidArgument
from tests.deadlines.measure import WakeUps, percentile
from tests.limits.harness import MIB, drives, resident_bytes
from tests.limits.test_output import CHUNK, PATTERN, printed
from tests.support.fixtures import guest

PIPE = 4096
#: What a stream may cost beyond its pipe, however long it is.
FLAT_BYTES = 16 * MIB
HANG_SECONDS = 60.0

#: Enough of what the guest "output" prints to find any piece of it in.
_TEXT = PATTERN * (MIB // len(PATTERN) + 2)


class Check:
    """Compares a stream, piece by piece, with what the guest must have printed."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, piece: bytes) -> None:
        start = self.size % len(PATTERN)
        assert piece == _TEXT[start : start + len(piece)], f"other bytes came at {self.size}"
        self.size += len(piece)


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline, gate = monotonic() + HANG_SECONDS, threading.Event()
    while not condition():
        assert monotonic() < deadline, f"{what} did not happen"
        gate.wait(0.0005)


@contextmanager
def _memory_stays_flat() -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes()
    yield
    growth = resident_bytes("VmHWM") - before
    assert growth < FLAT_BYTES, f"the process grew by {growth / MIB:.1f} MiB"


# -- slow consumers ---------------------------------------------------------------------------------------------------


def _prints_at_its_readers_pace(size: int) -> None:
    check, pace, looks = Check(), threading.Event(), 0
    with AgentVM() as vm, vm.spawn(guest("output"), ["stdout", str(size), str(CHUNK)], stdin=b"") as process:
        with _memory_stays_flat():
            while piece := process.stdout.read(50_000):
                check.take(piece)
                if check.size % 64 == 0 and check.size < size - MIB:  # or the guest may have ended
                    printed_so_far = process.usage()["max_output_bytes"].used
                    assert check.size <= printed_so_far <= check.size + 65_536, "the guest is at its reader's pace"
                    looks += 1
                    pace.wait(0.0002)
            assert process.wait(HANG_SECONDS).ok
        assert process.stderr.read() == b"wrote %d\nerrno OK\nshort 0\n" % size
        assert vm.usage()["max_pipe_bytes"].refused > 0
    assert check.size == size
    assert looks


def test_64_mib_arrive_whole_at_their_readers_pace_and_cost_no_memory() -> None:
    _prints_at_its_readers_pace(64 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_1_gib_arrives_whole_at_its_readers_pace_and_costs_no_memory() -> None:
    _prints_at_its_readers_pace(1 << 30)


def _peak_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise LookupError(pid)


def _runs_at_its_readers_pace(size: int) -> None:
    """`agentvm run | slow reader`."""
    command = [sys.executable, "-m", "agentvm", "run", str(guest("output")), "stdout", str(size), str(CHUNK)]
    check, pace, early = Check(), threading.Event(), 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        while piece := os.read(running.stdout.fileno(), 65_536):
            check.take(piece)
            if check.size % 16 == 0:
                pace.wait(0.0002)
            if not early and check.size >= MIB:
                early = _peak_of(running.pid)
            if size - MIB < check.size < size:
                late = _peak_of(running.pid)
        said = running.stderr.read()
        assert running.wait(HANG_SECONDS) == 0
    assert said == b"wrote %d\nerrno OK\nshort 0\n" % size
    assert check.size == size
    assert late - early < FLAT_BYTES, f"it grew by {(late - early) / MIB:.1f} MiB"


def test_64_mib_through_the_command_line_arrive_whole_and_cost_no_memory() -> None:
    _runs_at_its_readers_pace(64 * MIB)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_1_gib_through_the_command_line_arrives_whole_and_costs_no_memory() -> None:
    _runs_at_its_readers_pace(1 << 30)


def test_input_and_output_at_once_lose_nothing() -> None:
    """A guest in the middle: its input waits for it, it waits for its output."""
    data = printed(20 * MIB)
    with AgentVM(Limits(max_pipe_bytes=PIPE)) as vm, vm.spawn(guest("cat")) as process, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(process.stdin.write, data)
        check = Check()
        while check.size < len(data):
            check.take(process.stdout.read(30_000))
        assert writing.result(HANG_SECONDS) == len(data)
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(HANG_SECONDS).ok


# -- dead consumers ---------------------------------------------------------------------------------------------------


def test_a_reader_that_has_gone_is_epipe_and_the_guest_goes_on() -> None:
    with AgentVM() as vm, vm.spawn(guest("output"), ["stdout", str(MIB)], stdin=b"") as process:
        process.stdout.read(1000)
        process.stdout.close()
        assert process.wait(HANG_SECONDS).exit_code == 1
        assert b"errno EPIPE" in process.stderr.read()


def test_a_reader_of_the_command_line_that_has_gone_is_epipe() -> None:
    command = [sys.executable, "-m", "agentvm", "run", str(guest("output")), "stdout", str(64 * MIB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(1000)
        running.stdout.close()
        assert b"errno EPIPE" in running.stderr.read()
        assert running.wait(HANG_SECONDS) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_reader_that_never_reads(number: signal.Signals) -> None:
    """More than the host's pipe holds, and less than that and ours do: the program ends, its output waits."""
    command = [sys.executable, "-m", "agentvm", "run", str(guest("output")), "stdout", "130000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stderr is not None
        said = [running.stderr.readline() for _ in range(3)]
        assert said == [b"wrote 130000\n", b"errno OK\n", b"short 0\n"]
        for _ in range(2):  # a first one that comes before the program's very end is the program's
            running.send_signal(number)
            try:
                running.wait(10)
                break
            except subprocess.TimeoutExpired:
                continue
        assert running.poll() == 128 + number, running.stderr.read()


# -- full stdin -------------------------------------------------------------------------------------------------------


def test_a_host_that_writes_waits_while_the_guest_does_not_read_and_is_told_how_much_was_taken() -> None:
    with AgentVM(Limits(max_pipe_bytes=PIPE)) as vm, ThreadPoolExecutor(1) as pool:
        process = vm.spawn(guest("spin"), ["sleep"])
        writing = pool.submit(process.stdin.write, bytes(10 * PIPE))
        _until(lambda: vm.usage()["max_pipe_bytes"].refused == 1, "the writer's wait")
        assert not writing.done()
        process.kill()
        with pytest.raises(BrokenPipeError, match=f"took {PIPE} of {10 * PIPE} bytes"):
            writing.result(HANG_SECONDS)


def test_closing_stdin_releases_a_writer() -> None:
    with AgentVM(Limits(max_pipe_bytes=PIPE)) as vm, vm.spawn(guest("spin"), ["sleep"]) as process:
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(process.stdin.write, bytes(10 * PIPE))
            _until(lambda: vm.usage()["max_pipe_bytes"].refused == 1, "the writer's wait")
            process.stdin.close()
            with pytest.raises(BrokenPipeError, match=f"took {PIPE} of {10 * PIPE} bytes"):
                writing.result(HANG_SECONDS)
        assert process.running


def test_a_guest_that_ends_early_takes_what_it_read_and_no_more() -> None:
    with AgentVM() as vm, vm.spawn(guest("hello")) as process, ThreadPoolExecutor(1) as pool:
        writing = pool.submit(process.stdin.write, bytes(MIB))
        assert process.wait(HANG_SECONDS).ok
        with pytest.raises(BrokenPipeError, match=r"took \d+ of 1048576 bytes"):
            writing.result(HANG_SECONDS)


def test_a_raised_cap_lets_those_go_on_who_wait() -> None:
    with AgentVM(Limits(max_pipe_bytes=PIPE)) as vm, vm.spawn(guest("output"), ["stdout", "50000"], b"") as process:
        _until(lambda: vm.usage()["max_pipe_bytes"].refused == 1, "the guest's wait")
        vm.raise_limit(max_pipe_bytes="64KiB")
        assert process.wait(HANG_SECONDS).ok
        assert len(process.stdout.read()) == 50_000


# -- what the registry knows ------------------------------------------------------------------------------------------


def test_pipes_whose_handles_are_forgotten_cost_nothing() -> None:
    with AgentVM() as vm:
        for _ in range(50):
            vm.spawn(guest("hello"), stdin=None).wait(HANG_SECONDS)
        registry = vm._kernel.registry
        assert not registry._objects
        assert vm.usage()["max_pipe_bytes"].peak >= len(b"hello from a VM\n")


def test_a_start_that_fails_leaves_no_pipe_socket_or_queue_behind() -> None:
    with AgentVM(Limits(max_open_fds_per_process=4, max_waiting_calls=5)) as vm:
        for call in (vm.spawn, vm.instantiate):
            with pytest.raises(Exception, match="EMFILE"):
                call(guest("hello" if call == vm.spawn else "reactor"), stdin=None, listeners=5)
        usage = vm.usage()
        assert [usage[name].used for name in ("max_sockets", "max_socket_buffer_bytes", "max_pipe_bytes")] == [0, 0, 0]
        assert not vm._kernel.registry._objects


# -- queues that refuse -----------------------------------------------------------------------------------------------


@drives("max_listener_backlog")
def test_a_connection_too_many_is_refused_with_the_way_out_and_costs_no_socket() -> None:
    with AgentVM(Limits(max_listener_backlog=2)) as vm, vm.spawn(guest("spin"), ["sleep"], listeners=1) as process:
        waiting = [process.connect() for _ in range(2)]
        with pytest.raises(ConnectionRefusedError, match=r"EAGAIN.*max_listener_backlog=4"):
            process.connect()
        usage = vm.usage()
        assert (usage["max_listener_backlog"].used, usage["max_listener_backlog"].refused) == (2, 1)
        assert usage["max_sockets"].used == 3
        vm.raise_limit(max_listener_backlog=3)
        waiting.append(process.connect())
        for connection in waiting:
            assert connection.send(b"it may send already") == 19


@drives("max_waiting_calls")
def test_a_call_too_many_is_refused_with_the_way_out() -> None:
    scene = Scene()
    try:
        instance = _calls_queued(scene)
        with pytest.raises(InvalidArgument, match=r"too many calls wait.*max_waiting_calls=4") as caught:
            instance.call("next")
        assert caught.value.values == {"limit": "max_waiting_calls", "observed": 3, "cap": 2}
        scene.vm.raise_limit(max_waiting_calls=3)
        scene.also(lambda: instance.call("next"))
        _until(lambda: scene.vm.usage()["max_waiting_calls"].used == 3, "the third call that waits")
    finally:
        scene.close()
    assert scene.vm.usage()["max_waiting_calls"].used == 0


# -- kills and closes -------------------------------------------------------------------------------------------------

Target = Process | Instance
LIMITS = Limits(
    max_pipe_bytes=PIPE,
    max_socket_buffer_bytes=4 * PIPE,
    max_log_bytes="64KiB",
    on_output_full="discard",
    max_waiting_calls=2,
)


class Scene:
    """A VM in which somebody waits, and the threads of the host that wait too."""

    def __init__(self) -> None:
        self.vm = AgentVM(LIMITS)
        self.pool = ThreadPoolExecutor(4)
        self.waiting: list[Future[object]] = []
        self.never = threading.Event()

    def spin(self, mode: str, **options: object) -> Process:
        return self.vm.spawn(guest("spin"), [mode], **options)  # type: ignore[arg-type]

    def also(self, call: Callable[[], object]) -> None:
        """Have a thread of the host do what will wait."""
        self.waiting.append(self.pool.submit(call))

    def until_somebody_waits(self, limit: str = "max_pipe_bytes") -> None:
        _until(lambda: self.vm.usage()[limit].refused > 0, f"a wait for {limit}")

    def close(self) -> None:
        self.never.set()
        self.vm.close()
        for call in self.waiting:
            call.exception(HANG_SECONDS)  # every thread is released, whatever it is told
        self.pool.shutdown()


def _never_read(scene: Scene) -> Target:
    process = scene.spin("stdout", stdin=b"")
    scene.until_somebody_waits()
    return process


def _read_slowly(scene: Scene) -> Target:
    process = scene.spin("stdout", stdin=b"")

    def read() -> None:
        while process.stdout.read(100):
            threading.Event().wait(0.002)

    scene.also(read)
    scene.until_somebody_waits()
    return process


def _read_in_vain(scene: Scene) -> Target:
    process = scene.spin("sleep", stdin=b"")
    assert process.stdout.read(9) == b"spinning\n"
    for _ in range(2):
        scene.also(process.stdout.read)
    _until(lambda: len(process.stdout.end._pipe.waiters) == 2, "the readers' wait")
    return process


def _stdin_full(scene: Scene) -> Target:
    process = scene.spin("sleep")
    scene.also(lambda: process.stdin.write(bytes(10 * PIPE)))
    scene.until_somebody_waits()
    return process


def _connection_full(scene: Scene) -> Target:
    process = scene.spin("sleep", stdin=b"", listeners=1)
    connection = process.connect()
    scene.also(lambda: connection.send(bytes(10 * PIPE)))
    scene.also(connection.recv)
    scene.until_somebody_waits("max_socket_buffer_bytes")
    return process


def _log_flooded(scene: Scene) -> Target:
    process = scene.spin("stdout", stdin=b"", capture=True)
    scene.until_somebody_waits("max_log_bytes")
    return process


def _calls_queued(scene: Scene) -> Instance:
    instance = scene.vm.instantiate(guest("reactor"))

    def calls(most: int, waiting: int) -> bool:
        use = scene.vm.usage()["max_waiting_calls"]
        return (use.peak, use.used) == (most, waiting)

    scene.also(lambda: instance.call("spin"))
    _until(lambda: calls(1, 0), "the first call's start")
    for _ in range(2):
        scene.also(lambda: instance.call("spin"))
    _until(lambda: calls(2, 2), "two calls that wait")
    return instance


def _callback_blocks(scene: Scene) -> Target:
    entered = threading.Event()
    scene.vm.on_limit(lambda _event: (entered.set(), scene.never.wait(HANG_SECONDS)))
    process = _never_read(scene)
    assert entered.wait(HANG_SECONDS)
    return process


def _callback_raises(scene: Scene) -> Target:
    raised = threading.Event()

    def callback(_event: object) -> None:
        raised.set()
        raise RuntimeError("somebody else's bug")

    scene.vm.on_limit(callback)
    process = _never_read(scene)
    assert raised.wait(HANG_SECONDS)
    return process


SCENES = {
    "a reader never reads": _never_read,
    "a reader is slow": _read_slowly,
    "readers wait in vain": _read_in_vain,
    "stdin is full": _stdin_full,
    "a connection is full": _connection_full,
    "the log is flooded": _log_flooded,
    "calls are queued": _calls_queued,
    "a callback blocks": _callback_blocks,
    "a callback raises": _callback_raises,
}

LATE_SECONDS = 0.020
#: See tests/deadlines: the machine's own lateness counts that often.
WAKE_UPS = 5
TRIALS = 6
ATTEMPTS = 3


def _late(prepare: Callable[[Scene], Target], end: str) -> float:
    """Return the seconds from the call until the guest has ended ("kill") or all is given back ("close")."""
    scene, ended = Scene(), list[float]()
    try:
        target = prepare(scene)
        over = threading.Event()
        target._launched.when_done(lambda: (ended.append(monotonic()), over.set()))
        asked = monotonic()
        if end == "close":
            scene.vm.close()
            return monotonic() - asked
        (target if isinstance(target, Process) else scene.vm).kill()
        assert over.wait(HANG_SECONDS)
        return ended[0] - asked
    finally:
        scene.close()


@pytest.mark.parametrize("end", ["kill", "close"])
@pytest.mark.parametrize("name", SCENES)
def test_a_kill_and_a_close_come_through_in_time_and_release_whoever_waits(name: str, end: str) -> None:
    seen = []
    for _ in range(ATTEMPTS):
        with WakeUps() as wake_ups:
            late = max(_late(SCENES[name], end) for _ in range(TRIALS))
        mark = LATE_SECONDS + WAKE_UPS * percentile(wake_ups.seconds, 99)
        seen.append(f"{late * 1e3:.1f} ms where {mark * 1e3:.1f} are allowed")
        if late <= mark:
            return
    pytest.fail(f"{end} while {name}: {'; '.join(seen)}")


def test_calls_that_wait_are_told_that_the_guest_has_ended() -> None:
    scene = Scene()
    try:
        _calls_queued(scene)
        scene.vm.kill()
        for call in scene.waiting:
            with pytest.raises(GuestFailed, match="ended the instance"):
                call.result(HANG_SECONDS)
    finally:
        scene.close()
