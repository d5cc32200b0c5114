"""Turns the bytes of a program into a module that can be instantiated: checked, compiled in a process apart, cached."""

import errno
import functools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import wasmtime

from agentvm.engine import config, validate
from agentvm.engine.cache import CacheStatistics, LoadedModule, ModuleCache, ModuleKey
from agentvm.engine.cancel import Cancel, interrupted
from agentvm.engine.capacity import HostCapacity, host_capacity
from agentvm.engine.compile_caps import CompileCaps, CompileCost
from agentvm.engine.config import EngineProfile, engine_for
from agentvm.engine.digest import digest
from agentvm.engine.disk_cache import CacheInfo, DiskCache, default_directory
from agentvm.engine.image import Image, cut
from agentvm.engine.module_info import ModuleInfo
from agentvm.engine.program import Program, ProgramSource, open_program
from agentvm.engine.validate import AvailableImports
from agentvm.engine.wasm import parse
from agentvm.errors import CompileLimit, EngineUnsupported, FeatureDisabled, HostLimit, MalformedModule
from agentvm.limits.spec import Cap

if TYPE_CHECKING:
    from agentvm.engine.compiler import Compiler

__all__ = ["LoadRequest", "ModuleLoader", "cache_info", "clear_cache", "load_module", "prune_cache", "shared_loader"]

#: Changes whenever cached files of older versions must not be read: what is cut out, what is stored.
_FORMAT = 2
#: What the host says when it is out of descriptors or memory.
_REFUSALS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EAGAIN})
#: What an entry costs besides code and image.
_ENTRY_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """Under what conditions a module is wanted.

    `available_imports` is what the VM offers (None: not checked). `require` is "command" (`_start`), "reactor" or None.
    `progress` gets the seconds that compiling has taken so far; `charge` what it took in the end.
    """

    caps: Mapping[str, Cap]
    profile: EngineProfile
    available_imports: AvailableImports | None = None
    require: str | None = None
    cancel: Cancel | None = None
    progress: Callable[[float], None] | None = None
    charge: Callable[[CompileCost], None] | None = None

    def compile_caps(self, program: Program) -> CompileCaps:
        """Return the caps on compiling `program`."""
        limit = program.seconds_limit
        return CompileCaps(self.caps[limit], self.caps["max_compile_memory_bytes"], limit)

    def check(self, info: ModuleInfo, bytes_limit: str) -> None:
        """Raise the typed error for what keeps the module from running under these conditions."""
        validate.check_caps(info, self.caps, bytes_limit)
        validate.check_imports(info, self.available_imports)
        validate.check_entry(info, self.require)


@dataclass(slots=True)
class _Flight:
    """One module being made, and the threads that wait for it."""

    compile_caps: CompileCaps
    done: threading.Event = field(default_factory=threading.Event)
    error: CompileLimit | None = None


class ModuleLoader:
    """Loads modules, each compiled once however many threads ask. Any thread may call any method."""

    def __init__(self, capacity: HostCapacity, directory: str | None) -> None:
        """`capacity` has the caps on caches and compile jobs; `directory` is for the cache on disk, None for none."""
        self._capacity = capacity
        self._memory = ModuleCache(capacity)
        self._disk = DiskCache(directory, capacity)
        self._lock = threading.Lock()
        # Guarded by the lock
        self._compiler: Compiler | None = None
        self._flights: dict[ModuleKey, _Flight] = {}  # one for each compiling thread

    def load(self, source: ProgramSource, request: LoadRequest) -> LoadedModule:
        """Return the module of `source`, ready to instantiate on any thread.

        Blocks while it is compiled; `request.cancel` ends that at once. Raises `ProgramNotFound`, a subclass of
        `NotRunnable` that says why, `HostLimit` where the host refuses memory or descriptors, `EngineUnsupported`.
        """
        try:
            return self._load(source, request)
        except OSError as error:
            if error.errno not in _REFUSALS:
                raise
            raise HostLimit(f"the host refused to load a module: {error.strerror}", errno=error.errno) from error

    def _load(self, source: ProgramSource, request: LoadRequest) -> LoadedModule:
        program = open_program(source)
        known = self._memory.digest_of(program.identity) if program.identity is not None else None
        if known is not None:
            module = self._memory.get(ModuleKey(known, request.profile))
            if module is not None:
                request.check(module.info, program.bytes_limit)
                return module
        cap = request.caps[program.bytes_limit]
        if program.size_bytes > cap:
            raise validate.limit_refusal(program.bytes_limit, program.size_bytes, cap)
        wasm = program.read(cap)
        validate.check_header(wasm)
        key = ModuleKey(digest(wasm).hex(), request.profile)
        module = self._find_or_make(key, wasm, program, request)
        if program.identity is not None:
            self._memory.remember(program.identity, key.digest)
        return module

    def statistics(self) -> CacheStatistics:
        """Return what the cache in memory holds."""
        return self._memory.statistics()

    def close(self) -> None:
        """End the compiler process and let go of all modules. Modules in use live on; loading works again after."""
        with self._lock:
            compiler = self._compiler
        if compiler is not None:
            compiler.close()
        self._memory.clear()
        self._disk.close()

    def _find_or_make(self, key: ModuleKey, wasm: bytes, program: Program, request: LoadRequest) -> LoadedModule:
        while True:
            module = self._memory.get(key)
            if module is not None:
                request.check(module.info, program.bytes_limit)
                return module
            refusal = self._memory.refusal_of(key)
            if refusal is not None:
                raise refusal
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    ours = self._flights[key] = _Flight(compile_caps=request.compile_caps(program))
            if flight is None:
                return self._fly(ours, key, wasm, program, request)
            self._await(flight, program, request)

    def _fly(
        self, flight: _Flight, key: ModuleKey, wasm: bytes, program: Program, request: LoadRequest
    ) -> LoadedModule:
        try:
            module = self._from_disk(key, program, request) or self._make(key, wasm, program, request)
            self._memory.put(module)
            return module
        except (MalformedModule, FeatureDisabled) as refusal:
            self._memory.refuse(key, refusal)
            raise
        except CompileLimit as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.done.set()

    @staticmethod
    def _await(flight: _Flight, program: Program, request: LoadRequest) -> None:
        """Wait for another thread that makes this module. Its failure is ours where our caps are no higher."""
        take_back = request.cancel.subscribe(flight.done.set) if request.cancel is not None else None
        try:
            flight.done.wait()
        finally:
            if take_back is not None:
                take_back()
        if request.cancel is not None and request.cancel.cancelled:
            raise interrupted()
        error = flight.error
        if error is None or error.values.get("interrupted"):
            return
        if flight.compile_caps.cover(request.compile_caps(program)):
            raise CompileLimit(str(error), **error.values)

    def _make(self, key: ModuleKey, wasm: bytes, program: Program, request: LoadRequest) -> LoadedModule:
        info, layout = parse(wasm, validate.cap_check(request.caps))
        request.check(info, program.bytes_limit)
        taken = cut(wasm, info, layout)
        pieces = taken.pieces if taken is not None else [wasm]
        result = self._get_compiler().compile(
            pieces,
            request.profile,
            caps=request.compile_caps(program),
            cancel=request.cancel,
            progress=request.progress,
            charge=request.charge,
        )
        offset, contents = (taken.offset, taken.contents) if taken is not None else (0, b"")
        fd = self._disk.store(_file_key(key), result.code.fd, info.to_json(), offset, contents)
        try:
            handle = _map_code(request.profile, fd if fd >= 0 else result.code.fd)
        except wasmtime.WasmtimeError as error:
            raise EngineUnsupported(f"the engine does not take what the compiler made: {error}") from error
        finally:
            if fd >= 0:
                os.close(fd)
        return _assemble(handle, info, result.code.size_bytes, offset, contents, key)

    def _get_compiler(self) -> "Compiler":
        from agentvm.engine.compiler import Compiler  # a program whose modules are cached never needs it

        with self._lock:
            if self._compiler is None:
                self._compiler = Compiler(self._capacity)
            return self._compiler

    def _from_disk(self, key: ModuleKey, program: Program, request: LoadRequest) -> LoadedModule | None:
        stored = self._disk.load(_file_key(key))
        if stored is None:
            return None
        try:
            info = ModuleInfo.from_json(stored.info)
            request.check(info, program.bytes_limit)
            handle = _map_code(request.profile, stored.fd)
        except (wasmtime.WasmtimeError, ValueError, KeyError, TypeError):
            self._disk.discard(_file_key(key))  # another CPU's code, or another version's notes
            return None
        finally:
            os.close(stored.fd)
        return _assemble(handle, info, stored.code_bytes, stored.offset, stored.contents, key)


def _map_code(profile: EngineProfile, fd: int) -> wasmtime.Module:
    """Map compiled code from an open file: what was verified is what is mapped, whatever the name points to now.

    Raises `WasmtimeError` for code that is not for this engine, `HostLimit` where the host refuses.
    """
    path = f"/proc/self/fd/{fd}"
    engine = engine_for(profile)
    try:
        if os.path.exists(path):
            return wasmtime.Module.deserialize_file(engine, path)
        return wasmtime.Module.deserialize(engine, os.pread(fd, os.fstat(fd).st_size, 0))
    except wasmtime.WasmtimeError as error:
        if "os error" in str(error):  # too many open files, no memory: nothing is wrong with the code
            raise HostLimit(f"the host refused to map the compiled module: {error}") from error
        raise


def _assemble(
    handle: wasmtime.Module, info: ModuleInfo, code_bytes: int, offset: int, contents: bytes | bytearray, key: ModuleKey
) -> LoadedModule:
    image = Image(offset, contents) if contents else None
    notes_bytes = _ENTRY_BYTES + 400 * (len(info.imports) + len(info.exports))
    size_bytes = code_bytes + (image.size_bytes if image else 0) + notes_bytes
    return LoadedModule(handle, info, image, key, size_bytes)


def _file_key(key: ModuleKey) -> str:
    """Name the file of a module. The profile is not in it: a wasm stack's size is no part of the code."""
    return f"{key.digest}-{_fingerprint()}"


@functools.cache
def _fingerprint() -> str:
    """What compiled code depends on besides the module; the engine checks it once more when it maps the code."""
    switches = [(feature.setter, feature.enabled) for feature in config.FEATURES.values()]
    parts = (_FORMAT, _wasmtime_version(), os.uname().machine, switches, config.RESERVATION_BYTES, config.GUARD_BYTES)
    return digest(repr(parts).encode()).hex()[:16]


def _wasmtime_version() -> str:
    """Return the installed version as its metadata directory is called; `importlib.metadata` takes 20 ms to say it."""
    prefix, suffix = "wasmtime-", ".dist-info"
    for place in wasmtime.__path__:
        for name in os.listdir(os.path.dirname(place)):
            if name.startswith(prefix) and name.endswith(suffix):
                return name[len(prefix) : -len(suffix)]
    return "unknown"  # the engine refuses the code of other versions in any case


@functools.cache
def shared_loader() -> ModuleLoader:
    """Return the loader that all VMs of this process share. Its cache on disk is at `default_directory()`."""
    return ModuleLoader(host_capacity(), default_directory())


def _shared_disk() -> DiskCache:
    return DiskCache(default_directory(), host_capacity())


def load_module(
    source: ProgramSource,
    *,
    caps: Mapping[str, Cap],
    profile: EngineProfile,
    available_imports: AvailableImports | None = None,
    require: str | None = None,
    cancel: Cancel | None = None,
    progress: Callable[[float], None] | None = None,
    charge: Callable[[CompileCost], None] | None = None,
) -> LoadedModule:
    """Load a module with the process's shared loader: see `ModuleLoader.load` and `LoadRequest`."""
    request = LoadRequest(
        caps=caps,
        profile=profile,
        available_imports=available_imports,
        require=require,
        cancel=cancel,
        progress=progress,
        charge=charge,
    )
    return shared_loader().load(source, request)


def cache_info() -> CacheInfo:
    """Return where compiled modules are cached on disk, and how much there is."""
    return _shared_disk().info()


def prune_cache(max_bytes: Cap | None = None) -> int:
    """Remove the least recently used modules from disk until `max_bytes` are left; return the bytes freed."""
    return _shared_disk().prune(max_bytes)


def clear_cache() -> int:
    """Remove all compiled modules from disk; return the bytes freed."""
    return _shared_disk().clear()
