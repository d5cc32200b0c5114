"""Amounts as people write them."""

import pytest

from agentvm.errors import InvalidLimit
from agentvm.limits.amount import format_amount, parse_amount
from agentvm.limits.catalogue import SPECS
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
    ],
)
def test_what_is_no_amount_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidLimit):
        parse_amount(SPECS[name], value)  # type: ignore[arg-type]
