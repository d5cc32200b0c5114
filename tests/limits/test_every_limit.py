"""Every limit of the catalogue has a test that drives a guest, or the operator, into it."""

import ast
import importlib
from pathlib import Path

import pytest

from agentvm.limits.catalogue import SPECS
from agentvm.limits.host_catalogue import HOST_SPECS

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

_MODULES = "tests/limits/test_modules.py"
_ENGINE = "tests/unit/engine_modules"

#: Limits whose proof lies elsewhere: the test, and a word in it that shows that it is still about this limit.
ELSEWHERE = {
    **{
        limit: (f"{_MODULES}::test_a_module_at_its_cap_loads_and_past_it_is_refused", limit)
        for limit in ("max_types", "max_imports", "max_exports", "max_functions", "max_globals", "max_segments")
    },
    **{
        limit: (f"{_MODULES}::test_a_compile_bomb_ends_at_its_cap_and_costs_us_nothing", limit)
        for limit in ("max_compile_seconds", "max_compile_memory_bytes")
    },
    "max_custom_sections": (
        f"{_ENGINE}/test_parsing.py::test_counts_above_their_cap_are_refused_before_anything_of_that_size_is_read",
        "max_custom_sections",
    ),
    "max_guest_module_bytes": (
        f"{_ENGINE}/test_loading.py::test_a_guests_file_has_the_guests_caps",
        "max_guest_module_bytes",
    ),
    "max_guest_compile_seconds": (f"{_ENGINE}/test_loading.py::test_a_guests_file_has_the_guests_caps", "compile_caps"),
}


def driven() -> dict[str, list[str]]:
    """Every limit that a test of this folder is marked to drive, with those tests."""
    found: dict[str, list[str]] = {}
    for path in sorted(HERE.glob("test_*.py")):
        module = importlib.import_module(f"tests.limits.{path.stem}")
        for name, test in vars(module).items():
            for limit in set(getattr(test, "drives", ())):
                found.setdefault(limit, []).append(f"{path.name}::{name}")
    return found


@pytest.mark.parametrize("limit", [*SPECS, *HOST_SPECS])
def test_limit_is_driven(limit: str) -> None:
    assert limit in ELSEWHERE or limit in driven(), f"no test drives anything into {limit}: mark one with @drives"


def test_marks_name_limits_that_exist() -> None:
    assert not driven().keys() - SPECS.keys() - HOST_SPECS.keys()


@pytest.mark.parametrize("limit", ELSEWHERE)
def test_proof_that_lies_elsewhere_is_there(limit: str) -> None:
    assert limit not in driven(), "it has a driver here: no exemption is needed"
    place, word = ELSEWHERE[limit]
    file, _, test = place.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
    proofs = [node for node in functions if node.name == test] if test else functions
    assert proofs, f"{place} is not there"
    assert any(word in ast.unparse(node) for node in proofs), f"{place} says nothing of {word}"
