"""The doctor sees what is wrong with an installation, says it in one line, and goes on."""

import platform
import signal
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from agentvm import log
from agentvm.api import machine as vm_machine
from agentvm.config.config import Config
from agentvm.doctor.finding import Finding, Status, look
from agentvm.doctor.installation import examine
from agentvm.doctor.probe import PROBE
from agentvm.engine import bind, host_signals, stack
from agentvm.engine import machine as engine_machine
from agentvm.errors import HostLimit
from agentvm.host import cgroup_plan
from agentvm.limits.host_catalogue import HOST_SPECS

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    log.configure("error")
    yield
    log.configure()


def found(file: Path | None = None) -> dict[str, Finding]:
    """Return what the doctor finds, by topic."""
    config = Config.load(file, environment={}) if file else Config.resolve(None, {}, search=False)
    return {finding.topic: finding for finding in examine(config)}


def failures(file: Path | None = None) -> list[str]:
    return [finding.topic for finding in found(file).values() if finding.status is Status.FAIL]


def test_this_installation_has_no_faults() -> None:
    assert failures() == []


def test_every_limit_of_the_host_is_shown_with_where_it_comes_from(tmp_path: Path) -> None:
    assert found().keys() >= HOST_SPECS.keys()
    assert found()["max_open_vms"].values["source"] == "derived"
    file = tmp_path / "agentvm.toml"
    file.write_text("[host]\nmax_open_vms = 7\n")
    assert found(file)["max_open_vms"].text == "7, set"


def _set(owner: Any, name: str, value: object) -> Break:
    return lambda patch: patch.setattr(owner, name, value)


def _refuse(*_: object) -> None:
    raise HostLimit("the host refused a thread")


FAULTS: dict[str, tuple[Break, str]] = {
    "the public host calls": (_set(vm_machine, "PUBLIC_CALLS", True), "host calls"),
    "a wasmtime that is not supported": (_set(bind, "SUPPORTED_VERSIONS", ">=90,<92"), "wasmtime"),
    "no memory creator": (_set(bind, "_missing", ["wasmtime_config_host_memory_creator_set"]), "engine"),
    "no epoch callback": (_set(bind, "_missing", ["wasmtime_store_epoch_deadline_callback"]), "engine"),
    "no size of asynchronous stacks": (_set(bind, "_missing", ["wasmtime_config_async_stack_size_set"]), "engine"),
    "too low a recursion limit": (_set(engine_machine, "MIN_RECURSION_LIMIT", 1 << 30), "recursion"),
    "a host that refuses threads": (_set(stack, "start_thread", _refuse), "stacks"),
    "another machine": (_set(platform, "machine", lambda: "s390x"), "platform"),
    "a part that does not load": (_set(cgroup_plan, "plan_wall", None), "cgroup"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_seen_and_nothing_else(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    apply, topic = FAULTS[fault]
    apply(monkeypatch)
    assert failures() == [topic]


def test_handler_that_somebody_took_is_seen_until_the_next_program_puts_it_back() -> None:
    found()  # makes the engine, if none is there
    signal.signal(signal.SIGFPE, signal.SIG_DFL)
    try:
        assert failures() == ["traps"]
        assert found()["traps"].text == "SIGFPE: another handler has taken the place of wasmtime's"
    finally:
        host_signals.ensure()
    assert failures() == []


def test_cache_in_a_directory_that_others_can_use_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "cache"
    directory.mkdir()
    directory.chmod(0o755)
    monkeypatch.setenv("AGENTVM_CACHE_DIR", str(directory))
    assert failures() == ["module cache"]
    assert f"chmod 700 {directory}" in found()["module cache"].text


def test_cache_that_is_switched_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTVM_CACHE_DIR", "off")
    assert found()["module cache"].status is Status.NOTE


def test_wall_that_cannot_be_is_a_fault_where_it_is_required(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "agentvm.toml"
    file.write_text('cgroup = "required"\n')
    missing = (cgroup_plan.NotEnforced("max_memory_bytes", "the controller is not delegated"),)
    plan = cgroup_plan.Plan(None, frozenset(), (), missing)
    monkeypatch.setattr(cgroup_plan, "plan_wall", lambda *_, **__: plan)
    assert failures(file) == ["cgroup"]
    assert found()["cgroup"].status is Status.NOTE


def test_look_that_raises_halfway_keeps_what_it_found() -> None:
    def halfway() -> Iterator[Finding]:
        yield Finding("one", Status.OK, "well")
        raise LookupError("two\nlines")

    assert list(look("two", halfway)) == [
        Finding("one", Status.OK, "well"),
        Finding("two", Status.FAIL, "LookupError: two lines"),
    ]


# -- the package ------------------------------------------------------------------------------------------------------


def test_probe_is_a_resource_of_the_package() -> None:
    assert resources.files("agentvm.doctor").joinpath("probe.wasm").read_bytes() == PROBE.read_bytes()


def test_probe_is_in_the_wheel_and_in_the_sdist(tmp_path: Path) -> None:
    wheels = pytest.importorskip("hatchling.builders.wheel", reason="hatchling, which builds the package, is missing")
    sdists = pytest.importorskip("hatchling.builders.sdist")
    root = str(Path(__file__).parents[2])
    (wheel,) = wheels.WheelBuilder(root).build(directory=str(tmp_path), versions=["standard"])
    (sdist,) = sdists.SdistBuilder(root).build(directory=str(tmp_path), versions=["standard"])
    assert "agentvm/doctor/probe.wasm" in zipfile.ZipFile(wheel).namelist()
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"agentvm/doctor/probe.wasm", "fixtures/guests/probe.c"} <= names
