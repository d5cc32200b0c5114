"""Claim: a guest prints the same under wasmtime's own WASI on a real directory and under agentvm, but for the lines
that deviations.toml lists, of which each really differs; and under agentvm memory and mounted files are alike."""

import tempfile
from functools import cache
from pathlib import Path

import pytest

from agentvm import AgentVM
from tests.differential.cases import (
    CASES,
    SECTIONS,
    SECTIONS_OF_TRIES,
    Case,
    in_memory,
    mounted,
    under_wasmtime,
)
from tests.differential.compare import Difference, differences
from tests.differential.deviations import PAGE, Row, page, rows, uncovered
from tests.support.fixtures import guest

MOST_ROWS = 15


@cache
def transcript_in_memory(number: int) -> list[str]:
    return in_memory(CASES[number])


@cache
def from_wasmtime(number: int) -> list[Difference]:
    return differences(under_wasmtime(CASES[number]), transcript_in_memory(number))


each_case = pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])


@each_case
def test_only_what_is_listed_differs_from_wasmtime(number: int) -> None:
    found = uncovered(str(CASES[number]), from_wasmtime(number))
    assert not found, "\n".join(map(str, found))


@each_case
def test_a_mounted_directory_answers_like_memory(number: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        assert mounted(CASES[number], Path(folder)) == transcript_in_memory(number)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.what)
def test_a_row_is_true_to_its_last_line(row: Row) -> None:
    seen = [(str(case), difference) for number, case in enumerate(CASES) for difference in from_wasmtime(number)]
    unseen = [line for line in row.lines if not any(line.covers(*difference) for difference in seen)]
    assert all(line.sometimes for line in unseen), "\n".join(map(str, unseen))
    assert len(unseen) < len(row.lines)


def test_the_table_stays_short() -> None:
    assert len(rows()) <= MOST_ROWS
    assert all(row.why and row.lines for row in rows())


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_section_and_try_of_the_transcript_is_run() -> None:
    with AgentVM() as vm:
        listed = vm.run(guest("transcript"), ["--list"]).check().stdout_text.split()
        assert listed == [*SECTIONS, *SECTIONS_OF_TRIES]
    for section, tries in SECTIONS_OF_TRIES.items():
        last, after = (in_memory(Case("transcript", (f"{section}:{number}",))) for number in (tries - 1, tries))
        assert len(last) == len(after) + 1


def test_a_result_that_changes_is_not_covered() -> None:
    assert not uncovered("transcript misc", [Difference("clock_time_get(2)", "EBADF", "OK")])
    for wrong in (
        Difference("clock_time_get(2)", "EBADF", "EINVAL"),
        Difference("clock_time_get(2)", "EINVAL", "OK"),
        Difference("clock_time_get(1)", "EBADF", "OK"),
        Difference("clock_time_get(2)", None, "OK"),
    ):
        assert uncovered("transcript misc", [wrong]) == [wrong]
    assert uncovered("transcript io", [Difference("clock_time_get(2)", "EBADF", "OK")])


def test_lines_are_paired_by_their_call() -> None:
    theirs = ["== a", "f(1) -> OK", "f(2) -> EIO", "g(1) -> OK", "end"]
    ours = ["== a", "f(1) -> EIO", "  more", "f(2) -> EIO", "h(1) -> OK", "end"]
    assert differences(theirs, ours) == [
        Difference("f(1)", "OK", "EIO"),
        Difference("  more", None, ""),
        Difference("g(1)", "OK", None),
        Difference("h(1)", None, "OK"),
    ]
    assert differences(ours, ours) == []
