"""host_process: the alarm. With a virtual clock all of it is exact; tests/processes has the host's."""

import pytest

from agentvm import Errno, Signal
from agentvm.errors import GuestFailed
from agentvm.kernel.signals import bit_of
from tests.abi.rig import WILD, Rig

GET, SET, HANDLER, IGNORE = 0, 1, 2, 1
ALARM = bit_of(Signal.SIGALRM)
SECOND_US = 1_000_000
#: A reading of the virtual clock takes it so much on.
STEP_US = 1


def timer(host: Rig, operation: int, value: int = 0, interval: int = 0) -> tuple[int, int]:
    out = host.space(8), host.space(8)
    host.ok("proc_itimer_real", operation, value, interval, *out, writes=[(place, 8) for place in out])
    return host.number(out[0], 8), host.number(out[1], 8)


def now_us(host: Rig) -> int:
    out = host.space(8)
    host.ok("clock_time_get", 1, 0, out)
    return host.number(out, 8) // 1000


def handle(host: Rig) -> None:
    host.ok("proc_sigaction", Signal.SIGALRM, HANDLER, 0, 0, 0)


def handled(host: Rig) -> int:
    value = host.instance.call("handled")
    assert isinstance(value, int)
    return value


def test_a_timer_is_set_told_and_taken_back(host: Rig) -> None:
    assert timer(host, GET) == (0, 0)
    assert timer(host, SET, SECOND_US, 300) == (0, 0)
    value, interval = timer(host, GET)
    assert SECOND_US - 100 < value <= SECOND_US
    assert interval == 300
    value, interval = timer(host, SET)
    assert (SECOND_US - 100 < value <= SECOND_US, interval) == (True, 300)
    assert timer(host, GET) == (0, 0)


def test_an_interval_without_a_value_sets_nothing(host: Rig) -> None:
    timer(host, SET, 0, 300)
    assert timer(host, GET) == (0, 0)


@pytest.mark.parametrize(("operation", "value", "interval"), [(2, 0, 0), (SET, -1, 0), (SET, 1, -1)])
def test_what_makes_no_sense_is_einval(host: Rig, operation: int, value: int, interval: int) -> None:
    timer(host, SET, SECOND_US)
    assert host.call("proc_itimer_real", operation, value, interval, host.space(8), host.space(8)) is Errno.EINVAL
    assert timer(host, GET)[0] > SECOND_US - 100


def test_bad_pointers_are_efault_and_set_nothing(host: Rig) -> None:
    assert host.call("proc_itimer_real", SET, SECOND_US, 0, WILD, host.space(8)) is Errno.EFAULT
    assert host.call("proc_itimer_real", SET, SECOND_US, 0, host.space(8), WILD) is Errno.EFAULT
    assert timer(host, GET) == (0, 0)


def test_a_sleep_ends_when_the_timer_rings(host: Rig) -> None:
    handle(host)
    timer(host, SET, SECOND_US)
    start = now_us(host)
    assert host.call("sleep_ms", 5000) is Errno.EINTR
    assert handled(host) == ALARM
    assert SECOND_US - 100 < now_us(host) - start < SECOND_US + 100
    assert timer(host, GET) == (0, 0)


def test_a_wait_without_a_deadline_ends_when_the_timer_rings(host: Rig) -> None:
    handle(host)
    reader, writer = host.space(4), host.space(4)
    host.ok("fd_pipe", reader, writer)
    timer(host, SET, 10 * SECOND_US)
    buffer = host.iovecs((host.space(1), 1))
    assert host.call("fd_read", host.number(reader), *buffer, host.space(4)) is Errno.EINTR
    assert handled(host) == ALARM


def test_it_rings_at_each_interval_and_missed_rings_are_one(host: Rig) -> None:
    handle(host)
    timer(host, SET, 1000, SECOND_US)
    assert host.call("sleep_ms", 5000) is Errno.EINTR
    assert handled(host) == ALARM
    start = now_us(host)
    assert host.call("sleep_ms", 5000) is Errno.EINTR
    assert SECOND_US - 100 < now_us(host) - start < SECOND_US + 100
    host.ok("proc_signal_mask_v2", 0, ALARM, 0, host.space(4), host.space(4))
    host.ok("sleep_ms", 3500)
    assert handled(host) == ALARM  # of the sleep before
    host.ok("proc_signal_mask_v2", 1, ALARM, 0, host.space(4), host.space(4))
    assert handled(host) == ALARM
    value, interval = timer(host, GET)
    assert (400_000 < value < 600_000, interval) == (True, SECOND_US)


def test_a_program_that_does_not_sleep_hears_of_it_at_a_call(host: Rig) -> None:
    handle(host)
    timer(host, SET, 50 * STEP_US)
    calls = 0
    while not handled(host):
        host.ok("clock_time_get", 1, 0, host.space(8))
        calls += 1
    assert calls < 50


def test_the_default_is_to_end(host: Rig) -> None:
    timer(host, SET, SECOND_US)
    with pytest.raises(GuestFailed, match="SIGALRM"):
        host.call("sleep_ms", 5000)


def test_a_timer_that_is_ignored_ends_no_sleep(host: Rig) -> None:
    host.ok("proc_sigaction", Signal.SIGALRM, IGNORE, 0, 0, 0)
    timer(host, SET, 1, 1)
    start = now_us(host)
    host.ok("sleep_ms", 2000)
    assert now_us(host) - start >= 2 * SECOND_US
    assert timer(host, GET)[1] == 1


def test_sched_yield(host: Rig) -> None:
    host.ok("host_process.sched_yield")
