"""File data: holes, chunks, short writes at the caps, sharing; and what each of them is charged."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentvm.errno import KernelError
from agentvm.kernel.stat import FdFlags, Whence
from agentvm.kernel.vfs.content import Content
from agentvm.kernel.vfs.space import SpaceAccount
from agentvm.limits.catalogue import Limits
from agentvm.limits.gauge import LimitExceeded
from agentvm.limits.registry import Registry

KIB, MIB = 1 << 10, 1 << 20


def make_account(**limits):
    registry = Registry(Limits(**limits))
    return SpaceAccount(registry.gauge("max_filesystem_bytes"), registry.ceiling("max_file_bytes"))


def write(data, content, offset=0):
    return content.write_from([memoryview(data)], offset)


def read(content, count, offset=0):
    buffer = bytearray(b"?" * count)
    return bytes(buffer[: content.read_into([memoryview(buffer)], offset)])


SIZES = [
    (0, 0), (1, 128), (128, 128), (129, 256), (1000, 1024), (4096, 4096), (4097, 8192), (65_536, 65_536),
    (65_537, 65_536 + 4096), (200_000, 3 * 65_536 + 4096),
]  # fmt: skip


@pytest.mark.parametrize(("size", "charge"), SIZES)
def test_a_file_is_charged_whole_pages_and_a_tiny_one_less(size, charge):
    content = Content(make_account())
    write(b"x" * size, content)
    assert content.account.gauge.used == content.held_bytes() == charge
    content.discard()
    assert content.account.gauge.used == 0


def test_holes_cost_nothing_and_read_as_zeros():
    content = Content(make_account())
    content.truncate(2**62)
    assert content.held_bytes() == 0
    write(b"end", content, 2**62)
    assert content.held_bytes() == 4096
    assert read(content, 10, 2**62 - 5) == b"\0" * 5 + b"end"
    assert read(content, 100_000, 2**61) == b"\0" * 100_000


def test_what_is_cut_off_reads_as_zeros_when_the_file_grows_again():
    content = Content(make_account())
    write(b"x" * 200_000, content)
    content.truncate(70_000)
    content.truncate(10)
    content.truncate(200_000)
    assert read(content, 200_000) == b"x" * 10 + b"\0" * 199_990
    assert content.held_bytes() == 4096


def test_a_write_at_the_cap_is_short_and_the_next_one_has_no_space():
    content = Content(make_account(max_filesystem_bytes=100 * KIB))
    assert write(b"x" * 200 * KIB, content) == 100 * KIB
    assert content.size == 100 * KIB
    with pytest.raises(KernelError, match="ENOSPC"):
        write(b"x", content, 100 * KIB)
    assert write(b"y" * 100, content, 50) == 100  # what is there already can be written
    assert content.held_bytes() == content.account.gauge.used == 100 * KIB


def test_a_write_far_into_a_chunk_that_does_not_fit_changes_nothing():
    content = Content(make_account(max_filesystem_bytes=8 * KIB))
    with pytest.raises(KernelError, match="ENOSPC"):
        write(b"x", content, 60 * KIB)
    assert (content.held_bytes(), content.size) == (0, 0)


def test_a_write_past_the_largest_file_is_short_and_the_next_one_is_too_big():
    content = Content(make_account(max_file_bytes=1000))
    assert write(b"x" * 990, content) == 990
    assert content.write_from([memoryview(b"y" * 6), memoryview(b"z" * 6)], 990) == 10
    with pytest.raises(KernelError, match="EFBIG"):
        write(b"x", content, 1000)
    with pytest.raises(KernelError, match="EFBIG"):
        content.truncate(1001)
    with pytest.raises(KernelError, match="EFBIG"):
        content.allocate(0, 1001)
    assert content.size == 1000


def test_allocating_charges_all_or_nothing():
    content = Content(make_account(max_filesystem_bytes=300 * KIB))
    content.allocate(10, 100 * KIB)
    assert content.size == 10 + 100 * KIB
    held = content.held_bytes()
    assert held >= 100 * KIB
    for offset, length in ((0, 400 * KIB), (0, 2**62), (2**40, 2**61)):
        with pytest.raises(KernelError, match="ENOSPC"):
            content.allocate(offset, length)
    assert content.held_bytes() == content.account.gauge.used == held
    content.account.gauge.acquire(int(content.account.gauge.cap) - held)
    assert write(b"x" * 100 * KIB, content, 10) == 100 * KIB


def test_between_is_called_once_a_mib():
    calls = []
    registry = Registry(Limits())
    account = SpaceAccount(
        registry.gauge("max_filesystem_bytes"), registry.ceiling("max_file_bytes"), between=lambda: calls.append(1)
    )
    content = Content(account)
    write(b"x" * (4 * MIB + 5), content, 3)
    assert 3 <= len(calls) <= 4
    calls.clear()
    read(content, 4 * MIB, 1)
    assert 3 <= len(calls) <= 4


def test_a_long_write_that_is_stopped_keeps_what_it_wrote():
    class Stop(Exception):
        pass

    def stop() -> None:
        raise Stop

    registry = Registry(Limits())
    account = SpaceAccount(registry.gauge("max_filesystem_bytes"), registry.ceiling("max_file_bytes"), between=stop)
    content = Content(account)
    with pytest.raises(Stop):
        write(b"x" * 3 * MIB, content)
    assert content.size == MIB
    assert content.held_bytes() == account.gauge.used


def test_shared_chunks_are_copied_when_either_side_writes():
    account = make_account()
    original, copy = Content(account), Content(account)
    write(b"a" * 150_000, original)
    read(original, 1)
    original.share_with(copy)
    assert account.gauge.used == original.held_bytes() + copy.held_bytes()
    write(b"b", original, 70_000)
    write(b"c", copy, 0)
    copy.truncate(100_000)
    assert read(original, 150_000) == b"a" * 70_000 + b"b" + b"a" * 79_999
    assert read(copy, 150_000) == b"c" + b"a" * 99_999
    assert account.gauge.used == original.held_bytes() + copy.held_bytes()
    original.discard()
    copy.discard()
    assert account.gauge.used == 0


writes = st.tuples(
    st.just("write"),
    st.one_of(st.integers(0, 300), st.integers(65_400, 65_700), st.integers(0, 300_000)),
    st.one_of(st.integers(0, 300), st.integers(0, 150_000)),
)
steps = st.one_of(
    writes,
    writes,
    st.tuples(st.just("truncate"), st.integers(0, 300_000), st.just(0)),
    st.tuples(st.just("allocate"), st.integers(0, 200_000), st.integers(1, 100_000)),
    st.tuples(st.just("share"), st.just(0), st.just(0)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=12))
def test_contents_equal_a_plain_bytearray_and_charges_a_recount(plan):
    account = make_account()
    content, model = Content(account), bytearray()
    kept: list[tuple[Content, bytes]] = []
    for number, (what, offset, length) in enumerate(plan):
        if what == "write" and length:
            data = bytes([number + 1]) * length
            assert write(data, content, offset) == length
            model.extend(bytes(max(0, offset + length - len(model))))
            model[offset : offset + length] = data
        elif what == "truncate":
            content.truncate(offset)
            del model[offset:]
            model.extend(bytes(offset - len(model)))
        elif what == "allocate":
            content.allocate(offset, length)
            model.extend(bytes(max(0, offset + length - len(model))))
        elif what == "share":
            kept.append((Content(account), bytes(model)))
            content.share_with(kept[-1][0])
        assert read(content, len(model) + 10) == model
        assert account.gauge.used == content.held_bytes() + sum(copy.held_bytes() for copy, _ in kept)
    for copy, data in kept:
        assert read(copy, len(data) + 1) == data


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 9_000)), max_size=12), st.integers(0, 40_000))
def test_at_any_cap_writes_are_whole_short_or_refused_and_nothing_is_lost(plan, cap):
    account = make_account(max_filesystem_bytes=cap)
    content, model = Content(account), bytearray()
    for number, (offset, length) in enumerate(plan):
        data = bytes([number + 1]) * length
        try:
            done = write(data, content, offset)
        except LimitExceeded as refusal:
            done, refused = 0, refusal.limit
            assert refused == "max_filesystem_bytes"
        if done:
            model.extend(bytes(max(0, offset + done - len(model))))
            model[offset : offset + done] = data[:done]
        assert read(content, len(model) + 10) == model
        assert account.gauge.used == content.held_bytes() <= cap


def test_an_unlinked_file_keeps_its_charge_until_its_last_close(files):
    first, second = files.create(b"/f", b"x" * 5000), files.open(b"/f")
    files.unlink(b"/f")
    held = files.charged()
    first.pwrite([memoryview(b"y" * 5000)], 5000)
    assert files.charged() > held
    first.on_last_close()
    assert files.charged()[1] == 1
    second.on_last_close()
    assert files.charged() == (0, 0)


def test_positions_are_shared_by_nobody_and_appends_go_to_the_end(files):
    first = files.create(b"/f", b"0123456789")
    second = files.open(b"/f", write=True, flags=FdFlags.APPEND)
    assert second.write_nowait([memoryview(b"ab"), memoryview(b"cd")]) == 4
    assert first.seek(0, Whence.CUR) == 0
    assert first.seek(-4, Whence.END) == 10
    buffer = bytearray(6)
    reader = files.open(b"/f")
    reader.seek(8, Whence.SET)
    assert reader.read_nowait([memoryview(buffer)[:3], memoryview(buffer)[3:]]) == 6
    assert buffer == b"89abcd"
    assert reader.read_nowait([memoryview(buffer)]) == 0


def test_times_change_as_with_relatime(files):
    file = files.create(b"/f", b"x")
    reader = files.open(b"/f")
    written = file.stat()
    buffer = [memoryview(bytearray(1))]
    reader.pread(buffer, 0)
    read_once = file.stat()
    reader.pread(buffer, 0)
    assert written.mtime_ns == written.ctime_ns
    assert read_once.atime_ns > written.mtime_ns
    assert file.stat() == read_once
    file.pwrite([memoryview(b"y")], 0)
    assert file.stat().mtime_ns > read_once.atime_ns
    file.set_times(5, 7)
    assert (file.stat().atime_ns, file.stat().mtime_ns) == (5, 7)
