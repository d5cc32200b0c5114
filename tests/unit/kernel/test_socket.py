"""Sockets and listeners, and what they hold of max_sockets."""

import pytest

from agentvm import Errno, Limits
from agentvm.errno import KernelError
from agentvm.kernel.pipe import Pipe
from agentvm.kernel.socket import Listener, SocketFile
from agentvm.kernel.stat import FdFlags, Filetype
from agentvm.kernel.wait import Readiness, WaitQueue
from agentvm.limits.gauge import Gauge
from agentvm.limits.registry import Registry


def _registry(**limits: int) -> Registry:
    return Registry(Limits(max_sockets=limits.pop("max_sockets", 10), **limits))


def _pair() -> tuple[SocketFile, SocketFile, Gauge]:
    registry, queue = _registry(), WaitQueue()
    gauge = registry.gauge("max_sockets")
    gauge.acquire(2)
    one, two = Pipe(registry, queue), Pipe(registry, queue)
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


def test_a_listener_hands_out_connections_in_their_order() -> None:
    listener = Listener(_registry())
    assert listener.readiness() is Readiness.NONE
    assert _errno(listener.accept_nowait, FdFlags(0)) is Errno.EAGAIN
    first, _ = listener.connect()
    second, _ = listener.connect()
    assert listener.readiness() is Readiness.READ
    first.write_nowait([memoryview(b"1")])
    second.write_nowait([memoryview(b"2")])
    accepted = [listener.accept_nowait(FdFlags.NONBLOCK), listener.accept_nowait(FdFlags(0))]
    assert [_receive(socket) for socket in accepted] == [b"1", b"2"]
    assert [socket.flags for socket in accepted] == [FdFlags.NONBLOCK, FdFlags(0)]
    assert accepted[0].stat().filetype is Filetype.SOCKET_STREAM


def test_the_other_end_of_a_queued_connection_is_neither_at_its_end_nor_broken() -> None:
    to_guest, from_guest = Listener(_registry()).connect()
    assert (to_guest.readers, from_guest.writers) == (1, 1)


def test_a_listener_s_backlog_and_max_sockets_bound_what_waits() -> None:
    registry = _registry(max_sockets=5, max_listener_backlog=2)
    listener, other = Listener(registry), Listener(registry)
    listener.connect()
    listener.connect()
    assert _errno(listener.connect) is Errno.EAGAIN
    other.connect()
    assert _errno(other.connect) is Errno.ENFILE
    use = registry.snapshot()["max_listener_backlog"]
    assert (use.used, use.peak, use.refused, use.warnings) == (2, 2, 1, 1)
    assert registry.gauge("max_sockets").used == 5


def test_a_refused_connection_holds_nothing() -> None:
    registry = _registry(max_sockets=2, max_listener_backlog=1)
    listener = Listener(registry)
    listener.connect()
    before = len(registry._objects)
    assert _errno(listener.connect) is Errno.ENFILE
    registry.raise_to(Limits(max_sockets=9))
    assert _errno(listener.connect) is Errno.EAGAIN
    assert (registry.gauge("max_sockets").used, len(registry._objects)) == (2, before)


def test_a_closed_listener_refuses_and_ends_what_waited() -> None:
    registry = _registry()
    listener = Listener(registry)
    to_guest, from_guest = listener.connect()
    listener.on_last_close()
    assert (to_guest.readers, from_guest.writers, registry.gauge("max_sockets").used) == (0, 0, 0)
    assert _errno(listener.connect) is Errno.ECONNREFUSED
    assert registry.snapshot()["max_listener_backlog"].used == 0
    assert not registry._objects


def test_reading_a_listener_is_enotconn() -> None:
    assert _errno(Listener(_registry()).read_nowait, []) is Errno.ENOTCONN
