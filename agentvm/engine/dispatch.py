"""From the declaration of a call to the callback that wasmtime enters: decode, check, call, write the result.

The callbacks are generated as Python source, once for each call: a generic decoder would cost more than most calls do.
What they do at every entry, in this order: look whether the process must end or its slice of time is over, check the
pointers of the results, decode the parameters (checking theirs), take the kernel lock, run the handler, write the
results. A `KernelError` is the guest's; anything else goes to `Execution.fail`, which always returns a trap.
"""

import ctypes
import threading
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import Any

import wasmtime

from agentvm.abi import records
from agentvm.abi.disk import metered
from agentvm.abi.preview1 import PREVIEW1, UNSTABLE
from agentvm.abi.syscall import SyscallSpec
from agentvm.engine import bind
from agentvm.engine.current import current
from agentvm.engine.module_info import Signature
from agentvm.engine.public_calls import define_call_public
from agentvm.errno import Errno, KernelError
from agentvm.kernel.wait import Interrupted

__all__ = ["HostCalls", "available_import", "make_callback"]

_TABLES: Mapping[str, Mapping[str, SyscallSpec]] = {"wasi_snapshot_preview1": PREVIEW1, "wasi_unstable": UNSTABLE}
_NO_CALLS: Mapping[str, SyscallSpec] = {}


def _calls_of(module: str) -> Mapping[str, SyscallSpec]:
    """Return the calls of an import module; those of the host ABI are imported with the first program that does."""
    if module.startswith("host_"):
        from agentvm.abi.agentos import AGENTOS

        return AGENTOS.get(module, _NO_CALLS)
    return _TABLES.get(module, _NO_CALLS)


def available_import(module: str, name: str) -> Signature | None:
    """Return the type of a function that a module may import; None if there is no such function."""
    known = _signatures.get((module, name))
    if known is None:
        table = _calls_of(module)
        if name not in table:
            return None
        spec = table[name]
        known = _signatures[module, name] = Signature(spec.wasm_params, spec.wasm_results)
    return known


_signatures: dict[tuple[str, str], Signature] = {}  # bounded by the calls that there are


#: Raw values lie 16 bytes apart; no call has more than this many.
_MOST_VALUES = 24
_MOST_VIEWS = 512


class _Views(dict[int, memoryview]):
    """Views of argument arrays by address. Arrays lie on the stacks of runner threads, so few addresses recur; a guest
    that calls from ever new depths only makes the table start anew."""

    def __init__(self, code: str) -> None:
        super().__init__()
        self._code = code

    def __missing__(self, address: int) -> memoryview:
        if len(self) >= _MOST_VIEWS:
            self.clear()
        raw = memoryview((ctypes.c_ubyte * (16 * _MOST_VALUES)).from_address(address)).cast("B")
        view: memoryview = raw.cast(self._code)  # type: ignore[call-overload]
        self[address] = view
        return view


_VIEWS_32 = _Views("I")
_VIEWS_64 = _Views("Q")


def _raw_values(spec: SyscallSpec) -> list[str]:
    """The expressions that read the raw parameters out of the argument array."""
    kinds = enumerate(spec.wasm_params)
    return [f"values[{4 * i}]" if kind == "i32" else f"wide[{2 * i}]" for i, kind in kinds]


def _source(spec: SyscallSpec, *, traced: bool) -> str:
    raw = _raw_values(spec)
    arguments, position = ["context"], 0
    for _, param in spec.params:
        arguments.append(param.decode.format(*raw[position : position + len(param.wasm)]))
        position += len(param.wasm)
    lines = ["values = values_at[address]"]
    if "i64" in spec.wasm_params:
        lines.append("wide = wide_at[address]")
    if traced:
        lines.append(f"before = ({', '.join(raw)}{',' if raw else ''})")
        if not spec.returns:
            lines.append("context.trace(spec, before, 0)")
    if spec.results or any("memory." in argument for argument in arguments):
        lines.append("memory = context.memory")
    for index, (result, pointer) in enumerate(zip(spec.results, raw[position:], strict=True)):
        lines += [
            f"out{index} = {pointer}",
            f"if out{index} + {result.size} > memory.size: memory.refresh(out{index} + {result.size})",
        ]
    lines += _call_lines(spec, arguments)
    lines += [
        f"{result.pack}(memory.view, out{index}, {f'found[{index}]' if len(spec.results) > 1 else 'found'})"
        for index, result in enumerate(spec.results)
    ]
    lines.append(_return_line(spec))
    if spec.signals or spec.can_be_interrupted:  # a wait that came to its end may have seen a signal too
        lines.append("if context.process.check_at < 0: current.execution.handle_signals()")
    if traced and spec.returns:
        lines.append("context.trace(spec, before, 0)")
    return _around(spec, lines, traced=traced)


def _return_line(spec: SyscallSpec) -> str:
    if spec.direct is None:
        return "values[0] = 0"
    return "wide_at[address][0] = found" if spec.direct.wasm == "i64" else "values[0] = found"


def _failure(spec: SyscallSpec, errno: str, *, traced: bool) -> str:
    """What is done with an errno: returned, or where the call returns something else, told as that."""
    if spec.direct is None:
        told = f"values[0] = {errno}"
    elif spec.direct.wasm == "i64":
        told = f"wide_at[address][0] = {spec.direct.on_error & 0xFFFF_FFFF_FFFF_FFFF}"
    else:
        told = f"values[0] = {spec.direct.on_error & 0xFFFF_FFFF}"
    return told + (f"; context.trace(spec, before, {errno})" if traced else "")


def _around(spec: SyscallSpec, lines: Sequence[str], *, traced: bool) -> str:
    """What is the same in all calls. One that a signal can interrupt is made again where its handler says so."""
    interrupted = ""
    if spec.can_be_interrupted:
        handled = "current.execution.handle_signals()"
        interrupted = f"""
            except Interrupted:
                {f"if {handled}: continue" if spec.restarts else handled}
                {_failure(spec, str(int(Errno.EINTR)), traced=traced)}"""
    body = "\n                ".join(lines)
    return f"""
def {spec.name}(environment, caller, address, count):
    try:
        context = current.context
        while True:
            if monotonic() >= context.process.check_at:
                current.execution.checkpoint()
            try:
                {body}{interrupted}
            except KernelError as error:
                {_failure(spec, "error.errno", traced=traced)}
                if context.process.is_signalled: current.execution.handle_signals()
            return 0
    except BaseException as error:
        return current.execution.fail(error)
"""


def _call_lines(spec: SyscallSpec, arguments: Sequence[str]) -> list[str]:
    """Decode first, so that a bad pointer is found before the lock is taken and before anything happens."""
    names = [f"a{i}" if "memory." in argument else argument for i, argument in enumerate(arguments)]
    lines = [f"{name} = {text}" for name, text in zip(names, arguments, strict=True) if name != text]
    has_result = spec.results or spec.direct is not None
    call = f"{'found = ' if has_result else ''}handler({', '.join(names)})"
    return [*lines, f"with context.lock: {call}" if spec.locked else call]


def make_callback(spec: SyscallSpec, *, traced: bool, rated: bool = False) -> bind.HostCall:
    """Return the callback of one call; `traced`, it reports each call to the `trace` of its context; `rated`, it counts
    against the disk rates of its VM."""
    names: dict[str, Any] = {
        "Interrupted": Interrupted,
        "KernelError": KernelError,
        "current": current,
        "handler": metered(spec) if rated and spec.disk is not None else spec.handler,
        "monotonic": monotonic,
        "spec": spec,
        "values_at": _VIEWS_32,
        "wide_at": _VIEWS_64,
    }
    names.update({result.pack: getattr(records, result.pack) for result in spec.results})
    code = compile(_source(spec, traced=traced), f"<call {spec.module}.{spec.name}>", "exec")
    exec(code, names)  # noqa: S102 - the source comes from our own declarations
    callback: bind.HostCall = names[spec.name]
    return callback


class HostCalls:
    """The host's calls on one engine. Each is made when the first module comes that imports it: most need a dozen."""

    def __init__(
        self, engine: wasmtime.Engine, *, traced: bool = False, rated: bool = False, public: bool = False
    ) -> None:
        """`traced`: for processes whose context has a `trace`. `rated`: for VMs with disk rates. `public`: through the
        library's public API, slower."""
        self.linker = bind.HostLinker(engine)
        self._traced = traced
        self._rated = rated
        self._define = define_call_public if public else bind.define_call
        self._lock = threading.Lock()
        self._defined: set[tuple[str, str]] = set()  # guarded by _lock; at most all calls

    def provide(self, names: Iterable[tuple[str, str]]) -> bind.HostLinker:
        """Return the linker with the calls `names`, as (module, name); what is no call of ours is left out."""
        missing = [name for name in names if name not in self._defined and name[1] in _calls_of(name[0])]
        if missing:
            with self._lock:
                for module, name in missing:
                    if (module, name) not in self._defined:
                        self._add(_calls_of(module)[name])
        return self.linker

    def _add(self, spec: SyscallSpec) -> None:
        callback = make_callback(spec, traced=self._traced, rated=self._rated)
        self._define(self.linker, spec.module, spec.name, spec.wasm_params, spec.wasm_results, callback)
        self._defined.add((spec.module, spec.name))
