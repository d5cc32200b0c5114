"""Bounded queues: first in, first out, nothing dropped, and a gauge that knows of every producer without room."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Errno
from agentvm.bounded import ByteQueue, Full, ItemQueue
from agentvm.errno import KernelError
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge, LimitExceeded

CAP = 100


def _gauge(cap: int = CAP) -> Gauge:
    return Gauge(SPECS["max_pipe_bytes"], cap)


def _views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def test_a_queue_is_not_made_without_saying_what_a_full_one_does() -> None:
    for kind in (ByteQueue, ItemQueue):
        with pytest.raises(TypeError, match="full"):
            kind(_gauge())  # type: ignore[operator]


def test_no_policy_drops() -> None:
    assert {policy.name for policy in Full} == {"BLOCKS", "REFUSES"}


@pytest.mark.parametrize("full", Full)
def test_a_full_queue_of_bytes_tells_its_producer_and_counts_it(full: Full) -> None:
    gauge = _gauge()
    queue = ByteQueue(gauge, full=full)
    assert queue.put(_views(bytes(CAP))) == CAP
    with pytest.raises(KernelError) as caught:
        queue.put(_views(b"xy"))
    assert caught.value.errno is Errno.EAGAIN
    assert isinstance(caught.value, LimitExceeded) is (full is Full.REFUSES)
    assert (gauge.used, gauge.peak, gauge.refused, len(queue)) == (CAP, CAP, 1, CAP)


@pytest.mark.parametrize("full", Full)
def test_a_full_queue_of_items_tells_its_producer_and_counts_it(full: Full) -> None:
    gauge = _gauge(2)
    queue: ItemQueue[str] = ItemQueue(gauge, full=full)
    queue.put("a")
    queue.put("b")
    with pytest.raises(KernelError) as caught:
        queue.put("c")
    assert caught.value.errno is Errno.EAGAIN
    assert isinstance(caught.value, LimitExceeded) is (full is Full.REFUSES)
    assert (gauge.used, gauge.peak, gauge.refused) == (2, 2, 1)
    assert [queue.take(), queue.take()] == ["a", "b"]
    assert (gauge.used, len(queue)) == (0, 0)
    with pytest.raises(IndexError):
        queue.take()


def test_a_refusal_names_the_limit_and_its_values() -> None:
    queue = ByteQueue(_gauge(), full=Full.REFUSES)
    queue.put(_views(bytes(90)))
    assert queue.put(_views(bytes(20))) == 10
    with pytest.raises(LimitExceeded) as caught:
        queue.put(_views(bytes(7)))
    assert (caught.value.limit, caught.value.observed, caught.value.capacity) == ("max_pipe_bytes", 107, CAP)


def test_bytes_that_fit_in_part_are_taken_in_part_unless_they_belong_together() -> None:
    loose, tight = (ByteQueue(_gauge(), full=Full.BLOCKS, whole=whole) for whole in (1, 10))
    for queue in (loose, tight):
        queue.put(_views(bytes(95)))
    assert loose.put(_views(b"abc", b"", b"defg")) == 5
    assert loose.take_bytes(CAP)[95:] == b"abcde"
    with pytest.raises(KernelError, match="EAGAIN"):
        tight.put(_views(b"abc", b"defg"))
    assert tight.put(_views(b"abc", b"defghijklmn")) == 5
    assert tight.take_bytes(CAP)[95:] == b"abcde"


def test_there_is_room_once_a_put_of_any_size_takes_something() -> None:
    queue = ByteQueue(_gauge(), full=Full.BLOCKS, whole=10)
    queue.put(_views(bytes(90)))
    assert queue.has_room()
    queue.put(_views(b"x"))
    assert not queue.has_room()
    assert queue.put([]) == 0
    queue.take_bytes(1)
    assert queue.has_room()


def test_a_cap_that_is_raised_is_the_queue_s_at_once() -> None:
    gauge = _gauge(10)
    queue = ByteQueue(gauge, full=Full.BLOCKS)
    queue.put(_views(bytes(10)))
    assert not queue.has_room()
    gauge.set_cap(20)
    assert (queue.has_room(), queue.put(_views(bytes(15)))) == (True, 10)


def test_a_queue_warns_once_as_it_fills_and_again_only_after_it_has_emptied() -> None:
    gauge = _gauge()
    queue = ByteQueue(gauge, full=Full.BLOCKS)
    queue.put(_views(bytes(79)))
    assert gauge.warnings == 0
    queue.put(_views(bytes(1)))
    queue.take_bytes(29)
    queue.put(_views(bytes(40)))
    assert gauge.warnings == 1
    assert queue.take(_views_to_fill(41)) == 41
    assert not gauge.warned
    queue.put(_views(bytes(30)))
    assert gauge.warnings == 2
    queue.clear()
    assert (gauge.used, gauge.warned, len(queue)) == (0, False, 0)


def _views_to_fill(*sizes: int) -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in sizes]


def test_peek_copies_and_leaves() -> None:
    queue = ByteQueue(_gauge(), full=Full.BLOCKS)
    queue.put(_views(b"hello"))
    buffers = _views_to_fill(2, 0, 9)
    assert queue.peek(buffers) == 5
    assert b"".join(buffers)[:5] == b"hello"
    assert queue.take_bytes(9) == b"hello"


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.lists(st.binary(max_size=60), max_size=4)),
        st.tuples(st.just("take"), st.lists(st.integers(0, 70), max_size=4)),
        st.tuples(st.just("bytes"), st.integers(0, 120)),
    )
)


@given(_STEPS, st.integers(1, 40), st.sampled_from(Full))
def test_bytes_come_out_as_they_went_in_and_the_gauge_is_always_right(
    steps: list[tuple[str, object]], whole: int, full: Full
) -> None:
    gauge = _gauge()
    queue = ByteQueue(gauge, full=full, whole=whole)
    model = deque[int]()
    peak = refused = 0
    for kind, what in steps:
        if kind == "put":
            data = b"".join(what)  # type: ignore[arg-type]
            try:
                taken = queue.put(_views(*what))  # type: ignore[misc]
            except KernelError:
                taken, refused = 0, refused + 1
                assert len(model) + len(data) > CAP
                assert len(model) == CAP or len(data) <= whole
            else:
                assert taken == min(len(data), CAP - len(model))
            model.extend(data[:taken])
        else:
            if kind == "take":
                buffers = _views_to_fill(*what)  # type: ignore[misc]
                count = queue.take(buffers)
                got = b"".join(buffers)[:count]
            else:
                got = queue.take_bytes(what)  # type: ignore[arg-type]
            assert got == bytes(model.popleft() for _ in range(len(got)))
        peak = max(peak, len(model))
        assert (len(queue), gauge.used, gauge.peak, gauge.refused) == (len(model), len(model), peak, refused)
    assert queue.take_bytes(CAP) == bytes(model)
