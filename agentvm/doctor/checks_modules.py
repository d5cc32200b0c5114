"""Checks of modules, and of compiling them: nearly all are refused before anything is compiled."""

from agentvm.api.guest_file import GuestFile
from agentvm.api.vm import AgentVM
from agentvm.doctor.check import Check, Trial, check
from agentvm.doctor.modules import crowded, memory_bomb, padded, time_bomb
from agentvm.doctor.seen import Seen, refused
from agentvm.errors import CompileLimit, ModuleLimit

__all__ = ()

#: How many a module may have.
_CAP = 2


def _crowded(trial: Trial) -> Seen:
    with trial.vm(_CAP) as vm:
        wasm = crowded(trial.spec.name, _CAP + 1)
        return refused(lambda: vm.run(wasm), ModuleLimit, trial.spec)


def _of(limit: str) -> Check:
    return check(limit, by="loader")(_crowded)


types = _of("max_types")
imports = _of("max_imports")
exports = _of("max_exports")
functions = _of("max_functions")
variables = _of("max_globals")
segments = _of("max_segments")
custom_sections = _of("max_custom_sections")
tables = _of("max_tables")
table_elements = _of("max_table_elements")
memories = _of("max_memories")


@check("max_module_bytes", by="loader")
def module_bytes(trial: Trial) -> Seen:
    with trial.vm(500) as vm:
        return refused(lambda: vm.run(padded(501)), ModuleLimit, trial.spec)


def _run_file(vm: AgentVM, wasm: bytes, timeout: float | None = None) -> object:
    vm.fs.write("/program.wasm", wasm)
    return vm.run(GuestFile("/program.wasm"), timeout=timeout)


@check("max_guest_module_bytes", by="loader")
def guest_module_bytes(trial: Trial) -> Seen:
    with trial.vm(500) as vm:
        return refused(lambda: _run_file(vm, padded(501)), ModuleLimit, trial.spec)


# -- compiling --------------------------------------------------------------------------------------------------------


def _give_up_after(trial: Trial) -> float:
    """How long a bomb is compiled where its cap does not hold, in seconds."""
    return trial.rig.patience_seconds / 2


@check("max_compile_seconds", by="compiler process")
def compile_seconds(trial: Trial) -> Seen:
    with trial.vm(0.1) as vm:
        run = lambda: vm.run(time_bomb(), timeout=_give_up_after(trial))  # noqa: E731
        return refused(run, CompileLimit, trial.spec, cap=0.1)


@check("max_guest_compile_seconds", by="compiler process")
def guest_compile_seconds(trial: Trial) -> Seen:
    with trial.vm(0.1) as vm:
        run = lambda: _run_file(vm, time_bomb(), _give_up_after(trial))  # noqa: E731
        return refused(run, CompileLimit, trial.spec, cap=0.1)


@check("max_compile_memory_bytes", by="compiler process")
def compile_memory(trial: Trial) -> Seen:
    with trial.vm("256MiB") as vm:
        run = lambda: vm.run(memory_bomb(), timeout=_give_up_after(trial))  # noqa: E731
        return refused(run, CompileLimit, trial.spec, cap=256 << 20)
