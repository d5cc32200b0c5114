"""Loaded modules in memory: the least recently used go first, those in use live on with whoever uses them."""

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import wasmtime

from agentvm.engine.capacity import HostCapacity
from agentvm.engine.config import EngineProfile
from agentvm.engine.image import Image
from agentvm.engine.module_info import ModuleInfo
from agentvm.errors import NotRunnable

__all__ = ["CacheStatistics", "LoadedModule", "ModuleCache", "ModuleKey"]


class ModuleKey(NamedTuple):
    """What a loaded module depends on: its bytes, by their digest, and the engine."""

    digest: str
    profile: EngineProfile


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModule:
    """A module that is ready to run. Shared by all threads and VMs; its image closes with the last reference."""

    handle: wasmtime.Module
    info: ModuleInfo
    image: Image | None
    key: ModuleKey
    #: What it holds of the host: mapped code, image, and what is known about it.
    size_bytes: int


_BYTES, _NUMBER = "max_cached_module_bytes", "max_cached_modules"
_DIGESTS, _REFUSALS = "max_known_module_files", "max_known_bad_modules"


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What the cache in memory holds and did."""

    modules: int
    size_bytes: int
    hits: int
    misses: int
    evictions: int
    known_files: int
    known_refusals: int


class ModuleCache:
    """Modules, the digests of files, and refusals, each bounded by a limit. Any thread may call any method."""

    def __init__(self, capacity: HostCapacity) -> None:
        """A cap of `capacity` that falls is in force with the next module."""
        self._capacity = capacity
        self._lock = threading.Lock()
        # Guarded by the lock
        self._modules: OrderedDict[ModuleKey, LoadedModule] = OrderedDict()
        self._digests: OrderedDict[Hashable, str] = OrderedDict()
        self._refusals: OrderedDict[ModuleKey, NotRunnable] = OrderedDict()
        self._size_bytes = self._hits = self._misses = self._evictions = 0

    def get(self, key: ModuleKey) -> LoadedModule | None:
        """Return the module of `key` and mark it used, or None."""
        with self._lock:
            module = self._modules.get(key)
            if module is None:
                return None
            self._hits += 1
            self._modules.move_to_end(key)
            return module

    def put(self, module: LoadedModule) -> None:
        """Keep `module`, and let go of the least recently used ones that no longer fit. One too big is not kept."""
        dropped = []  # they end outside the lock: freeing code takes time
        with self._lock:
            self._misses += 1
            old = self._modules.pop(module.key, None)
            if old is not None:
                self._size_bytes -= old.size_bytes
                dropped.append(old)
            max_bytes, max_modules = self._capacity.cap(_BYTES), self._capacity.cap(_NUMBER)
            if module.size_bytes > max_bytes:
                self._capacity.refuse(_BYTES, module.size_bytes)
            else:
                self._modules[module.key] = module
                self._size_bytes += module.size_bytes
                if self._size_bytes > max_bytes:
                    self._capacity.refuse(_BYTES, self._size_bytes)
                if len(self._modules) > max_modules:
                    self._capacity.refuse(_NUMBER, len(self._modules))
            while self._size_bytes > max_bytes or len(self._modules) > max_modules:
                _, oldest = self._modules.popitem(last=False)
                self._size_bytes -= oldest.size_bytes
                self._evictions += 1
                dropped.append(oldest)
            self._note()

    def _note(self) -> None:
        self._capacity.note(_BYTES, self._size_bytes)
        self._capacity.note(_NUMBER, len(self._modules))
        self._capacity.note(_DIGESTS, len(self._digests))
        self._capacity.note(_REFUSALS, len(self._refusals))

    def _trim(self, known: OrderedDict[Any, Any], limit: str) -> None:
        cap = self._capacity.cap(limit)
        if len(known) > cap:
            self._capacity.refuse(limit, len(known))
        while len(known) > cap:
            known.popitem(last=False)
        self._note()

    def digest_of(self, identity: Hashable) -> str | None:
        """Return the digest of the contents that `identity` stands for, if it is known."""
        with self._lock:
            return self._digests.get(identity)

    def remember(self, identity: Hashable, digest: str) -> None:
        """Note that `identity` stands for contents with this digest."""
        with self._lock:
            self._digests[identity] = digest
            self._trim(self._digests, _DIGESTS)

    def refusal_of(self, key: ModuleKey) -> NotRunnable | None:
        """Return a new error like the one that this module was refused with, if it was."""
        with self._lock:
            refusal = self._refusals.get(key)
        return type(refusal)(str(refusal), **refusal.values) if refusal is not None else None

    def refuse(self, key: ModuleKey, refusal: NotRunnable) -> None:
        """Remember that no engine of this profile takes the module."""
        with self._lock:
            self._refusals[key] = type(refusal)(str(refusal), **refusal.values)  # without a traceback's frames
            self._trim(self._refusals, _REFUSALS)

    def clear(self) -> None:
        """Let go of everything. Modules in use live on."""
        with self._lock:
            dropped = list(self._modules.values())
            self._modules.clear()
            self._digests.clear()
            self._refusals.clear()
            self._size_bytes = 0
            self._note()
        dropped.clear()

    def statistics(self) -> CacheStatistics:
        with self._lock:
            return CacheStatistics(
                modules=len(self._modules),
                size_bytes=self._size_bytes,
                hits=self._hits,
                misses=self._misses,
                evictions=self._evictions,
                known_files=len(self._digests),
                known_refusals=len(self._refusals),
            )
