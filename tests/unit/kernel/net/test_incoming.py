"""What waits in sockets: bytes with descriptors among them, and messages."""

from agentvm import Errno
from agentvm.abi.rights import STDIN
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.net.address import UNNAMED
from agentvm.kernel.net.incoming import MESSAGE_COST, ByteStream, Message, MessageQueue
from agentvm.kernel.stdio import BytesInput
from tests.support.net_kernel import NetKernel, errno_of


def _stream(**limits: int) -> tuple[NetKernel, ByteStream]:
    net = NetKernel(**limits)
    return net, ByteStream(net.network.space, 10_000)


def _put(stream: ByteStream, *pieces: bytes) -> int:
    return stream.put([memoryview(piece) for piece in pieces])


def _take(stream: ByteStream, *sizes: int) -> list[bytes]:
    buffers = [bytearray(size) for size in sizes]
    done, _ = stream.take([memoryview(buffer) for buffer in buffers])
    assert done == sum(map(len, buffers)) or not len(stream)
    return [bytes(buffer) for buffer in buffers]


def test_bytes_are_gathered_and_scattered() -> None:
    net, stream = _stream()
    assert _put(stream, b"abc", b"", b"defgh") == 8
    assert _take(stream, 2, 0, 4) == [b"ab", b"", b"cdef"]
    assert net.used("max_socket_buffer_bytes") == stream.statistics() == 2
    assert stream.take_bytes(99) == b"gh"


def test_what_does_not_fit_is_left_out() -> None:
    net, stream = _stream()
    assert _put(stream, bytes(6_000), bytes(6_000)) == 10_000
    assert errno_of(_put, stream, b"x") is Errno.EAGAIN
    assert net.used("max_socket_buffer_bytes") == 10_000
    stream.clear()
    assert net.used("max_socket_buffer_bytes") == 0


def test_large_pieces_come_out_as_they_went_in() -> None:
    _, stream = _stream()
    data = bytes(index % 251 for index in range(9_999))
    _put(stream, data)
    buffer = bytearray(9_999)
    assert stream.peek([memoryview(buffer)]) == 9_999
    assert bytes(buffer) == data == _take(stream, 9_999)[0]


def test_a_read_stops_behind_the_bytes_that_came_with_descriptors() -> None:
    net, stream = _stream()
    file = BytesInput(b"")
    file.references = 1
    parcels = [net.network.in_flight.pack([Descriptor(file, STDIN, 0)]) for _ in range(2)]
    _put(stream, b"before")
    stream.put([memoryview(b"one")], parcels[0])
    stream.put([memoryview(b"two")], parcels[1])
    buffer = bytearray(99)
    assert stream.take([memoryview(buffer)[:6]]) == (6, None)
    assert stream.take([memoryview(buffer)]) == (3, parcels[0])
    assert stream.take([memoryview(buffer)[:1]]) == (1, parcels[1])
    assert stream.take([memoryview(buffer)]) == (2, None)
    assert (file.references, net.used("max_open_fds")) == (3, 2)
    for parcel in parcels:
        parcel.drop()
    assert (file.references, net.used("max_open_fds")) == (1, 0)


def test_messages_are_charged_for_what_they_are_and_for_being_there() -> None:
    net = NetKernel(max_datagrams=2)
    queue = MessageQueue(net.network.space, 1_000, net.registry.open_object("max_datagrams"))
    for data in (b"", b"four"):
        queue.put(Message(data, UNNAMED, None))
    assert net.used("max_socket_buffer_bytes") == queue.statistics() == 2 * MESSAGE_COST + 4
    assert errno_of(queue.put, Message(b"x", UNNAMED, None)) is Errno.EAGAIN
    assert errno_of(queue.put, Message(bytes(1_000), UNNAMED, None)) is Errno.EMSGSIZE
    assert [queue.take().data, queue.take().data] == [b"", b"four"]
    queue.close()
    assert (net.used("max_socket_buffer_bytes"), queue.level.used) == (0, 0)
