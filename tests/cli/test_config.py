"""Configuring `agentvm run` and `agentvm limits`: by file, environment, preset and flags, as operators do."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentvm.cli.main import main
from agentvm.limits.catalogue import SETTINGS, SPECS
from agentvm.limits.host_catalogue import HOST_SPECS
from agentvm.limits.presets import PRESETS
from tests.support.fixtures import guest
from tests.support.seeds import ZEROCLAW

HELLO = str(guest("hello"))
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("AGENTVM_")}
if "AGENTVM_CACHE_DIR" in os.environ:
    ENVIRONMENT["AGENTVM_CACHE_DIR"] = os.environ["AGENTVM_CACHE_DIR"]
FILE = """\
[resources]
preset = "tiny"
max_open_files = 40
max_sockets = 5
[host]
max_open_vms = 6
"""


def agentvm(
    here: Path, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "agentvm", *arguments],
        cwd=here,
        env=ENVIRONMENT | (environment or {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=90,
        check=False,
    )


def listed(here: Path, *arguments: str, environment: dict[str, str] | None = None) -> dict[str, Any]:
    done = agentvm(here, "limits", "--json", *arguments, environment=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of this process, for tests that need no process of their own."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line with which `agentvm run` refuses; nothing was run, loaded or mounted before it."""
    try:
        # Neither the directory nor the program is there: whoever looked for them would say so.
        status: object = main(["run", "--dir", "/gone::/x", *arguments, "gone.wasm"])
    except SystemExit as ended:
        status = ended.code
    printed = capfd.readouterr()
    assert (status, printed.out) == (125, "")
    lines = printed.err.splitlines()
    assert [line for line in lines if not line.startswith("usage:")] == lines[-1:]
    assert "gone" not in lines[-1]
    return lines[-1]


# -- precedence -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "environment", "file", "cap", "source"),
    [
        ([], {}, "", 1024, "default"),
        (["--preset", "tiny"], {}, "", 32, "preset tiny"),
        (["--preset", "tiny"], {}, FILE, 40, "agentvm.toml: [resources] max_open_files"),
        ([], {"AGENTVM_LIMIT_MAX_OPEN_FDS": "50"}, FILE, 50, "AGENTVM_LIMIT_MAX_OPEN_FDS"),
        (["--max-open-fds", "60"], {"AGENTVM_LIMIT_MAX_OPEN_FDS": "50"}, FILE, 60, "--max-open-fds"),
        (["--limit", "maxOpenFds=60"], {"AGENTVM_LIMIT_MAX_OPEN_FDS": "50"}, FILE, 60, "--limit maxOpenFds"),
        (["--no-config"], {}, FILE, 1024, "default"),
        (["--no-config"], {"AGENTVM_CONFIG": "agentvm.toml"}, FILE, 1024, "default"),
        (["--config", "other.toml"], {"AGENTVM_CONFIG": "no.toml"}, FILE, 70, "other.toml: [resources] max_open_fds"),
        ([], {"AGENTVM_CONFIG": "other.toml"}, FILE, 70, "other.toml: [resources] max_open_fds"),
    ],
)  # fmt: skip
def test_flag_over_environment_over_file_over_preset_over_default(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], file: str, cap: int, source: str
) -> None:
    if file:
        (tmp_path / "agentvm.toml").write_text(file)
    (tmp_path / "other.toml").write_text("[resources]\nmax_open_fds = 70")
    limits = {limit["name"]: limit for limit in listed(tmp_path, *arguments, environment=environment)["limits"]}
    assert (limits["max_open_fds"]["cap"], limits["max_open_fds"]["source"]) == (cap, source)
    run = agentvm(tmp_path, "run", *arguments, "--json", HELLO, environment=environment)
    assert json.loads(run.stdout)["usage"]["limits"]["max_open_fds"]["cap"] == cap


def test_the_zeroclaw_sample_works_as_written_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "agentvm.toml").write_text(ZEROCLAW)
    done = agentvm(tmp_path, "run", str(guest("fds")), "open")
    assert done.stdout.splitlines()[:2] == [b"opened 96", b"errno EMFILE"]


def test_mounts_of_the_file_are_there_and_flags_replace_them(tmp_path: Path) -> None:
    for name in ("src", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    (tmp_path / "agentvm.toml").write_text('[mounts]\n"/work" = "src:ro"\n"/b" = {host = "other"}')
    assert agentvm(tmp_path, "run", str(guest("cat")), "/work/a", "/b/a").stdout == b"srcother"
    assert agentvm(tmp_path, "run", "--dir", "other::/work", str(guest("cat")), "/work/a").stdout == b"other"
    agentvm(tmp_path, "run", str(guest("fsbytes")), "fill", "/work/new", "10")
    assert not (tmp_path / "src" / "new").exists()


def test_dockers_flags_mean_what_they_mean_there(tmp_path: Path) -> None:
    flags = ["--memory", "64m", "--cpus", "1.5", "--pids-limit", "7"]
    done = agentvm(tmp_path, "run", "--json", *flags, HELLO)
    caps = {name: limit["cap"] for name, limit in json.loads(done.stdout)["usage"]["limits"].items()}
    expected = {"max_memory_bytes": 64 << 20, "max_memory_per_process_bytes": 64 << 20, "max_cpu_percent": 150,
                "max_processes": 7}  # fmt: skip
    assert {name: caps[name] for name in expected} == expected


def test_limits_of_the_process_are_in_force(tmp_path: Path) -> None:
    done = agentvm(tmp_path, "run", "--limit", "max_resident_memory_bytes=1MiB", str(guest("memory")), "grow")
    assert done.stdout.startswith((b"pages 15", b"pages 16"))


# -- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--limit", "max_open_fdz=3"], "agentvm: --limit max_open_fdz: there is no limit 'max_open_fdz'; did"),
        (["--limit", "max_open_fds"], "agentvm: --limit max_open_fds: it takes NAME=VALUE, such as max_open_fds=64"),
        (["--limit", "max_open_vms=0"], "agentvm: --limit max_open_vms cannot be '0': it takes count from 1"),
        (["--max-open-fdz", "3"], "agentvm run: there is no flag --max-open-fdz; did you mean --max-open-fds?"),
        (["--max-open-fd=3"], "agentvm run: there is no flag --max-open-fd; did you mean --max-open-fds?"),
        (["--memory", "1k"], "agentvm: --memory (max_memory_bytes) cannot be '1k': it takes bytes from 64 KiB"),
        (["--on-output-full", "drop"], "agentvm: --on-output-full cannot be 'drop': it takes 'error' or 'discard'"),
        (["--preset", "huge"], "agentvm: --preset cannot be 'huge': it takes 'none' or 'tiny' or 'compiler'"),
        (["--preset", "tiny", "--preset", "compiler"], "agentvm: preset is set twice, by --preset to tiny and by"),
        (["--max-open-fds", "4", "--limit", "max_open_files=5"], "agentvm: max_open_fds is set twice, by --max"),
        (["--max-open-fds", "4", "--max-open-fds", "5"], "agentvm: max_open_fds is set twice"),
        (["--memory", "1m", "--max-memory-bytes", "2m"], "agentvm: max_memory_bytes is set twice, by --memory to 1MiB"),
        (["--max-open-fds", "4", "--max-open-fds-per-process", "5"], "agentvm: max_open_fds_per_process is 5, above"),
        (["--warn-percent", "40"], "agentvm: rearm_percent is 50 and must be lower than warn_percent, which is 40"),
        (["--timeout", "soon"], "agentvm: --timeout cannot be 'soon': it takes seconds from 0.001 s"),
        (["--config", "missing.toml"], "agentvm: cannot read missing.toml: No such file or directory"),
        (["--no-config", "--config", "a.toml"], "agentvm run: argument --config: not allowed with"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("here")
def test_a_bad_flag_is_one_line_before_anything_runs(
    capfd: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    assert refused(capfd, *arguments).startswith(text)


@pytest.mark.parametrize(
    ("file", "environment", "text"),
    [
        ("[resources]\nmax_memory_md = 5", {}, "agentvm.toml: [resources] max_memory_md: there is no limit"),
        ("[resource]", {}, "agentvm.toml: resource: there is no such section or key; did you mean resources?"),
        ("[network]", {}, "agentvm.toml: [network] is not in this release"),
        ("= 5", {}, "agentvm.toml, line 1, column 1: "),
        ("[mounts]\n'/work' = '/etc'", {}, "agentvm.toml: [mounts] /work: /etc lies outside"),
        ("", {"AGENTVM_LIMIT_MAX_FUELS": "5"}, "AGENTVM_LIMIT_MAX_FUELS: there is no limit 'MAX_FUELS'; did"),
        ("", {"AGENTVM_LIMIT_MAX_FUEL": "x"}, "AGENTVM_LIMIT_MAX_FUEL cannot be 'x': it takes fuel from 0 to"),
        ("", {"AGENTVM_CONFIG": "missing.toml"}, "cannot read missing.toml: No such file or directory"),
    ],
)  # fmt: skip
def test_a_bad_file_or_variable_is_one_line_before_anything_runs(
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    environment: dict[str, str],
    text: str,
) -> None:
    if file:
        (here / "agentvm.toml").write_text(file + "\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert refused(capfd).startswith(f"agentvm: {text}")


def test_flags_that_say_the_same_are_no_contradiction(tmp_path: Path) -> None:
    flags = ["--max-memory-bytes", "64MiB", "--limit", "max_memory_mb=64", "--limit", "maxMemoryBytes=67108864"]
    assert agentvm(tmp_path, "run", *flags, HELLO).returncode == 0


# -- agentvm limits ---------------------------------------------------------------------------------------------------
def test_limits_as_json_has_everything_with_numbers_and_null_for_none(tmp_path: Path) -> None:
    (tmp_path / "agentvm.toml").write_text(FILE)
    found = listed(tmp_path, "--max-disk-read-bytes-per-second", "10MiB/s,size=1MiB,burst=2MiB")
    limits = {limit["name"]: limit for limit in found["limits"]}
    assert list(limits) == [*SPECS, *HOST_SPECS]
    assert [setting["name"] for setting in found["settings"]] == list(SETTINGS)
    assert [preset["name"] for preset in found["presets"]] == list(PRESETS)
    assert (found["config"], found["preset"]) == ("agentvm.toml", "tiny")
    assert all(isinstance(limit["cap"], int | float | None) for limit in limits.values())
    assert limits["max_fuel"]["cap"] is None
    shown = {
        key: limits["max_open_fds"][key] for key in ("cap", "default", "source", "raise", "guest_sees", "variable")
    }
    assert shown == {
        "cap": 40,
        "default": 1024,
        "source": "agentvm.toml: [resources] max_open_files",
        "raise": "--max-open-fds 80",
        "guest_sees": SPECS["max_open_fds"].guest_sees,
        "variable": "AGENTVM_LIMIT_MAX_OPEN_FDS",
    }
    rate = limits["max_disk_read_bytes_per_second"]
    assert (rate["cap"], rate["size"], rate["burst"]) == (10 << 20, 1 << 20, 2 << 20)
    assert (limits["max_open_vms"]["cap"], limits["max_open_vms"]["scope"]) == (6, "all VMs")
    assert limits["max_open_fds_per_process"]["source"] == "lowered to max_open_fds"


def test_limits_as_text_says_value_source_and_the_way_up(tmp_path: Path) -> None:
    (tmp_path / "agentvm.toml").write_text(FILE)
    done = agentvm(tmp_path, "limits", "--warn-percent", "70", "--memory", "64m")
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    assert lines[:2] == ["configuration file: agentvm.toml", "preset: tiny, from agentvm.toml: [resources] preset"]
    rows = {line.split()[0]: " ".join(line.split()) for line in lines if line}
    assert set(rows) >= {*SPECS, *HOST_SPECS, *SETTINGS, *PRESETS}
    assert rows["max_memory_bytes"] == (
        "max_memory_bytes 64 MiB --memory memory.grow -1 (ENOMEM) --max-memory-bytes 128MiB"
    )
    assert rows["warn_percent"] == "warn_percent 70 --warn-percent 1 to 100"


def test_limits_as_markdown_depends_on_nothing_but_the_declarations(tmp_path: Path) -> None:
    plain = agentvm(tmp_path, "limits", "--format", "md")
    (tmp_path / "agentvm.toml").write_text("this is no TOML")
    variables = {"AGENTVM_LIMIT_MAX_FUEL": "5"}
    assert agentvm(tmp_path, "limits", "--format", "md", environment=variables).stdout == plain.stdout
    assert plain.stdout.startswith(b"# Limits\n")


def test_a_reader_that_has_enough_is_no_failure_of_ours(tmp_path: Path) -> None:
    command = f"{sys.executable} -m agentvm limits --json | head -n 1"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, timeout=90, check=True
    )
    assert (done.stdout, done.stderr) == (b"{\n", b"")


# -- what it costs ----------------------------------------------------------------------------------------------------
def test_only_a_file_costs_the_loading_of_pydantic(tmp_path: Path) -> None:
    script = "import sys; from agentvm.cli.main import main; main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

    def loaded(*flags: str) -> set[str]:
        command = [sys.executable, "-c", script, "run", "--preset", "tiny", "--limit", "maxOpenFds=9", *flags, HELLO]
        environment = ENVIRONMENT | {"AGENTVM_LIMIT_MAX_MEMORY_MB": "8"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=90, check=True)
        assert done.stdout == b"hello from a VM\n"
        return set(done.stderr.decode().split())

    assert not loaded() & {"pydantic", "structlog", "tomllib", "importlib.metadata"}
    (tmp_path / "agentvm.toml").write_text(FILE)
    assert not loaded("--no-config") & {"pydantic", "structlog", "tomllib"}
    assert "pydantic" in loaded()
