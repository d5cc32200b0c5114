"""`HostDirectory` touches nothing until it is opened; then it mounts, or says why not. And the sources of entropy."""

import os
import platform
import sys
from pathlib import Path

import pytest

from agentvm.errno import Errno, KernelError
from agentvm.errors import MountFailed, UnsupportedOnPlatform
from agentvm.host.descriptors import HostFds
from agentvm.host.directory import HostDirectory
from agentvm.host.entropy import seeded_random, system_random
from agentvm.host.quota import HostQuota
from agentvm.limits.catalogue import Limits
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.registry import Registry


def open_directory(path: object, cap: int = 10) -> None:
    quota = HostQuota.of(Registry(Limits()))
    HostDirectory(path).open(dev=1, fds=HostFds(Gauge(HOST_SPECS["max_host_fds"], cap)), quota=quota).close()  # type: ignore[arg-type]


def test_describing_touches_nothing() -> None:
    assert HostDirectory("/does/not/exist", read_only=True).read_only
    assert not HostDirectory(b"x").read_only


@pytest.mark.parametrize("kind", [str, os.fsencode, Path], ids=["str", "bytes", "Path"])
def test_path_of_any_kind(tmp_path: Path, kind: type) -> None:
    open_directory(kind(str(tmp_path)))


def test_what_is_no_directory_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MountFailed, match="Not a directory"):
        open_directory(tmp_path / "file")
    with pytest.raises(MountFailed, match="No such file"):
        open_directory(tmp_path / "missing")
    with pytest.raises(MountFailed, match="embedded null"):
        open_directory(str(tmp_path) + "\0")


def test_mounting_needs_a_descriptor(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as raised:
        open_directory(tmp_path, cap=0)
    assert raised.value.errno is Errno.ENFILE


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "riscv64")])
def test_no_mount_is_less_confined_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, machine: str
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(UnsupportedOnPlatform, match=machine):
        open_directory(tmp_path)


def test_seeded_random_repeats_and_does_not_depend_on_the_pieces() -> None:
    whole, pieces, other = seeded_random(5), seeded_random(5), seeded_random(6)
    data = whole(32)
    assert pieces(8) + pieces(24) == data
    assert other(32) != data
    assert whole(0) == b""


def test_system_random_differs_from_call_to_call() -> None:
    assert len(system_random(32)) == 32
    assert system_random(32) != system_random(32)
