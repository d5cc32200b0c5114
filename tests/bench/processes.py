"""(i) to (m): programs that start others, and what flows between them."""

import time
from collections.abc import Callable
from pathlib import Path

from agentvm import AgentVM, Limits, Process
from agentvm.engine.capacity import host_usage
from tests.bench.memory import resident_bytes
from tests.bench.starts import HELLO, MS, percentile, timed

LOAD = Path(__file__).parents[2] / "fixtures" / "processes" / "load.wasm"
PIECE_BYTES = 1 << 16
MB = 1e6


def _opened() -> AgentVM:
    vm = AgentVM(Limits(max_cpu_time_seconds="none", max_fuel_per_process="none", max_open_fds="none"))
    vm.fs.mkdir("/bin", exist_ok=True)
    vm.fs.write("/bin/load", LOAD.read_bytes(), mode=0o755)
    vm.fs.write("/bin/hello", HELLO.read_bytes(), mode=0o755)
    return vm


def _load(vm: AgentVM, *args: object) -> float:
    """Run a load, and return the seconds that it took."""
    begin = time.perf_counter()
    vm.run(LOAD, [str(arg) for arg in args], argv0="/bin/load").check()
    return time.perf_counter() - begin


def spawn(times: int = 200, rounds: int = 15) -> str:
    with _opened() as vm:
        nothing = min(timed(lambda: _load(vm, "copy", 0), 20))
        each = [(spent - nothing) / times for spent in timed(lambda: _load(vm, "spawn", times, "/bin/hello"), rounds)]

    def alone() -> None:
        with AgentVM() as vm:
            assert vm.run(HELLO).ok

    base = percentile(timed(alone, 500), 50)
    ours = percentile(each, 50)
    return (
        f"spawn + exit + wait of a cached hello, by a guest: p50 {ours * MS:.3f} ms\n"
        f"create a VM + run it + close:                     p50 {base * MS:.3f} ms\nratio: {ours / base:.2f}"
    )


def _throughput(mode: str, count: int = 4000) -> tuple[float, float]:
    """Return the bytes a second through a pipe or connection, and of a copy inside one guest's memory."""
    with _opened() as vm:
        flow = count * PIECE_BYTES / min(timed(lambda: _load(vm, mode, count), 5))
    data, target = bytes(PIECE_BYTES), memoryview(bytearray(PIECE_BYTES))

    def copy() -> None:
        for _ in range(count):
            target[:] = data

    return flow, count * PIECE_BYTES / min(timed(copy, 5))


def _flow(mode: str, what: str, aim: str) -> str:
    flow, copy = _throughput(mode)
    return (
        f"{what} between two guests, 64 KiB a call: {flow / MB:,.0f} MB/s{aim}\n"
        f"memoryview copies of 64 KiB in Python:   {copy / MB:,.0f} MB/s\nratio: {flow / copy:.3f}"
    )


def pipe() -> str:
    return _flow("pipe", "a pipe", " (aim 500)")


def tcp(trips: int = 3000) -> str:
    with _opened() as vm:
        nothing = min(timed(lambda: _load(vm, "echo", 1), 10))
        trip = (min(timed(lambda: _load(vm, "echo", trips), 5)) - nothing) / trips
    return f"{_flow('tcp', 'TCP loopback', '')}\nround trip of one byte over TCP loopback: {trip * MS * 1000:.0f} µs"


def poll(times: int = 200, descriptors: int = 1000) -> str:
    limits = Limits(max_open_fds=4096, max_open_fds_per_process=2048)
    with AgentVM(limits) as vm:
        spent = _polls(vm, times, descriptors)
        one = _polls(vm, times, 1)
    return (
        f"poll over {descriptors:,} descriptors, the last one ready: {spent * MS:.3f} ms; over one {one * MS:.3f} ms\n"
        f"for each descriptor: {(spent - one) / (descriptors - 1) * MS * 1000:.2f} µs"
    )


def _polls(vm: AgentVM, times: int, descriptors: int) -> float:
    def run(count: int) -> Callable[[], object]:
        return lambda: vm.run(LOAD, ["poll", str(count), str(descriptors)], argv0="/bin/load").check()

    return (min(timed(run(times), 5)) - min(timed(run(1), 5))) / (times - 1)


def many(vms: int = 100, each: int = 10) -> str:
    """Processes that wait, in many VMs at once."""
    opened = [AgentVM() for _ in range(vms)]
    warm = opened[0].spawn(LOAD, ["idle"])
    warm.kill()
    warm.wait()
    before, begin = resident_bytes(), time.perf_counter()
    running: list[Process] = [vm.spawn(LOAD, ["idle"]) for vm in opened for _ in range(each)]
    started = time.perf_counter() - begin
    memory = sum(vm.usage()["max_memory_bytes"].used for vm in opened)
    peak = host_usage()["max_running_processes"].used
    grown = resident_bytes() - before
    begin = time.perf_counter()
    for vm in opened:
        vm.close()
    closed = time.perf_counter() - begin
    assert not any(process.running for process in running)
    return (
        f"{peak:,} processes in {vms} VMs: started in {started:.2f} s, all ended and given back in {closed:.2f} s\n"
        f"resident memory: {grown / len(running) / 1024:.0f} KiB each, with the pages that they touch of "
        f"{memory / len(running) / 1024:.0f} KiB of linear memory (target: 200 beyond these)"
    )
