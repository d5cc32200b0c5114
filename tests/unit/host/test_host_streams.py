"""Pumps move every byte in order, end when a side ends, hand errors on as EPIPE, and stop at once."""

import os
import pty
import select
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvm import Limits
from agentvm.clock import SystemClock
from agentvm.errno import Errno, KernelError
from agentvm.host.streams import pump_in, pump_out
from agentvm.kernel.pipe import HostPipeEnd, Pipe, PipeReader, PipeWriter
from agentvm.limits.registry import Registry

SOON_S = 30  # a bound for what takes no time: only a hang reaches it


class Stream:
    """A guest's standard stream of 64 KiB, with the host's end and a pipe of the host behind it."""

    def __init__(self, *, to_guest: bool) -> None:
        self.lock = threading.Lock()
        self.pipe = Pipe(Registry(Limits()))
        self.guest = PipeReader(self.pipe) if to_guest else PipeWriter(self.pipe)
        self.end = HostPipeEnd(self.pipe, self.lock, SystemClock(), reads=not to_guest)
        self.read_fd, self.write_fd = os.pipe()
        self.open_fds = {self.read_fd, self.write_fd}

    def close_fd(self, fd: int) -> None:
        self.open_fds.discard(fd)
        os.close(fd)

    def close(self) -> None:
        for fd in list(self.open_fds):
            self.close_fd(fd)


@pytest.fixture
def stdin() -> Iterator[Stream]:
    stream = Stream(to_guest=True)
    yield stream
    stream.close()


@pytest.fixture
def stdout() -> Iterator[Stream]:
    stream = Stream(to_guest=False)
    yield stream
    stream.close()


def drain(reader: HostPipeEnd) -> bytes:
    """Read all that reaches the guest's side, as a blocking reader there would."""
    parts = []
    while part := reader.read():
        parts.append(part)
    return b"".join(parts)


def test_input_arrives_whole_and_ends(stdin: Stream) -> None:
    data = os.urandom(3_000_000)
    reader = HostPipeEnd(stdin.pipe, stdin.lock, SystemClock(), reads=True)
    pump = pump_in(stdin.read_fd, stdin.end)

    def feed() -> None:
        with os.fdopen(stdin.write_fd, "wb") as file:
            file.write(data)

    feeder = threading.Thread(target=feed)
    stdin.open_fds.discard(stdin.write_fd)
    feeder.start()
    assert drain(reader) == data
    feeder.join()
    assert pump.join(SOON_S)
    assert pump.error is None


def test_output_arrives_whole_and_join_waits_for_it(stdout: Stream) -> None:
    data = os.urandom(3_000_000)
    writer = HostPipeEnd(stdout.pipe, stdout.lock, SystemClock(), reads=False)
    received = bytearray()

    def receive() -> None:
        while part := os.read(stdout.read_fd, 1 << 16):
            received.extend(part)

    receiver = threading.Thread(target=receive)
    receiver.start()
    pump = pump_out(stdout.end, stdout.write_fd)
    assert writer.write(data) == len(data)
    writer.close()
    with stdout.lock:
        stdout.guest.on_last_close()
    assert pump.join(SOON_S)
    stdout.close_fd(stdout.write_fd)
    receiver.join()
    assert bytes(received) == data


def test_output_to_a_regular_file(stdout: Stream, tmp_path: Path) -> None:
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    try:
        pump = pump_out(stdout.end, fd)
        with stdout.lock:
            stdout.guest.write_nowait([memoryview(b"x" * 60_000)])
            stdout.guest.on_last_close()
        assert pump.join(SOON_S)
    finally:
        os.close(fd)
    assert (tmp_path / "out").read_bytes() == b"x" * 60_000


def test_a_reader_that_is_gone_is_epipe_for_the_guest(stdout: Stream) -> None:
    stdout.close_fd(stdout.read_fd)
    pump = pump_out(stdout.end, stdout.write_fd)
    with stdout.lock:
        assert stdout.guest.write_nowait([memoryview(b"lost")]) == 4
    assert pump.join(SOON_S)
    assert isinstance(pump.error, BrokenPipeError)
    with stdout.lock, pytest.raises(KernelError, check=lambda error: error.errno is Errno.EPIPE):
        stdout.guest.write_nowait([memoryview(b"more")])


def test_a_host_descriptor_that_fails_ends_the_input(stdin: Stream) -> None:
    pump = pump_in(stdin.write_fd, stdin.end)  # not open for reading
    stdin.close_fd(stdin.read_fd)
    assert pump.join(SOON_S)
    assert pump.error is not None
    with stdin.lock:
        assert stdin.guest.read_nowait([memoryview(bytearray(1))]) == 0


def test_stop_ends_a_pump_that_waits_for_a_silent_terminal(stdin: Stream) -> None:
    controller, terminal = pty.openpty()
    try:
        tty.setraw(terminal)
        pump = pump_in(terminal, stdin.end)
        os.write(controller, b"typed")
        reader = HostPipeEnd(stdin.pipe, stdin.lock, SystemClock(), reads=True)
        assert reader.read() == b"typed"
        pump.stop()
        assert pump.join(SOON_S)
        os.write(controller, b"later")
        assert os.read(terminal, 9) == b"later", "a stopped pump leaves what is typed to others"
    finally:
        os.close(controller)
        os.close(terminal)


def test_stop_ends_a_pump_whose_reader_does_not_read(stdout: Stream) -> None:
    pump = pump_out(stdout.end, stdout.write_fd)
    writer = HostPipeEnd(stdout.pipe, stdout.lock, SystemClock(), reads=False)
    feeder = threading.Thread(target=writer.write, args=(bytes(1 << 20),))
    feeder.start()
    while not _is_full(stdout.write_fd):
        pass
    pump.stop()
    pump.stop()
    assert pump.join(SOON_S)
    feeder.join(SOON_S)
    assert not feeder.is_alive(), "its writer gets a short count instead of waiting for ever"


def _is_full(fd: int) -> bool:
    return not select.select([], [fd], [], 0)[1]


def test_stop_ends_a_pump_whose_guest_does_not_read(stdin: Stream) -> None:
    pump = pump_in(stdin.read_fd, stdin.end)
    os.set_blocking(stdin.write_fd, False)
    while stdin.pipe.has_room():
        try:
            os.write(stdin.write_fd, bytes(4096))
        except BlockingIOError:
            pass
    pump.stop()
    assert pump.join(SOON_S)


def test_stopping_one_that_has_ended_touches_no_other_descriptor(stdin: Stream) -> None:
    pump = pump_in(stdin.read_fd, stdin.end)
    stdin.close_fd(stdin.write_fd)
    assert pump.join(SOON_S)
    before = len(os.listdir("/proc/self/fd"))
    pump.stop()
    assert len(os.listdir("/proc/self/fd")) == before
