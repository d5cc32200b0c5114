"""(b), (e), (f): what it costs to start: a VM, the command, a large interpreter."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import wasmtime

from agentvm import AgentVM
from tests.support.real_guests import real_guest

HELLO = Path(__file__).parents[2] / "fixtures" / "guests" / "hello.wasm"
MS = 1e3


def timed(action: Callable[[], object], times: int) -> list[float]:
    """Return how long each of `times` calls took, in seconds, sorted."""
    action()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        spent.append(time.perf_counter() - start)
    return sorted(spent)


def percentile(sorted_values: list[float], percent: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * percent / 100))]


def _bare_instantiate() -> Callable[[], object]:
    """A new store, an instance with its imports, and a call: wasmtime-py and nothing else."""
    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, HELLO.read_bytes())
    linker = wasmtime.Linker(engine)
    linker.define_wasi()

    def once() -> None:
        store = wasmtime.Store(engine)
        store.set_wasi(wasmtime.WasiConfig())
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        start(store)
        store.close()

    return once


def hello() -> str:
    def once() -> None:
        with AgentVM() as vm:
            assert vm.run(HELLO).ok

    ours, bare = timed(once, 2000), timed(_bare_instantiate(), 2000)
    lines = [
        f"agentvm              p50 {percentile(ours, 50) * MS:.3f} ms   p99 {percentile(ours, 99) * MS:.3f} ms",
        f"bare wasmtime-py run p50 {percentile(bare, 50) * MS:.3f} ms   p99 {percentile(bare, 99) * MS:.3f} ms",
        f"ratio of p50: {percentile(ours, 50) / percentile(bare, 50):.2f} (target: p50 at most 0.5 ms)",
    ]
    return "\n".join(lines)


def cold() -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def command(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], capture_output=True, check=True, env=environment)

    with TemporaryDirectory() as compiled:
        environment["PYTHONPYCACHEPREFIX"] = compiled  # an installation has its bytecode, a checkout may not
        ours = timed(command("-m", "agentvm", "run", str(HELLO)), 15)
        base = timed(command("-c", "import wasmtime"), 15)
        bare = timed(command("-c", "pass"), 15)
    return (
        f"agentvm run hello.wasm     p50 {ours[7] * MS:.0f} ms (target: at most 150 on a quiet machine)\n"
        f"python -c 'import wasmtime' p50 {base[7] * MS:.0f} ms; python -c pass {bare[7] * MS:.0f} ms\n"
        f"ratio to the import: {ours[7] / base[7]:.2f}"
    )


def python() -> str:
    try:
        guest = real_guest("python")
    except pytest.skip.Exception as reason:
        return f"skipped: {reason}"

    def ours() -> None:
        with AgentVM() as vm:
            assert vm.run(guest, ["-c", "print(1)"], argv0="python").check().stdout == b"1\n"

    engine = wasmtime.Engine()
    module = wasmtime.Module(engine, Path(guest).read_bytes())
    linker = wasmtime.Linker(engine)
    linker.define_wasi()

    def theirs() -> None:
        store = wasmtime.Store(engine)
        config = wasmtime.WasiConfig()
        config.argv = ["python", "-c", "print(1)"]
        store.set_wasi(config)
        start = linker.instantiate(store, module).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        try:
            start(store)
        except wasmtime.ExitTrap as exit_trap:
            assert exit_trap.code == 0  # noqa: PT017 - an exit is an exception to wasmtime-py
        store.close()

    mine, base = timed(ours, 20), timed(theirs, 20)
    return (
        f"agentvm     p50 {mine[10] * MS:.1f} ms\nwasmtime-py p50 {base[10] * MS:.1f} ms (module in memory)\n"
        f"ratio: {mine[10] / base[10]:.2f}"
    )
