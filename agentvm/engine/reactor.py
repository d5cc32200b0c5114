"""Calls into a guest that stays: requests of host threads, answered one by one on the guest's own runner thread."""

import math
import threading
from collections.abc import Callable, Sequence

from agentvm.bounded import Full, ItemQueue
from agentvm.engine import bind
from agentvm.engine.module_info import Signature
from agentvm.errors import InvalidArgument
from agentvm.limits.gauge import LimitExceeded
from agentvm.limits.registry import Registry

__all__ = ["CallRequest", "Mailbox", "Number"]

Number = int | float
_KINDS = {"i32": 0, "i64": 1, "f32": 2, "f64": 3}
_BITS = {"i32": 32, "i64": 64}


class CallRequest:
    """One call: made by the caller's thread, answered by the runner's."""

    __slots__ = ("answered", "arguments", "done", "name", "results", "signature")

    def __init__(self, name: str, signature: Signature, arguments: Sequence[Number]) -> None:
        """Raises `InvalidArgument` if the arguments do not fit the function's type."""
        self.name = name
        self.signature = signature
        _check(name, signature, arguments)
        self.arguments = (bind.Val * len(arguments))()
        for value, kind, number in zip(self.arguments, signature.params, arguments, strict=True):
            value.kind = _KINDS[kind]
            setattr(value.of, kind, number)
        self.results = (bind.Val * len(signature.results))()
        self.done = threading.Event()
        #: Whether the function returned; otherwise the guest has ended.
        self.answered = False

    def values(self) -> tuple[Number, ...]:
        """Return the results; integers are signed."""
        kinds = self.signature.results
        return tuple(getattr(value.of, kind) for value, kind in zip(self.results, kinds, strict=True))


def _check(name: str, signature: Signature, arguments: Sequence[Number]) -> None:
    for kind in (*signature.params, *signature.results):
        if kind not in _KINDS:
            raise InvalidArgument(f"{name} has the type {signature}: only numbers can be passed and returned")
    if len(arguments) != len(signature.params):
        raise InvalidArgument(
            f"{name} has the type {signature}: it takes {len(signature.params)} arguments, not {len(arguments)}"
        )
    for place, (kind, value) in enumerate(zip(signature.params, arguments, strict=True), 1):
        bits = _BITS.get(kind)
        if bits is None:
            fits = isinstance(value, int | float) and (not isinstance(value, int) or math.isfinite(_float(value)))
        else:
            fits = isinstance(value, int) and -(1 << (bits - 1)) <= value < 1 << bits
        if not fits:
            raise InvalidArgument(f"argument {place} of {name} is an {kind} and cannot be {value!r}")


def _float(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


class Mailbox:
    """The requests that wait for one guest: at most max_waiting_calls."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._gauge = registry.open_object("max_waiting_calls")
        #: Set once the guest takes calls, or has ended.
        self.ready = threading.Event()
        self._ready = threading.Condition()
        # guarded by _ready
        self._requests: ItemQueue[CallRequest] = ItemQueue(self._gauge, full=Full.REFUSES)
        self._finished = False
        self._closed = False

    def put(self, request: CallRequest) -> bool:
        """Queue a request. False if the guest has ended. Raises `InvalidArgument` past max_waiting_calls."""
        with self._ready:
            if self._closed or self._finished:
                return False
            try:
                self._requests.put(request)
            except LimitExceeded as error:
                raise InvalidArgument(
                    f"too many calls wait for this guest: {error.detail}; wait for answers, or raise it with "
                    f"{error.spec.raised(error.capacity, error.observed)}",
                    limit=error.limit,
                    observed=error.observed,
                    cap=error.capacity,
                ) from None
            self._ready.notify()
        return True

    def get(self, stop: Callable[[], bool]) -> CallRequest | None:
        """Wait for the next request; None when `finish` was called and all are answered, or when `stop()` holds."""
        self.ready.set()
        with self._ready:
            while not stop():
                if self._requests:
                    return self._requests.take()
                if self._finished:
                    return None
                self._ready.wait()
        return None

    def finish(self) -> None:
        """Take no more requests; the guest ends once those that wait are answered."""
        with self._ready:
            self._finished = True
            self._ready.notify()

    def wake(self) -> None:
        """Have `get` look again whether it must stop."""
        with self._ready:
            self._ready.notify()

    def close(self) -> None:
        """The guest has ended: let all callers go, unanswered."""
        self.ready.set()
        with self._ready:
            self._closed = True
            while self._requests:
                self._requests.take().done.set()
        self._registry.close_object(self._gauge)
