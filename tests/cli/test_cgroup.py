"""`agentvm cgroup` and `--cgroup`: the state as a person reads it, units that systemd takes, and the flag."""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agentvm.cli.cgroup import add_flags, confined
from agentvm.cli.main import main
from agentvm.cli.systemd_unit import unit_text
from agentvm.errors import InvalidArgument, UnsupportedOnPlatform
from agentvm.host.block_device import BlockDevice, Disks
from agentvm.host.cgroup_limits import derive_wall
from agentvm.host.cgroup_plan import plan_wall
from agentvm.limits.caps import Caps
from agentvm.limits.catalogue import Limits

SDA = Disks((BlockDevice("8:0", "/dev/sda"),), ())
ALL_RATES = {
    "max_disk_read_bytes_per_second": "10MiB/s",
    "max_disk_write_bytes_per_second": "5MiB/s",
    "max_disk_read_operations_per_second": 100,
    "max_disk_write_operations_per_second": 50,
}

_NUMBER = r"[1-9][0-9]*"
#: Every setting that a unit of ours may have, and what it may say: systemd.resource-control(5), systemd.service(5).
_SETTINGS: dict[str, dict[str, str]] = {
    "Unit": {"Description": r".+"},
    "Service": {
        "Type": "exec",
        "ExecStart": r"/.+",
        "MemoryMax": rf"{_NUMBER}M",
        "MemorySwapMax": "0",
        "OOMPolicy": "kill",
        "CPUQuota": rf"{_NUMBER}%",
        "CPUQuotaPeriodSec": rf"{_NUMBER}ms",
        "TasksMax": _NUMBER,
        "IOReadBandwidthMax": rf"/dev/\S+ {_NUMBER}",
        "IOWriteBandwidthMax": rf"/dev/\S+ {_NUMBER}",
        "IOReadIOPSMax": rf"/dev/\S+ {_NUMBER}",
        "IOWriteIOPSMax": rf"/dev/\S+ {_NUMBER}",
        "Delegate": "cpu io memory pids",
    },
    "Install": {"WantedBy": r"multi-user\.target"},
}


def read_unit(text: str) -> dict[str, list[str]]:
    """Parse a unit strictly: known sections in order, known settings in their section, values of their form."""
    assert text.endswith("\n")
    settings: dict[str, list[str]] = {}
    sections: list[str] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            sections.append(line.strip("[]"))
            continue
        key, equals, value = line.partition("=")
        assert equals, line
        assert re.fullmatch(_SETTINGS[sections[-1]][key], value), line
        settings.setdefault(key, []).append(value)
    assert sections == ["Unit", "Service", "Install"]
    return settings


def split_command(line: str) -> list[str]:
    """Read a command line as systemd does: quotes, C escapes, then specifiers and variables."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    escapes = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
    read = []
    for quoted, plain in words:
        word = re.sub(r"\\(.)", lambda match: escapes[match[1]], quoted) if quoted or not plain else plain
        assert not re.search(r"(?<!%)(?:%%)*%(?!%)|(?<!\$)(?:\$\$)*\$(?!\$)", word), f"an expansion in {word!r}"
        read.append(word.replace("%%", "%").replace("$$", "$"))
    return read


def unit(
    *, disks: Disks = SDA, command: tuple[str, ...] = ("/bin/true",), delegate: bool = False, **limits: object
) -> str:
    wall = derive_wall(Caps(Limits(**limits)), cores=2)  # type: ignore[arg-type]
    return unit_text(wall, disks, command, delegate=delegate)


@pytest.fixture
def print_unit(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: str) -> str:
        assert main(["cgroup", "--print-unit", "--no-config", *arguments]) == 0
        return capsys.readouterr().out

    return run


def test_a_unit_has_the_walls_numbers() -> None:
    wall = derive_wall(Caps(Limits(**ALL_RATES)), cores=2)  # type: ignore[arg-type]
    assert wall.memory_bytes is not None
    assert read_unit(unit(**ALL_RATES)) == {
        "Description": ["agentvm: WebAssembly programs under hard limits"],
        "Type": ["exec"],
        "ExecStart": ["/bin/true"],
        "MemoryMax": [f"{wall.memory_bytes >> 20}M"],
        "MemorySwapMax": ["0"],
        "OOMPolicy": ["kill"],
        "CPUQuota": ["120%"],
        "CPUQuotaPeriodSec": ["20ms"],
        "TasksMax": [str(wall.tasks)],
        "IOReadBandwidthMax": ["/dev/sda 10485760"],
        "IOWriteBandwidthMax": ["/dev/sda 5242880"],
        "IOReadIOPSMax": ["/dev/sda 100"],
        "IOWriteIOPSMax": ["/dev/sda 50"],
        "WantedBy": ["multi-user.target"],
    }


def test_a_unit_has_only_what_is_set() -> None:
    settings = read_unit(unit(max_memory_bytes="none", max_cpu_percent="none", max_processes="none"))
    assert set(settings) == {"Description", "Type", "ExecStart", "WantedBy"}


def test_each_disk_has_its_line() -> None:
    two = Disks((*SDA.found, BlockDevice("8:16", "/dev/sdb")), ())
    settings = read_unit(unit(disks=two, max_disk_read_bytes_per_second=1))
    assert settings["IOReadBandwidthMax"] == ["/dev/sda 1", "/dev/sdb 1"]


def test_what_systemd_does_not_enforce_is_said_in_the_unit() -> None:
    text = unit(disks=Disks((), ("/dev/shm", "/evil\nExecStart=/bin/sh")), max_disk_read_bytes_per_second=1)
    assert "# Not enforced by systemd: max_disk_read_bytes_per_second: there is no disk under '/dev/shm'" in text
    assert read_unit(text)["ExecStart"] == ["/bin/true"], "a path with a newline stays within its comment"
    assert "# Not enforced by systemd: max_memory_bytes: " in unit(max_filesystem_bytes="none")


@pytest.mark.parametrize(
    "word",
    [
        "plain",
        "two words",
        "100%",
        "%n",
        "$HOME",
        "${X}",
        'a "quoted" one',
        "back\\slash",
        "it's",
        ";",
        "",
        "a\nb",
        "ü",
        "*",
    ],
)
def test_a_command_line_reaches_the_program_as_it_is(word: str) -> None:
    (line,) = read_unit(unit(command=("/bin/true", word, "end")))["ExecStart"]
    assert split_command(line) == ["/bin/true", word, "end"]


def test_systemd_takes_the_units(tmp_path: Path, print_unit: Callable[..., str]) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("no systemd-analyze here")
    rates = [f"--limit={name}={value}" for name, value in ALL_RATES.items()]
    texts = {
        "plain": print_unit(),
        "rates": print_unit(*rates, "--path", "/"),
        "exec": print_unit("--exec", f"{sys.executable} -m agentvm run --cgroup 'a b%c $d.wasm' \\;"),
        "written": unit(**ALL_RATES, delegate=True),
        "odd": unit(command=("/bin/true", "%n", "$X", 'a "b" \\ c', ";", "", "a\nb")),
    }
    for name, text in texts.items():
        read_unit(text)
        path = tmp_path / f"agentvm-{name}.service"
        path.write_text(text)
        done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False)
        ours = [line for line in done.stderr.splitlines() if "agentvm-" in line]
        assert (done.returncode, ours) == (0, []), text


def test_a_service_runs_what_it_is_told_to(print_unit: Callable[..., str]) -> None:
    settings = read_unit(print_unit("--exec", "sh -c 'exit 0'"))
    assert split_command(settings["ExecStart"][0]) == [shutil.which("sh"), "-c", "exit 0"]


def test_without_a_command_a_service_runs_a_program_with_the_limits_given(print_unit: Callable[..., str]) -> None:
    settings = read_unit(print_unit("--max-memory-bytes", "64MiB", "--limit", "max_processes=3"))
    command = split_command(settings["ExecStart"][0])
    at = command.index("run")
    assert command[at:] == [
        "run",
        "--no-config",
        "--max-memory-bytes=64MiB",
        "--limit=max_processes=3",
        "/path/to/program.wasm",
    ]
    assert os.access(command[0], os.X_OK)


def test_the_configuration_file_counts_and_comes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('cgroup = "auto"\n[resources]\nmax_cpu_percent = 50\n')
    assert main(["cgroup", "--print-unit", "--config", str(file)]) == 0
    settings = read_unit(capsys.readouterr().out)
    assert settings["CPUQuota"] == ["70%"]
    assert settings["Delegate"] == ["cpu io memory pids"], "its program makes a group of its own"
    assert f"--config={file}" in split_command(settings["ExecStart"][0])


@pytest.mark.parametrize(
    ("command", "delegates"),
    [
        ("agentvm run --cgroup a.wasm", True),
        ("agentvm run --cgroup=required a.wasm", True),
        ("agentvm run --cgroup=off a.wasm", False),
        ("agentvm run a.wasm", False),
    ],
)
def test_groups_are_delegated_to_who_makes_some(
    print_unit: Callable[..., str], command: str, delegates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "agentvm"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ("Delegate" in read_unit(print_unit("--exec", command))) is delegates


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--print-unit", "--exec", ""], "which command"),
        (["--print-unit", "--exec", "'"], "no command line"),
        (["--exec", "true"], "--print-unit"),
        (["--max-memory-bytes", "lots"], "max_memory_bytes"),
    ],
)
def test_what_makes_no_sense_is_one_clear_error(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cgroup", *arguments]) == 125
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err.replace("-", "_") or words in err


def test_the_state_says_for_each_cap_what_the_host_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cgroup", "--no-config", "--path", "/", "--limit", "max_disk_read_bytes_per_second=1MiB/s"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("cgroup v2")
    caps = Caps(Limits(max_disk_read_bytes_per_second="1MiB/s"))
    plan = plan_wall(caps, disks=Disks((), ()))
    for cap in ("max_memory_bytes (512 MiB)", "max_cpu_percent (100 %)", "max_processes (64)"):
        (line,) = (line for line in lines if line.strip().startswith(cap))
        enforced = cap.split()[0] in {name for file in plan.files for name in file.caps}
        assert ("NOT ENFORCED: " in line) is not enforced
    assert lines[-1].startswith("memory.max is the sum of 512 MiB guests' memories")


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [([], None), (["--cgroup"], "auto"), (["--cgroup=auto"], "auto"), (["--cgroup=required"], "required"),
     (["--cgroup=off"], "off"), (["--cgroup", "--cgroup=off"], "off")],
)  # fmt: skip
def test_the_flag_takes_its_value_with_an_equals_sign_only(arguments: list[str], mode: str | None) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args([*arguments, "tool.wasm", "--cgroup=required"])
    assert (options.cgroup, options.command) == (mode, ["tool.wasm", "--cgroup=required"])


def test_an_unknown_mode_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--cgroup=always"])
    assert "--cgroup=required" in capsys.readouterr().err
    with pytest.raises(InvalidArgument, match="required"), confined("always", Caps(Limits()), (), print):
        pytest.fail("the body ran")


def test_confined_refuses_or_says_what_the_host_does_not_enforce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    lines: list[str] = []
    with pytest.raises(UnsupportedOnPlatform), confined("required", Caps(Limits()), (), lines.append):
        pytest.fail("the body ran")
    assert lines == []
    ran = False
    with confined("auto", Caps(Limits()), (), lines.append):
        ran = True
    assert ran
    assert len(lines) == 1
    assert lines[0].startswith("the host does not enforce max_memory_bytes, max_cpu_percent, max_processes: ")


def test_who_does_not_ask_for_a_wall_does_not_pay_for_it() -> None:
    code = (
        "import sys\nfrom agentvm.cli.cgroup import confined\n"
        "with confined('off', {}, (), print): pass\nprint(*sys.modules, sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"agentvm.host.cgroup", "agentvm.host.cgroup_fs", "shlex"} & set(done.stdout.split())
