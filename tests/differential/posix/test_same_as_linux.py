"""Claim: C programs over spawn, wait, groups, signals, pipes, locks, poll and sockets, built with the guest SDK, print
what the same sources print on Linux, but for the rows of differences.toml, of which each really differs."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.differential.posix.chapters import AS_ROOT, CHAPTERS, as_guest, binary, build, natively
from tests.differential.posix.differences import Difference, Row, compare, rows

FEWEST_CHECKS = 200
MOST_ROWS = 15
MAX_BYTES = 100 * 1024

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="the native side is built with ziglang, which is not installed"
)
#: The chapters that whoever runs the tests can play on Linux.
PLAYABLE = [chapter for chapter in CHAPTERS if chapter not in AS_ROOT or os.geteuid() == 0]


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    """A directory for the native programs, which other users may enter too."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@cache
def on_linux(chapter: str, workshop: Path) -> list[str]:
    return natively(build(chapter, workshop))


@cache
def differing(chapter: str, workshop: Path) -> list[Difference]:
    return compare(on_linux(chapter, workshop), as_guest(chapter))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_prints_what_it_prints_on_linux(chapter: str, workshop: Path) -> None:
    if chapter not in PLAYABLE:
        pytest.skip(f"{chapter} starts as root")
    found = [one for one in differing(chapter, workshop) if not any(row.covers(one) for row in rows())]
    assert not found, "\n".join(map(str, found))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", rows(), ids=lambda row: row.checks)
def test_a_row_is_true(row: Row, workshop: Path) -> None:
    chapter = row.checks.partition(r"\.")[0]
    if chapter not in PLAYABLE:
        pytest.skip(f"{chapter} starts as root")
    assert any(row.covers(one) for one in differing(chapter, workshop))


def test_the_table_stays_short_and_gives_reasons() -> None:
    assert len(rows()) <= MOST_ROWS
    assert all(row.why for row in rows())


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_there_are_many_checks(workshop: Path) -> None:
    checks = {line.partition(": ")[0] for chapter in PLAYABLE for line in on_linux(chapter, workshop)}
    assert len(checks) >= FEWEST_CHECKS


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_guests_are_small(chapter: str) -> None:
    assert binary(chapter).stat().st_size <= MAX_BYTES


def test_a_difference_is_seen() -> None:
    linux = ["a.one: 1", "a.two: 2", "a.three: x: y"]
    assert compare(linux, linux) == []
    assert compare(linux, ["a.one: 1", "a.three: x: y", "a.more: z"]) == [
        Difference("a.two", "2", None),
        Difference("a.more", None, "z"),
    ]
    assert compare(linux, ["a.two: 2", "a.one: 1", "a.three: x"]) == [
        Difference("a.three", "x: y", "x"),
        Difference("order", "a.one", "a.two"),
    ]


def test_a_row_covers_only_what_it_says() -> None:
    row = Row(checks=r"a\.(one|two)", linux="EPERM", agentvm="", why="because")
    assert row.covers(Difference("a.one", "EPERM", None))
    assert not row.covers(Difference("a.three", "EPERM", None))
    assert not row.covers(Difference("a.one", "EPERM", "EACCES"))
    assert not row.covers(Difference("a.one", "0", None))
