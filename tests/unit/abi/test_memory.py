"""Guest memory: every pointer is checked against what there is now."""

import struct

import pytest

from agentvm import Errno
from agentvm.abi.memory import GuestMemory
from agentvm.errno import KernelError
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Ceiling

SIZE = 4096


class Growing:
    """A memory that grows when it is told to, and counts how often it was looked at."""

    def __init__(self, size: int = SIZE) -> None:
        self.bytes = bytearray(size)
        self.looks = 0

    def view(self) -> memoryview:
        self.looks += 1
        return memoryview(self.bytes)


def _memory(source: Growing | None = None, iovecs: int = 4) -> GuestMemory:
    memory = GuestMemory(Ceiling(SPECS["max_iovecs"], iovecs))
    memory.attach(source or Growing())
    return memory


def _errno(call: object, *arguments: object) -> Errno:
    with pytest.raises(KernelError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_a_span_is_the_memory_itself() -> None:
    source = Growing()
    memory = _memory(source)
    memory.span(10, 3)[:] = b"abc"
    assert source.bytes[10:13] == b"abc"
    assert len(memory.span(SIZE, 0)) == 0
    assert len(memory.span(0, SIZE)) == SIZE


@pytest.mark.parametrize(
    ("pointer", "length"), [(SIZE, 1), (SIZE - 1, 2), (0, SIZE + 1), (0xFFFF_FFF8, 8), (8, 0xFFFF_FFFF), (SIZE + 1, 0)]
)
def test_what_lies_outside_is_efault(pointer: int, length: int) -> None:
    memory = _memory()
    assert _errno(memory.span, pointer, length) is Errno.EFAULT
    assert _errno(memory.path, pointer, length) is Errno.EFAULT


def test_the_size_is_looked_at_again_only_where_it_is_missed() -> None:
    small, large = Growing(), Growing(2 * SIZE)
    memory = _memory(small)
    for _ in range(5):
        memory.span(0, SIZE)
    assert small.looks == 1
    memory._source = large  # the memory grew in its place
    assert len(memory.span(SIZE, SIZE)) == SIZE
    assert (small.looks, large.looks) == (1, 1)


def test_a_process_without_memory_gets_efault() -> None:
    memory = GuestMemory(Ceiling(SPECS["max_iovecs"], 4))
    assert _errno(memory.span, 0, 1) is Errno.EFAULT
    memory.attach(Growing())
    memory.span(0, 1)
    memory.detach()
    assert _errno(memory.span, 0, 1) is Errno.EFAULT


def _iovecs(source: Growing, *buffers: tuple[int, int]) -> tuple[int, int]:
    for index, buffer in enumerate(buffers):
        struct.pack_into("<II", source.bytes, 16 + 8 * index, *buffer)
    return 16, len(buffers)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_buffers_are_the_memory_that_the_array_names(count: int) -> None:
    source = Growing()
    memory = _memory(source)
    for index, buffer in enumerate(memory.buffers(*_iovecs(source, *[(100 + 10 * i, i + 1) for i in range(count)]))):
        assert len(buffer) == index + 1
        buffer[:] = b"x" * len(buffer)
        assert source.bytes[100 + 10 * index : 102 + 11 * index] == b"x" * (index + 1) + b"\0"


@pytest.mark.parametrize("bad", [(SIZE, 1), (0xFFFF_FFFF, 1), (8, 0xFFFF_FFFF), (SIZE + 1, 0)])
def test_one_bad_buffer_spoils_all(bad: tuple[int, int]) -> None:
    source = Growing()
    memory = _memory(source)
    assert _errno(memory.buffers, *_iovecs(source, bad)) is Errno.EFAULT
    assert _errno(memory.buffers, *_iovecs(source, (0, 1), bad)) is Errno.EFAULT


def test_an_array_outside_memory_is_efault_and_too_long_a_one_einval() -> None:
    memory = _memory()
    assert memory.buffers(0, 0) == ()
    for count in (1, 2):
        assert _errno(memory.buffers, SIZE - 8 * count + 1, count) is Errno.EFAULT
        assert _errno(memory.buffers, 0xFFFF_FFF8, count) is Errno.EFAULT
    assert _errno(memory.buffers, 0, 5) is Errno.EINVAL
    assert _errno(memory.buffers, 0, 0xFFFF_FFFF) is Errno.EINVAL


def test_buffers_of_4_gib_together_are_einval() -> None:
    """The count that a call returns has 32 bits."""
    source = Growing(1 << 20)
    memory = _memory(source, iovecs=5000)
    largest = (0, 1 << 20)
    assert len(memory.buffers(*_iovecs(source, *[largest] * 4095))) == 4095
    assert _errno(memory.buffers, *_iovecs(source, *[largest] * 4096)) is Errno.EINVAL


@pytest.mark.parametrize(
    ("path", "errno"),
    [(b"plain", None), ("ü/é".encode(), None), (b"", None), (b"\xff", Errno.EILSEQ), (b"a\xc3", Errno.EILSEQ)],
)
def test_a_path_is_a_copy_and_utf_8(path: bytes, errno: Errno | None) -> None:
    source = Growing()
    source.bytes[100 : 100 + len(path)] = path
    memory = _memory(source)
    if errno is not None:
        assert _errno(memory.path, 100, len(path)) is errno
        return
    found = memory.path(100, len(path))
    source.bytes[100:110] = bytes(10)
    assert found == path
