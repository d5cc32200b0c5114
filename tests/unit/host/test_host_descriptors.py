"""Descriptors of the host are counted against one cap, by any number of threads, and closed exactly once."""

import os
import threading

import pytest

from agentvm.errno import Errno, KernelError
from agentvm.host.descriptors import HostFd, HostFds, HostFdsStatistics
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS


def test_cap_refuses_with_enfile_and_names_its_limit() -> None:
    fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 2))
    fds.acquire()
    fds.acquire()
    with pytest.raises(KernelError) as raised:
        fds.acquire()
    assert raised.value.errno is Errno.ENFILE
    assert raised.value.limit == "max_host_fds"
    fds.release()
    fds.acquire()
    assert fds.statistics() == HostFdsStatistics(used=2, peak=2, cap=2, refused=1)


def test_closing_twice_does_not_close_somebody_elses_descriptor() -> None:
    fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 5))
    fds.acquire()
    fd = HostFd(os.open("/", os.O_RDONLY), fds)
    number = fd.number
    fd.close()
    other = os.open("/", os.O_RDONLY)
    try:
        assert other == number, "the number is used again, or this test shows nothing"
        fd.close()
        os.fstat(other)
    finally:
        os.close(other)
    assert fds.statistics().used == 0


def test_the_last_reference_closes() -> None:
    fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 5))
    fds.acquire()
    fd = HostFd(os.open("/", os.O_RDONLY), fds)
    number = fd.number
    del fd
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
    assert fds.statistics().used == 0


def test_threads_never_pass_the_cap_nor_lose_a_count() -> None:
    fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 3))
    start = threading.Barrier(8)

    def work() -> None:
        start.wait()
        for _ in range(2000):
            try:
                fds.acquire()
            except KernelError:
                continue
            fds.release()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fds.statistics().used == 0
    assert 1 <= fds.statistics().peak <= 3
