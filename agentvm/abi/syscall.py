"""How a call is declared: once, as a typed function; everything else about it is derived from that.

`@syscall` only attaches a `SyscallSpec`; `collect` builds the table of a package, explicitly.
"""

import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from inspect import signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from agentvm.abi.params import Direct, Param, Record
from agentvm.errno import Errno

__all__ = ["CallTable", "Disk", "Support", "SyscallSpec", "collect", "syscall"]

_ATTRIBUTE = "__syscall__"


class Support(Enum):
    """How much of a call works."""

    FULL = "full"
    REFUSED = "refused"


class Disk(Enum):
    """Against which disk rates a call counts, on what lies in memory or on the host; see `abi.disk`."""

    READ = "read"
    WRITE = "write"
    OPEN = "read, or write: by oflags"  # write where they make or empty the file


@dataclass(frozen=True, slots=True)
class SyscallSpec:
    """One call: everything that engine, traces, docs and tests need to know."""

    module: str
    name: str
    handler: Callable[..., Any]
    params: tuple[tuple[str, Param], ...]
    results: tuple[Record, ...]
    fails_with: Mapping[Errno, str]
    support: Support
    note: str
    locked: bool
    disk: Disk | None
    returns: bool
    #: What it returns itself, where others return their errno.
    direct: Direct | None = None
    #: Whether it is made again after a handler with SA_RESTART has interrupted it; else it fails with EINTR.
    restarts: bool = False
    #: Whether it may let signals through: their handlers then run before it returns, as they do where it can wait.
    signals: bool = False

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring."""
        return (self.handler.__doc__ or "").strip().splitlines()[0]

    @property
    def raw_params(self) -> tuple[tuple[str, str], ...]:
        """(name, wasm type) of every raw parameter; pointers to results come last, as in the witx."""
        raw = [
            (name + suffix, kind)
            for name, param in self.params
            for suffix, kind in zip(param.suffixes, param.wasm, strict=True)
        ]
        single = len(self.results) == 1
        return (*raw, *(("result" if single else f"result{i}", "i32") for i in range(len(self.results))))

    @property
    def raw_signs(self) -> tuple[bool, ...]:
        """Whether each raw parameter is a signed number."""
        own = [param.signed for _, param in self.params for _ in param.wasm]
        return (*own, *(False for _ in self.results))

    @property
    def wasm_params(self) -> tuple[str, ...]:
        return tuple(kind for _, kind in self.raw_params)

    @property
    def wasm_results(self) -> tuple[str, ...]:
        if self.direct is not None:
            return (self.direct.wasm,)
        return ("i32",) if self.returns else ()

    @property
    def can_be_interrupted(self) -> bool:
        """Whether it waits for what may never come, so that a signal ends the wait."""
        return Errno.EINTR in self.fails_with

    @property
    def errnos(self) -> frozenset[Errno]:
        """Every errno that the call may fail with: the documented ones, and those of its parameters."""
        own = set(self.fails_with)
        for _, param in self.params:
            own.update(param.errnos)
        if self.results:
            own.add(Errno.EFAULT)
        return frozenset(own)

    def signature_text(self) -> str:
        """The call as docs and traces write it: `fd_read(fd: i32, iovs: i32, ...)`."""
        return f"{self.name}({', '.join(f'{name}: {kind}' for name, kind in self.raw_params)})"

    def for_module(self, module: str, **changes: Any) -> "SyscallSpec":
        """Return this call as another import module offers it."""
        return replace(self, module=module, **changes)


Handler = typing.TypeVar("Handler", bound=Callable[..., Any])


def syscall(
    fails_with: Mapping[Errno, str] | None = None,
    *,
    support: Support = Support.FULL,
    note: str = "",
    locked: bool = True,
    disk: Disk | None = None,
    restarts: bool = False,
    signals: bool = False,
) -> Callable[[Handler], Handler]:
    """Declare a call. `fails_with` maps each errno to its cause: with EINTR among them it can be interrupted, and then
    `restarts` or not. `locked=False` runs it without the kernel lock; `disk` says which disk rates it counts against;
    `signals` that it may let signals through."""

    def attach(handler: Handler) -> Handler:
        declared = {
            "fails_with": dict(fails_with or {}),
            "support": support,
            "note": note,
            "locked": locked,
            "disk": disk,
            "restarts": restarts,
            "signals": signals,
        }
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return attach


class CallTable(Mapping[str, SyscallSpec]):
    """The calls of one import module, by name, sorted. Each is described when it is first looked at: a program needs a
    dozen, and reading the annotations of all takes longer than starting it."""

    def __init__(self, descriptions: Mapping[str, Callable[[], SyscallSpec]]) -> None:
        self._descriptions = dict(sorted(descriptions.items()))
        self._described: dict[str, SyscallSpec] = {}

    def __getitem__(self, name: str) -> SyscallSpec:
        spec = self._described.get(name)
        if spec is None:
            spec = self._described[name] = self._descriptions[name]()
        return spec

    def __contains__(self, name: object) -> bool:
        return name in self._descriptions

    def __iter__(self) -> Iterator[str]:
        return iter(self._descriptions)

    def __len__(self) -> int:
        return len(self._descriptions)


def collect(module: str, sources: Iterable[types.ModuleType]) -> CallTable:
    """Return the calls that are declared in `sources`. A name declared twice is a bug."""
    table: dict[str, Callable[[], SyscallSpec]] = {}
    for source in sources:
        for name, handler in vars(source).items():
            if hasattr(handler, _ATTRIBUTE) and handler.__module__ == source.__name__:
                assert name not in table, f"{name} is declared twice"
                table[name] = functools.partial(_describe, module, name, handler)
    return CallTable(table)


def _describe(module: str, name: str, handler: Callable[..., Any]) -> SyscallSpec:
    declared = getattr(handler, _ATTRIBUTE)
    hints = get_type_hints(handler, include_extras=True)
    names = list(signature(handler).parameters)[1:]  # the first is the context
    returned = hints.get("return")
    return SyscallSpec(
        module=module,
        name=name,
        handler=handler,
        params=tuple((param, _marker(hints[param], Param)) for param in names),
        results=_results(returned),
        returns=returned is not typing.NoReturn,
        direct=_direct(returned),
        **declared,
    )


def _direct(returned: Any) -> Direct | None:
    marks = returned.__metadata__ if get_origin(returned) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Direct)), None)


def _results(returned: Any) -> tuple[Record, ...]:
    if returned in (None, type(None), typing.NoReturn) or _direct(returned) is not None:
        return ()
    if get_origin(returned) is tuple:
        return tuple(_marker(part, Record) for part in get_args(returned))
    return (_marker(returned, Record),)


Marker = typing.TypeVar("Marker")


def _marker(hint: Any, kind: type[Marker]) -> Marker:
    assert get_origin(hint) is Annotated, f"{hint} is not a parameter type of abi/params.py"
    for mark in hint.__metadata__:
        if isinstance(mark, kind):
            return mark
    raise AssertionError(f"{hint} has no {kind.__name__}")
