"""Two places to run the same programs in: a VM, and the Linux of this machine. A scenario is played in both.

A world has a folder for a project, in which its programs start; scenarios name files relative to it.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from agentvm import AgentVM, GuestFile, Limits, Process, Result
from tests.support.sdk_build import native_program, own_program, sdk_program

__all__ = ["InVM", "OnLinux", "Outcome", "Session", "World"]

PROJECT = "/project"
TOOLS = ("true", "false", "echo", "cat", "sleep", "wc", "env", "pwd", "yes", "head", "kill")
TIMEOUT_SECONDS = 120.0
#: What both worlds tell their programs, whatever this machine says to its own.
ENVIRONMENT = {"LC_ALL": "C", "TERM": "dumb", "HOME": "/"}


class Outcome(NamedTuple):
    """How a program ended: its exit status, or minus the signal's number, as `subprocess` has it."""

    status: int
    stdout: str
    stderr: str


class Session(Protocol):
    """A program that runs, reads from a pipe and prints to pipes."""

    def send(self, line: str) -> None:
        """Write a line to its stdin."""

    def say(self, line: str, prompt: str) -> str:
        """Write a line, and return what the program printed to stdout until its prompt came."""

    def until(self, prompt: str) -> str:
        """Return what comes on stdout before the prompt."""

    def send_signal(self, number: int) -> None: ...

    def finish(self) -> Outcome:
        """Close stdin, and return what was not read yet."""


class World(Protocol):
    def write(self, name: str, text: str) -> None: ...

    def read(self, name: str) -> str: ...

    def exists(self, name: str) -> bool: ...

    def run(self, program: str, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Outcome: ...

    def start(self, program: str, *args: str) -> Session: ...


class InVM:
    """A VM with our own shell and tools in /bin, and the programs that are asked for."""

    def __init__(self, *programs: str, limits: Limits | None = None) -> None:
        self.vm = AgentVM(limits=limits)
        self.vm.fs.mkdir(PROJECT)
        self.vm.fs.mkdir("/bin", exist_ok=True)
        self._install("sh", own_program("sh"))
        self._install("tools", own_program("tools"))
        for tool in TOOLS:
            self.vm.fs.symlink("tools", f"/bin/{tool}")
        for name in programs:
            self._install(name, sdk_program(name))

    def _install(self, name: str, module: Path) -> None:
        self.vm.fs.write(f"/bin/{name}", module.read_bytes(), mode=0o755)

    def __enter__(self) -> "InVM":
        return self

    def __exit__(self, *_: object) -> None:
        self.vm.close()

    def write(self, name: str, text: str) -> None:
        self.vm.fs.write(f"{PROJECT}/{name}", text.encode(), parents=True)

    def read(self, name: str) -> str:
        return self.vm.fs.read(f"{PROJECT}/{name}").decode()

    def exists(self, name: str) -> bool:
        return self.vm.fs.exists(f"{PROJECT}/{name}")

    def run(self, program: str, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Outcome:
        result = self.vm.run(
            GuestFile(f"/bin/{program}"),
            args,
            {**ENVIRONMENT, "PATH": "/bin", **(env or {})},
            stdin.encode(),
            cwd=PROJECT,
            timeout=TIMEOUT_SECONDS,
            argv0=program,
        )
        return Outcome(status_of(result), result.stdout_text, result.stderr_text)

    def start(self, program: str, *args: str) -> Session:
        environment = {**ENVIRONMENT, "PATH": "/bin"}
        process = self.vm.spawn(
            GuestFile(f"/bin/{program}"), args, environment, cwd=PROJECT, timeout=TIMEOUT_SECONDS, argv0=program
        )
        return VMSession(process)

    def processes(self) -> int:
        """How many processes the VM has."""
        return int(self.vm.usage()["max_processes"].used)


class VMSession:
    def __init__(self, process: Process) -> None:
        self.process = process
        self.pending = b""

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def say(self, line: str, prompt: str) -> str:
        self.send(line)
        return self.until(prompt)

    def until(self, prompt: str) -> str:
        assert self.process.stdout is not None
        while prompt.encode() not in self.pending:
            data = self.process.stdout.read(65_536)
            assert data, f"the program ended after {self.pending!r}: {self.process.wait().describe()}"
            self.pending += data
        found, _, self.pending = self.pending.partition(prompt.encode())
        return found.decode()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self) -> Outcome:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.process.stdin.close()
        stdout = self.pending + self.process.stdout.read()
        stderr = self.process.stderr.read()
        return Outcome(status_of(self.process.wait()), stdout.decode(), stderr.decode())


def status_of(result: Result) -> int:
    return -int(result.signal) if result.signal else result.shell_code


class OnLinux:
    """A folder of this machine. A program is looked for, and built if need be, when a scenario first runs it."""

    def __init__(self, folder: Path, *programs: str) -> None:
        self.programs = programs
        self.project = folder / "project"
        self.project.mkdir()
        self.bin = folder / "bin"
        self.bin.mkdir()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # Whoever starts the tests in the background has it ignored, and programs would inherit that.
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def environment(self) -> dict[str, str]:
        for name in self.programs:
            if not (self.bin / name).exists():
                (self.bin / name).symlink_to(native_program(name))
        return {**ENVIRONMENT, "PATH": f"{self.bin}:{os.defpath.lstrip(':')}"}

    def write(self, name: str, text: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, name: str) -> str:
        return (self.project / name).read_text()

    def exists(self, name: str) -> bool:
        return (self.project / name).exists()

    def run(self, program: str, *args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            [program, *args],
            executable=self.bin / program,
            cwd=self.project,
            env={**self.environment(), **(env or {})},
            input=stdin.encode(),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

    def start(self, program: str, *args: str) -> Session:
        environment = self.environment()
        pipe = subprocess.PIPE
        return LinuxSession(
            subprocess.Popen(
                [program, *args],
                executable=self.bin / program,
                cwd=self.project,
                env=environment,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
            )
        )


class LinuxSession:
    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.pending = b""

    def send(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def say(self, line: str, prompt: str) -> str:
        self.send(line)
        return self.until(prompt)

    def until(self, prompt: str) -> str:
        assert self.process.stdout is not None
        while prompt.encode() not in self.pending:
            data = os.read(self.process.stdout.fileno(), 65_536)
            assert data, f"the program ended after {self.pending!r}"
            self.pending += data
        found, _, self.pending = self.pending.partition(prompt.encode())
        return found.decode()

    def send_signal(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self) -> Outcome:
        stdout, stderr = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return Outcome(self.process.returncode, (self.pending + stdout).decode(), stderr.decode())
