"""Checks of files, in memory and on the host, and of what single calls may ask for."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from agentvm.api.vm import AgentVM
from agentvm.doctor.check import Trial, check
from agentvm.doctor.modules import START
from agentvm.doctor.probe import Probe
from agentvm.doctor.seen import Seen, answered, refused
from agentvm.errors import InvalidArgument
from agentvm.host.directory import HostDirectory

__all__ = ()


@check("max_filesystem_bytes", by="VFS")
def filesystem(trial: Trial) -> Seen:
    with trial.vm("256KiB") as vm, Probe(vm) as probe:
        return answered(probe, "fill 1000000", "ENOSPC", range(1, 256 << 10))


@check("max_inodes", by="VFS")
def inodes(trial: Trial) -> Seen:
    with trial.vm(40) as vm, Probe(vm) as probe:
        return answered(probe, "make 100 /", "ENOSPC", [40 - trial.used(vm)])


@check("max_temp_storage_bytes", by="VFS")
def temporary_files(trial: Trial) -> Seen:
    with trial.vm("64KiB") as vm, Probe(vm) as probe:
        return answered(probe, "fill 200000 /tmp/filled", "ENOSPC", range(1, 64 << 10))


@check("max_file_bytes", by="VFS")
def one_file(trial: Trial) -> Seen:
    with trial.vm(10_000) as vm, Probe(vm) as probe:
        return answered(probe, "fill 20000", "EFBIG", [10_000])


@contextmanager
def _mounted(trial: Trial, cap: int) -> Iterator[tuple[str, Probe]]:
    with tempfile.TemporaryDirectory(prefix="agentvm-doctor-") as directory, trial.vm(cap) as vm:
        vm.mount("/mnt", HostDirectory(directory))
        with Probe(vm) as probe:
            yield directory, probe


@check("max_host_write_bytes", by="host mount")
def host_bytes(trial: Trial) -> Seen:
    """The host's own file must not be larger than what the guest was told."""
    with _mounted(trial, 10_000) as (directory, probe):
        seen = answered(probe, "fill 20000 /mnt/filled", "ENOSPC", [10_000])
        size = os.path.getsize(os.path.join(directory, "filled"))
        return seen if size == 10_000 else Seen(f"{seen.reported}; the host's file has {size:,} bytes", False)


@check("max_host_inodes", by="host mount")
def host_inodes(trial: Trial) -> Seen:
    with _mounted(trial, 4) as (directory, probe):
        seen = answered(probe, "make 10 /mnt", "ENOSPC", [4])
        found = len(os.listdir(directory))
        return seen if found == 4 else Seen(f"{seen.reported}; the host has {found} files", False)


# -- single calls -----------------------------------------------------------------------------------------------------


@check("max_argv_bytes", by="kernel")
def arguments(trial: Trial) -> Seen:
    with trial.vm(100) as vm:
        return _start_refused(trial, vm, args=["x" * 100])


@check("max_env_bytes", by="kernel")
def environment(trial: Trial) -> Seen:
    with trial.vm(100) as vm:
        return _start_refused(trial, vm, env={"A": "x" * 100})


def _start_refused(trial: Trial, vm: AgentVM, args: Sequence[str] = (), env: Mapping[str, str] | None = None) -> Seen:
    return refused(lambda: vm.run(START, args, env), InvalidArgument, trial.spec, errno="E2BIG")


def _call(trial: Trial, verb: str, errno: str, cap: int, allowed: int) -> Seen:
    """What is just allowed works, and one more is refused."""
    with trial.vm(cap) as vm, Probe(vm) as probe:
        probe.done(f"{verb} {allowed}")
        found, _ = probe.do(f"{verb} {allowed + 1}")
        return Seen(f"{found} at {allowed + 1}", found == errno)


@check("max_path_bytes", by="VFS")
def paths(trial: Trial) -> Seen:
    return _call(trial, "path", "ENAMETOOLONG", 100, 99)  # with its NUL


@check("max_name_bytes", by="VFS")
def names(trial: Trial) -> Seen:
    return _call(trial, "name", "ENAMETOOLONG", 20, 20)


@check("max_symlinks", by="VFS")
def symlinks(trial: Trial) -> Seen:
    return _call(trial, "links", "ELOOP", 4, 4)


@check("max_iovecs", by="host call")
def iovecs(trial: Trial) -> Seen:
    return _call(trial, "iov", "EINVAL", 8, 8)


@check("max_poll_subscriptions", by="host call")
def subscriptions(trial: Trial) -> Seen:
    return _call(trial, "poll", "EINVAL", 4, 4)


@check("max_io_bytes", by="host call")
def bytes_of_a_call(trial: Trial) -> Seen:
    with trial.vm(1000) as vm, Probe(vm) as probe:
        return answered(probe, "send 3000 2", "OK", [1000])
