"""The committed guests are what their sources give, and small; the text modules are valid."""

import importlib.util
import subprocess
import sys

import pytest

from tests.support.fixtures import GUESTS, guest, guest_names, wat, wat_names

BUILD = GUESTS.parent / "build.py"


def test_every_guest_has_its_sources_and_the_other_way_round() -> None:
    sources = {path.stem for path in GUESTS.glob("*.c")} | {path.name for path in GUESTS.iterdir() if path.is_dir()}
    assert sources == set(guest_names())


def test_guests_are_small() -> None:
    assert {name: guest(name).stat().st_size for name in guest_names() if guest(name).stat().st_size > 100 * 1024} == {}


@pytest.mark.parametrize("name", wat_names())
def test_text_modules_are_well_formed(name: str) -> None:
    assert wat(name).startswith(b"\0asm")


def test_a_name_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(LookupError, match="no guest nothing; there are argv, "):
        guest("nothing")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed")
def test_committed_guests_are_what_their_sources_give() -> None:
    done = subprocess.run([sys.executable, str(BUILD), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_build_refuses_a_guest_that_does_not_exist() -> None:
    done = subprocess.run([sys.executable, str(BUILD), "nothing"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no guest nothing; there are argv, " in done.stderr
