"""What is run under both: guests with their arguments, and the transcript that a run leaves, line by line."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import wasmtime

from agentvm import AgentVM, HostDirectory
from tests.support.fixtures import guest
from tests.support.reference import ReferenceVM

__all__ = ["CASES", "SECTIONS", "SECTIONS_OF_TRIES", "Case", "in_memory", "mounted", "under_wasmtime"]


@dataclass(frozen=True, slots=True)
class Case:
    """One run of a guest. `files` are in its root directory before it starts, and /d is an empty directory."""

    guest: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)

    def __str__(self) -> str:
        return " ".join((self.guest, *self.args))[:60]


#: Those that wasmtime lives through; the tries of the others each need a run of their own.
_NAMES = "open flags numbers io size times stat dirs links rename paths readdir poll misc badfd rights stdio"
SECTIONS = tuple(_NAMES.split())
SECTIONS_OF_TRIES = {"invalid": 25, "pointers": 21, "raise": 4}

_SENTENCE = {"text": b"one line\nand another without an end", "empty": b"", "noise": bytes(range(256)) * 300}
_FILES = "/f 100000 4096"
_COMMANDS = f"""
hello
argv --sizes one two
cat text empty noise
cat missing text /d ..
exits return 0|exits return 1|exits return 125|exits return 126|exits return 127|exits return 255|exits return 256
exits exit 3|exits quick 4|exits raw 5|exits raw -1|exits abort|exits unreachable|exits zero|exits overflow
exits float|exits load|exits store|exits call|exits null|exits table|exits nonsense
fds open /f 40|fds renumber /f
fsbytes fill {_FILES}|fsbytes many {_FILES}|fsbytes held {_FILES}|fsbytes overwrite {_FILES}
fsbytes sparse /f 50000000|fsbytes truncate /f 50000000|fsbytes allocate /f 100000
inodes files /d 40|inodes dirs /d 40|inodes symlinks /d 40|inodes links /d 40
iovecs writev 16|iovecs writev 1024|iovecs zero|iovecs empty 16|iovecs empty 1024|iovecs count|iovecs wild
output stdout 100000 4096|output stderr 100000 999|output both 100000 1000
paths name 255|paths name 256|paths path 4095|paths path 4096|paths target 4095|paths target 4096
paths chain 39|paths chain 40|paths self|paths deep 60
polls clocks 8|polls zero|polls mixed|polls file|polls bad
postcard 7
readdir list /d|readdir churn /d|readdir big /d 300|readdir rewind /d|readdir list /missing|readdir list /text
sleep 1|sleep 1 absolute|sleep 10 many
"""


def _cases() -> list[Case]:
    found = [Case("transcript", (section,)) for section in SECTIONS]
    for section, tries in SECTIONS_OF_TRIES.items():
        found += [Case("transcript", (f"{section}:{number}",)) for number in range(tries)]
    odd = ("", " ", "a b", '"quoted"', "back\\slash", "tab\t", "new\nline", "ü€😀", "--flag=x", "-")
    found.append(Case("argv", odd, {"A": "1", "EMPTY": "", "UMLAUT": "ü", "SPACES": " a = b "}))
    found.append(Case("cat", (), stdin=b"from stdin\n" * 5000))
    commands = (command.split() for line in _COMMANDS.split("\n") for command in line.split("|") if command)
    return found + [Case(name, tuple(args), files=_SENTENCE) for name, *args in commands]


CASES = _cases()

#: The signal by which Linux ends a program that does what wasmtime traps for.
_SIGNALS = {
    wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS: "SIGSEGV",
    wasmtime.TrapCode.TABLE_OUT_OF_BOUNDS: "SIGSEGV",
    wasmtime.TrapCode.INDIRECT_CALL_TO_NULL: "SIGILL",
    wasmtime.TrapCode.BAD_SIGNATURE: "SIGILL",
    wasmtime.TrapCode.UNREACHABLE: "SIGILL",
    wasmtime.TrapCode.INTEGER_OVERFLOW: "SIGFPE",
    wasmtime.TrapCode.INTEGER_DIVISION_BY_ZERO: "SIGFPE",
    wasmtime.TrapCode.BAD_CONVERSION_TO_INTEGER: "SIGFPE",
}


def under_wasmtime(case: Case) -> list[str]:
    """The transcript under wasmtime's own WASI, with a real directory as the root."""
    with ReferenceVM() as vm:
        _fill(vm.root, case)
        outcome = vm.run(guest(case.guest), case.args, case.env, case.stdin)
    if outcome.error:
        reason = outcome.error.strip().splitlines()[-1].strip()
        ended = f"refused by wasmtime, {reason.removeprefix('0: ').removeprefix('1: ')}"
    elif outcome.trap is not None:
        ended = _SIGNALS.get(outcome.trap, outcome.trap.name)
    else:
        ended = str(outcome.exit_code)
    return _transcript(outcome.stdout, outcome.stderr, ended)


def in_memory(case: Case) -> list[str]:
    """The transcript under agentvm, with the root directory in memory."""
    with AgentVM() as vm:
        vm.fs.mkdir("/d")
        for name, content in case.files.items():
            vm.fs.write(f"/{name}", content)
        return _under_agentvm(vm, case)


def mounted(case: Case, directory: Path) -> list[str]:
    """The transcript under agentvm, with a real directory as the root."""
    _fill(directory, case)
    with AgentVM() as vm:
        vm.mount("/", HostDirectory(directory))
        return _under_agentvm(vm, case)


def _under_agentvm(vm: AgentVM, case: Case) -> list[str]:
    result = vm.run(guest(case.guest), case.args, case.env, case.stdin, timeout=60)
    ended = result.signal.name if result.signal is not None else str(result.exit_code)
    return _transcript(result.stdout, result.stderr, ended)


def _fill(root: Path, case: Case) -> None:
    (root / "d").mkdir()
    for name, content in case.files.items():
        (root / name).write_bytes(content)


def _transcript(stdout: bytes, stderr: bytes, ended: str) -> list[str]:
    def lines(stream: bytes) -> list[str]:
        return stream.decode("latin-1").split("\n")

    return [*lines(stdout), *(f"stderr: {line}" for line in lines(stderr)), f"ended -> {ended}"]
