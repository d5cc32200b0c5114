"""Drivers for the limits of modules and of compiling: a module of the wanted size is run, or refused."""

import contextlib
import itertools
import os
from collections.abc import Callable

import pytest

from agentvm import AgentVM, GuestFile
from agentvm.errors import CompileLimit, ModuleLimit
from tests.limits.crossing import Stage, crosses
from tests.limits.harness import assemble
from tests.support.wasm_builder import memory_bomb, name, section, time_bomb

__all__ = ()

WASI = "wasi_snapshot_preview1"
_START = '(func $start (export "_start"))'
#: No two modules are the same, in this run or another, so that each is compiled.
_serial = itertools.count(int.from_bytes(os.urandom(6)) << 16)


def _unique(wasm: bytes) -> bytes:
    return wasm + section(0, name("serial") + str(next(_serial)).encode())


def _text(fields: str) -> bytes:
    return assemble(f"(module {_START} {fields})")


def _repeat(field: str, less: int = 0) -> Callable[[int], bytes]:
    """A module of `n` such fields, of which its start brings `less` along."""
    return lambda n: _text(" ".join(field.replace("N", str(i)) for i in range(n - less)))


def _imports(n: int) -> bytes:
    imports = f'(import "{WASI}" "sched_yield" (func (result i32)))' * n
    return assemble(f'(module {imports} (func (export "_start")))')


def _padded(size: int) -> bytes:
    bare = _text("")
    for padding in range(size - len(bare)):
        wasm = bare + section(0, name("padding") + bytes(padding))
        if len(wasm) == size:
            return wasm
    raise AssertionError(f"no module of {size} bytes")


def _custom(n: int) -> bytes:
    return _text("") + section(0, name("custom")) * (n - 1)  # its names are one


def _crosses(stage: Stage, make: Callable[[int], bytes], cap: int) -> None:
    with stage.open(**{stage.limit: cap}) as vm:
        vm.run(make(cap * 7 // 10)).check()
        stage.quiet()
        vm.run(make(cap * 9 // 10)).check()
        vm.run(make(cap)).check()
        stage.warned()
        vm.run(make(cap // 2)).check()
        stage.recovered()
        vm.run(make(cap)).check()
        stage.warned()
        with pytest.raises(ModuleLimit, match=stage.limit):
            vm.run(make(cap + 1))
        stage.refused()


@crosses("max_module_bytes")
def module_bytes(stage: Stage) -> None:
    _crosses(stage, _padded, 1000)


@crosses("max_types")
def types(stage: Stage) -> None:
    _crosses(stage, lambda n: _text(" ".join(_type(i) for i in range(n - 1))), 20)


def _type(number: int) -> str:
    return f"(type (func (param{' i32' * (number + 1)})))"


@crosses("max_imports")
def imports(stage: Stage) -> None:
    _crosses(stage, _imports, 20)


@crosses("max_exports")
def exports(stage: Stage) -> None:
    _crosses(stage, _repeat('(export "eN" (func $start))', less=1), 20)


@crosses("max_functions")
def functions(stage: Stage) -> None:
    _crosses(stage, _repeat("(func)", less=1), 20)


@crosses("max_globals")
def global_variables(stage: Stage) -> None:
    _crosses(stage, _repeat("(global i32 (i32.const N))"), 20)


@crosses("max_segments")
def segments(stage: Stage) -> None:
    _crosses(stage, _repeat('(data "N")'), 20)


@crosses("max_custom_sections")
def custom_sections(stage: Stage) -> None:
    _crosses(stage, _custom, 20)


@crosses("max_tables")
def tables(stage: Stage) -> None:
    _crosses(stage, _repeat("(table 1 1 funcref)"), 10)


@crosses("max_table_elements")
def table_elements(stage: Stage) -> None:
    _crosses(stage, lambda n: _text(f"(table {n} {n} funcref)"), 1000)


@crosses("max_memories")
def memories(stage: Stage) -> None:
    _crosses(stage, _repeat("(memory 0 1)"), 10)


# -- what a guest wrote -----------------------------------------------------------------------------------------------


def _run_file(vm: AgentVM, wasm: bytes) -> None:
    vm.fs.write("/program.wasm", wasm)
    vm.run(GuestFile("/program.wasm")).check()


@crosses("max_guest_module_bytes")
def guest_module_bytes(stage: Stage) -> None:
    with stage.open(max_guest_module_bytes=1000) as vm:
        _run_file(vm, _padded(700))
        stage.quiet()
        _run_file(vm, _padded(900))
        stage.warned()
        _run_file(vm, _padded(500))
        stage.recovered()
        _run_file(vm, _padded(1000))
        stage.warned()
        with pytest.raises(ModuleLimit, match=stage.limit):
            _run_file(vm, _padded(1001))
        stage.refused()


# -- compiling --------------------------------------------------------------------------------------------------------


def _slow_work() -> bytes:
    """Takes the compiler some tenths of a second: locals that change inside nested loops."""
    bumps = "".join(f"(local.set {i} (i32.add (local.get {i}) (i32.const 1)))" for i in range(250))
    body = "(loop " * 250 + bumps + ")" * 250
    return _unique(assemble(f'(module (func (export "_start") (local{" i32" * 250}) {body}))'))


def _large_work() -> bytes:
    """Takes the compiler about as much memory as the lowest cap lets it have: a function of 200,000 instructions."""
    add = "(i32.store (i32.const {0}) (i32.add (i32.load (i32.const {1})) (i32.const {0})))"
    body = "".join(add.format(4 * i, 8 * i) for i in range(42_000))
    return _unique(assemble(f'(module (memory 10) (func {body}) (func (export "_start")))'))


Compile = Callable[[AgentVM, bytes], object]


def _compiles(stage: Stage, run: Compile, work: Callable[[], bytes], bomb: Callable[[], bytes]) -> None:
    """What a compile takes cannot be chosen, but the cap can: it comes down in steps that are smaller than the stretch
    between the warning and the refusal, until the next compile warns."""
    with stage.open() as vm:
        run(vm, work())
        cost, minimum = stage.use.peak, stage.use.spec.minimum
    for step in itertools.count():
        assert step < 50, f"no compile warned; the first took {cost}"
        cap = max(minimum, cost * 2.5 * 0.88 ** (step % 13))
        with stage.open(**{stage.limit: int(cap) if isinstance(minimum, int) else cap}) as vm:
            if _until_it_warns(stage, lambda: run(vm, work()), tries=1):
                run(vm, _unique(_text("")))
                stage.recovered()
                if not _until_it_warns(stage, lambda: run(vm, work()), tries=20):
                    continue  # the first took longer than such compiles do: a cap that others come near, then
                with pytest.raises(CompileLimit, match=stage.limit):
                    run(vm, _unique(bomb()))
                stage.refused()
                return


def _until_it_warns(stage: Stage, compile_one: Callable[[], object], *, tries: int) -> bool:
    """Compile again and again. On a busy machine one may even be refused; that is not what is shown here."""
    for _ in range(tries):
        with contextlib.suppress(CompileLimit):
            compile_one()
        stage.refusals = stage.use.refused
        if stage.use.warnings > stage.warnings:
            stage.warned()
            return True
    return False


@crosses("max_compile_seconds")
def compile_seconds(stage: Stage) -> None:
    _compiles(stage, AgentVM.run, _slow_work, time_bomb)


@crosses("max_guest_compile_seconds")
def guest_compile_seconds(stage: Stage) -> None:
    _compiles(stage, _run_file, _slow_work, time_bomb)


@crosses("max_compile_memory_bytes")
def compile_memory(stage: Stage) -> None:
    _compiles(stage, AgentVM.run, _large_work, memory_bomb)
