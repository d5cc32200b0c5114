"""preview1: waiting for time and for descriptors. Source: `poll_oneoff`; poll(2)."""

from agentvm.abi.context import CallContext
from agentvm.abi.params import Pointer, Size
from agentvm.abi.polling import Interest, wait_for_any
from agentvm.abi.preview1.clock import CLOCK_MONOTONIC, CLOCK_REALTIME
from agentvm.abi.records import (
    PollClock,
    PollEvent,
    PollFile,
    pack_event,
    unpack_subscription,
    unpack_subscription_unstable,
)
from agentvm.abi.rights import FD_READ, FD_WRITE, Rights
from agentvm.abi.syscall import syscall
from agentvm.errno import Errno, KernelError
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.stat import Filetype
from agentvm.kernel.wait import Readiness

__all__ = ["POLL_ERRORS", "poll", "poll_oneoff"]

_SOCK_ACCEPT = int(Rights.SOCK_ACCEPT)
_SUBSCRIPTION_SIZE = 48
_SUBSCRIPTION_SIZE_UNSTABLE = 56
_EVENT_SIZE = 32
_DIRECTORY = Filetype.DIRECTORY
_CLOCK_EVENT, _READ_EVENT, _WRITE_EVENT = 0, 1, 2
_POLL = int(Rights.POLL_FD_READWRITE)
_READY = {_READ_EVENT: Readiness.READABLE, _WRITE_EVENT: Readiness.WRITABLE}

POLL_ERRORS = {
    Errno.EINVAL: "no subscriptions, more than max_poll_subscriptions, or one of an unknown kind, clock or flag",
    Errno.EINTR: "a signal came",
}


@syscall(POLL_ERRORS)
def poll_oneoff(ctx: CallContext, subscriptions: Pointer, events: Pointer, nsubscriptions: Size) -> Size:
    """Wait until the first of the subscribed events happens; return how many did."""
    return poll(ctx, subscriptions, events, nsubscriptions, unstable=False)


def poll(ctx: CallContext, pointer: int, events: int, count: int, *, unstable: bool) -> int:
    """Do `poll_oneoff`, for subscriptions laid out as in preview1 or as in `wasi_unstable`."""
    if count == 0:
        raise KernelError(Errno.EINVAL, "nothing to wait for")
    ctx.kernel.registry.ceiling("max_poll_subscriptions").check(count)
    size = _SUBSCRIPTION_SIZE_UNSTABLE if unstable else _SUBSCRIPTION_SIZE
    unpack = unpack_subscription_unstable if unstable else unpack_subscription
    source, target = ctx.memory.span(pointer, size * count), ctx.memory.span(events, _EVENT_SIZE * count)
    clocks: list[tuple[int, PollClock]] = []
    files: list[tuple[PollFile, OpenFile]] = []
    happened: list[PollEvent] = []
    for index in range(count):
        subscription = unpack(source, size * index)
        if isinstance(subscription, PollClock):
            clocks.append((_deadline(ctx, subscription), subscription))
        elif isinstance(subscription, PollFile):
            _subscribe(ctx, subscription, files, happened)
        else:
            raise KernelError(Errno.EINVAL, f"subscription {index} is of an unknown kind, or has unknown flags")
    _wait(ctx, clocks, files, happened)
    for index, event in enumerate(happened):
        pack_event(target, _EVENT_SIZE * index, event)
    return len(happened)


def _deadline(ctx: CallContext, subscription: PollClock) -> int:
    """Return when a clock subscription is over, in nanoseconds of the monotonic clock."""
    if subscription.clock_id not in (CLOCK_REALTIME, CLOCK_MONOTONIC):
        raise KernelError(Errno.EINVAL, f"cannot wait for clock {subscription.clock_id}")
    if not subscription.absolute:
        return ctx.clock.monotonic_ns() + subscription.timeout_ns
    if subscription.clock_id == CLOCK_MONOTONIC:
        return subscription.timeout_ns
    return ctx.clock.monotonic_ns() + subscription.timeout_ns - ctx.clock.realtime_ns()


def _subscribe(
    ctx: CallContext, subscription: PollFile, files: list[tuple[PollFile, OpenFile]], happened: list[PollEvent]
) -> None:
    """Note a file to wait for; a descriptor that can't be waited for is an event of its own, with an error."""
    right = FD_READ if subscription.kind == _READ_EVENT else FD_WRITE
    descriptor = ctx.descriptors.get(subscription.fd)
    if descriptor is None or descriptor.file.filetype is _DIRECTORY:
        error = Errno.EBADF
    elif not descriptor.rights & _POLL or not descriptor.rights & (right | _SOCK_ACCEPT):
        error = Errno.ENOTCAPABLE if descriptor.rights & right else Errno.EBADF
    else:
        files.append((subscription, descriptor.file))
        return
    happened.append(PollEvent(subscription.userdata, error, subscription.kind))


def _wait(
    ctx: CallContext,
    clocks: list[tuple[int, PollClock]],
    files: list[tuple[PollFile, OpenFile]],
    happened: list[PollEvent],
) -> None:
    """Fill `happened`, waiting for the first event if there is none yet."""
    happened += _file_events(files)
    if not happened:
        deadline = min((when for when, _ in clocks), default=None)
        wait_for_any(ctx, [Interest(file, _READY[subscription.kind]) for subscription, file in files], deadline)
        happened += _file_events(files)
    if clocks:
        now = ctx.clock.monotonic_ns()
        happened += [PollEvent(clock.userdata, 0, _CLOCK_EVENT) for when, clock in clocks if when <= now]


def _file_events(files: list[tuple[PollFile, OpenFile]]) -> list[PollEvent]:
    return [event for subscription, file in files if (event := _file_event(subscription, file))]


def _file_event(subscription: PollFile, file: OpenFile) -> PollEvent | None:
    ready = file.readiness()
    if not ready & _READY[subscription.kind]:
        return None
    if subscription.kind == _READ_EVENT:
        available = file.readable_bytes()
        return PollEvent(subscription.userdata, 0, _READ_EVENT, available, bool(ready & Readiness.HANGUP))
    return PollEvent(subscription.userdata, 0, _WRITE_EVENT, 0, bool(ready & Readiness.ERROR))
