"""host_process: getrlimit and setrlimit, and what holds a program to what it has set."""

import pytest

from agentvm import Errno, Limits, Signal
from agentvm.errno import KernelError
from agentvm.kernel.credentials import Credentials
from agentvm.kernel.process import Image, Process
from agentvm.kernel.rlimits import INFINITY, Resource, limits_of, set_limit
from agentvm.kernel.signals import Disposition, Reaction, bit_of
from tests.abi.rig import CREAT, WILD, Boot, Rig

MIB = 1 << 20
HANDLER = 2


def limits(host: Rig, resource: int) -> tuple[int, int]:
    soft, hard = host.space(8), host.space(8)
    host.ok("proc_getrlimit", resource, soft, hard, writes=[(soft, 8), (hard, 8)])
    return host.number(soft, 8), host.number(hard, 8)


def set_limits(host: Rig, resource: int, soft: int, hard: int) -> Errno:
    return host.call("proc_setrlimit", resource, _signed(soft), _signed(hard))


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


#: Resource, its number on Linux, and what a VM with the caps below shows.
SHOWN = [
    ("CPU", 0, 3),
    ("FSIZE", 1, INFINITY),
    ("DATA", 2, 16 * MIB),
    ("STACK", 3, MIB),
    ("CORE", 4, 0),
    ("RSS", 5, INFINITY),
    ("NPROC", 6, 9),
    ("NOFILE", 7, 20),
    ("MEMLOCK", 8, INFINITY),
    ("AS", 9, 16 * MIB),
    ("LOCKS", 10, INFINITY),
    ("SIGPENDING", 11, 64),
    ("MSGQUEUE", 12, 0),
    ("NICE", 13, 0),
    ("RTPRIO", 14, 0),
    ("RTTIME", 15, INFINITY),
]
CAPS = Limits(
    max_cpu_time_seconds=2.5, max_memory_per_process_bytes=16 * MIB, max_processes=9, max_open_fds_per_process=20
)


@pytest.fixture
def small(boot_host: Boot) -> Rig:
    return boot_host(vm={"limits": CAPS})


def test_every_resource_shows_the_cap_that_holds(small: Rig) -> None:
    assert [(resource.name, resource.value) for resource in Resource] == [(name, number) for name, number, _ in SHOWN]
    assert [limits(small, number) for _, number, _ in SHOWN] == [(cap, cap) for _, _, cap in SHOWN]


def test_proc_limits_say_the_same(small: Rig) -> None:
    assert set_limits(small, Resource.NOFILE, 10, 15) is Errno.SUCCESS
    rows = small.read_fd(small.open("proc/self/limits", rights=2), 4000).decode().splitlines()[1:]
    shown = [row[26:].split()[:2] for row in rows]
    expected = [limits(small, resource) for resource in Resource]
    assert shown == [["unlimited" if number == INFINITY else str(number) for number in pair] for pair in expected]


def test_a_soft_limit_moves_up_to_the_hard_one_which_only_falls(small: Rig) -> None:
    assert set_limits(small, Resource.NOFILE, 5, 10) is Errno.SUCCESS
    assert limits(small, Resource.NOFILE) == (5, 10)
    assert set_limits(small, Resource.NOFILE, 10, 10) is Errno.SUCCESS
    assert set_limits(small, Resource.NOFILE, 10, 11) is Errno.EPERM
    assert set_limits(small, Resource.NOFILE, 10, INFINITY) is Errno.EPERM
    assert set_limits(small, Resource.NOFILE, 9, 8) is Errno.EINVAL
    assert limits(small, Resource.NOFILE) == (10, 10)


def test_root_raises_no_hard_limit_either(small: Rig) -> None:
    small.process.credentials = Credentials.of(0, 0)
    assert set_limits(small, Resource.NOFILE, 20, 21) is Errno.EPERM
    assert set_limits(small, Resource.CORE, 0, 1) is Errno.EPERM
    assert set_limits(small, Resource.FSIZE, 1, INFINITY) is Errno.SUCCESS


def test_what_was_not_lowered_follows_the_operator(small: Rig) -> None:
    assert set_limits(small, Resource.NOFILE, 5, 20) is Errno.SUCCESS
    assert set_limits(small, Resource.NPROC, 4, 6) is Errno.SUCCESS
    small.vm.raise_limit(max_open_fds_per_process=30, max_processes=12)
    assert (limits(small, Resource.NOFILE), limits(small, Resource.NPROC)) == ((5, 30), (4, 6))


@pytest.mark.parametrize("number", [16, 0xFFFF_FFFF])
def test_what_is_no_resource_is_einval(host: Rig, number: int) -> None:
    assert host.call("proc_getrlimit", number, host.space(8), host.space(8)) is Errno.EINVAL
    assert host.call("proc_setrlimit", number, 0, 0) is Errno.EINVAL


def test_bad_pointers_are_efault(host: Rig) -> None:
    assert host.call("proc_getrlimit", 7, WILD, host.space(8)) is Errno.EFAULT
    assert host.call("proc_getrlimit", 7, host.space(8), WILD) is Errno.EFAULT


# -- what they do ------------------------------------------------------------------------------------------------------
def test_nofile_is_about_numbers(host: Rig) -> None:
    """As on Linux: what is open above the limit stays, and only lower numbers are given out."""
    assert set_limits(host, Resource.NOFILE, 5, 256) is Errno.SUCCESS
    assert [host.open("dev/null"), host.open("dev/null")] == [3, 4]
    out = host.space(4)
    arguments = (host.root, 1, *host.text("dev/null"), 0, 2, 0, 0, out)
    assert host.call("path_open", *arguments) is Errno.EMFILE
    assert host.call("fd_dup2", 0, 5) is Errno.EBADF
    assert host.call("fd_dup_min", 0, 5, out) is Errno.EINVAL
    assert host.call("fd_pipe", out, out) is Errno.EMFILE
    assert set_limits(host, Resource.NOFILE, 2, 256) is Errno.SUCCESS
    host.ok("fd_close", 4)
    assert host.call("fd_dup", 0, out) is Errno.EMFILE
    assert set_limits(host, Resource.NOFILE, 256, 256) is Errno.SUCCESS
    assert [host.made("fd_dup", 0), host.made("fd_dup", 0)] == [4, 5]


def test_fsize_cuts_a_write_and_then_refuses(host: Rig) -> None:
    fd = host.open("file", CREAT)
    assert set_limits(host, Resource.FSIZE, 10, INFINITY) is Errno.SUCCESS
    assert host.write(fd, b"12345678") == 8
    assert host.write(fd, b"12345678") == 2
    iovs, out = host.iovecs((host.put(b"x"), 1)), host.space(4)
    assert host.call("fd_write", fd, *iovs, out) is Errno.EFBIG
    assert host.call("fd_pwrite", fd, *iovs, 10, out) is Errno.EFBIG
    host.ok("fd_pwrite", fd, *iovs, 9, out)
    assert host.call("fd_filestat_set_size", fd, 11) is Errno.EFBIG
    assert host.call("fd_allocate", fd, 0, 11) is Errno.EFBIG
    assert host.call("ftruncate", fd, 11) is Errno.EFBIG
    host.ok("fd_filestat_set_size", fd, 10)
    assert host.vm.fs.read("/file") == b"123456781x"
    assert set_limits(host, Resource.FSIZE, INFINITY, INFINITY) is Errno.SUCCESS
    assert host.write(fd, b"more") == 4


def test_a_file_that_is_longer_than_fsize_may_stay_and_shrink(host: Rig) -> None:
    fd = host.create("/file", b"x" * 100)
    assert set_limits(host, Resource.FSIZE, 10, INFINITY) is Errno.SUCCESS
    host.ok("fd_filestat_set_size", fd, 50)
    assert host.call("fd_filestat_set_size", fd, 51) is Errno.EFBIG
    host.ok("fd_allocate", fd, 0, 50)


def test_sigxfsz_comes_to_a_handler_alone(boot_host: Boot) -> None:
    host = boot_host(vm={"limits": Limits(max_file_bytes=4)})
    fd, out = host.open("file", CREAT), host.space(4)
    assert host.write(fd, b"12345") == 4
    one = host.iovecs((host.put(b"x"), 1))
    assert host.call("fd_write", fd, *one, out) is Errno.EFBIG
    assert host.instance.call("handled") == 0
    host.ok("proc_sigaction", Signal.SIGXFSZ, HANDLER, 0, 0, 0)
    assert host.call("fd_write", fd, *one, out) is Errno.EFBIG
    assert host.instance.call("handled") == bit_of(Signal.SIGXFSZ)
    assert set_limits(host, Resource.FSIZE, 2, 4) is Errno.SUCCESS
    assert host.call("fd_filestat_set_size", fd, 9) is Errno.EFBIG
    assert host.instance.call("handled") == bit_of(Signal.SIGXFSZ)


def _spawn(host: Rig) -> Process:
    kernel = host.instance._context.kernel
    with kernel.lock:
        return kernel.processes.spawn(Image((b"child",)), None, parent=host.process)


def test_nproc_counts_the_processes_of_the_user(host: Rig) -> None:
    assert set_limits(host, Resource.NPROC, 2, 64) is Errno.SUCCESS
    child = _spawn(host)
    with pytest.raises(KernelError, match=r"EAGAIN.*RLIMIT_NPROC"):
        _spawn(host)
    child.credentials = Credentials.of(5, 5)  # somebody else's
    _spawn(host)
    host.process.credentials = Credentials.of(0, 0)
    _spawn(host)
    assert host.vm.usage()["max_processes"].used == 4
    kernel = host.instance._context.kernel
    with kernel.lock:
        for process in list(host.process.children.values()):
            kernel.processes.discard(process)


def test_a_child_inherits_soft_and_hard_limits(host: Rig) -> None:
    assert set_limits(host, Resource.NOFILE, 5, 7) is Errno.SUCCESS
    assert set_limits(host, Resource.AS, MIB, 2 * MIB) is Errno.SUCCESS
    child = _spawn(host)
    kernel = host.instance._context.kernel
    with kernel.lock:
        assert (limits_of(child, Resource.NOFILE), limits_of(child, Resource.AS)) == ((5, 7), (MIB, 2 * MIB))
        assert child.gauges.gauge("max_memory_per_process_bytes").cap == MIB
        set_limit(child, Resource.NOFILE, 1, 1)
        kernel.processes.discard(child)
    assert limits(host, Resource.NOFILE) == (5, 7)


@pytest.mark.parametrize("resource", [Resource.AS, Resource.DATA])
def test_memory_grows_up_to_the_soft_limit_and_no_warning_is_the_operators(host: Rig, resource: Resource) -> None:
    gauge = host.process.gauges.gauge("max_memory_per_process_bytes")
    events = host.vm.collect_events()
    assert set_limits(host, resource, int(gauge.used) + MIB, INFINITY - 1) is Errno.EPERM
    assert set_limits(host, resource, int(gauge.used) + MIB, 128 * MIB) is Errno.SUCCESS
    assert gauge.cap == gauge.used + MIB
    gauge.acquire(MIB)
    with pytest.raises(KernelError, match="ENOMEM"):
        gauge.acquire(1)
    gauge.release(MIB)
    assert not events.events()
    assert set_limits(host, resource, 128 * MIB, 128 * MIB) is Errno.SUCCESS
    assert gauge.cap == 128 * MIB


def test_the_handler_bits_of_a_disposition_are_shown(host: Rig) -> None:
    host.process.signals.set_disposition(Signal.SIGXCPU, Disposition(Reaction.IGNORE))
    host.ok("proc_sigaction", Signal.SIGUSR1, HANDLER, 0, 0, 0)
    status = host.read_fd(host.open("proc/self/status", rights=2), 2000).decode()
    rows = dict(row.split(":\t") for row in status.splitlines())
    assert int(rows["SigIgn"], 16) == bit_of(Signal.SIGXCPU)
    assert int(rows["SigCgt"], 16) == bit_of(Signal.SIGUSR1)
