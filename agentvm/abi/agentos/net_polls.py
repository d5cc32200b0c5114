"""host_net: poll over any descriptors. Source: poll(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Number, Pointer, Signed
from agentvm.abi.polling import Interest, is_over, wait_for_any
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno
from agentvm.kernel.wait import Readiness

__all__ = ["POLL_ERRORS", "net_poll", "poll_descriptors"]

_POLLFD_BYTES = 8
_IN, _OUT, _ERR, _HUP, _NVAL, _RDNORM, _WRNORM = 1, 4, 8, 0x10, 0x20, 0x40, 0x100
_MILLISECOND_NS = 1_000_000

POLL_ERRORS = {
    Errno.EINVAL: "more descriptors than max_poll_subscriptions, or a time that is none",
    Errno.EINTR: "a signal came",
}

#: What poll(2) tells, by readiness. HANGUP and ERROR are told whether they were asked for or not.
_EVENTS = [
    (_IN | _RDNORM if ready & Readiness.READ else 0)
    | (_OUT | _WRNORM if ready & Readiness.WRITE else 0)
    | (_HUP if ready & Readiness.HANGUP else 0)
    | (_ERR if ready & Readiness.ERROR else 0)
    for ready in range(16)
]
_UNASKED = _HUP | _ERR


def poll_descriptors(ctx: CallContext, pointer: int, count: int, deadline_ns: int | None) -> int:
    """Note in each pollfd what happened, waiting for the first event; return how many have some. EINVAL, EFAULT."""
    ctx.kernel.registry.ceiling("max_poll_subscriptions").check(count)
    place = ctx.memory.span(pointer, _POLLFD_BYTES * count)
    numbers, halves = place.cast("i")[::2].tolist(), place.cast("H")
    asked = halves[2::4].tolist()
    found = _look(ctx, numbers, asked)
    if not any(found) and not is_over(ctx, deadline_ns):
        descriptors = ctx.descriptors
        interests = [
            Interest(descriptors[number].file, _wanted(events))
            for number, events in zip(numbers, asked, strict=True)
            if number >= 0
        ]
        wait_for_any(ctx, interests, deadline_ns)
        found = _look(ctx, numbers, asked)
    for index, events in enumerate(found):
        halves[4 * index + 3] = events
    return len(found) - found.count(0)


def _wanted(events: int) -> int:
    """The readiness that is an event for who asked for these."""
    ready = Readiness.HANGUP | Readiness.ERROR
    if events & (_IN | _RDNORM):
        ready |= Readiness.READ
    if events & (_OUT | _WRNORM):
        ready |= Readiness.WRITE
    return ready


def _look(ctx: CallContext, numbers: list[int], asked: list[int]) -> list[int]:
    """Return what there is to tell of each; a negative number is left out, as poll(2) has it."""
    get = ctx.descriptors.get
    found = []
    for number, events in zip(numbers, asked, strict=True):
        descriptor = get(number)
        if descriptor is not None:
            found.append(_EVENTS[descriptor.file.readiness()] & (events | _UNASKED))
        else:
            found.append(_NVAL if number >= 0 else 0)
    return found


@syscall(POLL_ERRORS)
def net_poll(ctx: CallContext, pollfds: Pointer, count: Number, timeout_ms: Signed) -> Number:
    """Wait for events on any descriptors: poll(2). A negative time waits for ever."""
    deadline = None if timeout_ms < 0 else ctx.clock.monotonic_ns() + timeout_ms * _MILLISECOND_NS
    return poll_descriptors(ctx, pollfds, count, deadline)
