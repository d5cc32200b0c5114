"""The SDK's examples, run in a VM: what each is an example of works there."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvm import AgentVM, Limits
from agentvm.api.result import Result
from tests.limits.crossing import until

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
    pytest.mark.timeout(600),  # the first build compiles wasi-libc
]

SDK = Path(__file__).parents[2] / "guest_sdk"
EXAMPLES = SDK / "examples"
NAMES = ("pipeline", "forkbomb", "echo_server", "echo_client", "job_runner", "tools", "sh")
TOOLS = ("cat", "env", "head", "sleep", "wc", "yes")
ENVIRON = {"PATH": "/bin", "HOME": "/tmp"}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every example, built once."""
    directory = tmp_path_factory.mktemp("examples")
    built = {}
    for name in NAMES:
        sources = sorted((EXAMPLES / name).glob("*.c")) or [EXAMPLES / f"{name}.c"]
        built[name] = directory / f"{name}.wasm"
        subprocess.run([sys.executable, SDK / "cc.py", "-O2", "-o", built[name], *sources], check=True)
    return built


@pytest.fixture
def vm(programs: dict[str, Path]) -> Iterator[AgentVM]:
    """A VM with the examples in /bin, the tools by their names."""
    with AgentVM(limits=Limits(max_processes=16)) as machine:
        for directory in ("/bin", "/tmp"):
            machine.fs.mkdir(directory, exist_ok=True)
        for name, path in programs.items():
            machine.fs.write(f"/bin/{name}", path.read_bytes(), mode=0o755)
        for name in TOOLS:
            machine.fs.symlink("/bin/tools", f"/bin/{name}")
        yield machine


def run(vm: AgentVM, name: str, *args: str, stdin: bytes = b"") -> Result:
    """Run a program that the VM has in /bin."""
    return vm.run(vm.fs.read(f"/bin/{name}"), args, argv0=f"/bin/{name}", env=ENVIRON, stdin=stdin, timeout=60)


def shell(vm: AgentVM, text: str, *args: str) -> tuple[str, str, int | None]:
    """Run a command in the shell: its output, its errors, its exit status."""
    result = run(vm, "sh", "-c", text, *args)
    return result.stdout.decode(), result.stderr.decode(), result.exit_code


def test_pipeline(vm: AgentVM) -> None:
    """Three stages: of the numbers to 1,000, 271 have a seven."""
    result = run(vm, "pipeline", "1000")
    assert (result.stdout, result.stderr, result.exit_code) == (b"271\n", b"", 0)


def test_forkbomb_gets_eagain(vm: AgentVM) -> None:
    """The cap counts the first process; all that were started are reaped."""
    result = run(vm, "forkbomb")
    lines = result.stdout.decode().splitlines()
    assert lines[0].startswith("started 15, then: EAGAIN")
    assert (lines[1:], result.exit_code) == (["reaped 15"], 0)


def test_echo_over_loopback(vm: AgentVM, programs: dict[str, Path]) -> None:
    """Two guests of one VM talk over TCP."""
    server = vm.spawn(programs["echo_server"], ["7000", "1"], capture=True)
    client = run(vm, "echo_client", "7000", "hello", "there")
    assert (client.stdout, client.stderr, client.exit_code) == (b"hello\nthere\n", b"", 0)
    assert server.wait().stdout == b"listening on 127.0.0.1:7000\nserved 1\n"


def test_jobs_in_parallel_with_a_timeout(vm: AgentVM) -> None:
    """Each job's end is told: exit, signal, timeout; what a late job started goes with it."""
    jobs = b"true\nexit 3\nkill -9 $$\nsleep 30 | cat\necho done\n"
    result = run(vm, "job_runner", "-j", "3", "-t", "0.5", stdin=jobs)
    told = {line.split("]")[0] + "]": line for line in result.stdout.decode().splitlines() if line.startswith("[")}
    assert told["[1]"] == "[1] exit 0: true"
    assert told["[2]"] == "[2] exit 3: exit 3"
    assert told["[3]"] == "[3] signal 9 (Killed): kill -9 $$"
    assert told["[4]"] == "[4] signal 15 (Terminated) after a timeout: sleep 30 | cat"
    assert told["[5]"] == "[5] exit 0: echo done"
    assert (result.stderr, result.exit_code) == (b"", 1)
    until(lambda: vm.usage()["max_processes"].used == 0, "what was killed ended")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("echo one 'two  three' \"$HOME\" \\$x", "one two  three /tmp $x\n"),
        ("echo a b | cat | wc", "1 2 4\n"),
        ("yes | head -n 2; echo $?", "y\ny\n0\n"),
        ("false || echo or; true && echo and; ! false; echo $?", "or\nand\n0\n"),
        ("sh -c 'exit 7' & wait $!; echo $?", "7\n"),
        ("sh -c 'kill -9 $$' 2>/dev/null; echo $?", "137\n"),
        ("sleep 30 & kill $!; wait $!; echo $?", "143\n"),
        ("for i in a 'b c'; do echo \"<$i>\"; done", "<a>\n<b c>\n"),
        ("i=; while [ ${#i} -lt 3 ]; do i=x$i; done; echo $i", "xxx\n"),
        ("if [ -d /bin ]; then echo yes; else echo no; fi", "yes\n"),
        ("cd /tmp; echo 1 > a1; echo 2 > a2; cat a?; echo a*; pwd", "1\n2\na1 a2\n/tmp\n"),
        ("echo out; echo err 1>&2", "out\n"),
        ("echo $(cd /tmp; sh -c pwd) $(echo 'a  b')", "/tmp a b\n"),
        ("(cd /tmp; exit 3); echo $? $(env | head -n 1)", "3 PATH=/bin\n"),
        ("X=1 sh -c 'echo [$X]'; echo [$X]; export Y=2; sh -c 'echo [$Y]'", "[1]\n[]\n[2]\n"),
        ("exec 3>/tmp/out; echo three >&3; exec 3>&-; cat < /tmp/out >> /tmp/copy; cat /tmp/copy", "three\n"),
    ],
)
def test_shell(vm: AgentVM, text: str, output: str) -> None:
    """What the shell can do."""
    assert shell(vm, text)[::2] == (output, 0)


@pytest.mark.parametrize(
    ("text", "errors", "status"),
    [
        ("nosuch", "sh: nosuch: not found\n", 127),
        ("/tmp", "sh: /tmp: Permission denied\n", 126),
        ("cat < /nope", "sh: cannot open /nope: No such file or directory\n", 1),
        ("if true", "sh: syntax error: the text ends too early\n", 2),
        ("echo )", "sh: syntax error: unexpected word near ')'\n", 2),
    ],
)
def test_shell_errors(vm: AgentVM, text: str, errors: str, status: int) -> None:
    """What the shell says when it cannot."""
    assert shell(vm, text) == ("", errors, status)


def test_shell_reads_scripts(vm: AgentVM) -> None:
    """A file, the standard input (shared with what reads it), and a script by its first line."""
    vm.fs.write("/tmp/script", b"#!/bin/sh\necho $0 $1 $#\nexit 5\n", mode=0o755)
    assert shell(vm, "sh /tmp/script a b; echo $?; /tmp/script c") == ("/tmp/script a 2\n5\n/tmp/script c 1\n", "", 5)
    result = run(vm, "sh", stdin=b"if true\nthen read line; fi\nfor the command\necho [$line]\n")
    assert (result.stdout, result.exit_code) == (b"[for the command]\n", 0)
