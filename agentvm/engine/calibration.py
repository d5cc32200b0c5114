"""How much fuel a second of computing burns on this machine: what a guest is charged whose own count was lost."""

import threading
from time import thread_time_ns

import wasmtime

from agentvm.engine import bind

__all__ = ["fuel_per_second", "likely_fuel_per_second"]

_ROUNDS = 1_000_000
_LOOP = f"""(module (func (export "spin") (local $i i32) (local $x i32)
  (loop $again
    (local.set $x (i32.add (local.get $x) (i32.mul (local.get $i) (i32.const 3))))
    (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {_ROUNDS}))))))"""
_PLENTY = 1 << 40
_USUAL = 3e9

_lock = threading.Lock()
_measured: float | None = None


def fuel_per_second(engine: wasmtime.Engine) -> float:
    """Return the fuel that a tight loop burns in a second of CPU time; measured once, in a few ms.

    Only on a runner thread. See docs/rationale.md, "Why a killed guest is charged by the clock".
    """
    global _measured  # noqa: PLW0603 - one machine
    if _measured is None:
        with _lock:
            if _measured is None:
                _measured = _measure(engine)
    return _measured


def likely_fuel_per_second() -> float:
    """Return the measured rate, or a usual one where it was not measured yet: good enough to be shown."""
    return _measured or _USUAL


def _measure(engine: wasmtime.Engine) -> float:
    module, linker = wasmtime.Module(engine, _LOOP), bind.HostLinker(engine)
    pre = bind.new_instance_pre(linker, module)
    store = bind.new_store(linker.engine_address)
    try:
        context = bind.context_of(store)
        bind.set_epoch_deadline(context, _PLENTY)
        bind.set_fuel(context, _PLENTY)
        instance, _ = bind.instantiate(pre, context)
        spin = bind.CallFunction(bind.find_export(context, instance, b"spin"))
        started = thread_time_ns()
        bind.invoke_unchecked(context, spin)
        spent_ns = max(1, thread_time_ns() - started)
        return (_PLENTY - bind.get_fuel(context)) * 1e9 / spent_ns
    finally:
        bind.delete_store(store)
        bind.delete_pre(pre)
