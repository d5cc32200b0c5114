"""FIFOs: who waits for whom when they are opened, and what ends such a wait."""

import stat
import threading
from struct import pack

import pytest

from agentvm import AgentVM, Errno, Limits
from agentvm.doctor.modules import START
from agentvm.errno import KernelError
from agentvm.errors import GuestFailed
from agentvm.kernel.stat import Filetype
from tests.abi.rig import Boot, Rig

READ, WRITE, NONBLOCK = 2, 64, 4
SA_RESTART, SIGUSR1, SIGPIPE = 0x1000_0000, 10, 13
FIFO = "tmp/fifo"


def _make(rig: Rig, path: str = FIFO) -> None:
    rig.ok("path_mknod", rig.root, *rig.text(path), stat.S_IFIFO | 0o600, 0)


def _opening(rig: Rig, rights: int, flags: int = 0, out: int = 64) -> tuple[int, ...]:
    return rig.root, 1, *rig.text(FIFO), 0, rights, 0, flags, out


@pytest.fixture
def two(boot_host: Boot) -> tuple[Rig, Rig]:
    """Two processes of one VM that has a FIFO."""
    first = boot_host()
    _make(first)
    return first, boot_host(vm=first.vm)


def test_a_reader_and_a_writer_wait_for_each_other(two: tuple[Rig, Rig]) -> None:
    for waits, comes in ((READ, WRITE), (WRITE, READ)):
        first, second = two
        with first.waiting("path_open", *_opening(first, waits)) as made:
            other = second.open(FIFO, rights=comes)
        assert made.result() is Errno.SUCCESS
        mine = first.number(64)
        reader, writer = ((first, mine), (second, other)) if waits == READ else ((second, other), (first, mine))
        writer[0].write(writer[1], b"words")
        assert reader[0].read_fd(reader[1], 9) == b"words"
        writer[0].ok("fd_close", writer[1])
        assert reader[0].read_fd(reader[1], 9) == b""
        reader[0].ok("fd_close", reader[1])
    assert two[0].vm.usage()["max_pipes"].used == 0


def test_a_read_writer_waits_for_nobody_and_sees_no_end(host: Rig) -> None:
    _make(host)
    fd = host.open(FIFO, rights=READ | WRITE)
    host.write(fd, b"x")
    assert host.read_fd(fd, 9) == b"x"
    host.set_flags(fd, NONBLOCK)
    assert host.call("fd_read", fd, *host.iovecs((host.space(4), 4)), 64) is Errno.EAGAIN


def test_non_blocking_a_reader_comes_first(host: Rig) -> None:
    _make(host)
    assert host.call("path_open", *_opening(host, WRITE, NONBLOCK)) is Errno.ENXIO
    reader = host.open(FIFO, rights=READ, fdflags=NONBLOCK)
    assert host.read_fd(reader, 9) == b""
    writer = host.open(FIFO, rights=WRITE, fdflags=NONBLOCK)
    assert host.call("fd_read", reader, *host.iovecs((host.space(4), 4)), 64) is Errno.EAGAIN
    host.write(writer, b"a")
    host.ok("fd_close", writer)
    assert [host.read_fd(reader, 9), host.read_fd(reader, 9)] == [b"a", b""]
    again = host.open(FIFO, rights=WRITE)
    host.write(again, b"b")
    assert host.read_fd(reader, 9) == b"b"


def test_what_is_in_a_fifo_waits_for_the_next_reader_while_a_writer_is_there(host: Rig) -> None:
    _make(host)
    host.ok("proc_sigaction", SIGPIPE, 1, 0, 0, 0)
    reader = host.open(FIFO, rights=READ, fdflags=NONBLOCK)
    writer = host.open(FIFO, rights=WRITE)
    host.write(writer, b"kept")
    host.ok("fd_close", reader)
    assert host.call("fd_write", writer, *host.iovecs((host.put(b"x"), 1)), 64) is Errno.EPIPE
    reader = host.open(FIFO, rights=READ)
    assert host.read_fd(reader, 9) == b"kept"
    host.write(writer, b"lost")
    host.ok("fd_close", reader)
    host.ok("fd_close", writer)
    assert host.read_fd(host.open(FIFO, rights=READ, fdflags=NONBLOCK), 9) == b""


@pytest.mark.parametrize(("flags", "errno"), [(0, Errno.EINTR), (SA_RESTART, Errno.SUCCESS)])
def test_a_signal_ends_the_wait_unless_the_call_goes_on(two: tuple[Rig, Rig], flags: int, errno: Errno) -> None:
    first, second = two
    first.ok("proc_sigaction", SIGUSR1, 2, 0, 0, flags)
    with first.waiting("path_open", *_opening(first, READ)) as made:
        first.send_signal(SIGUSR1)
        if flags:
            second.open(FIFO, rights=WRITE)
    assert made.result() is errno
    if not flags:
        assert first.open_fds() == [0, 1, 2]
        assert first.vm.usage()["max_pipes"].used == 0
        assert second.call("path_open", *_opening(second, WRITE, NONBLOCK)) is Errno.ENXIO


def test_a_kill_ends_the_wait_and_leaves_nothing(two: tuple[Rig, Rig]) -> None:
    first, second = two
    with pytest.raises(GuestFailed), first.waiting("path_open", *_opening(first, WRITE)):
        second.ok("proc_kill", first.process.pid, 9)
    assert first.vm.usage()["max_pipes"].used == 0
    assert second.call("path_open", *_opening(second, WRITE, NONBLOCK)) is Errno.ENXIO


def test_an_open_that_waited_for_the_last_descriptor_of_the_vm_is_enfile(boot_host: Boot) -> None:
    first = boot_host(vm={"limits": Limits(max_open_fds=8, max_open_fds_per_process=8)})
    _make(first)
    second = boot_host(vm=first.vm)
    with first.waiting("path_open", *_opening(first, READ)) as made:
        second.ok("fd_dup", 0, 64)
        second.ok("fd_close", 3)
        second.open(FIFO, rights=WRITE)
        while second.call("fd_dup", 0, 64) is Errno.SUCCESS:
            pass
    assert made.result() in (Errno.SUCCESS, Errno.ENFILE)


def test_fifos_past_max_pipes_are_enfile(boot_host: Boot) -> None:
    rig = boot_host(vm={"limits": Limits(max_pipes=1)})
    _make(rig)
    _make(rig, "tmp/other")
    fd = rig.open(FIFO, rights=READ | WRITE)
    rig.open(FIFO, rights=READ | WRITE)  # the same pipe
    assert rig.call("path_open", rig.root, 1, *rig.text("tmp/other"), 0, READ | WRITE, 0, 0, 64) is Errno.ENFILE
    assert rig.call("fd_pipe", 64, 68) is Errno.ENFILE
    rig.ok("fd_close", fd)
    assert rig.call("fd_pipe", 64, 68) is Errno.ENFILE


def test_a_fifo_that_lost_its_name_goes_on_and_is_given_back(host: Rig) -> None:
    _make(host)
    fd = host.open(FIFO, rights=READ | WRITE)
    host.ok("path_unlink_file", host.root, *host.text(FIFO))
    host.write(fd, b"x")
    assert host.read_fd(fd, 9) == b"x"
    assert host.vm.usage()["max_inodes"].used == 1
    host.ok("fd_close", fd)
    assert host.vm.usage()["max_inodes"].used == 0


def test_preview1_has_no_type_for_a_fifo(host: Rig) -> None:
    _make(host)
    host.ok("path_filestat_get", host.root, 1, *host.text(FIFO), 64)
    assert host.number(64 + 16, 1) == Filetype.UNKNOWN
    assert host.result("path_mode", host.root, *host.text(FIFO), 1) == stat.S_IFIFO | 0o600


def test_the_host_does_not_open_fifos(host: Rig) -> None:
    _make(host)
    for touch in (host.vm.fs.read, lambda path: host.vm.fs.write(path, b"x")):
        with pytest.raises(KernelError, match="ENXIO"):
            touch(f"/{FIFO}")
    assert host.vm.usage()["max_pipes"].used == 0


def test_a_fifo_is_no_program(host: Rig) -> None:
    _make(host)
    exe = host.text(f"/{FIFO}")
    host.ok("chmod", host.root, *host.text(FIFO), 0o700)
    assert (
        host.call("proc_spawn_v3", *exe, *exe[:1], 0, *exe[:1], 0, *exe[:1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 64)
        is Errno.EACCES
    )


def test_many_writers_come_and_go(boot_host: Boot) -> None:
    reader = boot_host()
    _make(reader)
    writers = [boot_host(vm=reader.vm) for _ in range(3)]
    with reader.waiting("path_open", *_opening(reader, READ)):
        fds = [writer.open(FIFO, rights=WRITE) for writer in writers]
    fd, seen = reader.number(64), b""
    for writer, number in zip(writers, fds, strict=True):
        writer.write(number, b"x")
        writer.ok("fd_close", number)
    while piece := reader.read_fd(fd, 2):
        seen += piece
    assert seen == b"xxx"


def test_closing_the_vm_ends_who_waits(boot_host: Boot) -> None:
    rig = boot_host()
    _make(rig)
    closing = threading.Thread(target=rig.vm.close)
    with pytest.raises(GuestFailed), rig.waiting("path_open", *_opening(rig, READ)):
        closing.start()
    closing.join()
    assert isinstance(rig.vm, AgentVM)
    assert rig.vm.usage()["max_pipes"].used == 0


# -- opened by a spawn ------------------------------------------------------------------------------------------------
_OPEN, _RDONLY = 3, 0x0400_0000


def _spawning(rig: Rig, out: int = 64) -> tuple[int, ...]:
    """The arguments of a spawn whose child opens the FIFO as its standard input."""
    rig.vm.fs.write("/start", START, mode=0o755)
    exe, path = rig.text("/start"), f"/{FIFO}".encode()
    actions = pack("<IiiiII", _OPEN, 0, 0, _RDONLY, 0, len(path)) + path
    return *exe, *exe[:1], 0, *exe[:1], 0, rig.put(actions), len(actions), *exe[:1], 0, 0, 0, 0, 0, 0, 0, out


def test_a_spawn_that_opens_a_fifo_waits_for_the_other_end(two: tuple[Rig, Rig]) -> None:
    first, second = two
    with first.waiting("proc_spawn_v3", *_spawning(first)) as made:
        second.open(FIFO, rights=WRITE)
    assert made.result() is Errno.SUCCESS
    first.ok("proc_waitpid_v3", first.number(64), 0, 64, 68)
    assert first.number(64) == 0


def test_a_signal_with_a_handler_does_not_end_such_a_wait(two: tuple[Rig, Rig]) -> None:
    first, second = two
    first.ok("proc_sigaction", SIGUSR1, 2, 0, 0, 0)
    with first.waiting("proc_spawn_v3", *_spawning(first)) as made:
        first.send_signal(SIGUSR1)
        second.open(FIFO, rights=WRITE)
    assert made.result() is Errno.SUCCESS
    first.ok("proc_getpid", 64)
    assert first.instance.call("handled") == 1 << (SIGUSR1 - 1)


def test_a_child_that_is_killed_while_it_waits_is_made_and_has_ended(two: tuple[Rig, Rig]) -> None:
    first, second = two
    with first.waiting("proc_spawn_v3", *_spawning(first)) as made:
        (child,) = first.process.children
        _become_root(second)
        second.ok("proc_kill", child, 9)
    assert made.result() is Errno.SUCCESS
    first.ok("proc_waitpid_v3", child, 0, 64, 68)
    assert first.number(64) == 9
    assert first.vm.usage()["max_pipes"].used == 0


def test_a_parent_that_is_killed_while_it_waits_leaves_nothing(two: tuple[Rig, Rig]) -> None:
    first, second = two
    with pytest.raises(GuestFailed), first.waiting("proc_spawn_v3", *_spawning(first)):
        second.ok("proc_kill", first.process.pid, 9)
    assert first.vm.usage()["max_pipes"].used == 0
    assert len(second.instance._context.kernel.processes) == 1


def _become_root(rig: Rig) -> None:
    rig.process.credentials = type(rig.process.credentials).of(0, 0)
