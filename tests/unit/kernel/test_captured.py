"""Captured output: what is kept is what was taken, never more than the budget, and what is missing is said."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm import Errno
from agentvm.errno import KernelError
from agentvm.kernel.captured import CapturedOutput, Gap, capture_outputs
from agentvm.kernel.wait import Readiness
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge


def _budget(cap: float) -> Gauge:
    return Gauge(SPECS["max_log_bytes"], cap)


def _views(*pieces: bytes) -> list[memoryview]:
    return [memoryview(piece) for piece in pieces]


def _discarding(cap: float) -> tuple[Gauge, CapturedOutput, CapturedOutput]:
    budget = _budget(cap)
    return budget, *capture_outputs(budget, discard=True)


def test_output_is_kept_up_to_the_budget_that_both_streams_share() -> None:
    budget = _budget(10)
    out, err = capture_outputs(budget, discard=False)
    assert [out.write_nowait(_views(b"12", b"34")), err.write_nowait(_views(b"5678"))] == [4, 4]
    assert (out.gap(), err.gap()) == (None, None)
    assert out.write_nowait(_views(b"9", b"abc", b"d")) == 2
    assert (out.value(), err.value(), out.gap(), err.gap()) == (b"12349a", b"5678", Gap(6, 0), None)
    with pytest.raises(KernelError) as caught:
        err.write_nowait(_views(b"x"))
    assert (caught.value.errno, caught.value.limit) == (Errno.ENOSPC, "max_log_bytes")
    assert err.gap() == Gap(4, 0)
    assert (budget.used, budget.peak, budget.refused) == (10, 10, 2)
    assert out.write_nowait([]) == 0


@pytest.mark.parametrize("discard", [False, True], ids=["error", "discard"])
def test_the_warning_comes_once_at_80_percent(discard: bool) -> None:
    budget = _budget(100)
    out, err = capture_outputs(budget, discard=discard)
    out.write_nowait(_views(bytes(70)))
    err.write_nowait(_views(bytes(9)))
    assert budget.warnings == 0
    err.write_nowait(_views(b"x"))
    out.write_nowait(_views(bytes(20)))
    assert (budget.warnings, budget.used, budget.refused) == (1, 100, 0)


def test_all_is_kept_while_it_fits() -> None:
    budget, out, err = _discarding(10)
    out.write_nowait(_views(b"123", b"", b"4567"))
    err.write_nowait(_views(b"890"))
    assert (out.value(), err.value(), out.gap(), err.gap()) == (b"1234567", b"890", None, None)
    assert (budget.used, budget.refused) == (10, 0)


def test_past_the_cap_the_first_half_of_it_and_the_last_bytes_are_kept() -> None:
    budget, out, _ = _discarding(10)
    for piece in (b"abcd", b"efghij", b"klm", b"", b"n"):
        assert out.write_nowait(_views(piece)) == len(piece)
    assert (out.gap(), out.value()) == (Gap(5, 4), b"abcdejklmn")
    assert (budget.used, budget.peak) == (10, 10)


def test_passing_the_cap_is_counted_once() -> None:
    budget, out, err = _discarding(10)
    for _ in range(5):
        out.write_nowait(_views(bytes(7)))
        err.write_nowait(_views(bytes(7)))
    assert (budget.used, budget.refused) == (10, 1)


def test_a_flood_on_one_stream_leaves_the_other_half_of_the_tail() -> None:
    _, out, err = _discarding(40)
    out.write_nowait(_views(b"-" * 20))  # the head
    err.write_nowait(_views(b"the last words of it"))
    out.write_nowait(_views(b"flood " * 100))
    assert (err.gap(), err.value()) == (Gap(0, 10), b" words of it"[-10:])
    assert (out.gap(), out.value()[20:]) == (Gap(20, 590), (b"flood " * 100)[-10:])


def test_a_quiet_stream_s_words_are_whole_and_the_other_has_the_rest() -> None:
    _, out, err = _discarding(40)
    out.write_nowait(_views(b"x" * 1000))
    err.write_nowait(_views(b"oops"))
    out.write_nowait(_views(b"y" * 1000))
    assert (err.gap(), err.value()) == (None, b"oops")
    assert (out.gap(), out.value()) == (Gap(20, 2000 - 36), b"x" * 20 + b"y" * 16)


def test_a_cap_that_is_raised_meanwhile_is_used() -> None:
    budget, out, _ = _discarding(10)
    out.write_nowait(_views(b"abcdefghijklmno"))
    budget.set_cap(20)
    out.write_nowait(_views(b"pqrstuvwxyz"))
    assert (out.gap(), out.value()) == (Gap(5, 6), b"abcdelmnopqrstuvwxyz")
    assert (budget.used, budget.refused) == (20, 2)


@pytest.mark.parametrize("cap", [0, 1, 2, 3])
def test_a_tiny_cap_keeps_that_much(cap: int) -> None:
    budget, out, err = _discarding(cap)
    assert [out.write_nowait(_views(b"abc")), err.write_nowait(_views(b"def"))] == [3, 3]
    assert len(out.value()) + len(err.value()) == cap == budget.used


def test_without_a_cap_all_is_kept() -> None:
    _, out, err = _discarding(float("inf"))
    out.write_nowait(_views(bytes(100_000)))
    err.write_nowait(_views(b"x"))
    assert (len(out.value()), err.value(), out.gap(), err.gap()) == (100_000, b"x", None, None)


_WRITES = st.lists(st.tuples(st.booleans(), st.lists(st.binary(max_size=40), max_size=3)))


@given(_WRITES, st.integers(0, 60))
def test_what_is_kept_is_head_and_tail_and_all_is_accounted_for(
    writes: list[tuple[bool, list[bytes]]], cap: int
) -> None:
    budget, *streams = _discarding(cap)
    written = [b"", b""]
    for which, pieces in writes:
        assert streams[which].write_nowait(_views(*pieces)) == sum(map(len, pieces))
        written[which] += b"".join(pieces)
        assert budget.used == min(cap, sum(map(len, written)))
    kept = 0
    for stream, data in zip(streams, written, strict=True):
        gap, value = stream.gap(), stream.value()
        kept += len(value)
        if gap is None:
            assert value == data
        else:
            assert value == data[: gap.at] + data[gap.at + gap.dropped_bytes :]
            assert gap.dropped_bytes > 0
            assert gap.at <= cap // 2
    assert kept == budget.used
    assert budget.refused == (sum(map(len, written)) > cap)


def test_no_more_memory_is_held_than_the_cap_and_a_block_or_two() -> None:
    cap = 1 << 20
    _, out, err = _discarding(cap)
    flood = memoryview(bytes(5 * cap))
    tracemalloc.start()
    for size in (1, 700, 65_536, 5 * cap):
        for at in range(0, 3 * cap if size > 1 else 5000, size):
            (err if at % 3 else out).write_nowait([flood[:size]])
    result = [out.value(), err.value()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, result)) == cap
    assert peak <= 1.3 * cap


def test_captured_output_is_always_ready() -> None:
    for discard in (False, True):
        assert capture_outputs(_budget(1), discard=discard)[0].readiness() == Readiness.WRITE
