"""The limits of modules: their size, their parts, and what compiling them may take."""

from dataclasses import dataclass

from agentvm.errno import Errno
from agentvm.limits.amount import Amount
from agentvm.limits.declare import GIB, MIB, limit
from agentvm.limits.spec import Kind, Scope, Unit

__all__ = ["ModuleLimits"]


# `Limits` has the methods that a dataclass gets; making them here too would take as long as starting a VM.
@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ModuleLimits:
    """The part of `Limits` that is about modules."""

    max_tables: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 4, None, "not runnable",
        "Tables of one process.", maximum=1024,
    )  # fmt: skip
    max_table_elements: Amount = limit(
        Kind.CEILING, Scope.PROCESS, Unit.COUNT, 1_000_000, None, "table.grow -1; not runnable",
        "Elements over all tables of one process, charged to its memory.", maximum=100_000_000,
    )  # fmt: skip
    max_memories: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 4, None, "not runnable",
        "Linear memories of one process.", minimum=1, maximum=64,
    )  # fmt: skip
    max_module_bytes: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.BYTES, 128 * MIB, Errno.ENOEXEC, "typed error to the operator",
        "Size of a module that the operator runs.", aliases=("max_module_file_bytes",),
    )  # fmt: skip
    max_guest_module_bytes: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.BYTES, 8 * MIB, Errno.ENOEXEC, "ENOEXEC",
        "Size of a module that a guest wrote.", within="max_module_bytes",
    )  # fmt: skip
    max_types: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 50_000, Errno.ENOEXEC, "not runnable",
        "Function types of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_imports: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 1_000, Errno.ENOEXEC, "not runnable",
        "Imports of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_exports: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 50_000, Errno.ENOEXEC, "not runnable",
        "Exports of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_functions: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 200_000, Errno.ENOEXEC, "not runnable",
        "Functions of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_globals: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 50_000, Errno.ENOEXEC, "not runnable",
        "Globals of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_segments: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 50_000, Errno.ENOEXEC, "not runnable",
        "Data and element segments of a module.", maximum=100_000,
    )  # fmt: skip
    max_custom_sections: Amount = limit(
        Kind.CEILING, Scope.MODULE, Unit.COUNT, 10_000, Errno.ENOEXEC, "not runnable",
        "Custom sections of a module.", maximum=1_000_000,
    )  # fmt: skip
    max_compile_seconds: Amount = limit(
        Kind.CEILING, Scope.COMPILE, Unit.SECONDS, 120, Errno.ENOEXEC, "typed error CompileLimit to the operator",
        "CPU time, and wall time, of compiling one module.", minimum=0.1, maximum=86_400,
    )  # fmt: skip
    max_guest_compile_seconds: Amount = limit(
        Kind.CEILING, Scope.COMPILE, Unit.SECONDS, 10, Errno.ENOEXEC, "ENOEXEC",
        "The same for a module that a guest wrote.", within="max_compile_seconds", minimum=0.1, maximum=86_400,
    )  # fmt: skip
    max_compile_memory_bytes: Amount = limit(
        Kind.CEILING, Scope.COMPILE, Unit.BYTES, 2 * GIB, Errno.ENOEXEC, "typed error CompileLimit to the operator",
        "Address space of the compiler process.", minimum=256 * MIB,
    )  # fmt: skip
