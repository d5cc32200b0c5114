"""What the installation is: versions, host calls, stacks, signal handlers, cgroup, cache, limits of the host process.

Parts of agentvm are imported where they are looked at, so that one that does not load is a finding.
"""

import platform
import re
import sys
from collections.abc import Callable, Iterable, Iterator

from agentvm.config.config import Config
from agentvm.doctor.finding import Finding, Status, look
from agentvm.limits.amount import format_amount
from agentvm.limits.caps import Caps
from agentvm.limits.spec import UNLIMITED, Unit

__all__ = ["examine"]

_MACHINES = ("x86_64", "aarch64")
_LEAST_PYTHON = (3, 11)


def examine(config: Config) -> Iterator[Finding]:
    """Yield one finding after the other. Raises nothing, and changes nothing but that the engine is made."""
    looks: tuple[tuple[str, Callable[[Config], Iterable[Finding]]], ...] = (
        ("agentvm", _agentvm),
        ("wasmtime", _wasmtime),
        ("Python", _python),
        ("platform", _platform),
        ("engine", _engine),
        ("host calls", _host_calls),
        ("stacks", _stacks),
        ("recursion", _recursion),
        ("traps", _traps),
        ("cgroup", _cgroup),
        ("module cache", _cache),
        ("host", _host),
    )
    for topic, at in looks:
        yield from look(topic, lambda at=at: at(config))  # type: ignore[misc]


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _agentvm(_: Config) -> Iterator[Finding]:
    found = _version("agentvm-runtime")
    yield Finding("agentvm", Status.OK, found or "not installed as a package", values={"version": found or None})


def _wasmtime(_: Config) -> Iterator[Finding]:
    from agentvm.engine.bind import SUPPORTED_VERSIONS

    found = _version("wasmtime")
    low, high = (int(number) for number in re.findall(r"\d+", SUPPORTED_VERSIONS))
    major = re.match(r"\d+", found)
    is_supported = major is not None and low <= int(major[0]) < high
    yield Finding(
        "wasmtime",
        Status.OK if is_supported else Status.FAIL,
        f"{found or 'of unknown version'}, of {SUPPORTED_VERSIONS}",
        f"pip install 'wasmtime{SUPPORTED_VERSIONS}'",
        {"version": found or None, "supported": SUPPORTED_VERSIONS},
    )


def _python(_: Config) -> Iterator[Finding]:
    yield Finding(
        "Python",
        Status.OK if sys.version_info >= _LEAST_PYTHON else Status.FAIL,
        f"{platform.python_implementation()} {platform.python_version()}",
        f"use Python {'.'.join(map(str, _LEAST_PYTHON))} or later",
        {"version": platform.python_version()},
    )


def _platform(_: Config) -> Iterator[Finding]:
    system, machine = platform.system(), platform.machine()
    is_supported = system == "Linux" and machine in _MACHINES
    yield Finding(
        "platform",
        Status.OK if is_supported else Status.FAIL,
        f"{system} {platform.release()} on {machine}",
        f"caps are promised on Linux, on {' and '.join(_MACHINES)}",
        {"system": system, "machine": machine},
    )


def _stack_bytes(config: Config) -> int:
    return int(Caps(config.limits)["max_wasm_stack_bytes"])


def _engine(config: Config) -> Iterator[Finding]:
    """Raises `EngineUnsupported`, which names what the library lacks."""
    from agentvm.engine.bind import check_supported
    from agentvm.engine.config import EngineProfile, engine_for

    check_supported()
    engine_for(EngineProfile(_stack_bytes(config)))
    yield Finding("engine", Status.OK, "memory creator, epoch callback and async stack size are there")


def _host_calls(_: Config) -> Iterator[Finding]:
    from agentvm.api import machine

    is_fast = not machine.PUBLIC_CALLS
    yield Finding(
        "host calls",
        Status.OK if is_fast else Status.FAIL,
        "the fast path" if is_fast else "the library's public API, which takes 13 times as long",
        "unset AGENTVM_PUBLIC_HOST_CALLS",
        {"fast": is_fast},
    )


def _stacks(config: Config) -> Iterator[Finding]:
    """Raises `HostLimit` where the host refuses a thread with such a stack."""
    from agentvm.engine.config import ASYNC_STACK_EXTRA
    from agentvm.engine.stack import EXTRA_BYTES, start_thread

    guest = _stack_bytes(config)
    sizes = {"guest": guest, "thread": guest + EXTRA_BYTES, "async": guest + ASYNC_STACK_EXTRA}
    start_thread(lambda: None, sizes["thread"])
    shown = {name: format_amount(Unit.BYTES, size) for name, size in sizes.items()}
    yield Finding(
        "stacks",
        Status.OK,
        f"{shown['guest']} for a guest, on threads of {shown['thread']}; {shown['async']} for asynchronous calls",
        values={f"{name}_bytes": size for name, size in sizes.items()},
    )


def _recursion(_: Config) -> Iterator[Finding]:
    from agentvm.engine.machine import MIN_RECURSION_LIMIT

    limit = sys.getrecursionlimit()
    yield Finding(
        "recursion",
        Status.OK if limit >= MIN_RECURSION_LIMIT else Status.FAIL,
        f"sys.getrecursionlimit() is {limit:,}, and {MIN_RECURSION_LIMIT:,} are needed",
        f"sys.setrecursionlimit({MIN_RECURSION_LIMIT}) or more",
        {"limit": limit, "needed": MIN_RECURSION_LIMIT},
    )


def _traps(_: Config) -> Iterator[Finding]:
    from agentvm.engine import host_signals

    found = host_signals.in_force()
    taken = [name for name, is_ours in found.items() if not is_ours]
    if taken:
        text = f"{', '.join(taken)}: another handler has taken the place of wasmtime's"
    else:
        text = f"{', '.join(found)}: wasmtime's handlers are in force" if found else "wasmtime has no handlers"
    yield Finding(
        "traps",
        Status.OK if found and not taken else Status.FAIL,
        text,
        "install faulthandler and the like before the first VM is opened",
        {"in_force": found},
    )


def _cgroup(config: Config) -> Iterator[Finding]:
    from agentvm.host.cgroup_plan import plan_wall

    plan = plan_wall({**Caps(config.limits), **dict(config.host.given())})
    place = "no cgroup v2 here" if plan.hierarchy is None else f"v2, in {plan.hierarchy.own or '/'}"
    delegated = f"; delegated: {' '.join(sorted(plan.delegated))}" if plan.delegated else ""
    files = ", ".join(f"{file.name} = {file.value}" for file in plan.files)
    missing = ", ".join(dict.fromkeys(record.cap for record in plan.not_enforced))
    enforces = f"; the host can enforce {files}" if files else ""
    lacks = f"; it cannot enforce {missing}" if missing else ""
    is_needed = config.cgroup == "required"
    yield Finding(
        "cgroup",
        Status.OK if not missing else Status.FAIL if is_needed else Status.NOTE,
        f"{place}{delegated}{enforces}{lacks}",
        "`agentvm cgroup` says why, and `agentvm cgroup --print-unit` prints a unit that enforces them",
        {
            "mode": config.cgroup,
            "own_group": None if plan.hierarchy is None else plan.hierarchy.own or "/",
            "delegated": sorted(plan.delegated),
            "files": {file.name: file.value for file in plan.files},
            "not_enforced": {record.cap: record.why for record in plan.not_enforced},
        },
    )


def _cache(_: Config) -> Iterator[Finding]:
    from agentvm.engine.disk_cache import default_directory
    from agentvm.engine.module import cache_info

    info = cache_info()
    size, cap = format_amount(Unit.BYTES, info.size_bytes), format_amount(Unit.BYTES, info.max_bytes)
    is_on, is_wanted = info.directory is not None, default_directory() is not None
    yield Finding(
        "module cache",
        Status.OK if is_on else Status.FAIL if is_wanted else Status.NOTE,
        f"{info.directory}: {info.entries:,} modules, {size} of {cap}" if is_on else f"off: {info.reason}",
        "every program is compiled anew; set AGENTVM_CACHE_DIR to a directory that is yours alone",
        {"directory": info.directory, "entries": info.entries, "size_bytes": info.size_bytes, "reason": info.reason},
    )


def _host(config: Config) -> Iterator[Finding]:
    """The caps that all VMs share, each with where it came from."""
    from agentvm.engine.capacity import host_usage

    given = dict(config.host.given())
    for use in host_usage():
        cap = given.get(use.name, use.cap)
        source = "set" if use.name in given else "derived" if use.spec.default is None else "default"
        yield Finding(
            use.name,
            Status.OK,
            f"{format_amount(use.spec.unit, cap)}, {source}",
            values={"cap": None if cap == UNLIMITED else cap, "source": source},
        )
