"""A real directory of the host, mounted: both ways of opening names, any limits."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_rig import Host

from agentvm.host.descriptors import HostFds
from agentvm.host.host_directories import HostDirectoryNode
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS


@pytest.fixture(params=[True, False], ids=["openat2", "openat"])
def use_openat2(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def make_host(tmp_path: Path, use_openat2: bool) -> Iterator[Callable[..., Host]]:
    """Make hosts that share one counter of descriptors; at the end nothing may be left open."""
    directory = tmp_path / "mounted"
    directory.mkdir()
    fds = HostFds(Gauge(HOST_SPECS["max_host_fds"], 200))
    hosts: list[Host] = []

    def make(**limits: object) -> Host:
        hosts.append(Host(directory, fds, use_openat2=use_openat2, **limits))
        return hosts[-1]

    before = len(os.listdir("/proc/self/fd"))
    yield make
    for host in hosts:
        for root in host.roots:
            root.close()
    assert fds.statistics().used == 0
    assert len(fds.inodes) == 0
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    return make_host()


@pytest.fixture
def root(host: Host) -> HostDirectoryNode:
    return host.mount()
