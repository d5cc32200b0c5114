"""Amounts as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import format_amount, parse_amount, scaled, write_amount
from agentvm.limits.catalogue import SPECS
from agentvm.limits.rate import Rate
from agentvm.limits.spec import UNLIMITED, Unit

SIZE = SPECS["max_filesystem_bytes"]
COUNT = SPECS["max_processes"]
SECONDS = SPECS["max_cpu_time_seconds"]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("4096", 4096),
        (" 64 MiB ", 64 << 20),
        ("64MB", 64 << 20),
        ("64m", 64 << 20),
        ("1.5k", 1536),
        ("2GiB", 2 << 30),
        ("1T", 1 << 40),
        ("1_000", 1000),
        ("1e3", 1000),
        ("100B", 100),
        (".5k", 512),
        ("0.1MiB", 104857),
        ("5e+1", 50),
        (4096, 4096),
        (4096.0, 4096),
    ],
)
def test_sizes(text: object, amount: int) -> None:
    found = parse_amount(SIZE, text)  # type: ignore[arg-type]
    assert found == amount
    assert isinstance(found, int)


@pytest.mark.parametrize(
    ("text", "amount"), [("1.5s", 1.5), ("250ms", 0.25), ("2m", 120), ("1h", 3600), ("7", 7), (0.5, 0.5)]
)
def test_times(text: object, amount: float) -> None:
    assert parse_amount(SECONDS, text) == pytest.approx(amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["none", " None ", "unlimited", "INF", float("inf")])
def test_no_limit(text: object) -> None:
    assert parse_amount(SPECS["max_fuel"], text) == UNLIMITED  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_filesystem_bytes", ""),
        ("max_filesystem_bytes", "lots"),
        ("max_filesystem_bytes", "-1"),
        ("max_filesystem_bytes", -1),
        ("max_filesystem_bytes", "1.5"),
        ("max_filesystem_bytes", 1.5),
        ("max_filesystem_bytes", "64 XB"),
        ("max_filesystem_bytes", "1s"),
        ("max_filesystem_bytes", True),
        ("max_filesystem_bytes", float("nan")),
        ("max_filesystem_bytes", 2**53),
        ("max_processes", "64k"),
        ("max_processes", 0),
        ("max_cpu_time_seconds", "5MiB"),
        ("max_cpu_time_seconds", 0),
        ("max_memory_bytes", "1KiB"),
        ("max_wasm_stack_bytes", "1GiB"),
    ],
)
def test_what_a_limit_does_not_take_is_refused_with_the_range(name: str, value: object) -> None:
    with pytest.raises(InvalidLimit) as caught:
        parse_amount(SPECS[name], value)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(f"{name} cannot be {value!r}: it takes ")
    assert " from " in text
    assert "such as" in text


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        (Unit.BYTES, 0, "0 B"),
        (Unit.BYTES, 1023, "1023 B"),
        (Unit.BYTES, 64 << 20, "64 MiB"),
        (Unit.BYTES, 1536, "1.5 KiB"),
        (Unit.SECONDS, 1.5, "1.5 s"),
        (Unit.SECONDS, 3600, "3,600 s"),
        (Unit.COUNT, 16_384, "16,384"),
        (Unit.PERCENT, 100, "100 %"),
        (Unit.FUEL, UNLIMITED, "none"),
    ],
)
def test_amounts_are_written_for_people(unit: Unit, amount: float, text: str) -> None:
    assert format_amount(unit, amount) == text


@pytest.mark.parametrize("name", SPECS)
def test_the_ends_of_every_range_are_taken(name: str) -> None:
    spec = SPECS[name]
    assert parse_amount(spec, spec.minimum) == spec.minimum
    assert parse_amount(spec, spec.maximum) == spec.maximum
    assert parse_amount(spec, str(spec.minimum)) == spec.minimum


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_wasm_stack_bytes", "none"),
        ("max_pipe_bytes", "none"),
        ("max_fuel", "1e999"),
        ("max_fuel", float("-inf")),
        ("max_filesystem_bytes", "5i"),
        ("max_filesystem_bytes", "9" * 5000),
        ("max_filesystem_bytes", 10**400),
        ("max_filesystem_bytes", [1]),
        ("max_filesystem_bytes", b"1"),
        ("max_fuel", "1e308T"),
        ("max_cpu_percent", "50%%"),
        ("max_filesystem_bytes", "50%"),
    ],
)
def test_what_is_no_amount_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidLimit):
        parse_amount(SPECS[name], value)  # type: ignore[arg-type]


def test_percent_may_say_so() -> None:
    assert parse_amount(SPECS["max_cpu_percent"], " 50 % ") == 50


# -- amounts written back ---------------------------------------------------------------------------------------------
@given(st.sampled_from(list(SPECS)), st.data())
def test_what_is_written_is_read_back_exactly(name: str, data: st.DataObject) -> None:
    spec = SPECS[name]
    caps: st.SearchStrategy[float] = st.integers(int(-(-spec.minimum // 1)), int(spec.maximum))
    if spec.unit in (Unit.SECONDS, Unit.BYTES_PER_SECOND, Unit.PER_SECOND):
        caps |= st.floats(float(spec.minimum), float(spec.maximum))
    if spec.can_be_unlimited:
        caps |= st.just(UNLIMITED)
    cap = data.draw(caps)
    assert parse_amount(spec, write_amount(spec.unit, cap)) == cap


@given(st.floats(1, 2**53 - 1), st.floats(1, 2**53 - 1), st.floats(0, 2**53 - 1))
def test_a_bucket_is_written_with_its_shape_and_read_back_exactly(rate: float, size: float, burst: float) -> None:
    spec = SPECS["max_disk_read_bytes_per_second"]
    cap = Rate(rate, size=size, burst=burst)
    assert repr(parse_amount(spec, write_amount(spec.unit, cap))) == repr(cap)


@pytest.mark.parametrize(
    ("unit", "amount", "text"),
    [
        (Unit.BYTES, 64 << 20, "64MiB"),
        (Unit.BYTES, 1536, "1536"),
        (Unit.BYTES, 3 << 39, "1536GiB"),
        (Unit.BYTES, 0, "0"),
        (Unit.SECONDS, 1.5, "1.5s"),
        (Unit.PERCENT, 50, "50"),
        (Unit.COUNT, UNLIMITED, "none"),
        (Unit.BYTES_PER_SECOND, 1 << 20, "1MiB/s"),
        (Unit.BYTES_PER_SECOND, Rate(1 << 20, size=2048), "1MiB/s,size=2KiB"),
        (Unit.PER_SECOND, Rate(100, size=10, burst=1000), "100/s,size=10,burst=1000"),
    ],
)
def test_amounts_are_written_for_flags(unit: Unit, amount: float, text: str) -> None:
    assert write_amount(unit, amount) == text


# -- buckets ----------------------------------------------------------------------------------------------------------
RATE = SPECS["max_disk_read_bytes_per_second"]


@pytest.mark.parametrize(
    "value",
    [
        {"size": "1MiB", "refill_time": "100MiB"},
        {"rate": 5, "burst": "none"},
        {"rate": 5, "size": "none"},
        {"rate": {"rate": 5}},
        {"rate": "5,size=2"},
        {"rate": 5, "refill_time": 5},
        {"size": 5},
        {"rate": 0},
        {"rate": 5, "colour": 3},
        {},
        "5,size",
        "5,size=1,size=2",
        "none,size=",
    ],
)
def test_what_makes_no_bucket_is_refused(value: object) -> None:
    with pytest.raises(InvalidLimit, match="max_disk_read_bytes_per_second cannot be"):
        parse_amount(RATE, value)  # type: ignore[arg-type]


def test_a_bucket_by_its_refill_time_is_one_by_its_rate() -> None:
    firecracker = parse_amount(RATE, {"size": "1MiB", "refill_time": 100, "one_time_burst": "64MiB"})
    assert repr(firecracker) == repr(parse_amount(RATE, "10MiB/s,size=1MiB,burst=64MiB"))


# -- amounts of other spellings ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "factor", "expected"),
    [
        (5, 1, 5),
        (5, 1 << 20, 5 << 20),
        ("5", 1 << 20, 5 << 20),
        ("5k", 1 << 20, "5k"),
        ("none", 1 << 20, "none"),
        (0.3, 1 << 20, 314572),
        (True, 1 << 20, True),
        ([1], 1 << 20, [1]),
    ],
)
def test_plain_numbers_are_scaled_and_nothing_else(value: object, factor: int, expected: object) -> None:
    assert scaled(SIZE, value, factor) == expected
