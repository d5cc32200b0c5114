"""The chapters of fixtures/posix: how each is built and run natively, and how it is run as a guest."""

import os
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from agentvm import AgentVM, GuestFile

__all__ = ["AS_ROOT", "CHAPTERS", "SOURCES", "as_guest", "binary", "build", "natively"]

SOURCES = Path(__file__).resolve().parents[3] / "fixtures" / "posix"
CHAPTERS = sorted(path.stem for path in SOURCES.glob("*.c"))
#: Those that root alone can play.
AS_ROOT = frozenset({"credentials"})

_ENVIRONMENT = {"PATH": "/bin:/usr/bin", "LC_ALL": "C"}
_SECONDS = 60
# musl, linked statically: the transcript then depends on this machine's kernel, and on nothing else of it.
_FLAGS = ("-std=gnu17", "-O1", "-static", "-Wall", "-Wextra", "-Werror")


def binary(chapter: str) -> Path:
    """The committed guest."""
    return SOURCES / f"{chapter}.wasm"


def build(chapter: str, directory: Path) -> Path:
    """Compile a chapter for this machine. RuntimeError with what the compiler said."""
    program = directory / chapter
    target = f"{platform.machine()}-linux-musl"
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *_FLAGS, f"{chapter}.c", "-o", str(program)]
    done = subprocess.run(command, cwd=SOURCES, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{chapter} does not compile for {target}:\n{done.stderr}")
    return program


def natively(program: Path) -> list[str]:
    """The transcript of a program that runs on this machine, in an empty directory and a session of its own."""
    with tempfile.TemporaryDirectory() as place:
        running = subprocess.Popen(
            [str(program)],
            cwd=place,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = running.communicate(timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            output, _ = running.communicate()
    return _lines(
        output, f"exited {running.returncode}" if running.returncode >= 0 else f"killed by {-running.returncode}"
    )


def as_guest(chapter: str) -> list[str]:
    """The transcript of the same program as a guest, in a fresh VM and an empty directory that anybody may change."""
    path = f"/bin/{chapter}"
    with AgentVM() as vm:
        vm.fs.write(path, binary(chapter).read_bytes(), parents=True, mode=0o755)
        vm.fs.mkdir("/work", mode=0o777)
        user = "root" if chapter in AS_ROOT else None
        result = vm.run(GuestFile(path), env=_ENVIRONMENT, cwd="/work", argv0=path, user=user, timeout=_SECONDS)
    ended = f"killed by {result.signal.name}" if result.signal is not None else f"exited {result.exit_code}"
    return _lines(result.stdout + result.stderr, ended)


def _lines(output: bytes, ended: str) -> list[str]:
    return [*output.decode("latin-1").splitlines(), f"program: {ended}"]
