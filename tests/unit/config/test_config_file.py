"""What a configuration file says, and one clear refusal for each file that cannot be."""

import json
import os
import re
from pathlib import Path

import pytest

from agentvm import Config, HostDirectory
from agentvm.config.file import LogSettings
from agentvm.errors import InvalidConfig, InvalidLimit

MIB = 1 << 20
EVERYTHING = """\
cgroup = "auto"

[resources]
max_memory_mb = 512
max_open_files = 100
max_disk_write_bytes_per_second = { size = "1MiB", refill_time = 100 }
on_output_full = "discard"

[limits.resources]
maxProcesses = 64

[limits.wasm]
wallClockLimitMs = 1500

[host]
max_running_processes = 200

[mounts]
"/work" = "src:ro"
"/work/out" = { host = "build" }

[log]
level = "info"
format = "json"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(here: Path, text: str, name: str = "agentvm.toml") -> str:
    (here / name).write_text(text)
    return name


def load(here: Path, text: str, name: str = "agentvm.toml") -> Config:
    return Config.load(write(here, text, name), environment={})


def test_every_section_is_read(here: Path) -> None:
    config = load(here, EVERYTHING)
    given = dict(config.limits.given())
    assert repr(given.pop("max_disk_write_bytes_per_second")) == "Rate(10485760.0, size=1048576.0, burst=0.0)"
    assert given == {
        "max_memory_bytes": 512 * MIB,
        "max_open_fds": 100,
        "max_processes": 64,
        "max_wall_time_seconds": 1.5,
    }
    assert dict(config.limits.settings_given()) == {"on_output_full": "discard"}
    assert dict(config.host.given()) == {"max_running_processes": 200}
    assert config.mounts == {
        "/work": HostDirectory(str(here / "src"), read_only=True),
        "/work/out": HostDirectory(str(here / "build")),
    }
    assert (config.log, config.cgroup, config.path) == (LogSettings("info", "json"), "auto", "agentvm.toml")
    assert {
        name: config.sources[name].source for name in ("max_open_fds", "max_processes", "max_running_processes")
    } == {
        "max_open_fds": "agentvm.toml: [resources] max_open_files",
        "max_processes": "agentvm.toml: [limits.resources] maxProcesses",
        "max_running_processes": "agentvm.toml: [host] max_running_processes",
    }


def test_an_empty_file_asks_for_nothing(here: Path) -> None:
    config = load(here, "")
    assert not dict(config.limits.given())
    assert (config.mounts, config.log, config.cgroup) == ({}, LogSettings(), "off")


def test_the_same_is_read_from_json(here: Path) -> None:
    content = {"limits": {"resources": {"maxProcesses": 64}}, "resources": {"max_memory_mb": 1}, "cgroup": "off"}
    config = load(here, json.dumps(content), "limits.json")
    assert dict(config.limits.given()) == {"max_processes": 64, "max_memory_bytes": MIB}


def test_mounts_are_relative_to_the_file_and_come_before_those_within_them(here: Path) -> None:
    (here / "conf").mkdir()
    config = load(here, '[mounts]\n"/a/b/../c" = "x"\n"/a" = "../y"\n"/b" = "/etc:ro"', "conf/vm.toml")
    assert list(config.mounts.items()) == [
        ("/a", HostDirectory(str(here / "conf" / "../y"))),
        ("/a/c", HostDirectory(str(here / "conf" / "x"))),
        ("/b", HostDirectory("/etc", read_only=True)),
    ]


@pytest.mark.parametrize("host", ["/etc", "..", "../elsewhere", "link", "link/inner"])
def test_a_file_that_was_only_found_mounts_nothing_outside_its_directory(here: Path, host: str) -> None:
    (here / "inside").mkdir()
    os.chdir(here / "inside")
    Path("link").symlink_to(here)
    write(Path.cwd(), f'[mounts]\n"/work" = "{host}"')
    with pytest.raises(InvalidConfig, match=r"\[mounts\] /work: .* lies outside .*--config or AGENTVM_CONFIG"):
        Config.find(environment={})
    assert Config.find(environment={"AGENTVM_CONFIG": "agentvm.toml"}).mounts
    assert Config.load("agentvm.toml", environment={}).mounts


@pytest.mark.parametrize("host", [".", "src", "./src/../src", "not/there/yet"])
def test_a_file_that_was_only_found_mounts_what_lies_in_its_directory(here: Path, host: str) -> None:
    (here / "src").mkdir()
    write(here, f'[mounts]\n"/work" = "{host}"')
    assert list(Config.find(environment={}).mounts) == ["/work"]


_DOCUMENT = Path(__file__).parents[3] / "docs" / "configuration.md"


@pytest.mark.parametrize("sample", re.findall(r"```toml\n(.*?)```", _DOCUMENT.read_text(), re.DOTALL))
def test_the_samples_in_the_documentation_can_be_loaded(here: Path, sample: str) -> None:
    assert list(load(here, sample).sources)


# -- files that cannot be ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("x\n", "agentvm.toml, line 1, column 2: Expected '=' after a key in a key/value pair", 1),
        ("\n\n[resources]\nmax_fuel = ", "agentvm.toml, line 4: Invalid value", 4),
        ("[log]\nlevel = 'warn'\nlevel = 'info'\n", "agentvm.toml, line 3, column 15: Cannot overwrite a value", 3),
        ("a = " + "[" * 5000, "agentvm.toml: maximum recursion depth exceeded", None),
        ("a = " + "9" * 5000, "agentvm.toml: Exceeds the limit", None),
    ],
)
def test_a_file_that_is_no_toml_is_refused_with_the_line(here: Path, text: str, message: str, line: int | None) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(here, text)
    # The parser's own words differ from one Python to the next.
    assert str(caught.value).startswith(message.rsplit(": ", 1)[0])
    assert (caught.value.values["path"], caught.value.values["line"]) == ("agentvm.toml", line)


def test_a_file_that_is_no_text_or_no_json_is_refused_with_the_line(here: Path) -> None:
    (here / "agentvm.toml").write_bytes(b"a = 1\nb = '\xff'\n")
    with pytest.raises(InvalidConfig, match=r"^agentvm.toml, line 2: it is no UTF-8 text$"):
        Config.load("agentvm.toml")
    for text, message in [
        ('{"resources":\n{,', "line 2, column 2: "),
        ('{"host": {}, "host": {}}', "'host' is given twice"),
        ("[]", "the file: it cannot be []: it is a section"),
    ]:
        with pytest.raises(InvalidConfig) as caught:
            load(here, text, "a.json")
        assert str(caught.value).startswith("a.json")
        assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(here: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"^cannot read missing.toml: No such file or directory$") as caught:
        Config.load("missing.toml")
    assert caught.value.values["path"] == "missing.toml"
    (here / "agentvm.toml").mkdir()
    with pytest.raises(InvalidConfig, match=r"^cannot read agentvm.toml: Is a directory$"):
        Config.find(environment={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[resource]", "resource: there is no such section or key; did you mean resources?"),
        ("[zzz]", "zzz: there is no such section or key; there are resources, limits, host, mounts, log, cgroup"),
        ("max_open_fds = 3", "max_open_fds: there is no such section or key; a limit stands under [resources]"),
        ("[network]\nallow = []", "[network] is not in this release, whose guests reach no network outside their VM"),
        ("resources = 3", "resources: it cannot be 3: it is a section, a table of names and values"),
        ("[[host]]\n", "host: it cannot be [{}]: it is a section"),
        ("[log]\nlevl = 'warn'", "[log] levl: there is no such key; did you mean level?"),
        ("[log]\nlevel = 'loud'", "[log] level: it cannot be 'loud': it takes 'error' or 'warn' or 'info' or 'debug'"),
        ("[log]\nformat = 'xml'", "[log] format: it cannot be 'xml': it takes 'console' or 'json'"),
        ("[log]\nlevel = 3", "[log] level: it cannot be 3: it takes text"),
        ("cgroup = 'on'", "cgroup: it cannot be 'on': it takes 'auto', 'required' or 'off'"),
        ("cgroup = true", "cgroup: it cannot be True: it takes 'auto', 'required' or 'off'"),
        ("[mounts]\nwork = 'src'", "[mounts] work: it must be an absolute path in the VM, such as /work"),
        ("[mounts]\n'/a' = 'x'\n'/a/' = 'y'", "[mounts] /a/: /a is mounted twice: leave one out"),
        ("[mounts]\n'/a' = 5", "mounts: it cannot be {'/a': 5}: each is \"DIRECTORY\", \"DIRECTORY:ro\" or {"),
        ("[mounts]\n'/a' = ''", "[mounts./a] host: it cannot be '': it is empty"),
        ("[mounts]\n'/a' = {}", "[mounts./a] host: it is missing"),
        ("[mounts]\n'/a' = {host='x', readonly=true}", "[mounts./a] readonly: there is no such key; did you mean"),
        ("[mounts]\n'/a' = {host='x', read_only='yes'}", "[mounts./a] read_only: it cannot be 'yes': it takes true or"),
    ],
)  # fmt: skip
def test_what_no_file_can_say_is_refused_with_the_key_and_the_nearest(here: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        load(here, text)
    assert str(caught.value).startswith(f"agentvm.toml: {message}")
    assert caught.value.values["path"] == "agentvm.toml"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[resources]\nmax_memory_mb = 'many'", "[resources] max_memory_mb (max_memory_bytes) cannot be 'many'"),
        ("[resources]\nmax_open_fdz = 3", "[resources] max_open_fdz: there is no limit 'max_open_fdz'; did"),
        ("[resources]\nmax_fuel = nan", "[resources] max_fuel cannot be nan"),
        ("[resources]\nmax_fuel = 1979-05-27", "[resources] max_fuel cannot be datetime.date(1979, 5, 27)"),
        ("[resources]\nmax_fuel = []", "[resources] max_fuel cannot be []"),
        ("[resources]\nmax_open_vms = 3", "[resources] max_open_vms is a limit of the whole process"),
        ("[host]\nmax_processes = 3", "[host] max_processes is a limit of each VM"),
        ("[host]\nmax_open_vms = 0", "[host] max_open_vms cannot be 0: it takes count from 1"),
        ("[limits.resources]\nmaxPtys = 3", "[limits.resources] maxPtys: maxPtys is a limit of agentOS"),
        ("[limits.jsRuntime]\nmaxTimers = 3", "[limits] jsRuntime is a group of agentOS that has no"),
        ("[limits]\nresources = 3", "[limits] resources is a group of limits and cannot be 3"),
        ("[resources.resources]\nmax_fuel = 3", "[resources] resources: there is no limit 'resources'"),
    ],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_refused_with_the_file_and_the_key(here: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidLimit) as caught:
        load(here, text)
    assert str(caught.value).startswith(f"agentvm.toml: {message}")


def test_one_limit_twice_and_caps_that_contradict_each_other_are_refused(here: Path) -> None:
    with pytest.raises(InvalidLimit, match=r"set twice, by agentvm.toml: .* max_open_files to 3 and by agentvm.toml: "):
        load(here, "[resources]\nmax_open_files = 3\n[limits.resources]\nmaxOpenFds = 3")
    with pytest.raises(InvalidLimit, match="max_open_fds_per_process is 5, above max_open_fds, which is 3"):
        load(here, "[resources]\nmax_open_fds = 3\nmax_open_fds_per_process = 5")
