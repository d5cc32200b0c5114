"""Cutting data segments out of a module changes nothing that a guest can see; the image holds what was cut."""

import mmap
import os
from dataclasses import dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from wasmtime import Engine, Instance, Module, Store, Trap, WasmtimeError, wat2wasm

from agentvm.engine import validate
from agentvm.engine.image import Cut, Image, cut
from agentvm.engine.wasm import DATA, parse
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits

ENGINE = Engine()
PAGE = 65_536


def _cut(wasm: bytes, min_bytes: int = 1) -> Cut | None:
    info, layout = parse(wasm, validate.cap_check(Caps(Limits())))
    return cut(wasm, info, layout, min_bytes=min_bytes)


@dataclass(frozen=True)
class Ran:
    """What a guest could see: whether it started, its memories, and what `memory.init` of each segment did."""

    started: bool
    memories: tuple[bytes, ...] = ()
    inits: tuple[bool, ...] = ()


def _run(wasm: bytes, image: Cut | None, segments: int, memories: int) -> Ran:
    store = Store(ENGINE)
    try:
        instance = Instance(store, Module(ENGINE, wasm), [])
    except (Trap, WasmtimeError) as error:
        if "out of bounds" not in str(error):
            raise
        return Ran(started=False)
    exports = instance.exports(store)
    if image is not None:  # segments that stayed were written after the image would have been mapped
        _apply_below_kept(exports["m0"], store, wasm, image)
    contents = tuple(bytes(exports[f"m{n}"].read(store, 0, 2 * PAGE)) for n in range(memories))
    inits = []
    for number in range(segments):
        init = exports.get(f"init{number}")
        if init is None:
            break
        try:
            init(store)
            inits.append(True)
        except Trap:
            inits.append(False)
    return Ran(True, contents, tuple(inits))


def _apply_below_kept(memory, store: Store, wasm: bytes, image: Cut) -> None:
    """Lay the image under what the kept segments wrote: the places they wrote to keep their bytes."""
    kept = bytes(memory.read(store, 0, 2 * PAGE))
    marks = _written(wasm)
    memory.write(store, bytes(image.contents), image.offset)
    for start, end in marks:
        memory.write(store, kept[start:end], start)


def _written(wasm: bytes) -> list[tuple[int, int]]:
    """Run the cut module over a memory of ones, to see where its own segments write. Only for these tests' sizes."""
    store = Store(ENGINE)
    exports = Instance(store, Module(ENGINE, wasm), []).exports(store)
    contents = bytes(exports["m0"].read(store, 0, 2 * PAGE))
    return [(at, at + 1) for at in range(len(contents)) if contents[at]]


# Segments hold no zero bytes, so that what they wrote can be told from what they did not.
DATA_BYTES = st.binary(min_size=0, max_size=300).map(lambda data: data.replace(b"\0", b"\x01"))
OFFSETS = st.one_of(st.integers(0, 600), st.integers(2 * PAGE - 310, 2 * PAGE + 10), st.just(2**32 - 1))
SEGMENTS = st.lists(
    st.tuples(st.sampled_from(["const", "const", "const", "global", "sum", "other", "passive"]), OFFSETS, DATA_BYTES),
    min_size=1,
    max_size=6,
)


def _text(segments: list[tuple[str, int, bytes]], *, numbered: bool) -> str:
    lines = ['(memory (export "m0") 2) (memory (export "m1") 2)']
    for number, (kind, offset, data) in enumerate(segments):
        text = "".join(f"\\{byte:02x}" for byte in data)
        signed = offset - 2**32 if offset >= 2**31 else offset
        place = {
            "const": f"(i32.const {signed})",
            "global": f"(global.get $g{number})",
            "sum": f"(offset (i32.add (i32.const {signed}) (i32.const 0)))",
            "other": f"(memory 1) (i32.const {signed})",
            "passive": "",
        }[kind]
        lines.append(f'(global $g{number} i32 (i32.const {signed})) (data {place} "{text}")')
        if numbered:
            init = f"(memory.init {number} (i32.const 1000) (i32.const 0) (i32.const 1))"
            lines.append(f'(func (export "init{number}") {init})')
    return f"(module {' '.join(lines)})"


@settings(max_examples=150, deadline=None)
@given(SEGMENTS, st.booleans())
@example([("const", 0, b"aaaa"), ("const", 2, b"bbbb")], False)
@example([("const", 5, b"aa"), ("const", 2**32 - 1, b"b"), ("const", 9, b"c")], True)
@example([("const", 5, b"aa"), ("global", 5, b"b"), ("const", 6, b"c")], True)
@example([("passive", 0, b"p"), ("const", 5, b"aa"), ("other", 5, b"b"), ("const", 4, b"cc")], True)
def test_a_cut_module_behaves_like_the_whole_one(segments: list[tuple[str, int, bytes]], numbered: bool) -> None:
    wasm = wat2wasm(_text(segments, numbered=numbered))
    whole = _run(wasm, None, len(segments), 2)
    taken = _cut(wasm)
    if taken is None:
        return
    small = b"".join(taken.pieces)
    assert _run(small, taken, len(segments), 2) == whole


def test_all_constant_segments_leave_no_data_section() -> None:
    wasm = wat2wasm('(module (memory 1) (data (i32.const 8) "ab") (data (i32.const 12) "cd"))')
    taken = _cut(wasm)
    assert taken is not None
    assert (taken.offset, bytes(taken.contents)) == (8, b"ab\0\0cd")
    small = b"".join(taken.pieces)
    _, layout = parse(small, validate.cap_check(Caps(Limits())))
    assert DATA not in layout
    assert Module(ENGINE, small)


def test_later_segments_win() -> None:
    taken = _cut(wat2wasm('(module (memory 1) (data (i32.const 4) "aaaa") (data (i32.const 6) "bb"))'))
    assert taken is not None
    assert bytes(taken.contents) == b"aabb"


def test_segments_after_one_that_cannot_be_cut_stay() -> None:
    taken = _cut(
        wat2wasm(
            '(module (memory 1) (global $g i32 (i32.const 5)) (data (i32.const 0) "first") '
            '(data (global.get $g) "dyn") (data (i32.const 0) "last"))'
        )
    )
    assert taken is not None
    assert bytes(taken.contents) == b"first"
    assert b"last" in b"".join(taken.pieces)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('(module (import "a" "m" (memory 1)) (data (i32.const 0) "abc"))', id="imported memory"),
        pytest.param('(module (memory 1) (data (i32.const 65535) "abc"))', id="first segment out of bounds"),
        pytest.param('(module (memory 1) (data (i32.const -1) ""))', id="empty segment out of bounds"),
        pytest.param('(module (memory 1) (data "abc"))', id="passive"),
        pytest.param('(module (memory 1) (memory 1) (data (memory 1) (i32.const 0) "abc"))', id="other memory"),
        pytest.param('(module (memory 1) (data (i32.const 0) ""))', id="nothing in it"),
        pytest.param('(module (memory 16) (data (i32.const 0) "a") (data (i32.const 1000000) "b"))', id="mostly holes"),
        pytest.param("(module (memory 1))", id="no data"),
    ],
)
def test_modules_that_cannot_be_cut_stay_as_they_are(text: str) -> None:
    assert _cut(wat2wasm(text)) is None


def test_small_data_is_left_to_be_copied() -> None:
    wasm = wat2wasm('(module (memory 1) (data (i32.const 0) "0123456789"))')
    assert _cut(wasm, min_bytes=11) is None
    assert _cut(wasm, min_bytes=10) is not None


def test_image_holds_its_contents_at_their_offset() -> None:
    image = Image(5000, b"x" * 100)
    assert (image.low % mmap.PAGESIZE, image.high % mmap.PAGESIZE) == (0, 0)
    assert image.low <= 5000
    assert image.high >= 5100
    with mmap.mmap(image.fd, image.high, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        assert mapped[4999:5101] == b"\0" + b"x" * 100 + b"\0"
    image.close()


def test_a_private_mapping_may_be_written_and_the_image_may_not() -> None:
    image = Image(0, b"shared")
    with mmap.mmap(image.fd, image.high, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mine:
        mine[:6] = b"broken"
        assert os.pread(image.fd, 6, 0) == b"shared"
    with pytest.raises(PermissionError):
        os.pwrite(image.fd, b"broken", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(image.fd, image.high, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    with pytest.raises(PermissionError):
        os.ftruncate(image.fd, 0)


def test_the_descriptor_closes_with_the_last_reference() -> None:
    image = Image(0, b"data")
    fd = image.fd
    identity = os.fstat(fd).st_ino
    alias = image
    del image
    assert os.fstat(fd).st_ino == identity
    del alias
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_closing_twice_closes_nothing_else() -> None:
    image = Image(0, b"data")
    image.close()
    other = os.memfd_create("other")
    image.close()
    assert os.fstat(other)
    os.close(other)
