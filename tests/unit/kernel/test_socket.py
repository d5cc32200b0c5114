"""Sockets and listeners, and what they hold of max_sockets."""

import pytest

from agentvm import Errno
from agentvm.errno import KernelError
from agentvm.kernel.pipe import Pipe
from agentvm.kernel.socket import Listener, SocketFile
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.wait import Readiness, WaitQueue
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge

CAPACITY = 8192


def _gauge(cap: int = 10) -> Gauge:
    return Gauge(SPECS["max_sockets"], cap)


def _pair() -> tuple[SocketFile, SocketFile, Gauge]:
    gauge = _gauge()
    gauge.acquire(2)
    queue = WaitQueue()
    one, two = Pipe(CAPACITY, queue), Pipe(CAPACITY, queue)
    return SocketFile(one, two, gauge), SocketFile(two, one, gauge), gauge


def _send(socket: SocketFile, data: bytes) -> int:
    return socket.write_nowait([memoryview(data)])


def _receive(socket: SocketFile, size: int = 100, *, peek: bool = False) -> bytes:
    buffer = bytearray(size)
    count = (socket.peek if peek else socket.read_nowait)([memoryview(buffer)])
    return bytes(buffer[:count])


def _errno(call: object, *arguments: object) -> Errno:
    with pytest.raises(KernelError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_bytes_go_both_ways() -> None:
    left, right, _ = _pair()
    assert (_send(left, b"to the right"), _send(right, b"left")) == (12, 4)
    assert (_receive(right), _receive(left)) == (b"to the right", b"left")


def test_peek_leaves_the_bytes_there() -> None:
    left, right, _ = _pair()
    _send(left, b"hello")
    assert [_receive(right, 3, peek=True), _receive(right, peek=True), _receive(right)] == [b"hel", b"hello", b"hello"]
    assert _receive(right, peek=True) == b""


def test_shutdown_of_one_direction_leaves_the_other() -> None:
    left, right, _ = _pair()
    _send(left, b"last")
    left.shutdown(read=False, write=True)
    assert _errno(_send, left, b"x") is Errno.EPIPE
    assert [_receive(right), _receive(right)] == [b"last", b""]
    _send(right, b"back")
    assert _receive(left) == b"back"


def test_after_a_shutdown_of_reading_nothing_more_is_seen() -> None:
    left, right, _ = _pair()
    _send(left, b"unseen")
    right.shutdown(read=True, write=False)
    assert (_receive(right, peek=True), _receive(right)) == (b"", b"")
    assert _errno(_send, left, b"x") is Errno.EPIPE


def test_readiness_tells_the_two_directions_apart() -> None:
    left, right, _ = _pair()
    assert left.readiness() == Readiness.WRITE
    right.shutdown(read=True, write=False)
    assert left.readiness() == Readiness.WRITE | Readiness.ERROR  # nothing to read yet
    right.on_last_close()
    assert left.readiness() == Readiness.READ | Readiness.HANGUP | Readiness.WRITE | Readiness.ERROR


def test_both_ends_give_their_places_back_once() -> None:
    left, right, gauge = _pair()
    left.shutdown(read=True, write=True)
    left.on_last_close()
    right.on_last_close()
    assert gauge.used == 0


def _connect(listener: Listener) -> tuple[Pipe, Pipe]:
    queue = WaitQueue()
    incoming, outgoing = Pipe(CAPACITY, queue), Pipe(CAPACITY, queue)
    listener.connect(incoming, outgoing)
    return incoming, outgoing


def test_a_listener_hands_out_connections_in_their_order() -> None:
    listener = Listener(_gauge())
    assert listener.readiness() is Readiness.NONE
    assert _errno(listener.accept_nowait, FdFlags(0)) is Errno.EAGAIN
    first, _ = _connect(listener)
    second, _ = _connect(listener)
    assert listener.readiness() is Readiness.READ
    first.write_nowait([memoryview(b"1")])
    second.write_nowait([memoryview(b"2")])
    accepted = [listener.accept_nowait(FdFlags.NONBLOCK), listener.accept_nowait(FdFlags(0))]
    assert [_receive(socket) for socket in accepted] == [b"1", b"2"]
    assert [socket.flags for socket in accepted] == [FdFlags.NONBLOCK, FdFlags(0)]
    assert accepted[0].stat().filetype is Filetype.SOCKET_STREAM


def test_the_other_end_of_a_queued_connection_is_neither_at_its_end_nor_broken() -> None:
    incoming, outgoing = _connect(Listener(_gauge()))
    assert (incoming.readers, outgoing.writers) == (1, 1)


def test_a_listener_s_backlog_and_max_sockets_bound_what_waits() -> None:
    gauge = _gauge(5)
    listener = Listener(gauge, backlog=2)
    _connect(listener)
    _connect(listener)
    assert _errno(_connect, listener) is Errno.EAGAIN
    other = Listener(gauge, backlog=10)
    _connect(other)
    assert _errno(_connect, other) is Errno.ENFILE
    assert (gauge.used, gauge.peak) == (5, 5)


def test_a_closed_listener_refuses_and_ends_what_waited() -> None:
    gauge = _gauge()
    listener = Listener(gauge)
    incoming, outgoing = _connect(listener)
    listener.on_last_close()
    assert (incoming.readers, outgoing.writers, gauge.used) == (0, 0, 0)
    assert _errno(_connect, listener) is Errno.ECONNREFUSED


def test_reading_a_listener_is_enotconn() -> None:
    assert _errno(Listener(_gauge()).read_nowait, []) is Errno.ENOTCONN
