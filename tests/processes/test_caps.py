"""Programs that become many and take all that they can get: each cap gives its errno, and nobody else notices."""

import threading
from collections.abc import Callable
from time import monotonic

import pytest

from agentvm import AgentVM, CauseKind, GuestFile, Limits, Process, Result, Signal, Stall
from tests.deadlines.measure import WakeUps, percentile
from tests.limits.crossing import until
from tests.limits.harness import TIGHT, beside_a_sibling, opened
from tests.support.fixtures import process_guest
from tests.support.wasm_builder import memory_bomb, time_bomb

PAGE = 65_536
HANG_SECONDS = 60.0
#: Room for a few dozen small programs.
ROOM = TIGHT.replace(max_memory_bytes="96MiB", max_processes=24, max_open_fds=512)
LATE_SECONDS = 0.020
#: See tests/deadlines: the machine's own lateness counts that often.
WAKE_UPS = 5
TRIALS, ATTEMPTS = 4, 3


def install(vm: AgentVM) -> GuestFile:
    """Put the swarm into a VM, as a program that it can start itself."""
    vm.fs.mkdir("/bin", exist_ok=True)
    vm.fs.write("/bin/swarm", process_guest("swarm").read_bytes(), mode=0o755)
    return GuestFile("/bin/swarm")


def swarm(*args: str, **changes: int | float | str) -> list[str]:
    """Run a mode in fresh VMs beside a sibling that must keep its rate, and return what it said; nobody is left."""

    def scenario(vm: AgentVM) -> Result:
        result = vm.run(install(vm), args)
        assert not len(vm._kernel.processes), "somebody is left in the table"
        return result

    result = beside_a_sibling(scenario, ROOM, **changes)
    assert result.ok, result.describe() + result.stderr_text
    return result.stdout_text.splitlines()


# -- tables -----------------------------------------------------------------------------------------------------------


def test_a_fork_bomb_gets_eagain_at_the_cap_and_goes_on() -> None:
    assert swarm("forkbomb") == ["spawned 23", "refused EAGAIN", "reaped 23", "again OK", "reaped 1"]


def test_zombies_hold_their_places_until_they_are_reaped() -> None:
    assert swarm("zombies") == ["spawned 23", "refused EAGAIN", "reaped 23", "again OK", "reaped 1"]


def test_pipes_end_with_enfile_at_max_pipes_and_with_emfile_at_the_descriptors() -> None:
    assert swarm("pipes", max_pipes=10) == ["pipes 10", "refused ENFILE", "again OK"]
    assert swarm("pipes", max_open_fds_per_process=13) == ["pipes 5", "refused EMFILE", "again OK"]


def test_sockets_end_with_enfile_at_max_sockets() -> None:
    assert swarm("sockets", max_sockets=12) == ["sockets 12", "refused ENFILE", "again OK"]


def test_connections_end_with_enobufs_or_enfile_at_max_connections() -> None:
    """Each has two ends here: the third connect finds no place, or finds the last, and then its accept finds none."""
    assert swarm("connections", max_connections=4) == ["connections 2", "refused ENOBUFS"]
    assert swarm("connections", max_connections=5) == ["connections 2", "refused ENFILE"]


def test_orphans_live_on_and_leave_nothing() -> None:
    assert swarm("orphans", "5") == ["heard of 5"]


def test_a_storm_of_signals_is_survived_by_all() -> None:
    assert swarm("storm", "8") == ["started 8", "reaped 8", "got some"]


def test_a_parent_that_computes_does_not_starve_its_child() -> None:
    assert swarm("compute", "20") == ["parent ended", "reaped 1"]


def test_what_cannot_be_started_is_refused_to_the_caller_who_goes_on() -> None:
    def scenario(vm: AgentVM) -> Result:
        vm.fs.write("/bin/plain", b"no module, no script", mode=0o755)
        vm.fs.write("/bin/quiet", b"\0asm\1\0\0\0", mode=0o644)
        vm.fs.write("/bin/broken", b"\0asm\1\0\0\0\1\377", mode=0o755)
        return vm.run(install(vm), ["bombard", program, "2"]).check()

    for program, errno in (
        ("/bin/plain", "ENOEXEC"),
        ("/bin/quiet", "EACCES"),
        ("/bin/broken", "ENOEXEC"),
        ("/bin", "EACCES"),
        ("/bin/nothing", "ENOENT"),
    ):
        with opened(ROOM) as vm:
            vm.fs.mkdir("/bin", exist_ok=True)
            assert scenario(vm).stdout_text.splitlines() == [errno, errno, "reaped 0"], program


@pytest.mark.parametrize("bomb", [time_bomb, memory_bomb], ids=["of time", "of memory"])
def test_a_compile_bomb_is_enoexec_to_who_spawns_it(bomb: Callable[[], bytes]) -> None:
    def scenario(vm: AgentVM) -> Result:
        program = install(vm)
        vm.fs.write("/bin/bomb", bomb(), mode=0o755)
        return vm.run(program, ["bombard", "/bin/bomb", "2"]).check()

    limits = ROOM.replace(max_guest_compile_seconds=0.3, max_compile_memory_bytes="256MiB")
    result = beside_a_sibling(scenario, limits, again=False)
    assert result.stdout_text.splitlines() == ["ENOEXEC", "ENOEXEC", "reaped 0"]


def test_processes_spend_one_budget_of_fuel_and_never_more_than_it_holds() -> None:
    cap = 2_000_000_000
    with opened(ROOM, max_fuel=cap) as vm:
        result = vm.run(install(vm), ["compute", "1000000"], timeout=HANG_SECONDS)
        assert (result.signal, result.cause.limit) == (Signal.SIGXCPU, "max_fuel")
        until(lambda: not vm.usage()["max_processes"].used, "the child's end, which has a lease of its own")
        spent = vm.usage()["max_fuel"].used
        assert 0.9 * cap <= spent <= cap


# -- memory -----------------------------------------------------------------------------------------------------------


def test_64_processes_that_take_all_memory_at_once_share_the_cap_to_the_page() -> None:
    cap = 64 << 20
    with opened(ROOM, max_memory_bytes=cap, max_processes=80, max_memory_per_process_bytes=cap) as vm:
        process = vm.spawn(install(vm), ["memory", "63"])
        lines = Lines(process)
        assert [next(lines) for _ in range(3)] == ["started 63", "answered 63", "holding"]
        usage = vm.usage()["max_memory_bytes"]
        assert usage.peak <= cap
        assert cap - usage.used < 2 * PAGE, "malloc asks for a page at least, and there is one"
        assert usage.refused >= 63
        process.stdin.write(b"\n")
        assert process.wait(HANG_SECONDS).ok
        assert vm.usage()["max_memory_bytes"].used == 0


class Lines:
    """The lines of a process's output, one by one."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._text = b""

    def __next__(self) -> str:
        while b"\n" not in self._text:
            piece = self._process.stdout.read(4096)
            assert piece, "it has ended"
            self._text += piece
        line, self._text = self._text.split(b"\n", 1)
        return line.decode()


# -- those that never end ---------------------------------------------------------------------------------------------


def _stalled(vm: AgentVM) -> Callable[[], Stall]:
    stalls: list[Stall] = []
    heard = threading.Event()
    vm.on_stall(lambda stall: (stalls.append(stall), heard.set()))

    def first() -> Stall:
        assert heard.wait(HANG_SECONDS), "no stall was reported"
        return stalls[0]

    return first


def test_a_ring_of_pipes_that_waits_for_itself_is_reported_with_who_waits_for_what() -> None:
    with opened(ROOM) as vm:
        first = _stalled(vm)
        process = vm.spawn(install(vm), ["ring", "4"], stdin=b"")
        stall = first()
        assert len(stall.processes) == 5
        assert stall.processes[0].pid == process.pid
        assert stall.processes[0].waits_for == "its children"
        assert all(waits.waits_for.endswith("a pipe") for waits in stall.processes[1:])
        assert all(waits.name == "swarm" for waits in stall.processes)
        process.kill()
        assert process.wait(HANG_SECONDS).signal is Signal.SIGKILL


def test_a_stall_ends_the_vms_programs_where_the_operator_wants_that() -> None:
    with opened(ROOM, on_stall="kill") as vm:
        result = vm.run(install(vm), ["ring", "4"], timeout=HANG_SECONDS)
        assert (result.signal, result.cause.kind) == (Signal.SIGKILL, CauseKind.STALL)
        assert "for its children; " in result.cause.message


def test_who_waits_for_the_host_is_not_stalled() -> None:
    with opened(ROOM) as vm:
        stalls: list[Stall] = []
        vm.on_stall(stalls.append)
        listener = vm.spawn(install(vm), ["listen"], stdin=b"")
        lines = Lines(listener)
        next(lines)
        reader = vm.spawn(GuestFile("/bin/swarm"), ["memory", "0"])  # reads from the host
        assert next(Lines(reader)) == "started 0"
        gate = threading.Event()
        gate.wait(0.05)
        assert not [stall for stall in stalls if reader.pid in {waits.pid for waits in stall.processes}]
        reader.stdin.write(b"\n")
        assert reader.wait(HANG_SECONDS).ok


def test_a_flood_of_connections_to_who_never_accepts_is_refused_and_costs_no_memory() -> None:
    def scenario(vm: AgentVM) -> int:
        with vm.spawn(install(vm), ["listen"], stdin=b"") as process:
            port = int(next(Lines(process)).split()[1])
            refused, taken = 0, []
            for _ in range(200):
                try:
                    taken.append(vm.connect(port))
                except ConnectionRefusedError:
                    refused += 1
            for connection in taken:
                connection.close()
            assert len(taken) + refused == 200
            return refused

    assert beside_a_sibling(scenario, ROOM) >= 180


ENDLESS = {
    "bombs that spawn bombs": ("bombs",),
    "a ring of pipes": ("ring", "5"),
    "one that left its parent": ("leave",),
    "one that computes": ("spin",),
    "one that listens": ("listen",),
    "sleepers": ("forkbomb",),
}


def _late(mode: tuple[str, ...]) -> float:
    """Return the seconds that closing a VM takes while its programs are at it."""
    vm = AgentVM(ROOM)
    process = vm.spawn(install(vm), mode, stdin=b"", capture=True)
    deadline = monotonic() + HANG_SECONDS
    while vm.usage()["max_processes"].peak < 2 and mode[0] not in ("spin", "listen") and monotonic() < deadline:
        threading.Event().wait(0.001)
    threading.Event().wait(0.02)
    asked = monotonic()
    vm.close()
    late = monotonic() - asked
    assert not process.running
    left = {use.name: use.used for use in vm.usage() if use.used and use.spec.kind.value == "gauge"}
    assert not left, f"still held after close: {left}"
    return late


@pytest.mark.parametrize("name", ENDLESS)
def test_closing_a_vm_ends_all_of_its_programs_in_time(name: str) -> None:
    seen = []
    for _ in range(ATTEMPTS):
        with WakeUps() as wake_ups:
            late = max(_late(ENDLESS[name]) for _ in range(TRIALS))
        mark = LATE_SECONDS + WAKE_UPS * percentile(wake_ups.seconds, 99)
        seen.append(f"{late * 1e3:.1f} ms where {mark * 1e3:.1f} are allowed")
        if late <= mark:
            return
    pytest.fail(f"close while {name}: {'; '.join(seen)}")


def test_a_bomb_of_bombs_is_held_by_the_cap_beside_a_sibling() -> None:
    def scenario(vm: AgentVM) -> int:
        process = vm.spawn(install(vm), ["bombs"], stdin=b"", capture=True)
        deadline = monotonic() + HANG_SECONDS
        while not vm.usage()["max_processes"].refused:
            assert monotonic() < deadline
            threading.Event().wait(0.001)
        process.kill()
        return int(vm.usage()["max_processes"].peak)

    assert beside_a_sibling(scenario, ROOM) <= 24


def test_64_runs_at_once_on_a_fresh_vm_all_succeed() -> None:
    with opened(Limits()) as vm:
        program = install(vm)
        processes = [vm.spawn(program, ["exit", str(number)], stdin=b"", capture=True) for number in range(64)]
        assert [process.wait(HANG_SECONDS).exit_code for process in processes] == list(range(64))
