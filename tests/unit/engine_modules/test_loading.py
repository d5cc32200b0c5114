"""Loading: each module is compiled once, cached by its bytes, and shared; the cache never lies about what it holds."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from wasmtime import wat2wasm

from agentvm.engine.cancel import Cancel
from agentvm.engine.capacity import host_capacity
from agentvm.engine.compile_caps import CompileCost
from agentvm.engine.module import LoadRequest, ModuleLoader
from agentvm.engine.program import GuestProgram
from agentvm.errors import CompileLimit, InvalidArgument, MalformedModule, ModuleLimit, NotRunnable, ProgramNotFound
from tests.support.wasm_builder import time_bomb

ROOT = str(Path(__file__).parents[3])
HELLO = bytes(wat2wasm('(module (memory (export "memory") 1) (func (export "_start")))'))
BIG_DATA = bytes(wat2wasm(f'(module (memory (export "memory") 2) (data (i32.const 5000) "{"x" * 20_000}"))'))
Requests = Callable[..., LoadRequest]
Loaders = Callable[..., ModuleLoader]


def _variant(number: int) -> bytes:
    return bytes(wat2wasm(f'(module (func (export "f") (result i32) (i32.const {number})))'))


class Compiles:
    """Counts how often a load compiled: `charge` is called only then."""

    def __init__(self, request_of: Requests, **changes: object) -> None:
        self.count = 0
        self.request = request_of(charge=self._charge, **changes)

    def _charge(self, cost: CompileCost) -> None:
        assert cost.seconds > 0
        self.count += 1


def test_a_module_is_compiled_once_and_shared(loader: ModuleLoader, request_of: Requests) -> None:
    compiles = Compiles(request_of)
    first = loader.load(HELLO, compiles.request)
    assert loader.load(bytearray(HELLO), compiles.request) is first
    assert compiles.count == 1
    assert [export.name for export in first.handle.exports] == ["memory", "_start"]
    assert set(first.info.exports) == {"memory", "_start"}
    assert first.image is None


def test_another_process_finds_it_on_disk(make_loader: Loaders, request_of: Requests) -> None:
    compiles = Compiles(request_of)
    first = make_loader().load(BIG_DATA, compiles.request)
    second = make_loader().load(BIG_DATA, compiles.request)
    assert compiles.count == 1
    assert second.info == first.info
    assert first.image is not None
    assert second.image is not None
    assert (second.image.low, second.image.high) == (first.image.low, first.image.high)
    for image in (first.image, second.image):
        assert os.pread(image.fd, 20_002, 4999) == b"\0" + b"x" * 20_000 + b"\0"


def test_without_a_disk_cache_everything_works(make_loader: Loaders, request_of: Requests) -> None:
    compiles = Compiles(request_of)
    assert make_loader(disk=False).load(BIG_DATA, compiles.request).image is not None
    make_loader(disk=False).load(BIG_DATA, compiles.request)
    assert compiles.count == 2


def test_a_tampered_cache_file_is_compiled_again(make_loader: Loaders, request_of: Requests, tmp_path: Path) -> None:
    compiles = Compiles(request_of)
    make_loader().load(HELLO, compiles.request)
    (path,) = (tmp_path / "cache").iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert make_loader().load(HELLO, compiles.request).info.size_bytes == len(HELLO)
    assert compiles.count == 2
    make_loader().load(HELLO, compiles.request)
    assert compiles.count == 2


def test_code_that_the_engine_does_not_take_is_compiled_again(
    make_loader: Loaders, request_of: Requests, tmp_path: Path
) -> None:
    # As on a machine with another processor: the file is undamaged, but not for us.
    compiles = Compiles(request_of)
    loader = make_loader()
    loader.load(HELLO, compiles.request)
    (path,) = (tmp_path / "cache").iterdir()
    source = os.memfd_create("code")
    os.write(source, b"not an ELF file")
    os.close(loader._disk.store(path.stem, source, b"{}", 0, b""))
    os.close(source)
    assert make_loader().load(HELLO, compiles.request).handle
    assert compiles.count == 2


def test_caps_hold_for_cached_modules_too(make_loader: Loaders, request_of: Requests) -> None:
    for loader in (make_loader(), make_loader()):  # the second finds it on disk
        for _ in range(2):
            loader.load(HELLO, request_of())
            with pytest.raises(ModuleLimit, match="max_exports"):
                loader.load(HELLO, request_of(max_exports=1))
            with pytest.raises(ModuleLimit, match="max_module_bytes"):
                loader.load(HELLO, request_of(max_module_bytes=len(HELLO) - 1, max_guest_module_bytes=1))


def test_threads_that_want_the_same_module_compile_it_once(loader: ModuleLoader, request_of: Requests) -> None:
    compiles = Compiles(request_of)
    barrier = threading.Barrier(8)
    found: list[object] = []

    def load() -> None:
        barrier.wait()
        found.append(loader.load(BIG_DATA, compiles.request))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert compiles.count == 1


def test_a_waiting_thread_takes_over_when_the_first_one_is_cancelled(
    loader: ModuleLoader, request_of: Requests
) -> None:
    first, second = Cancel(), Cancel()
    started, taken_over = threading.Event(), threading.Event()
    ended: list[str] = []

    def load(name: str, cancel: Cancel, event: threading.Event) -> None:
        with pytest.raises(CompileLimit, match="interrupted"):
            loader.load(time_bomb(), request_of(cancel=cancel, progress=lambda _: event.set()))
        ended.append(name)

    threads = [threading.Thread(target=load, args=("first", first, started))]
    threads[0].start()
    started.wait()
    threads.append(threading.Thread(target=load, args=("second", second, taken_over)))
    threads[1].start()
    while not second._wakers:  # it waits for the first one's result
        os.sched_yield()
    first.cancel()
    taken_over.wait()
    assert ended == ["first"]
    second.cancel()
    for thread in threads:
        thread.join()


def test_a_waiting_thread_can_be_cancelled_alone(loader: ModuleLoader, request_of: Requests) -> None:
    first, second = Cancel(), Cancel()
    started = threading.Event()
    ended: list[str] = []

    def load(name: str, cancel: Cancel) -> None:
        with pytest.raises(CompileLimit, match="interrupted"):
            loader.load(time_bomb(), request_of(cancel=cancel, progress=lambda _: started.set()))
        ended.append(name)

    threads = [threading.Thread(target=load, args=pair) for pair in (("first", first), ("second", second))]
    threads[0].start()
    started.wait()
    threads[1].start()
    while not second._wakers:
        os.sched_yield()
    second.cancel()
    threads[1].join()
    assert ended == ["second"]
    # The first is not hurt; and a third one would still wait for it.
    assert threads[0].is_alive()
    first.cancel()
    threads[0].join()


def test_a_waiting_thread_shares_a_failure_of_the_same_caps(loader: ModuleLoader, request_of: Requests) -> None:
    started = threading.Event()
    compiles = Compiles(request_of, max_compile_seconds=1, progress=lambda _: started.set())
    errors: list[CompileLimit] = []

    def load() -> None:
        with pytest.raises(CompileLimit, match="max_compile_seconds") as caught:
            loader.load(time_bomb(), compiles.request)
        errors.append(caught.value)

    threads = [threading.Thread(target=load) for _ in range(3)]
    threads[0].start()
    started.wait()
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 3
    assert len(set(map(id, errors))) == 3  # each thread has an exception of its own
    assert compiles.count < 3


def test_a_refused_module_is_not_compiled_again(loader: ModuleLoader, request_of: Requests) -> None:
    compiles = Compiles(request_of)
    bad = bytes(wat2wasm("(module (func (result i32) i64.const 0))"))
    errors = []
    for _ in range(2):
        with pytest.raises(MalformedModule, match="type mismatch") as caught:
            loader.load(bad, compiles.request)
        errors.append(caught.value)
    assert compiles.count == 1
    assert errors[0] is not errors[1]
    assert errors[0].values == errors[1].values


def test_memory_keeps_the_most_recently_used(make_loader: Loaders, request_of: Requests) -> None:
    size = make_loader(disk=False).load(_variant(0), request_of()).size_bytes
    loader = make_loader(disk=False, max_cached_module_bytes=2 * size + size // 2)
    first = loader.load(_variant(0), request_of())
    loader.load(_variant(1), request_of())
    assert loader.load(_variant(0), request_of()) is first
    loader.load(_variant(2), request_of())  # takes the place of 1
    statistics = loader.statistics()
    assert (statistics.modules, statistics.evictions) == (2, 1)
    use = loader._capacity.usage()["max_cached_module_bytes"]
    assert use.used == statistics.size_bytes <= use.cap == 2 * size + size // 2
    assert (use.refused, use.warnings) == (1, 1)
    assert loader.load(_variant(0), request_of()) is first
    compiles = Compiles(request_of)
    loader.load(_variant(1), compiles.request)
    assert compiles.count == 1


def test_memory_keeps_no_more_modules_than_the_cap(make_loader: Loaders, request_of: Requests) -> None:
    loader = make_loader(disk=False, max_cached_modules=2)
    for number in range(3):
        loader.load(_variant(number), request_of())
    use = loader._capacity.usage()["max_cached_modules"]
    assert (use.used, use.peak, use.refused) == (2, 2, 1)
    compiles = Compiles(request_of)
    loader.load(_variant(2), compiles.request)
    assert compiles.count == 0
    loader.close()
    assert loader._capacity.usage()["max_cached_modules"].used == 0


def test_a_guests_module_that_takes_too_long_names_the_guests_cap(loader: ModuleLoader, request_of: Requests) -> None:
    program = GuestProgram(lambda cap: time_bomb(), len(time_bomb()))
    with pytest.raises(CompileLimit, match=r"max_guest_compile_seconds allows, 0.5 s; .*max_guest_compile_seconds=1"):
        loader.load(program, request_of(max_guest_compile_seconds=0.5))


def test_an_evicted_module_lives_as_long_as_it_is_used(make_loader: Loaders, request_of: Requests) -> None:
    loader = make_loader(disk=False, max_cached_module_bytes=1)  # nothing fits
    module = loader.load(BIG_DATA, request_of())
    assert loader.statistics().modules == 0
    assert module.image is not None
    fd = module.image.fd
    assert os.pread(fd, 1, 5000) == b"x"
    assert [export.name for export in module.handle.exports] == ["memory"]
    inode = os.fstat(fd).st_ino
    del module
    gc.collect()
    with pytest.raises(OSError, match="Bad file"):
        assert os.fstat(fd).st_ino != inode or os.fstat(-1)


def test_loading_many_modules_leaks_no_descriptors(make_loader: Loaders, request_of: Requests) -> None:
    loader = make_loader(disk=False, max_cached_module_bytes=1)
    loader.load(_variant(0), request_of())
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 20):
        loader.load(_variant(number), request_of())
        with pytest.raises(NotRunnable):
            loader.load(_variant(number)[:-3], request_of())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_a_host_out_of_descriptors_is_a_typed_error_at_every_step(tmp_path: Path) -> None:
    script = (
        "import os, resource, sys\n"
        "from wasmtime import wat2wasm\n"
        "from agentvm.engine.capacity import HostCapacity\n"
        "from agentvm.engine.config import EngineProfile\n"
        "from agentvm.engine.module import LoadRequest, ModuleLoader\n"
        "from agentvm.errors import HostLimit\n"
        "from agentvm.limits.caps import Caps\n"
        "from agentvm.limits.catalogue import Limits\n"
        "from agentvm.limits.host_catalogue import HostLimits\n"
        "capacity = HostCapacity(HostLimits(max_cached_module_bytes=1))\n"
        "request = LoadRequest(caps=Caps(Limits()), profile=EngineProfile(1 << 20))\n"
        "text = '(module (memory 2) (data (i32.const 5000) \"' + 'x' * 20000 + '\") (func (export \"f%d\")))'\n"
        "programs = [bytes(wat2wasm(text % n)) for n in range(24)]\n"
        "_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "refused = loaded = 0\n"
        "for n, program in enumerate(programs):\n"
        "    loader = ModuleLoader(capacity, sys.argv[1] if n % 2 else None)\n"
        "    used = len(os.listdir('/proc/self/fd')) - 1\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (used + n, hard))\n"
        "    try:\n"
        "        loader.load(program, request)\n"
        "        loaded += 1\n"
        "    except HostLimit:\n"
        "        refused += 1\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n"
        "    loader.load(program, request)\n"
        "    loader.close()\n"
        "assert refused >= 6 and loaded >= 2, (refused, loaded)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "cache")],
        env={"PYTHONPATH": ROOT},
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr


def test_an_image_counts_among_the_hosts_descriptors(make_loader: Loaders, request_of: Requests) -> None:
    gauge = host_capacity().gauge("max_host_fds")
    loader = make_loader(disk=False, max_cached_module_bytes=1)
    loader.load(BIG_DATA, request_of())
    before = gauge.used  # charges of closed images are given back by the next one
    modules = [loader.load(BIG_DATA, request_of()) for _ in range(3)]
    assert gauge.used == before + 2
    del modules
    loader.load(BIG_DATA, request_of())
    assert gauge.used == before


# Where programs come from


def test_an_old_file_is_not_read_again_and_a_changed_one_is(
    loader: ModuleLoader, request_of: Requests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentvm.engine.program._SETTLED_NS", 0)  # every file is old
    path = tmp_path / "program.wasm"
    path.write_bytes(_variant(1))
    first = loader.load(path, request_of())
    opened = _count_opens(path, lambda: loader.load(str(path), request_of()))
    assert opened == 0
    assert loader.load(path, request_of()) is first
    status = path.stat()
    path.write_bytes(_variant(2))  # same length, and its times are put back
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert loader.load(path, request_of()).info.size_bytes == status.st_size
    assert loader.load(path, request_of()) is not first


def _count_opens(path: Path, action: Callable[[], object]) -> int:
    """Count the opens of a file by Python code in this process while `action` runs."""
    opened: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and not done and str(arguments[0]) == str(path):
            opened.append(event)

    done = False
    sys.addaudithook(hook)
    action()
    done = True
    return len(opened)


def test_a_fresh_file_is_read_each_time(loader: ModuleLoader, request_of: Requests, tmp_path: Path) -> None:
    path = tmp_path / "program.wasm"
    path.write_bytes(_variant(1))
    first = loader.load(path, request_of())
    status = path.stat()
    path.write_bytes(_variant(2))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert loader.load(path, request_of()) is not first


def test_a_guests_file_is_read_once_for_an_identity(loader: ModuleLoader, request_of: Requests) -> None:
    reads: list[int] = []

    def read(cap: float) -> bytes:
        reads.append(1)
        return HELLO

    first = loader.load(GuestProgram(read, len(HELLO), identity=("inode", 1)), request_of())
    assert loader.load(GuestProgram(read, len(HELLO), identity=("inode", 1)), request_of()) is first
    assert len(reads) == 1
    loader.load(GuestProgram(read, len(HELLO), identity=("inode", 2)), request_of())
    loader.load(GuestProgram(read, len(HELLO)), request_of())
    assert len(reads) == 3


def test_a_guests_file_has_the_guests_caps(loader: ModuleLoader, request_of: Requests) -> None:
    def never(cap: float) -> bytes:
        raise AssertionError("read although it is too big")

    program = GuestProgram(never, 9 << 20)
    with pytest.raises(ModuleLimit, match="max_guest_module_bytes"):
        loader.load(program, request_of())
    request = request_of()
    assert request.compile_caps(_open(program)).seconds == 10
    assert request.compile_caps(_open(HELLO)).seconds == 120
    assert request_of(max_compile_seconds=3).compile_caps(_open(program)).seconds == 3


def _open(source):
    from agentvm.engine.program import open_program

    return open_program(source)


def test_a_missing_program_is_not_found(loader: ModuleLoader, request_of: Requests, tmp_path: Path) -> None:
    with pytest.raises(ProgramNotFound, match=r"there is no file .*/none.wasm") as caught:
        loader.load(tmp_path / "none.wasm", request_of())
    assert caught.value.exit_status == 127
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ProgramNotFound):
        loader.load(tmp_path / "file" / "below.wasm", request_of())


def test_what_is_not_a_file_is_not_runnable(loader: ModuleLoader, request_of: Requests, tmp_path: Path) -> None:
    with pytest.raises(NotRunnable, match="is a directory"):
        loader.load(tmp_path, request_of())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotRunnable, match="not a regular file"):
        loader.load(tmp_path / "pipe", request_of())
    with pytest.raises(NotRunnable, match="not a regular file"):
        loader.load("/dev/zero", request_of())
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotRunnable, match="symbolic links"):
        loader.load(tmp_path / "loop", request_of())
    with pytest.raises(InvalidArgument, match="null"):
        loader.load("a\0b", request_of())


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_says_so(loader: ModuleLoader, request_of: Requests, tmp_path: Path) -> None:
    path = tmp_path / "secret.wasm"
    path.write_bytes(HELLO)
    path.chmod(0)
    with pytest.raises(NotRunnable, match="Permission denied"):
        loader.load(path, request_of())


def test_a_sparse_giant_is_refused_unread(loader: ModuleLoader, request_of: Requests, tmp_path: Path) -> None:
    path = tmp_path / "giant.wasm"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModuleLimit, match="max_module_bytes"):
        loader.load(path, request_of())


def test_two_processes_racing_for_the_same_module_both_get_it(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from wasmtime import wat2wasm\n"
        "from agentvm.engine.config import EngineProfile\n"
        "from agentvm.engine.module import load_module\n"
        "from agentvm.limits.caps import Caps\n"
        "from agentvm.limits.catalogue import Limits\n"
        "wasm = bytes(wat2wasm('(module (func (export \"_start\")))'))\n"
        "module = load_module(wasm, caps=Caps(Limits()), profile=EngineProfile(1 << 20), require='command')\n"
        "print(list(module.info.exports), [e.name for e in module.handle.exports])\n"
    )
    cache = tmp_path / "cache"
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={"PYTHONPATH": ROOT, "AGENTVM_CACHE_DIR": str(cache)},
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    assert [racer.communicate(timeout=60)[0] for racer in racers] == [b"['_start'] ['_start']\n"] * 2
    assert len(list(cache.iterdir())) == 1
