"""What the house rules promise about the source: sizes, public names, derived documents, what an import loads."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import agentvm
from agentvm import errors
from agentvm.cli.inspect import PAGES
from agentvm.limits.catalogue import SPECS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "agentvm").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
DOCS = ROOT / "docs"


_CITATION = r'rationale\.md,?\s+(?:#\s+)?"(Why [^"]+)"'


def _functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            yield f"{path.name}:{node.name}", node.end_lineno - node.lineno + 1


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_below_400_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 400


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_test_files_stay_below_600_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 600


def test_functions_stay_below_50_lines() -> None:
    # A call's parameters are given by its specification, and `open_at` has as many as openat(2) has flags.
    long = {name: size for path in SOURCES for name, size in _functions(path) if size >= 50}
    assert not long


def _modules() -> list[str]:
    found = pkgutil.walk_packages(agentvm.__path__, "agentvm.")
    return [module.name for module in found if not module.name.endswith(("__main__", "compile_worker"))]


@pytest.mark.parametrize("name", _modules())
def test_public_names_are_listed_sorted_and_there(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", None)
    if listed is None:
        assert Path(module.__file__ or "").name == "__init__.py", f"{name} has no __all__"
        return
    assert sorted(listed) == sorted(set(listed))
    for public in listed:
        assert hasattr(module, public)


def test_the_top_level_exports_what_it_lists() -> None:
    for name in agentvm.__all__:
        assert getattr(agentvm, name) is not None
    assert sorted(agentvm.__all__) == agentvm.__all__


@pytest.mark.parametrize("name", PAGES)
def test_generated_documents_are_current(name: str) -> None:
    assert (DOCS / f"{name}.md").read_text() == PAGES[name](), (
        f"docs/{name}.md is out of date: agentvm {name} --format md > docs/{name}.md"
    )


def test_every_error_is_documented() -> None:
    text = (DOCS / "errors.md").read_text()
    missing = [name for name in errors.__all__ if name != "AgentVMError" and f"### {name}\n" not in text]
    assert not missing


def test_every_heading_that_the_code_cites_is_in_the_rationale() -> None:
    headings = set(re.findall(r"^## (Why .*)$", (DOCS / "rationale.md").read_text(), re.MULTILINE))
    cited = {match for path in SOURCES for match in re.findall(_CITATION, path.read_text())}
    cited = {" ".join(heading.split()).replace(" # ", " ") for heading in cited}
    assert cited
    assert cited <= headings


def test_every_limit_is_documented_with_what_the_guest_sees() -> None:
    assert all(spec.guest_sees and spec.summary.endswith(".") for spec in SPECS.values())


def _loaded_by(code: str) -> set[str]:
    script = f"import sys; {code}; print('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_agentvm_loads_next_to_nothing() -> None:
    loaded = _loaded_by("import agentvm")
    assert not loaded & {"wasmtime", "pydantic", "structlog", "rich", "asyncio", "msgpack", "ctypes", "json"}


def test_opening_a_vm_does_not_load_the_engine() -> None:
    loaded = _loaded_by("from agentvm import AgentVM; AgentVM().close()")
    assert not loaded & {"wasmtime", "pydantic", "structlog", "rich", "asyncio", "msgpack"}


def test_agentvm_run_loads_what_it_needs_and_no_more() -> None:
    hello = ROOT / "fixtures" / "guests" / "hello.wasm"
    loaded = _loaded_by(f"from agentvm.cli.main import main; main(['run', {str(hello)!r}])")
    assert "wasmtime" in loaded
    assert not loaded & {"pydantic", "structlog", "rich", "asyncio", "msgpack", "importlib.metadata"}
    # Nor what only programs of the host ABI, and hosts that look at them, use.
    unneeded = ("agentvm.abi.agentos", "agentvm.api.processes", "agentvm.api.users", "agentvm.kernel.accounts")
    assert not [name for name in loaded if name.startswith(unneeded)]
