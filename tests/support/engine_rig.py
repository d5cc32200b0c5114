"""Runs small modules written as text on the real engine, with a handful of host calls and no WASI.

The calls (import module "t"): `nop`, `value(i32) -> i32` (returns its argument), `exit(i32)`, `fault` (raises in the
host), `wait` (blocks until killed or `Rig.release`), `sleep(ms)`, `reenter(i32)` (calls the export "handler" with it),
`read(i32) -> i32` (a byte of the guest's memory), `spawn` (calls `Rig.on_spawn`), `yield`.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any

import wasmtime

from agentvm.abi.memory import GuestMemory
from agentvm.clock import SystemClock
from agentvm.engine import bind, public_calls
from agentvm.engine.config import EngineProfile, engine_for
from agentvm.engine.current import current
from agentvm.engine.execution import Execution
from agentvm.engine.image import Image
from agentvm.engine.machine import Machine
from agentvm.engine.module_info import ModuleInfo
from agentvm.engine.wasm import parse
from agentvm.kernel.fd_table import FdTable
from agentvm.kernel.process import Ending, GuestExit, Process
from agentvm.kernel.process import Image as ProcessImage
from agentvm.kernel.wait import WaitQueue, block_until
from agentvm.limits.amount import Amount
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry

__all__ = ["PATIENCE_SECONDS", "Program", "Rig", "load", "run"]

#: How long a test waits for what must happen at once: only a hang ever takes so long.
PATIENCE_SECONDS = 30.0
MIB = 1 << 20


@dataclass(frozen=True)
class Program:
    """A compiled module, as `Machine.start` takes it."""

    handle: wasmtime.Module
    info: ModuleInfo
    image: Image | None = None


class Context:
    """What the rig's host calls need of a process."""

    def __init__(self, rig: "Rig", process: Process) -> None:
        self.rig = rig
        self.process = process
        self.memory = GuestMemory(rig.registry.ceiling("max_iovecs"))


def _guarded(call: Callable[[Any, Any], int]) -> bind.HostCall:
    def callback(_env: int | None, _caller: int, address: int, _count: int) -> int:
        try:
            context: Any = current.context
            if monotonic() >= context.process.check_at:
                current.execution.checkpoint()
            value = ctypes.c_int32.from_address(address) if _count else None
            result = call(context, value.value if value is not None else 0)
            if value is not None and result is not None:
                value.value = result
            return 0
        except BaseException as error:
            return current.execution.fail(error)

    return callback


def _exit(_context: Context, code: int) -> int:
    raise GuestExit(code)


#: What `fault` raises.
FAULT: type[BaseException] = ZeroDivisionError


def _fault(_context: Context, _: int) -> int:
    raise FAULT("a bug in a host call")


def _wait(context: Context, _: int) -> None:
    rig = context.rig
    with rig.lock:
        rig.waiting += 1
        try:
            block_until(context.process, rig.lock, SystemClock(), [rig.queue], lambda: rig.released)
        finally:
            rig.waiting -= 1


def _sleep(context: Context, milliseconds: int) -> None:
    rig, clock = context.rig, SystemClock()
    with rig.lock:
        block_until(context.process, rig.lock, clock, [], lambda: False, clock.monotonic_ns() + milliseconds * 10**6)


def _reenter(_context: Context, value: int) -> None:
    current.execution.reenter("handler", (value,))


def _read(context: Context, pointer: int) -> int:
    return context.memory.span(pointer & 0xFFFF_FFFF, 1)[0]


def _spawn(context: Context, _: int) -> None:
    context.rig.on_spawn()


_CALLS: list[tuple[str, list[str], list[str], Callable[[Any, Any], Any]]] = [
    ("nop", [], [], lambda context, _: None),
    ("value", ["i32"], ["i32"], lambda context, value: value),
    ("exit", ["i32"], [], _exit),
    ("fault", [], [], _fault),
    ("wait", [], [], _wait),
    ("sleep", ["i32"], [], _sleep),
    ("reenter", ["i32"], [], _reenter),
    ("read", ["i32"], ["i32"], _read),
    ("spawn", [], [], _spawn),
    ("yield", [], [], lambda context, _: current.execution.give_way()),
]
IMPORTS = "\n".join(
    f'(import "t" "{name}" (func ${name} {"".join(f"(param {p}) " for p in params)}'
    f"{''.join(f'(result {r})' for r in results)}))"
    for name, params, results, _ in _CALLS
)


@lru_cache(maxsize=8)
def linker_for(stack_bytes: int, public: bool = False) -> bind.HostLinker:
    linker = bind.HostLinker(engine_for(EngineProfile(stack_bytes)))
    define = public_calls.define_call_public if public else bind.define_call
    for name, params, results, call in _CALLS:
        define(linker, "t", name, params, results, _guarded(call))
    return linker


@lru_cache(maxsize=256)
def load(body: str, stack_bytes: int = MIB) -> Program:
    """Compile a module whose fields are `body`, after the imports of all calls."""
    wasm = bytes(wasmtime.wat2wasm(f"(module {IMPORTS} {body})"))
    info, _ = parse(wasm, lambda *_: None)
    return Program(wasmtime.Module(engine_for(EngineProfile(stack_bytes)), wasm), info)


class Rig:
    """One VM without a kernel around it. Leaving the context checks that everything was given back."""

    def __init__(self, *, public: bool = False, **limits: Amount) -> None:
        self.registry = Registry(Limits(**limits))
        self.machine = Machine(self.registry)
        self.stack_bytes = int(self.registry.caps["max_wasm_stack_bytes"])
        self.linker = linker_for(self.stack_bytes, public)
        self.lock = threading.Lock()
        self.queue = WaitQueue()
        self.released = False
        self.waiting = 0
        self.on_spawn: Callable[[], None] = lambda: None
        self.endings: list[Ending] = []
        self._pid = 1

    def __enter__(self) -> "Rig":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        assert self.machine.close(PATIENCE_SECONDS), "guests outlived the VM"
        if error is None:
            assert self.registry.gauge("max_memory_bytes").used == 0
            assert self.machine.statistics().fuel.leased == 0

    def process(self) -> Process:
        self._pid += 1
        gauges = self.registry.open_process(self._pid)
        fds = FdTable(gauges.gauge("max_open_fds_per_process"), self.registry.gauge("max_open_fds"))
        return Process(self._pid, None, ProcessImage((b"guest",)), fds, gauges, None)  # type: ignore[arg-type]

    def start(self, body: "str | Program", **options: Any) -> Execution:
        """Start a module, given as text or loaded."""
        program = load(body, self.stack_bytes) if isinstance(body, str) else body
        process = self.process()
        options.setdefault("on_end", self.endings.append)
        return self.machine.start(program, process, Context(self, process), self.linker, **options)  # type: ignore[arg-type]

    def run(self, body: "str | Program", **options: Any) -> Ending:
        """Run a module to its end."""
        return ended(self.start(body, **options))

    def release(self) -> None:
        """Let every guest go that is in `wait`."""
        with self.lock:
            self.released = True
            self.queue.notify()


def ended(execution: Execution) -> Ending:
    """Wait for the end of an execution, which must come."""
    ending = execution.wait(PATIENCE_SECONDS)
    assert ending is not None, "the guest did not end"
    return ending


def run(body: str, **limits: Amount) -> Ending:
    """Run one module in a VM of its own."""
    with Rig(**limits) as rig:
        return rig.run(body)


def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait for something that other threads do, giving them the processor."""
    deadline = monotonic() + PATIENCE_SECONDS
    gate = threading.Event()
    while not condition():
        assert monotonic() < deadline, f"{what} did not happen"
        gate.wait(0.001)


START = '(func (export "_start") {})'
SPIN = START.format("(loop $l (br $l))")
#: Spins, and makes a host call in each round.
BUSY = START.format("(loop $l (call $nop) (br $l))")
WAIT = START.format("(call $wait)")
HELLO = '(memory (export "memory") 32) (data (i32.const 1024) "hello")' + START.format(
    "(drop (call $value (i32.const 1)))"
)
