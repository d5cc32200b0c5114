"""One compiler process for all tests of modules, and loaders whose cache is the test's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentvm.engine.capacity import HostCapacity
from agentvm.engine.compiler import Compiler
from agentvm.engine.config import EngineProfile
from agentvm.engine.module import LoadRequest, ModuleLoader
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits
from agentvm.limits.host_catalogue import HostLimits

PROFILE = EngineProfile(max_wasm_stack_bytes=1 << 20)


@pytest.fixture(scope="session")
def compiler() -> Iterator[Compiler]:
    compiler = Compiler(HostCapacity(HostLimits(max_compile_jobs=2)))
    yield compiler
    compiler.close()


@pytest.fixture
def make_loader(tmp_path: Path) -> Iterator[Callable[..., ModuleLoader]]:
    """Make loaders that share a cache directory; `disk=False` for one without. Keywords are limits of the host."""
    made: list[ModuleLoader] = []

    def make(*, disk: bool = True, **limits: int) -> ModuleLoader:
        directory = str(tmp_path / "cache") if disk else None
        made.append(ModuleLoader(HostCapacity(HostLimits(**limits)), directory))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


@pytest.fixture
def loader(make_loader: Callable[..., ModuleLoader]) -> ModuleLoader:
    return make_loader()


@pytest.fixture
def request_of() -> Callable[..., LoadRequest]:
    """Make a request under default caps, some of them changed: `request_of(max_imports=5, require="command")`."""

    def make(**changes: object) -> LoadRequest:
        named = {name: changes.pop(name) for name in list(changes) if not name.startswith("max_")}
        return LoadRequest(caps=Caps(Limits(**changes)), profile=PROFILE, **named)  # type: ignore[arg-type]

    return make
