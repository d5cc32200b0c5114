"""Takes each process-wide limit past its warning point, back, up again, and past its cap, with real programs.

A driver sets the caps that it needs; whoever calls it puts them back (`host_caps`).
"""

import functools
import io
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agentvm import AgentVM, HostDirectory, Limits, configure_host, host_usage, log
from agentvm.engine.module import cache_info, clear_cache, shared_loader
from agentvm.errors import CompileLimit, HostLimit, MountFailed, NotRunnable
from tests.limits.crossing import Stage, until
from tests.limits.harness import TIGHT, assemble
from tests.support.fixtures import guest
from tests.support.wasm_builder import name, section, time_bomb

__all__ = ["HOST_DRIVERS", "Driver", "host_caps"]

Driver = Callable[[Stage], None]
#: One for each process-wide limit, by its name.
HOST_DRIVERS: dict[str, Driver] = {}

#: Makes modules that nobody has compiled yet, all of the same size.
_serial = itertools.count(100_000)
_NOTHING = assemble('(module (func (export "_start")))')
_SPIN = assemble('(module (func (export "_start") (loop $for_ever (br $for_ever))))')
#: No good for its body, which leaves a number that nobody wants: known once it was compiled in vain.
_BAD = bytes.fromhex("0061736d0100000001040160000003020100070a01065f737461727400000a0601040041010b")
_GROW = assemble(
    '(module (memory (export "memory") 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))'
)


@contextmanager
def host_caps() -> Iterator[None]:
    """Put the process-wide caps back that there were."""
    before = {use.name: use.cap for use in host_usage()}
    try:
        yield
    finally:
        configure_host(**before)


def _drives(limit: str) -> Callable[[Driver], Driver]:
    def mark(driver: Driver) -> Driver:
        @functools.wraps(driver)
        def drive(stage: Stage) -> None:
            stage.listen_to(lambda: host_usage()[limit])
            driver(stage)

        HOST_DRIVERS[limit] = drive
        return drive

    return mark


def _used(limit: str) -> int:
    return int(host_usage()[limit].used)


def _unique(wasm: bytes = _NOTHING) -> bytes:
    return wasm + section(0, name(str(next(_serial))))


# -- VMs and processes ------------------------------------------------------------------------------------------------


@_drives("max_open_vms")
def open_vms(stage: Stage) -> None:
    configure_host(max_open_vms=_used("max_open_vms") * 3 + 20)
    cap, before = int(stage.use.cap), int(stage.use.used)
    with ExitStack() as opened:

        def open_to(count: int) -> None:
            while stage.use.used < count:
                opened.enter_context(AgentVM())

        for _ in range(2):
            open_to(cap * 7 // 10)
            stage.quiet()
            open_to(cap * 9 // 10)
            stage.warned()
            if stage.has_recovered:
                open_to(cap)
                with pytest.raises(HostLimit, match=stage.limit):
                    AgentVM()
                stage.refused()
            opened.close()
            assert stage.use.used == before
            stage.recovered()


@_drives("max_running_processes")
def running_processes(stage: Stage) -> None:
    configure_host(max_running_processes=10)
    with ExitStack() as opened:

        def spawn_to(count: int) -> None:
            vm = opened.enter_context(AgentVM())
            while stage.use.used < count:
                vm.spawn(guest("spin"), args=["sleep"])

        for _ in range(2):
            spawn_to(7)
            stage.quiet()
            spawn_to(9)
            stage.warned()
            if stage.has_recovered:
                spawn_to(10)
                with pytest.raises(HostLimit, match=stage.limit) as refused, AgentVM() as vm:
                    vm.run(guest("hello"))
                assert refused.value.values["errno"] == "EAGAIN"
                stage.refused()
            opened.close()
            assert stage.use.used == 0
            stage.recovered()


@_drives("max_computing_processes")
def computing_processes(stage: Stage) -> None:
    """Guests that make no call give no way by themselves, as long as nobody waits."""
    configure_host(max_computing_processes=5)
    with ExitStack() as opened:

        def spin_to(count: int) -> None:
            for _ in range(count - int(stage.use.used)):
                vm = opened.enter_context(AgentVM(Limits(max_cpu_percent="none")))
                vm.spawn(_SPIN)
            until(lambda: stage.use.used == count, f"{count} that compute")

        for _ in range(2):
            spin_to(3)
            stage.quiet()
            spin_to(4)
            stage.warned()
            if stage.has_recovered:
                spin_to(5)
                opened.enter_context(AgentVM()).spawn(_SPIN)
                until(lambda: stage.use.refused > stage.refusals, "one that waits")
                stage.refused()
                assert stage.use.used <= 5
                return
            opened.close()
            stage.recovered()


# -- descriptors and memory -------------------------------------------------------------------------------------------


@_drives("max_host_fds")
def host_fds(stage: Stage) -> None:
    shared_loader().close()  # modules in memory hold some
    configure_host(max_host_fds=_used("max_host_fds") * 2 + 30)
    with TemporaryDirectory() as folder, ExitStack() as opened:

        def mount_to(vm: AgentVM, count: int) -> None:
            while stage.use.used < count:
                path = f"/mount{stage.use.used}"
                vm.fs.mkdir(path)
                vm.mount(path, HostDirectory(Path(folder)))

        for _ in range(2):
            vm = opened.enter_context(AgentVM(TIGHT))
            first = f"/mount{stage.use.used}"
            mount_to(vm, int(stage.use.cap * 0.7))
            stage.quiet()
            mount_to(vm, int(stage.use.cap * 0.9))
            stage.warned()
            if stage.has_recovered:
                said = vm.run(guest("fds"), args=["open", f"{first}/file"]).check().stdout_text
                assert "errno ENFILE" in said
                stage.refused()
                with pytest.raises(MountFailed, match="ENFILE"):
                    mount_to(vm, int(stage.use.cap) + 1)
                stage.refused()
                return
            opened.close()
            stage.recovered()


@_drives("max_resident_memory_bytes")
def resident_memory(stage: Stage) -> None:
    configure_host(max_resident_memory_bytes="8MiB")  # 128 pages
    assert stage.use.used == 0
    for _ in range(2):
        with AgentVM() as one, AgentVM() as other, one.instantiate(_GROW) as first, other.instantiate(_GROW) as second:
            first.call("grow", 60)
            second.call("grow", 40)  # 102 with what they start with
            stage.quiet()
            first.call("grow", 1)
            stage.warned()
            assert second.call("grow", 25) == 41
            stage.quiet()
            if stage.has_recovered:
                assert first.call("grow", 1) == -1
                stage.refused()
                return
        stage.recovered()


# -- modules ----------------------------------------------------------------------------------------------------------


@_drives("max_compile_jobs")
def compile_jobs(stage: Stage) -> None:
    configure_host(max_compile_jobs=5)
    with ExitStack() as opened:

        def compile_some(count: int) -> None:
            for _ in range(count):
                vm = opened.enter_context(AgentVM(Limits(max_compile_seconds=1000)))
                thread = threading.Thread(target=_compile_until_killed, args=(vm,))
                opened.callback(thread.join)
                opened.callback(vm.kill)
                thread.start()

        for _ in range(2):
            compile_some(3)
            until(lambda: stage.use.used == 3, "three jobs")
            stage.quiet()
            compile_some(1)
            until(lambda: stage.use.used == 4, "a fourth job")
            stage.warned()
            if stage.has_recovered:
                compile_some(2)
                until(lambda: stage.use.refused > stage.refusals, "one that waits")
                stage.refused()
                assert stage.use.used == 5
            opened.close()
            assert stage.use.used == 0
            stage.recovered()


def _compile_until_killed(vm: AgentVM) -> None:
    with suppress(CompileLimit):
        vm.run(_unique(time_bomb()))


def _cached(stage: Stage, cap: int, clear: Callable[[], object]) -> None:
    """Load as many modules as make a cache of `cap` warn, drop them, and load more than it holds."""
    configure_host(**{stage.limit: cap})
    with AgentVM() as vm:

        def load_until(condition: Callable[[], bool]) -> None:
            while not condition():
                stage.quiet()
                vm.run(_unique()).check()

        for _ in range(2):
            clear()
            assert stage.use.used == 0
            stage.recovered()
            load_until(lambda: stage.use.percent >= 80)
            stage.warned()
        load_until(lambda: stage.use.refused > stage.refusals)
        stage.refused()
        assert stage.use.used <= cap


def _size_of_one(limit: str, clear: Callable[[], object]) -> int:
    """How much of a cache one of the modules takes that `_cached` loads."""
    clear()
    with AgentVM() as vm:
        vm.run(_unique()).check()
    return _used(limit)


def _clear_memory() -> None:
    shared_loader().close()


def _clear_disk() -> None:
    clear_cache()
    assert cache_info().entries == 0


@contextmanager
def _own_directory() -> Iterator[None]:
    """A cache directory for this test alone."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTVM_CACHE_DIR", str(Path(folder) / "cache"))
        shared_loader().close()
        shared_loader.cache_clear()
        yield
        shared_loader().close()
        shared_loader.cache_clear()


@_drives("max_cached_module_bytes")
def cached_module_bytes(stage: Stage) -> None:
    size = _size_of_one(stage.limit, _clear_memory)
    _cached(stage, size * 10 + size // 2, _clear_memory)


@_drives("max_cached_modules")
def cached_modules(stage: Stage) -> None:
    _cached(stage, 10, _clear_memory)


def _known(stage: Stage, one_more: Callable[[AgentVM], object]) -> None:
    """Have the cache know as much as makes it warn, forget it, and have it know more than it may."""
    configure_host(**{stage.limit: 10})
    with AgentVM() as vm:

        def know(count: int) -> None:
            while stage.use.used < count:
                one_more(vm)

        for _ in range(2):
            _clear_memory()
            assert stage.use.used == 0
            stage.recovered()
            know(7)
            stage.quiet()
            know(8)
            stage.warned()
        know(10)
        one_more(vm)
        stage.refused()
        assert stage.use.used == 10


@_drives("max_known_module_files")
def known_module_files(stage: Stage) -> None:
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.wasm" for number in range(11)]
        for path in paths:
            path.write_bytes(_NOTHING)
        threading.Event().wait(2.1)  # a younger file may still change without a trace, and is known by nothing
        following = itertools.cycle(paths)

        def run_file(vm: AgentVM) -> None:
            vm.run(next(following)).check()

        _known(stage, run_file)


@_drives("max_known_bad_modules")
def known_bad_modules(stage: Stage) -> None:
    def run_bad(vm: AgentVM) -> None:
        with pytest.raises(NotRunnable):
            vm.run(_unique(_BAD))

    _known(stage, run_bad)


@_drives("max_cache_bytes")
def cache_bytes(stage: Stage) -> None:
    with _own_directory():
        size = _size_of_one(stage.limit, _clear_disk)
        _cached(stage, size * 10 + size // 2, _clear_disk)
        assert cache_info().entries == 10


class _Stuck(io.StringIO):
    """A stderr that nobody reads until the gate is opened."""

    def __init__(self, gate: threading.Event) -> None:
        super().__init__()
        self._gate = gate

    def write(self, text: str) -> int:
        assert self._gate.wait(60)
        return super().write(text)


@_drives("max_waiting_log_lines")
def waiting_log_lines(stage: Stage) -> None:
    configure_host(max_waiting_log_lines=10)
    gate = threading.Event()
    log.configure(sink=_Stuck(gate))
    try:
        for is_last in (False, True):
            gate.clear()
            log.error("this one is being written")
            until(lambda: not stage.use.used, "its writer")
            for number in range(7):
                log.error(f"line {number} waits")
            stage.quiet()
            log.error("one more waits")
            stage.warned()
            if is_last:
                for number in range(4):
                    log.error(f"line {number} is one too many in the end")
                stage.refused()
                assert (stage.use.used, stage.use.refused) == (10, 2)
            gate.set()
            assert log.flush(60)
            if not is_last:
                stage.recovered()
    finally:
        gate.set()
        log.configure()


@_drives("max_cache_files")
def cache_files(stage: Stage) -> None:
    with _own_directory():
        _cached(stage, 10, _clear_disk)
        assert cache_info().entries == 10
