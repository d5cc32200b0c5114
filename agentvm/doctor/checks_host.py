"""Checks of what all VMs of the host process share. Each lowers a cap of the process for as long as it takes."""

import contextlib
import io
import os
import tempfile
import threading

from agentvm import log
from agentvm.api.vm import AgentVM
from agentvm.doctor.check import Trial, check
from agentvm.doctor.modules import START, padded, time_bomb
from agentvm.doctor.probe import Probe
from agentvm.doctor.seen import Seen, answered, refused
from agentvm.engine.cache import ModuleCache, ModuleKey
from agentvm.engine.capacity import HostCapacity, host_usage
from agentvm.engine.config import EngineProfile
from agentvm.engine.disk_cache import DiskCache
from agentvm.engine.module import load_module
from agentvm.errors import AgentVMError, HostLimit, NotRunnable
from agentvm.host.directory import HostDirectory
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits

__all__ = ()

_PAGE = 65_536


def _held(trial: Trial) -> int:
    return int(host_usage()[trial.spec.name].used)


@check("max_open_vms", by="host API")
def open_vms(trial: Trial) -> Seen:
    with trial.host(_held(trial) + 1), trial.rig.open_vm():
        return refused(lambda: trial.rig.open_vm().close(), HostLimit, trial.spec)


@check("max_running_processes", by="engine")
def running_processes(trial: Trial) -> Seen:
    with trial.host(_held(trial) + 1), trial.rig.open_vm() as vm, Probe(vm):
        return refused(lambda: vm.run(START), HostLimit, trial.spec, errno="EAGAIN")


@check("max_computing_processes", by="run slots")
def computing_processes(trial: Trial) -> Seen:
    """Two that compute take turns."""
    before = host_usage()[trial.spec.name].refused
    with trial.host(1), trial.rig.open_vm() as vm, Probe(vm) as one, Probe(vm) as other:
        for probe in (one, other):
            probe.tell("burn 1000000000000")
        trial.until(lambda: host_usage()[trial.spec.name].refused > before or _held(trial) > 1)
        count = _held(trial)
        return Seen(f"{count} at a time", count <= 1)


@check("max_host_fds", by="host mount")
def host_fds(trial: Trial) -> Seen:
    with tempfile.TemporaryDirectory(prefix="agentvm-doctor-") as directory, trial.rig.open_vm() as vm:
        vm.mount("/mnt", HostDirectory(directory))
        with Probe(vm) as probe, trial.host(_held(trial) + 8):
            return answered(probe, "open 20 /mnt/opened", "ENFILE", [8])


@check("max_resident_memory_bytes", by="memory creator")
def resident_memory(trial: Trial) -> Seen:
    with trial.rig.open_vm() as vm, Probe(vm) as probe:
        probe.done("grow 0")  # by now it has all that it needs itself
        with trial.host(_held(trial) + 16 * _PAGE):
            probe.done("grow 16")
            errno, _ = probe.do("grow 1")
        return Seen(f"{errno} after 16 pages", errno == "ENOMEM")


@check("max_compile_jobs", by="compiler process")
def compile_jobs(trial: Trial) -> Seen:
    """Two modules that take long to compile: the second waits for the first."""
    before = host_usage()[trial.spec.name].refused
    with trial.rig.open_vm() as vm:
        jobs = [threading.Thread(target=_compile, args=(vm, wasm), daemon=True) for wasm in _two_bombs()]
        jobs[0].start()
        trial.until(lambda: _held(trial) >= 1)
        with trial.host(1):
            jobs[1].start()
            trial.until(lambda: host_usage()[trial.spec.name].refused > before or _held(trial) > 1)
            count = _held(trial)
            vm.kill()
            for job in jobs:
                job.join(trial.rig.patience_seconds)
        return Seen(f"{count} at a time", count <= 1)


def _two_bombs() -> tuple[bytes, bytes]:
    """Different ones, or the second would wait for the first one's code."""
    return time_bomb(), time_bomb() + padded(100)[len(START) :]


def _compile(vm: AgentVM, wasm: bytes) -> None:
    with contextlib.suppress(AgentVMError):  # it is interrupted
        vm.run(wasm)


class _Stuck(io.StringIO):
    """A stderr that nobody reads for a while."""

    def __init__(self, patience_seconds: float) -> None:
        super().__init__()
        self.is_in_use = threading.Event()
        self.is_read = threading.Event()
        self._patience_seconds = patience_seconds

    def write(self, text: str) -> int:
        self.is_in_use.set()
        self.is_read.wait(self._patience_seconds)
        return len(text)


@check("max_waiting_log_lines", by="log")
def waiting_log_lines(trial: Trial) -> Seen:
    """One line is being written, and the others wait for it, or are lost."""
    cap, lines = 4, 8
    trial.rig.open_vm().close()  # from the first one on they are counted
    stuck = _Stuck(trial.rig.patience_seconds)
    log.configure("error", sink=stuck)
    try:
        with trial.host(cap):
            log.error("the doctor has this one written")
            trial.until(stuck.is_in_use.is_set)
            for number in range(lines):
                log.error(f"the doctor has {number} others wait")
            waiting = _held(trial)
        return Seen(f"{waiting} of {lines} lines wait", waiting == cap)
    finally:
        stuck.is_read.set()
        log.flush(trial.rig.patience_seconds)
        log.configure("error", sink=trial.rig.log_sink)


# -- caches: those of the process keep what they hold, so these are caches of the check's own --------------------------


def _capacity(trial: Trial, cap: int) -> HostCapacity:
    return HostCapacity(trial.rig.host_limits(**{trial.spec.name: cap}))


def _modules_kept(trial: Trial, cap: int) -> int:
    capacity = _capacity(trial, cap)
    cache, caps = ModuleCache(capacity), Caps(Limits())
    for wasm in (START, padded(300)):
        cache.put(load_module(wasm, caps=caps, profile=EngineProfile(int(caps["max_wasm_stack_bytes"]))))
    trial.recorded += capacity.usage()[trial.spec.name].refused
    return cache.statistics().modules


@check("max_cached_module_bytes", by="module cache")
def cached_module_bytes(trial: Trial) -> Seen:
    kept = _modules_kept(trial, 1)
    return Seen(f"{kept} of 2 modules kept", kept == 0)


@check("max_cached_modules", by="module cache")
def cached_modules(trial: Trial) -> Seen:
    kept = _modules_kept(trial, 1)
    return Seen(f"{kept} of 2 modules kept", kept == 1)


@check("max_known_module_files", by="module cache")
def known_module_files(trial: Trial) -> Seen:
    capacity = _capacity(trial, 1)
    cache = ModuleCache(capacity)
    for name in ("one", "two"):
        cache.remember(name, name)
    trial.recorded += capacity.usage()[trial.spec.name].refused
    known = cache.statistics().known_files
    return Seen(f"{known} of 2 files known", known == 1)


@check("max_known_bad_modules", by="module cache")
def known_bad_modules(trial: Trial) -> Seen:
    capacity, profile = _capacity(trial, 1), EngineProfile(int(Caps(Limits())["max_wasm_stack_bytes"]))
    cache = ModuleCache(capacity)
    for name in ("one", "two"):
        cache.refuse(ModuleKey(name, profile), NotRunnable("no good"))
    trial.recorded += capacity.usage()[trial.spec.name].refused
    known = cache.statistics().known_refusals
    return Seen(f"{known} of 2 modules known", known == 1)


def _files_kept(trial: Trial, cap: int) -> int:
    capacity = _capacity(trial, cap)
    with tempfile.TemporaryDirectory(prefix="agentvm-doctor-") as directory, tempfile.TemporaryFile() as code:
        code.write(bytes(1000))
        code.flush()
        cache = DiskCache(os.path.join(directory, "cache"), capacity)
        try:
            for key in ("one", "two"):
                stored = cache.store(key, code.fileno(), b"", 0, b"")
                if stored >= 0:
                    os.close(stored)
            kept = cache.info().entries
        finally:
            cache.close()
    trial.recorded += capacity.usage()[trial.spec.name].refused
    return kept


@check("max_cache_bytes", by="module cache")
def cache_bytes(trial: Trial) -> Seen:
    kept = _files_kept(trial, 1500)  # a file has a little more than 1,000
    return Seen(f"{kept} of 2 modules stored", kept == 1)


@check("max_cache_files", by="module cache")
def cache_files(trial: Trial) -> Seen:
    kept = _files_kept(trial, 1)
    return Seen(f"{kept} of 2 modules stored", kept == 1)
