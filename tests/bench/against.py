"""`python -m tests.bench.against CHECKOUT`: what another checkout's code takes for the same, as ratios ours / theirs.

Both run in turn, in slices, so that what else the machine does meets both; of each figure the lowest tenth counts. Each
checkout has an environment of its own, in `.venv`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from time import perf_counter

OURS = Path(__file__).resolve().parents[2]
COLD = ("-m", "agentvm", "run", "fixtures/guests/hello.wasm")

#: Runs in each checkout: reads the name of an action, and answers with the seconds that one slice of it took, of the
#: wall clock and of the processor.
WORKER = """
import os, sys, time
from agentvm import AgentVM
from tests.bench.calls import CALLS, guest, under_agentvm
from tests.bench.starts import HELLO

kept = AgentVM()

def repeat(action, times):
    def act():
        for _ in range(times):
            action()
    return act

def start():
    with AgentVM() as vm:
        vm.run(HELLO)

actions = {
    "open and close a VM": repeat(lambda: AgentVM().close(), 200),
    "create + hello + close": repeat(start, 50),
    "hello in an open VM": repeat(lambda: kept.run(HELLO), 50),
}
for call in CALLS:
    actions[call.name] = lambda wasm=guest(call): under_agentvm(wasm)
for action in actions.values():
    action()
print(*actions, sep=";", flush=True)
for line in sys.stdin:
    action = actions[line.strip()]
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)
"""


class Checkout:
    """A checkout, with a worker that has its code loaded."""

    def __init__(self, folder: Path, bytecode: str) -> None:
        self._folder = folder
        self._python = str(folder / ".venv" / "bin" / "python")
        # An installation has its bytecode, a checkout may not.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._environment = {**kept, "PYTHONPYCACHEPREFIX": bytecode, "AGENTVM_LOG": "error"}
        self._worker = subprocess.Popen(
            [self._python, "-c", WORKER], cwd=folder, env=self._environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._worker.stdout is not None
        self.actions = self._worker.stdout.readline().strip().split(";")

    def slice(self, action: str) -> tuple[float, float]:
        """Return the seconds, of the wall clock and of the processor, that one slice of an action takes."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        print(action, file=self._worker.stdin, flush=True)
        wall, cpu = self._worker.stdout.readline().split()
        return float(wall), float(cpu)

    def cold(self) -> tuple[float, float]:
        """The same for the command, the whole process."""
        before, started = getrusage(RUSAGE_CHILDREN), perf_counter()
        subprocess.run([self._python, *COLD], cwd=self._folder, env=self._environment, capture_output=True, check=True)
        wall, after = perf_counter() - started, getrusage(RUSAGE_CHILDREN)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def close(self) -> None:
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()


def _lowest(values: list[float]) -> float:
    low = sorted(values)[: max(1, len(values) // 10)]
    return sum(low) / len(low)


def _compare(name: str, slices: list[Callable[[], tuple[float, float]]], times: int) -> str:
    taken: list[list[tuple[float, float]]] = [[] for _ in slices]
    for _ in range(times):
        for spent, measure in zip(taken, slices, strict=True):
            spent.append(measure())
    (wall, cpu), (their_wall, their_cpu) = (
        tuple(_lowest(list(column)) for column in zip(*spent, strict=True)) for spent in taken
    )
    return (
        f"{name:26}{wall / their_wall:>8.3f}{cpu / their_cpu:>8.3f}{wall * 1e3:>12.2f} ms{their_wall * 1e3:>12.2f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.against", description=__doc__)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--times", type=int, default=60, help="slices of each action (default: 60)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as bytecode:
        both = [Checkout(folder, bytecode) for folder in (OURS, options.checkout.resolve())]
        print(f"{'':26}{'wall':>8}{'CPU':>8}{'ours':>15}{'theirs':>15}", flush=True)
        print(_compare("agentvm run, cold", [side.cold for side in both], options.times), flush=True)
        for name in both[0].actions:
            slices = [lambda side=side, name=name: side.slice(name) for side in both]
            print(_compare(name, slices, options.times), flush=True)
        for side in both:
            side.close()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
