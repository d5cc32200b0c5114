"""preview1 poll_oneoff: time, descriptors, errors as events; over a clock that jumps to whatever is waited for."""

import struct
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from agentvm import Errno, Limits, ManualClock
from agentvm.abi.rights import Rights
from tests.abi.rig import Boot, Rig

REALTIME, MONOTONIC = 0, 1
ABSOLUTE = 1
CLOCK, READ, WRITE = range(3)
SECOND = 1_000_000_000


class Event(NamedTuple):
    userdata: int
    error: Errno
    kind: int
    nbytes: int = 0
    hangup: int = 0


def _clock(userdata: int, timeout: int, clock: int = MONOTONIC, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", userdata, CLOCK, clock, timeout, 0, flags)


def _fd(userdata: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", userdata, kind, fd)


def _poll(rig: Rig, *subscriptions: bytes) -> list[Event]:
    count = len(subscriptions)
    events = rig.space(32 * count)
    source = rig.put(b"".join(subscriptions))
    before = rig.read(events, 32 * count)
    rig.ok("poll_oneoff", source, events, count, 64, writes=[(64, 4), (events, 32 * count)])
    found = rig.number(64)
    assert rig.read(events + 32 * found, 32 * (count - found)) == before[32 * found :]
    unpacked = struct.iter_unpack("<QHB5xQH6x", rig.read(events, 32 * found))
    return [Event(userdata, Errno(error), *rest) for userdata, error, *rest in unpacked]


def _refused(rig: Rig, *subscriptions: bytes) -> Errno:
    return rig.call("poll_oneoff", rig.put(b"".join(subscriptions)), rig.space(32), len(subscriptions), 64)


# -- time -------------------------------------------------------------------------------------------------------------
def test_poll_oneoff_of_a_relative_time_waits_that_long(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(vm={"clock": clock})
    assert _poll(rig, _clock(7, 3600 * SECOND)) == [Event(7, Errno.SUCCESS, CLOCK)]
    assert clock.monotonic_ns() == 3600 * SECOND
    assert rig.trace[-1].startswith("poll_oneoff(subscriptions=")
    assert rig.trace[-1].endswith("nsubscriptions=1, result=64) -> OK")


@pytest.mark.parametrize(("clock_id", "start"), [(MONOTONIC, 0), (REALTIME, 1_700_000_000 * SECOND)])
def test_poll_oneoff_of_an_absolute_time_waits_until_then(boot: Boot, clock_id: int, start: int) -> None:
    clock = ManualClock(realtime_ns=1_700_000_000 * SECOND)
    rig = boot(vm={"clock": clock})
    clock.advance(SECOND)
    assert _poll(rig, _clock(7, start + 5 * SECOND, clock_id, ABSOLUTE)) == [Event(7, Errno.SUCCESS, CLOCK)]
    assert clock.monotonic_ns() == 5 * SECOND
    assert len(_poll(rig, _clock(7, start + 2 * SECOND, clock_id, ABSOLUTE))) == 1
    assert clock.monotonic_ns() == 5 * SECOND


def test_poll_oneoff_of_several_times_returns_at_the_first(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(vm={"clock": clock})
    subscriptions = [_clock(1, 9 * SECOND), _clock(2, 3 * SECOND), _clock(3, 3 * SECOND), _clock(4, 4 * SECOND)]
    assert [event.userdata for event in _poll(rig, *subscriptions)] == [2, 3]
    assert clock.monotonic_ns() == 3 * SECOND


def test_poll_oneoff_of_no_time_returns_at_once(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(vm={"clock": clock})
    assert len(_poll(rig, _clock(1, 0), _clock(2, SECOND))) == 1
    assert clock.monotonic_ns() == 0


@pytest.mark.parametrize("timeout", [(1 << 64) - 1, 1 << 63])
def test_poll_oneoff_takes_the_longest_time(boot: Boot, timeout: int) -> None:
    assert _poll(boot(vm={"clock": ManualClock()}), _clock(1, timeout)) == [Event(1, Errno.SUCCESS, CLOCK)]


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "subscription",
    [
        _clock(1, 1, clock=2),
        _clock(1, 1, clock=3),
        _clock(1, 1, clock=99),
        _clock(1, 1, flags=2),
        _fd(1, 3, 0),
        _fd(1, 255, 0),
    ],
    ids=["cpu time", "thread cpu time", "unknown clock", "unknown flag", "unknown kind", "unknown kind 255"],
)
def test_poll_oneoff_of_what_cannot_be_waited_for_is_einval(rig: Rig, subscription: bytes) -> None:
    assert _refused(rig, subscription) is Errno.EINVAL
    assert _refused(rig, _clock(1, 0), subscription) is Errno.EINVAL


def test_poll_oneoff_of_nothing_or_too_much_is_einval(boot: Boot) -> None:
    rig = boot(vm={"limits": Limits(max_poll_subscriptions=3)})
    assert rig.call("poll_oneoff", 0, 0, 0, 64) is Errno.EINVAL
    assert len(_poll(rig, *[_clock(i, 0) for i in range(3)])) == 3
    assert _refused(rig, *[_clock(i, 0) for i in range(4)]) is Errno.EINVAL
    assert rig.call("poll_oneoff", 0, 0, 0xFFFF_FFFF, 64) is Errno.EINVAL


def test_poll_oneoff_checks_the_events_before_it_waits(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(vm={"clock": clock})
    source = rig.put(_clock(1, SECOND) * 2)
    assert rig.call("poll_oneoff", source, 0x20000 - 33, 2, 64) is Errno.EFAULT
    assert rig.call("poll_oneoff", 0x20000 - 95, 64, 2, 64) is Errno.EFAULT
    assert clock.monotonic_ns() == 0


def test_poll_oneoff_may_write_its_events_over_its_subscriptions(rig: Rig) -> None:
    place = rig.put(_clock(1, 0) + _clock(2, 0) + _clock(3, 0))
    rig.ok("poll_oneoff", place, place, 3, 64)
    assert [rig.number(place + 32 * i, 8) for i in range(3)] == [1, 2, 3]


# -- descriptors ------------------------------------------------------------------------------------------------------
def test_poll_oneoff_of_a_file_is_always_ready(rig: Rig) -> None:
    fd = rig.create("/tmp/a", b"12345")
    rig.read_fd(fd, 2)
    found = _poll(rig, _fd(1, READ, fd), _fd(2, WRITE, fd), _clock(3, SECOND))
    assert found == [Event(1, Errno.SUCCESS, READ, 3), Event(2, Errno.SUCCESS, WRITE)]


def test_poll_oneoff_tells_errors_as_events(rig: Rig) -> None:
    fd = rig.create("/tmp/a")
    rig.drop(fd, Rights.POLL_FD_READWRITE)
    found = _poll(rig, _fd(1, READ, 99), _fd(2, WRITE, 3), _fd(3, READ, 1), _fd(4, READ, fd), _fd(5, WRITE, 2))
    assert found == [
        Event(1, Errno.EBADF, READ),
        Event(2, Errno.EBADF, WRITE),
        Event(3, Errno.EBADF, READ),
        Event(4, Errno.ENOTCAPABLE, READ),
        Event(5, Errno.SUCCESS, WRITE),
    ]


def test_poll_oneoff_does_not_wait_if_there_is_an_error(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(vm={"clock": clock})
    assert _poll(rig, _clock(1, SECOND), _fd(2, READ, 99)) == [Event(2, Errno.EBADF, READ)]
    assert clock.monotonic_ns() == 0


def test_poll_oneoff_of_a_pipe_tells_bytes_and_hangup(boot: Boot) -> None:
    rig = boot(stdin=None)
    stdin = rig.instance.stdin
    assert stdin is not None
    assert _poll(rig, _fd(1, READ, 0), _clock(2, SECOND)) == [Event(2, Errno.SUCCESS, CLOCK)]
    stdin.write(b"hello")
    assert _poll(rig, _fd(1, READ, 0), _clock(2, SECOND)) == [Event(1, Errno.SUCCESS, READ, 5)]
    stdin.close()
    assert _poll(rig, _fd(1, READ, 0)) == [Event(1, Errno.SUCCESS, READ, 5, 1)]
    rig.read_fd(0, 10)
    assert _poll(rig, _fd(1, READ, 0)) == [Event(1, Errno.SUCCESS, READ, 0, 1)]


def test_poll_oneoff_of_captured_streams(boot: Boot) -> None:
    rig = boot(stdin=b"abc")
    assert _poll(rig, _fd(1, READ, 0), _fd(2, WRITE, 1)) == [
        Event(1, Errno.SUCCESS, READ, 3),
        Event(2, Errno.SUCCESS, WRITE),
    ]
    rig.read_fd(0, 3)
    assert _poll(rig, _fd(1, READ, 0)) == [Event(1, Errno.SUCCESS, READ, 0, 1)]


def test_poll_oneoff_of_a_full_pipe_waits_for_room(boot: Boot) -> None:
    rig = boot(capture=False, vm={"limits": Limits(max_pipe_bytes=4096)})
    assert rig.instance.stdout is not None
    assert _poll(rig, _fd(1, WRITE, 1)) == [Event(1, Errno.SUCCESS, WRITE)]
    rig.write(1, b"x")
    assert _poll(rig, _fd(1, WRITE, 1), _clock(2, SECOND)) == [Event(2, Errno.SUCCESS, CLOCK)]
    rig.instance.stdout.read(1)
    assert _poll(rig, _fd(1, WRITE, 1), _clock(2, SECOND)) == [Event(1, Errno.SUCCESS, WRITE)]
    rig.instance.stdout.close()
    assert _poll(rig, _fd(1, WRITE, 1)) == [Event(1, Errno.SUCCESS, WRITE, 0, 1)]


def test_poll_oneoff_wakes_when_the_host_writes(boot: Boot) -> None:
    rig = boot(stdin=None)
    assert rig.instance.stdin is not None
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(_poll, rig, _fd(1, READ, 0))
        rig.instance.stdin.write(b"hello")
        assert polling.result() == [Event(1, Errno.SUCCESS, READ, 5)]


def test_poll_oneoff_of_many_subscriptions(boot: Boot) -> None:
    rig = boot(stdin=b"x")
    found = _poll(rig, *[_fd(i, READ, 0) for i in range(500)])
    assert [event.userdata for event in found] == list(range(500))


def test_poll_oneoff_of_a_listener_waits_for_a_connection(boot: Boot) -> None:
    rig = boot(listeners=1)
    assert _poll(rig, _fd(1, READ, 4), _fd(2, WRITE, 4), _clock(3, SECOND)) == [Event(3, Errno.SUCCESS, CLOCK)]
    with ThreadPoolExecutor(1) as pool:
        polling = pool.submit(_poll, rig, _fd(1, READ, 4))
        rig.instance.connect()
        assert [event.userdata for event in polling.result()] == [1]
