"""The official WASI test suite is there, and whole; without it there is one visible skip."""

import os
from pathlib import Path

import pytest

EXPECTED_TESTS = 72


def test_all_tests_of_the_suite_are_there() -> None:
    suite = os.environ.get("AGENTVM_WASI_TESTSUITE")
    if not suite:
        pytest.skip(f"AGENTVM_WASI_TESTSUITE is not set: {EXPECTED_TESTS} official tests are not run")
    assert len(list(Path(suite).glob("tests/*/testsuite/wasm32-wasip1/*.wasm"))) == EXPECTED_TESTS
