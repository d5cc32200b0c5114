"""The catalogue: every limit, declared once. `Limits` is what an operator asks for, `Caps` what is then in force."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from agentvm.errno import Errno
from agentvm.errors import InvalidLimit
from agentvm.limits.amount import Amount, format_amount, parse_amount
from agentvm.limits.spec import UNLIMITED, Cap, Kind, LimitSpec, Scope, Unit

__all__ = ["DEFAULT_LIMITS", "GIB", "MIB", "SPECS", "Caps", "Limits", "collect", "find_spec", "limit"]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_SPEC = "limit"


def limit(
    kind: Kind,
    scope: Scope,
    unit: Unit,
    default: Cap | None,
    errno: Errno | None,
    guest_sees: str,
    summary: str,
    **more: Any,
) -> Any:
    """Declare a limit; its name is that of the field."""
    make = {"kind": kind, "scope": scope, "unit": unit, "default": default, "errno": errno}
    return field(default=None, metadata={_SPEC: make | {"guest_sees": guest_sees, "summary": summary} | more})


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The caps that an operator sets. Each field takes a number, text such as "64MiB" or "1.5s", "none" for no limit,
    or None (the default) for the secure default. Raises `InvalidLimit` for a value that the limit does not take."""

    max_processes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 64, Errno.EAGAIN, "spawn: EAGAIN",
        "Processes in the VM's table, zombies included.", aliases=("max_subprocesses",), minimum=1,
    )  # fmt: skip
    max_open_fds_per_process: Amount = limit(
        Kind.GAUGE, Scope.PROCESS, Unit.COUNT, 256, Errno.EMFILE, "EMFILE",
        "Descriptors that one process may hold.", within="max_open_fds",
    )  # fmt: skip
    max_open_fds: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 1024, Errno.ENFILE, "ENFILE (EMFILE where the process is full too)",
        "Descriptors of all processes together.", aliases=("max_open_files",),
    )  # fmt: skip
    max_sockets: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 128, Errno.ENFILE, "socket, accept: ENFILE",
        "Sockets of all processes, connections that wait to be accepted included.",
    )  # fmt: skip
    max_filesystem_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, 64 * MIB, Errno.ENOSPC, "ENOSPC",
        "What the in-memory filesystem may hold: data, and a constant for each inode and name.",
    )  # fmt: skip
    max_inodes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 16_384, Errno.ENOSPC, "ENOSPC",
        "Files, directories and links in the in-memory filesystem.",
    )  # fmt: skip
    max_temp_storage_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, None, Errno.ENOSPC, "ENOSPC",
        "The part of max_filesystem_bytes that may lie under /tmp.", follows="max_filesystem_bytes",
    )  # fmt: skip
    max_file_bytes: Amount = limit(
        Kind.CEILING, Scope.FILE, Unit.BYTES, UNLIMITED, Errno.EFBIG, "written up to the cap, then EFBIG",
        "Size of one file.",
    )  # fmt: skip
    max_host_write_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, None, Errno.ENOSPC, "ENOSPC",
        "Growth of files through read-write host mounts.", follows="max_filesystem_bytes",
    )  # fmt: skip
    max_host_inodes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.COUNT, 16_384, Errno.ENOSPC, "ENOSPC",
        "Files, directories and links made through read-write host mounts.",
    )  # fmt: skip
    max_log_bytes: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.BYTES, 16 * MIB, Errno.ENOSPC, "ENOSPC; the result is marked truncated",
        "Captured standard output and error together.",
    )  # fmt: skip
    max_output_bytes: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.BYTES, UNLIMITED, Errno.ENOSPC, "ENOSPC",
        "Streamed output. Where it goes to a regular file, max_log_bytes is the default.",
    )  # fmt: skip
    max_memory_bytes: Amount = limit(
        Kind.GAUGE, Scope.VM, Unit.BYTES, 512 * MIB, Errno.ENOMEM, "memory.grow -1 (ENOMEM)",
        "Linear memories, tables and GC heaps of all processes.", minimum=64 * KIB,
    )  # fmt: skip
    max_memory_per_process_bytes: Amount = limit(
        Kind.GAUGE, Scope.PROCESS, Unit.BYTES, 128 * MIB, Errno.ENOMEM, "memory.grow -1 (ENOMEM)",
        "Linear memories, tables and GC heaps of one process.", within="max_memory_bytes", minimum=64 * KIB,
    )  # fmt: skip
    max_wasm_stack_bytes: Amount = limit(
        Kind.CEILING, Scope.PROCESS, Unit.BYTES, 1 * MIB, None, "stack overflow: SIGSEGV",
        "The call stack of a process.", minimum=64 * KIB, maximum=256 * MIB,
    )  # fmt: skip
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
        "Size of a module that the operator runs.",
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
    max_fuel: Amount = limit(
        Kind.BUDGET, Scope.VM, Unit.FUEL, UNLIMITED, None, "SIGXCPU",
        "Instructions of all processes together, as wasmtime counts them.",
    )  # fmt: skip
    max_fuel_per_process: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.FUEL, 10**12, None, "SIGXCPU",
        "Instructions of one process, as wasmtime counts them.", within="max_fuel",
    )  # fmt: skip
    max_cpu_time_seconds: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.SECONDS, 60, None, "SIGXCPU",
        "CPU time of one process, host calls included.", minimum=0.001,
    )  # fmt: skip
    max_wall_time_seconds: Amount = limit(
        Kind.BUDGET, Scope.PROCESS, Unit.SECONDS, UNLIMITED, None, "SIGKILL",
        "Time from the start of a process to its end.", minimum=0.001,
    )  # fmt: skip
    max_argv_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 1 * MIB, Errno.E2BIG, "E2BIG",
        "Arguments of a process, with their terminating NULs.",
    )  # fmt: skip
    max_env_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 1 * MIB, Errno.E2BIG, "E2BIG",
        "Environment of a process, with its terminating NULs.",
    )  # fmt: skip
    max_path_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 4096, Errno.ENAMETOOLONG, "ENAMETOOLONG",
        "Length of a path, or of a symlink's target, with a terminating NUL.", minimum=1, maximum=1 * MIB,
    )  # fmt: skip
    max_name_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 255, Errno.ENAMETOOLONG, "ENAMETOOLONG",
        "Length of one name in a path.", minimum=1, maximum=65_535,
    )  # fmt: skip
    max_symlinks: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 40, Errno.ELOOP, "ELOOP",
        "Symlinks followed in resolving one path.", maximum=1000,
    )  # fmt: skip
    max_iovecs: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 1024, Errno.EINVAL, "EINVAL",
        "Buffers of one read or write.", minimum=1, maximum=65_536,
    )  # fmt: skip
    max_poll_subscriptions: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.COUNT, 1024, Errno.EINVAL, "EINVAL",
        "Subscriptions of one poll_oneoff.", minimum=1, maximum=65_536,
    )  # fmt: skip
    max_io_bytes: Amount = limit(
        Kind.CEILING, Scope.CALL, Unit.BYTES, 16 * MIB, None, "short count",
        "Bytes moved by one call on a stream or a host file.", minimum=1, maximum=1 * GIB,
    )  # fmt: skip
    max_pipe_bytes: Amount = limit(
        Kind.CEILING, Scope.FILE, Unit.BYTES, 64 * KIB, Errno.EAGAIN, "blocks; EAGAIN if non-blocking",
        "Bytes held in one standard stream or pipe between its two ends.", minimum=4096, maximum=16 * MIB,
    )  # fmt: skip

    def __post_init__(self) -> None:
        for name, spec in SPECS.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, parse_amount(spec, value))

    @classmethod
    def of(cls, values: Mapping[str, Amount]) -> "Limits":
        """Make limits from names as an operator may spell them. Raises `InvalidLimit` for an unknown one."""
        named: dict[str, Amount] = {}
        for name, value in values.items():
            canonical = find_spec(name).name
            if canonical in named:
                raise InvalidLimit(f"{canonical} is given twice, the second time as {name!r}")
            named[canonical] = value
        return cls(**named)

    def replace(self, **changes: Amount) -> "Limits":
        """Return these limits with some changed."""
        return Limits.of({**dict(self.given()), **changes})

    def given(self) -> Iterator[tuple[str, Cap]]:
        """Iterate over the limits that were set, by name."""
        for name in SPECS:
            value = getattr(self, name)
            if value is not None:
                yield name, value


def collect(declared: type[Any]) -> dict[str, LimitSpec]:
    """Return the limits that the fields of a dataclass declare, by name."""
    return {f.name: LimitSpec(name=f.name, **f.metadata[_SPEC]) for f in fields(declared) if _SPEC in f.metadata}


#: Every limit by its canonical name, in the order of the catalogue.
SPECS: Mapping[str, LimitSpec] = collect(Limits)


def find_spec(name: str) -> LimitSpec:
    """Return the limit called `name`, or known by that alias. Raises `InvalidLimit` with the nearest names."""
    wanted = name.strip().removeprefix("--").replace("-", "_").lower()
    spec = SPECS.get(wanted)
    if spec is not None:
        return spec
    for candidate in SPECS.values():
        if wanted in candidate.aliases:
            return candidate
    import difflib

    near = difflib.get_close_matches(wanted, SPECS, n=3, cutoff=0.5)
    raise InvalidLimit(f"there is no limit {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))


class Caps(Mapping[str, Cap]):
    """The caps in force: every limit has one. Only the operator changes them, through `raise_to`."""

    def __init__(self, limits: Limits) -> None:
        """Raises `InvalidLimit` if an explicit cap lies above the wider one that contains it."""
        self._given = dict(limits.given()) if limits is not DEFAULT_LIMITS else {}
        self._caps = _resolve(self._given) if self._given else _DEFAULT_CAPS.copy()

    def __getitem__(self, name: str) -> Cap:
        return self._caps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._caps)

    def __len__(self) -> int:
        return len(self._caps)

    def copy(self) -> Mapping[str, Cap]:
        """Return the caps as they are now."""
        return self._caps.copy()

    def raise_to(self, limits: Limits) -> None:
        """Raise the caps that `limits` gives, and with them those that follow or lie within them.

        Raises `InvalidLimit` for one that would fall, and for one above the wider cap that contains it.
        """
        for name, cap in limits.given():
            if cap < self._caps[name]:
                unit = SPECS[name].unit
                raise InvalidLimit(
                    f"{name} can only be raised: it is {format_amount(unit, self._caps[name])}, "
                    f"not more than {format_amount(unit, cap)}"
                )
        given = self._given | dict(limits.given())
        self._caps = _resolve(given)
        self._given = given


_DEFAULTS: dict[str, Cap] = {name: spec.default for name, spec in SPECS.items() if spec.default is not None}


def _resolve(given: Mapping[str, Cap]) -> dict[str, Cap]:
    caps = {**_DEFAULTS, **given}
    for name, spec in SPECS.items():
        if name not in caps:
            assert spec.follows is not None
            caps[name] = caps[spec.follows]
    for name, spec in SPECS.items():
        if spec.within is None or caps[name] <= caps[spec.within]:
            continue
        if name in given:
            wide = format_amount(spec.unit, caps[spec.within])
            raise InvalidLimit(
                f"{name} is {format_amount(spec.unit, caps[name])}, above {spec.within}, which is {wide}: "
                f"raise {spec.within} too"
            )
        caps[name] = caps[spec.within]
    return caps


#: What a VM gets that asks for nothing; resolved once, as most VMs do.
DEFAULT_LIMITS = Limits()
_DEFAULT_CAPS = _resolve({})
