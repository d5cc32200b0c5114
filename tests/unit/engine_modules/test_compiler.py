"""Compiling happens in a process that can be killed, is bounded in time, memory and number, and leaves nothing."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wasmtime
from wasmtime import wat2wasm

from agentvm.engine.cancel import Cancel
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.compile_caps import CompileCaps, CompileCost
from agentvm.engine.compiler import Compiler, CompileResult
from agentvm.engine.config import EngineProfile, build_config
from agentvm.errors import CompileLimit, FeatureDisabled, MalformedModule
from agentvm.limits.host_catalogue import HostLimits
from tests.support.wasm_builder import memory_bomb, nested_blocks, plain_functions, time_bomb

PROFILE = EngineProfile(max_wasm_stack_bytes=1 << 20)
GIB = 1 << 30
ROOT = str(Path(__file__).parents[3])
HELLO = wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))')


@pytest.fixture
def own_capacity() -> HostCapacity:
    return HostCapacity(HostLimits(max_compile_jobs=1))


@pytest.fixture
def own_compiler(own_capacity: HostCapacity) -> Iterator[Compiler]:
    """A compiler with one slot and a process of its own, for tests that disturb it."""
    compiler = Compiler(own_capacity)
    yield compiler
    compiler.close()


def _compile(compiler: Compiler, wasm: bytes, **options: object) -> CompileResult:
    caps = CompileCaps(options.pop("seconds", 60), options.pop("memory_bytes", 2 * GIB))  # type: ignore[arg-type]
    return compiler.compile([wasm], PROFILE, caps=caps, **options)  # type: ignore[arg-type]


def _children(pid: int) -> list[int]:
    """The living descendants of a process; a zombie is not one."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found += [int(entry), *_children(int(entry))]
    return found


def _zygote(compiler: Compiler) -> int:
    process = compiler._zygote._process
    assert process is not None
    return process.pid


def _is_gone(pid: int) -> bool:
    """Whether a process has ended; its new parent may take seconds to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _wait_for(condition: Callable[[], bool]) -> None:
    """Spin until `condition` holds; the test's own timeout is the bound."""
    while not condition():
        os.sched_yield()


def test_compiled_code_loads_into_an_engine_with_another_stack(compiler: Compiler) -> None:
    result = _compile(compiler, HELLO)
    for stack in (1 << 20, 4 << 20):
        engine = wasmtime.Engine(build_config(EngineProfile(stack), memory_creator=False))
        module = wasmtime.Module.deserialize_file(engine, f"/proc/self/fd/{result.code.fd}")
        assert [export.name for export in module.exports] == ["memory", "_start"]
    assert result.cost.cpu_seconds > 0


def test_pieces_are_joined(compiler: Compiler) -> None:
    result = compiler.compile([HELLO[:9], memoryview(HELLO)[9:]], PROFILE, caps=CompileCaps(60, 2 * GIB))
    assert result.code.size_bytes > 0


@pytest.mark.parametrize(
    ("text", "feature"),
    [
        ("(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", "threads"),
        ("(module (func atomic.fence))", "threads"),
        ("(module (tag $t) (func try (throw $t) catch_all end))", "legacy exceptions"),
        ("(module (func (drop (ref.i31 (i32.const 0)))))", "gc"),
        ("(module (func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0)))))", "relaxed SIMD"),
        ("(module (func (param i64 i64) (result i64 i64) local.get 0 local.get 1 i64.mul_wide_s))", "wide arithmetic"),
        ("(module (global (shared i32) (i32.const 0)))", "shared-everything threads"),
    ],
    ids=["atomics", "fence", "legacy exceptions", "gc", "relaxed", "wide", "shared global"],
)  # fmt: skip
def test_features_in_function_bodies_are_named(compiler: Compiler, text: str, feature: str) -> None:
    with pytest.raises(FeatureDisabled) as caught:
        _compile(compiler, wat2wasm(text))
    assert caught.value.values["feature"] == feature


def test_an_invalid_body_is_refused_with_its_offset(compiler: Compiler) -> None:
    with pytest.raises(MalformedModule, match="type mismatch: expected i32, found i64") as caught:
        _compile(compiler, wat2wasm("(module (func (result i32) i64.const 0))"))
    assert caught.value.values["offset"] == 26


def test_a_refusal_is_short_whatever_names_the_module_has(compiler: Compiler) -> None:
    evil = "\\1b[31m" + "x" * 50_000
    with pytest.raises(MalformedModule) as caught:
        _compile(compiler, wat2wasm(f'(module (func (export "{evil}")) (func (result i32)))'))
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_the_cap_on_time_ends_a_time_bomb(compiler: Compiler) -> None:
    charged: list[float] = []
    begun = time.monotonic()
    with pytest.raises(CompileLimit, match="max_compile_seconds") as caught:
        _compile(compiler, time_bomb(), seconds=0.5, charge=charged.append)
    assert caught.value.values["limit"] == "max_compile_seconds"
    assert caught.value.values["cap"] == 0.5
    assert caught.value.values["observed"] >= 0.5
    assert "--limit max_compile_seconds=1" in str(caught.value)
    assert charged
    # Uncapped it takes 20 times the cap.
    assert time.monotonic() - begun < 20 * 0.5


def test_cpu_time_of_all_threads_counts() -> None:
    # The child alone, without the parent's deadline: only the kernel's limit on CPU seconds is left to end it.
    script = (
        "import os\n"
        "import ctypes, wasmtime\n"
        "from agentvm.engine.compile_worker import Job, compile_job\n"
        "from agentvm.engine.config import EngineProfile, build_config\n"
        "from tests.support.wasm_builder import time_bomb\n"
        "wasm, out, notes = (os.memfd_create(name) for name in ('wasm', 'out', 'notes'))\n"
        "os.write(wasm, time_bomb())\n"
        "options = {'profile': {'max_wasm_stack_bytes': 1 << 20}, 'seconds': 1, 'memory_bytes': 1 << 31}\n"
        "engine = wasmtime.Engine(build_config(EngineProfile(1 << 20), memory_creator=False))\n"
        "compile_job(Job(None, wasm, out, notes, options), engine, ctypes.CDLL(None), os.getppid())\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": ROOT}, timeout=100, check=False)
    assert ran.returncode == -signal.SIGXCPU


def test_the_cap_on_memory_ends_a_memory_bomb(compiler: Compiler) -> None:
    with pytest.raises(CompileLimit, match="max_compile_memory_bytes") as caught:
        _compile(compiler, memory_bomb(), memory_bytes=GIB // 2)
    assert caught.value.values["limit"] == "max_compile_memory_bytes"
    assert caught.value.values["cap"] == GIB // 2


def test_the_smallest_cap_on_memory_still_compiles_small_modules(compiler: Compiler) -> None:
    assert _compile(compiler, HELLO, memory_bytes=GIB // 4).code.size_bytes > 0


def test_deep_nesting_kills_neither_us_nor_the_compiler(compiler: Compiler) -> None:
    assert _compile(compiler, nested_blocks(50_000)).code.size_bytes > 0


def test_cancelling_ends_a_compilation_and_its_process(own_compiler: Compiler) -> None:
    _compile(own_compiler, HELLO)  # the process is warm
    cancel = Cancel()
    started = threading.Event()
    errors: list[CompileLimit] = []

    def load() -> None:
        try:
            _compile(own_compiler, time_bomb(), cancel=cancel, progress=lambda _: started.set())
        except CompileLimit as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    _wait_for(lambda: bool(_children(_zygote(own_compiler))))
    cancel.cancel()
    thread.join()
    assert errors[0].values["interrupted"] is True
    assert started.is_set()
    _wait_for(lambda: not _children(_zygote(own_compiler)))
    _compile(own_compiler, HELLO)  # and the slot is free again


def test_a_cancellation_before_the_start_compiles_nothing(compiler: Compiler) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(CompileLimit, match="interrupted"):
        _compile(compiler, time_bomb(), cancel=cancel)


def test_jobs_past_the_cap_wait_and_can_be_cancelled_there(own_compiler: Compiler) -> None:
    first, second = Cancel(), Cancel()
    ended: list[str] = []

    def load(name: str, cancel: Cancel) -> None:
        with pytest.raises(CompileLimit, match="interrupted"):
            _compile(own_compiler, time_bomb(), cancel=cancel)
        ended.append(name)

    running = threading.Thread(target=load, args=("first", first))
    running.start()
    _wait_for(lambda: own_compiler._slots._running.used == 1)
    waiting = threading.Thread(target=load, args=("second", second))
    waiting.start()
    _wait_for(lambda: len(own_compiler._slots._queue) == 1)
    second.cancel()
    waiting.join()
    assert ended == ["second"]
    first.cancel()
    running.join()
    _compile(own_compiler, HELLO)
    assert (own_compiler._slots._running.used, len(own_compiler._slots._queue)) == (0, 0)


def test_a_raised_cap_lets_waiting_jobs_in(own_capacity: HostCapacity, own_compiler: Compiler) -> None:
    blocker, ended = Cancel(), threading.Event()

    def block() -> None:
        with pytest.raises(CompileLimit):
            _compile(own_compiler, time_bomb(), cancel=blocker)

    def load() -> None:
        _compile(own_compiler, HELLO)
        ended.set()

    threads = [threading.Thread(target=block), threading.Thread(target=load)]
    threads[0].start()
    _wait_for(lambda: own_capacity.usage()["max_compile_jobs"].used == 1)
    threads[1].start()
    _wait_for(lambda: own_capacity.usage()["max_compile_jobs"].refused == 1)
    own_capacity.configure(HostLimits(max_compile_jobs=2))
    ended.wait()
    blocker.cancel()
    for thread in threads:
        thread.join()
    use = own_capacity.usage()["max_compile_jobs"]
    assert (use.used, use.peak, use.cap) == (0, 2, 2)


def test_what_a_compilation_takes_is_reported(compiler: Compiler) -> None:
    charged: list[CompileCost] = []
    _compile(compiler, HELLO, memory_bytes=GIB // 2, charge=charged.append)
    _compile(compiler, plain_functions(50_000), memory_bytes=GIB // 2, charge=charged.append)
    small, big = charged
    assert 16 << 20 < small.peak_bytes < big.peak_bytes < GIB // 2
    assert small.seconds == max(small.cpu_seconds, small.wall_seconds) > 0


def test_a_small_module_takes_a_small_part_of_any_cap_on_memory(compiler: Compiler) -> None:
    """Threads of the compiler reserve address space; there are as few as the cap asks for."""
    for memory_bytes in (GIB // 4, GIB, 2 * GIB, 8 * GIB):
        assert _compile(compiler, HELLO, memory_bytes=memory_bytes).cost.peak_bytes < memory_bytes / 2


def test_waiting_jobs_run_first_in_first_out(own_compiler: Compiler) -> None:
    blocker = Cancel()
    order: list[int] = []

    def block() -> None:
        with pytest.raises(CompileLimit):
            _compile(own_compiler, time_bomb(), cancel=blocker)

    def load(number: int) -> None:
        _compile(own_compiler, HELLO, charge=lambda _: order.append(number))

    threads = [threading.Thread(target=block)]
    threads[0].start()
    _wait_for(lambda: own_compiler._slots._running.used == 1)
    for number in range(3):
        threads.append(threading.Thread(target=load, args=(number,)))
        threads[-1].start()
        _wait_for(lambda wanted=number + 1: len(own_compiler._slots._queue) == wanted)
    blocker.cancel()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


def test_progress_is_reported_and_its_exception_ends_the_job(own_compiler: Compiler) -> None:
    seen: list[float] = []

    def progress(seconds: float) -> None:
        seen.append(seconds)
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _compile(own_compiler, time_bomb(), progress=progress)
    assert len(seen) == 4
    _wait_for(lambda: not _children(_zygote(own_compiler)))
    assert own_compiler._slots._running.used == 0


def test_a_killed_child_is_a_typed_error(own_compiler: Compiler) -> None:
    _compile(own_compiler, HELLO)
    errors: list[CompileLimit] = []

    def load() -> None:
        try:
            _compile(own_compiler, time_bomb())
        except CompileLimit as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    _wait_for(lambda: bool(_children(_zygote(own_compiler))))
    os.kill(_children(_zygote(own_compiler))[0], signal.SIGABRT)
    thread.join()
    assert f"signal {int(signal.SIGABRT)}" in str(errors[0])


def test_a_killed_compiler_process_is_a_typed_error_and_is_replaced(own_compiler: Compiler) -> None:
    _compile(own_compiler, HELLO)
    zygote = _zygote(own_compiler)
    errors: list[CompileLimit] = []

    def load() -> None:
        try:
            _compile(own_compiler, time_bomb())
        except CompileLimit as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    _wait_for(lambda: bool(_children(zygote)))
    child = _children(zygote)[0]
    os.kill(zygote, signal.SIGKILL)
    thread.join()
    assert "ended from outside" in str(errors[0])
    _wait_for(lambda: _is_gone(child))
    _compile(own_compiler, HELLO)
    assert _zygote(own_compiler) != zygote


def test_closing_leaves_no_process_and_no_descriptor() -> None:
    gc.collect()  # errors of other tests hold their jobs' descriptors
    before = sorted(os.listdir("/proc/self/fd"))
    compiler = Compiler(HostCapacity(HostLimits(max_compile_jobs=1)))
    result = _compile(compiler, HELLO)
    zygote = _zygote(compiler)
    compiler.close()
    del result
    assert not Path(f"/proc/{zygote}").exists()
    assert sorted(os.listdir("/proc/self/fd")) == before


_PROGRAM = """
import sys, threading
from agentvm.engine.capacity import HostCapacity
from agentvm.engine.compile_caps import CompileCaps
from agentvm.engine.compiler import Compiler
from agentvm.engine.config import EngineProfile
from agentvm.limits.host_catalogue import HostLimits
from tests.support.wasm_builder import time_bomb
{setup}
compiler = Compiler(HostCapacity(HostLimits(max_compile_jobs=1)))
def load():
    compiler.compile([time_bomb()], EngineProfile(1 << 20), caps=CompileCaps(100, 1 << 31),
                     progress=lambda _: started.set())
started = threading.Event()
threading.Thread(target=load, daemon=True).start()
started.wait()
while compiler._zygote._process is None: pass
print(compiler._zygote._process.pid, flush=True)
{end}
"""


def _run_program(tmp_path: Path, *, setup: str = "", end: str = "", flags: tuple[str, ...] = ()) -> int:
    """Run a program that ends while its compiler works; return the pid of its compiler process."""
    script = tmp_path / "program.py"
    script.write_text(_PROGRAM.format(setup=setup, end=end))
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, *flags, str(script)], env={"PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout, ran.stderr
    return int(ran.stdout)


@pytest.mark.parametrize(
    "end",
    ["", "raise SystemExit(3)", "import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)"],
    ids=["return", "exit", "_exit", "SIGKILL"],
)
def test_nothing_outlives_the_program(tmp_path: Path, end: str) -> None:
    zygote = _run_program(tmp_path, end=end)
    _wait_for(lambda: _is_gone(zygote))


def test_a_fork_that_outlives_the_program_does_not_keep_the_compiler(tmp_path: Path) -> None:
    # The fork holds copies of the program's sockets, so only the program's death can tell the compiler.
    end = (
        "import os, signal\npid = compiler._zygote._process.pid\n"
        "if os.fork() == 0:\n"
        "    os.close(1); os.close(2); signal.alarm(60)\n"
        "    while os.path.exists(f'/proc/{pid}'): os.sched_yield()\n"
        "os.kill(os.getpid(), 9)"
    )
    zygote = _run_program(tmp_path, end=end)
    _wait_for(lambda: _is_gone(zygote))


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)", id="SIGCHLD ignored"),
        pytest.param("import os; os.chdir('/'); os.environ.clear()", id="no environment"),
        pytest.param("import os; [os.close(fd) for fd in (0,)]", id="no stdin"),
        pytest.param("sys.executable = ''", id="no sys.executable"),
        pytest.param(
            "import resource; resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))", id="under a lower limit"
        ),
    ],
)
def test_odd_programs_can_compile(tmp_path: Path, setup: str) -> None:
    assert _run_program(tmp_path, setup=setup)


def test_the_compiler_writes_nothing_to_our_standard_streams(tmp_path: Path) -> None:
    # stdin and stdout may be the wire of a server.
    script = (
        "import os, sys\n"
        "from wasmtime import wat2wasm\n"
        "from agentvm.engine.capacity import host_capacity\n"
        "from agentvm.engine.compile_caps import CompileCaps\n"
        "from agentvm.engine.compiler import Compiler\n"
        "from agentvm.engine.config import EngineProfile\n"
        "compiler = Compiler(host_capacity())\n"
        "compiler.compile([wat2wasm('(module)')], EngineProfile(1 << 20), caps=CompileCaps(9, 1 << 31))\n"
        "zygote = compiler._zygote._process.pid\n"
        "inodes = {os.stat(f'/proc/{zygote}/fd/{fd}').st_ino for fd in os.listdir(f'/proc/{zygote}/fd')}\n"
        "sys.exit(any(os.fstat(fd).st_ino in inodes for fd in (0, 1, 2)))\n"
    )
    ran = subprocess.run(  # noqa: PLW1510
        [sys.executable, "-c", script], env={"PYTHONPATH": ROOT}, input=b"", capture_output=True, timeout=60
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
