"""The only file that knows wasmtime-py's private names: the C functions as they are called here, on plain addresses.

Pointers are integers throughout: no pointer objects are built on hot paths. Functions declared `quick` keep the GIL:
they return within a microsecond and never call back, and giving the GIL up for them costs more than they do.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import wasmtime
from wasmtime import _bindings as bindings
from wasmtime import _ffi as ffi
from wasmtime import _func as library_calls

from agentvm.errors import EngineUnsupported

__all__ = [
    "CREATOR_BYTES",
    "MEMORY_BYTES",
    "SUPPORTED_VERSIONS",
    "CallFunction",
    "EpochCallback",
    "HostLinker",
    "Val",
    "check_supported",
    "context_of",
    "define_call",
    "delete_error",
    "delete_pre",
    "delete_store",
    "delete_trap",
    "engine_address",
    "find_export",
    "function_type",
    "get_fuel",
    "increment_epoch",
    "instantiate",
    "invoke",
    "invoke_unchecked",
    "library_calls",
    "limit_store",
    "memory_base",
    "new_error",
    "new_instance_pre",
    "new_store",
    "new_trap",
    "read_error",
    "read_trap",
    "set_async_stack_size",
    "set_epoch_callback",
    "set_epoch_deadline",
    "set_fuel",
    "set_memory_creator",
    "set_switch",
]

SUPPORTED_VERSIONS = ">=50,<52"

_missing: list[str] = []
_SIZE, _ADDRESS, _TEXT = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_char_p


def _refuse() -> EngineUnsupported:
    found = getattr(wasmtime, "__version__", "of unknown version")
    return EngineUnsupported(
        f"wasmtime {found} lacks {', '.join(_missing)}, without which caps would be weaker than they say; "
        f"install wasmtime{SUPPORTED_VERSIONS}",
        missing=tuple(_missing),
        wanted=SUPPORTED_VERSIONS,
    )


def _foreign(name: str, result: Any, *arguments: Any, quick: bool = False) -> Any:
    """Return a C function of the library; a missing one is reported by `check_supported`, and raises when called."""
    prototype = (ctypes.PYFUNCTYPE if quick else ctypes.CFUNCTYPE)(result, *arguments)
    try:
        return prototype((name, ffi.dll))
    except AttributeError:
        _missing.append(name)

        def unsupported(*_: object) -> None:
            raise _refuse()

        return unsupported


def _struct(name: str) -> Any:
    found = getattr(bindings, name, None)
    if found is None:
        _missing.append(name)
    return found


def check_supported() -> None:
    """Raise `EngineUnsupported`, naming the versions that work, if the installed wasmtime lacks anything we need."""
    if _missing:
        raise _refuse()


# ---- configuration ----

_set_async_stack_size = _foreign("wasmtime_config_async_stack_size_set", None, _ADDRESS, _SIZE)
_set_memory_creator = _foreign("wasmtime_config_host_memory_creator_set", None, _ADDRESS, _ADDRESS)
_switches: dict[str, Any] = {}


def _address(managed: Any) -> int:
    address = ctypes.cast(managed.ptr(), _ADDRESS).value
    assert address is not None
    return address


def set_switch(config: wasmtime.Config, name: str, enabled: bool) -> None:
    """Set one boolean of the configuration. Raises `EngineUnsupported` if the library does not have it."""
    setter = _switches.get(name)
    if setter is None:
        setter = _switches[name] = _foreign(f"wasmtime_config_{name}_set", None, _ADDRESS, ctypes.c_bool)
    setter(_address(config), enabled)


def set_async_stack_size(config: wasmtime.Config, size_bytes: int) -> None:
    """Set the stack size of async calls, which must be above max_wasm_stack even where none are made."""
    _set_async_stack_size(_address(config), size_bytes)


# ---- memory creator ----

_CreatorStruct, _MemoryStruct = _struct("wasmtime_memory_creator"), _struct("wasmtime_linear_memory")
#: The sizes that `memory_creator` lays out by hand: three and four pointers.
CREATOR_BYTES, MEMORY_BYTES = 24, 32


def set_memory_creator(config: wasmtime.Config, creator: int) -> None:
    """Let the `wasmtime_memory_creator_t` at the address `creator` make all memories. Raises `EngineUnsupported`."""
    check_supported()
    assert ctypes.sizeof(_CreatorStruct) == CREATOR_BYTES
    assert ctypes.sizeof(_MemoryStruct) == MEMORY_BYTES
    _set_memory_creator(_address(config), creator)


# ---- errors and traps ----

_trap_new = _foreign("wasmtime_trap_new", _SIZE, _TEXT, _SIZE, quick=True)
_error_new = _foreign("wasmtime_error_new", _SIZE, _TEXT, quick=True)
delete_trap = _foreign("wasm_trap_delete", None, _SIZE)
delete_error = _foreign("wasmtime_error_delete", None, _SIZE)
_trap_code = _foreign("wasmtime_trap_code", ctypes.c_bool, _SIZE, _ADDRESS)
_trap_trace = _foreign("wasm_trap_trace", None, _SIZE, _ADDRESS)
_error_trace = _foreign("wasmtime_error_wasm_trace", None, _SIZE, _ADDRESS)
_error_message = _foreign("wasmtime_error_message", None, _SIZE, _ADDRESS)
_frame_name = _foreign("wasmtime_frame_func_name", _SIZE, _SIZE)
_frame_index = _foreign("wasm_frame_func_index", ctypes.c_uint32, _SIZE)
_frame_offset = _foreign("wasm_frame_module_offset", _SIZE, _SIZE)
_frames_delete = _foreign("wasm_frame_vec_delete", None, _ADDRESS)
_bytes_delete = _foreign("wasm_byte_vec_delete", None, _ADDRESS)

#: One frame of a backtrace: function index, its name or None, offset in the module.
Frame = tuple[int, bytes | None, int]


class _Vector(ctypes.Structure):
    """wasm_byte_vec_t and its kin: a size and a pointer."""

    _fields_ = [("size", _SIZE), ("data", _SIZE)]


def new_trap(message: bytes) -> int:
    """Return a new trap, for a host call to return. Whoever takes it frees it."""
    return _trap_new(message, len(message))  # type: ignore[no-any-return]


def new_error(message: bytes) -> int:
    """Return a new error, for the callbacks of memories and epochs to return. Whoever takes it frees it."""
    return _error_new(message)  # type: ignore[no-any-return]


def _read_frames(trace: Any, address: int, limit: int, name_bytes: int) -> list[Frame]:
    vector = _Vector()
    trace(address, ctypes.byref(vector))
    frames: list[Frame] = []
    if vector.size:
        pointers = (ctypes.c_size_t * min(vector.size, limit)).from_address(vector.data)
        for frame in pointers:
            name = _frame_name(frame)
            text = None
            if name:
                bytes_ = _Vector.from_address(name)
                text = ctypes.string_at(bytes_.data, min(bytes_.size, name_bytes))
            frames.append((_frame_index(frame), text, _frame_offset(frame)))
    _frames_delete(ctypes.byref(vector))
    return frames


def read_trap(trap: int, limit: int, name_bytes: int) -> tuple[int | None, list[Frame]]:
    """Return the code of a trap, if it has one, and its first `limit` frames; then free it."""
    try:
        code = ctypes.c_uint8()
        known = _trap_code(trap, ctypes.byref(code))
        return (code.value if known else None), _read_frames(_trap_trace, trap, limit, name_bytes)
    finally:
        delete_trap(trap)


def read_error(error: int, limit: int, name_bytes: int) -> tuple[str, list[Frame]]:
    """Return the message of an error, cut to 1,000 bytes, and its first `limit` frames; then free it."""
    try:
        vector = _Vector()
        _error_message(error, ctypes.byref(vector))
        text = ctypes.string_at(vector.data, min(vector.size, 1000)).decode(errors="replace") if vector.size else ""
        _bytes_delete(ctypes.byref(vector))
        return text, _read_frames(_error_trace, error, limit, name_bytes)
    finally:
        delete_error(error)


# ---- stores ----

EpochCallback = ctypes.CFUNCTYPE(_SIZE, _ADDRESS, _ADDRESS, _ADDRESS, _ADDRESS)
_store_new = _foreign("wasmtime_store_new", _SIZE, _SIZE, _SIZE, _SIZE)
delete_store = _foreign("wasmtime_store_delete", None, _SIZE)
context_of = _foreign("wasmtime_store_context", _SIZE, _SIZE, quick=True)
set_epoch_callback = _foreign(
    "wasmtime_store_epoch_deadline_callback", None, _SIZE, EpochCallback, _SIZE, _SIZE, quick=True
)
set_epoch_deadline = _foreign("wasmtime_context_set_epoch_deadline", None, _SIZE, ctypes.c_uint64, quick=True)
_store_limiter = _foreign("wasmtime_store_limiter", None, _SIZE, *[ctypes.c_int64] * 5, quick=True)
_set_fuel = _foreign("wasmtime_context_set_fuel", _SIZE, _SIZE, ctypes.c_uint64, quick=True)
_get_fuel = _foreign("wasmtime_context_get_fuel", _SIZE, _SIZE, _ADDRESS, quick=True)
increment_epoch = _foreign("wasmtime_engine_increment_epoch", None, _SIZE, quick=True)


def engine_address(engine: wasmtime.Engine) -> int:
    """Return the address of an engine, for `new_store` and `increment_epoch`."""
    return _address(engine)


def new_store(engine: int) -> int:
    """Return a new store; `delete_store` ends it and everything in it."""
    return _store_new(engine, 0, 0)  # type: ignore[no-any-return]


def limit_store(store: int, *, table_elements: int, tables: int, memories: int) -> None:
    """Cap what one store may hold: elements for each table, tables and memories; and one instance."""
    _store_limiter(store, -1, table_elements, 1, tables, memories)


def set_fuel(context: int, fuel: int) -> None:
    """Set the fuel that is left. Lost if a guest computes above this frame; see docs/rationale.md."""
    error = _set_fuel(context, fuel)
    if error:
        raise EngineUnsupported(read_error(error, 0, 0)[0])


def get_fuel(context: int) -> int:
    """Return the fuel that is left: exact in host calls and after a return, else as of the last host call."""
    fuel = ctypes.c_uint64()
    error = _get_fuel(context, ctypes.byref(fuel))
    if error:
        raise EngineUnsupported(read_error(error, 0, 0)[0])
    return fuel.value


# ---- instances and calls into the guest ----

_instantiate_pre = _foreign("wasmtime_linker_instantiate_pre", _SIZE, _SIZE, _SIZE, _ADDRESS)
delete_pre = _foreign("wasmtime_instance_pre_delete", None, _SIZE)
_pre_instantiate = _foreign("wasmtime_instance_pre_instantiate", _SIZE, _SIZE, _SIZE, _ADDRESS, _ADDRESS)
_export_get = _foreign(
    "wasmtime_instance_export_get", ctypes.c_bool, _SIZE, _ADDRESS, _TEXT, _SIZE, _ADDRESS, quick=True
)
_func_call = _foreign("wasmtime_func_call", _SIZE, _SIZE, _ADDRESS, _ADDRESS, _SIZE, _ADDRESS, _SIZE, _ADDRESS)
_func_call_unchecked = _foreign("wasmtime_func_call_unchecked", _SIZE, _SIZE, _ADDRESS, _ADDRESS, _SIZE, _ADDRESS)
_memory_data = _foreign("wasmtime_memory_data", _SIZE, _SIZE, _ADDRESS)
_Instance, _Extern, Val = _struct("wasmtime_instance"), _struct("wasmtime_extern"), _struct("wasmtime_val")
#: What a call into the guest came to: an error and a trap, at most one of which is not 0.
Outcome = tuple[int, int]


_u64_at = ctypes.c_uint64.from_address


def write_u64(address: int, value: int) -> None:
    """Write the 64-bit integer at `address`."""
    _u64_at(address).value = value


class CallFunction:
    """A function of an instance, as `invoke` wants it."""

    __slots__ = ("address", "extern")

    def __init__(self, extern: Any) -> None:
        self.extern = extern
        self.address = ctypes.addressof(extern.of)


def new_instance_pre(linker: "HostLinker", module: wasmtime.Module) -> int:
    """Link `module`; raises ValueError with the linker's message if an import is missing or has another type."""
    found = _SIZE()
    error = _instantiate_pre(_address(linker), _address(module), ctypes.byref(found))
    if error:
        raise ValueError(read_error(error, 0, 0)[0])
    return found.value


def instantiate(pre: int, context: int) -> tuple[Any, Outcome]:
    """Make the instance, running its start function. Returns it, and what that came to."""
    instance, trap = _Instance(), _SIZE()
    error = _pre_instantiate(pre, context, ctypes.byref(instance), ctypes.byref(trap))
    return instance, (error, trap.value)


def find_export(context: int, instance: Any, name: bytes) -> Any | None:
    """Return the export called `name` (its `kind` tells what it is), or None."""
    extern = _Extern()
    if _export_get(context, ctypes.byref(instance), name, len(name), ctypes.byref(extern)):
        return extern
    return None


def memory_base(context: int, extern: Any) -> int:
    """Return the address of byte 0 of an exported memory."""
    return _memory_data(context, ctypes.addressof(extern.of))  # type: ignore[no-any-return]


def invoke_unchecked(context: int, function: CallFunction) -> Outcome:
    """Call a function that is known to take and return nothing."""
    trap = _SIZE()
    error = _func_call_unchecked(context, function.address, 0, 0, ctypes.byref(trap))
    return error, trap.value


def invoke(context: int, function: CallFunction, arguments: Any, results: Any) -> Outcome:
    """Call a function with arrays of `Val`, which must fit its type."""
    trap = _SIZE()
    error = _func_call(context, function.address, arguments, len(arguments), results, len(results), ctypes.byref(trap))
    return error, trap.value


# ---- host calls ----

#: A host call: environment, caller, address of the 16-byte values (arguments in, results out), their count.
HostCall = Callable[[int | None, int, int, int], int]
_HostCall = ctypes.CFUNCTYPE(_SIZE, _ADDRESS, _ADDRESS, _ADDRESS, _SIZE)
_define_unchecked = _foreign(
    "wasmtime_linker_define_func_unchecked", _SIZE, _SIZE, _TEXT, _SIZE, _TEXT, _SIZE, _SIZE, _HostCall, _SIZE, _SIZE
)
_TYPES = {
    "i32": wasmtime.ValType.i32,
    "i64": wasmtime.ValType.i64,
    "f32": wasmtime.ValType.f32,
    "f64": wasmtime.ValType.f64,
}


class HostLinker(wasmtime.Linker):
    """A linker that keeps everything its functions need for as long as it lives itself."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        super().__init__(engine)
        self.engine_address = engine_address(engine)
        #: Modules linked so far; filled by `engine.linked`.
        self.linked: WeakKeyDictionary[wasmtime.Module, Any] = WeakKeyDictionary()
        self.keep: list[object] = []
        self.types: dict[tuple[tuple[str, ...], tuple[str, ...]], wasmtime.FuncType] = {}


def function_type(linker: HostLinker, params: Sequence[str], results: Sequence[str]) -> wasmtime.FuncType:
    """Return a function's type. A type belongs to the engine that first sees it: another one would abort."""
    key = tuple(params), tuple(results)
    if key not in linker.types:
        linker.types[key] = wasmtime.FuncType(*([_TYPES[kind]() for kind in kinds] for kinds in key))
    return linker.types[key]


def define_call(
    linker: HostLinker, module: str, name: str, params: Sequence[str], results: Sequence[str], callback: HostCall
) -> None:
    """Define a host call on the fast path. `params` and `results` are "i32", "i64", "f32" or "f64".

    `callback` must return 0, or a `new_trap`, whatever happens: ctypes turns an exception into a wild pointer.
    """
    kind, function = function_type(linker, params, results), _HostCall(callback)
    where, what = module.encode(), name.encode()
    error = _define_unchecked(_address(linker), where, len(where), what, len(what), _address(kind), function, 0, 0)
    if error:
        raise ValueError(read_error(error, 0, 0)[0])
    linker.keep += (kind, function)
