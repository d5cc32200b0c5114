#!/usr/bin/env python3
"""Compile and link C or C++ programs for the guest ABI: `cc.py [-x c++] [any flag of zig cc] -o prog.wasm prog.c`.

The compiler is `python -m ziglang cc` (or c++, when -x c++ or a C++ source is among the arguments, or when this file
is called as c++.py) with `--target=wasm32-wasi`. The SDK's own library is built once into a cache directory whose name
is a hash of its sources and of the compiler: below $AGENTVM_SDK_CACHE, else the user's cache directory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = "--target=wasm32-wasi"
STACK_BYTES = 1024 * 1024
# The files that take over functions of wasi-libc; the first one says why they become one object.
OVERRIDES = (
    "names",
    "fcntl",
    "files",
    "io",
    "paths",
    "poll",
    "process",
    "resource",
    "signal_send",
    "sleep",
    "socket_io",
    "start",
    "stat",
    "tty",
    "utsname",
)
LIBRARY_FLAGS = ("-std=gnu17", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")
NO_LINK = {
    "-c",
    "-S",
    "-E",
    "-M",
    "-MM",
    "-fsyntax-only",
    "--version",
    "-v",
    "-dumpversion",
    "-dumpmachine",
    "-print-search-dirs",
}
CXX_SUFFIXES = {".cc", ".cpp", ".cxx", ".C", ".c++"}
USES_VALUE = {"-o", "-I", "-D", "-U", "-L", "-l", "-include", "-isystem", "-x", "-MF", "-MT", "-MQ", "-Xlinker", "-u"}


def zig(*arguments: str) -> list[str]:
    """The command line of the compiler from PyPI."""
    return [sys.executable, "-m", "ziglang", *arguments]


def sources() -> list[Path]:
    """The C sources of the SDK, sorted."""
    return sorted((HERE / "src").glob("*.c"))


def fingerprint() -> str:
    """A name for what the library is built from: every source and header, the flags, and the compiler's version."""
    digest = hashlib.sha256(repr((OVERRIDES, LIBRARY_FLAGS)).encode())
    for path in sorted([*(HERE / "src").iterdir(), *(p for p in (HERE / "include").rglob("*") if p.is_file())]):
        digest.update(str(path.relative_to(HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    from importlib.metadata import version

    digest.update(version("ziglang").encode())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """$AGENTVM_SDK_CACHE, else agentvm-sdk below $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get("AGENTVM_SDK_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agentvm-sdk"


def build(into: Path) -> None:
    """Compile every source; merge the overriding ones into overrides.o and put the others into libagentvm.a."""
    include = ["-I", str(HERE / "include")]
    for source in sources():
        output = into / f"{source.stem}.o"
        subprocess.run([*zig("cc"), TARGET, *LIBRARY_FLAGS, *include, "-c", str(source), "-o", str(output)], check=True)
    overrides = [str(into / f"{name}.o") for name in OVERRIDES]
    subprocess.run([*zig("wasm-ld"), "-r", "-o", str(into / "overrides.o"), *overrides], check=True)
    members = [str(into / f"{source.stem}.o") for source in sources() if source.stem not in OVERRIDES]
    subprocess.run([*zig("ar"), "rcs", str(into / "libagentvm.a"), *members], check=True)


def library() -> Path:
    """The directory that holds the built library; built on the first call for these sources."""
    final = cache_root() / fingerprint()
    if (final / "libagentvm.a").exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".build-", dir=final.parent))
    try:
        build(scratch)
        try:
            scratch.rename(final)
        except OSError:  # another process was faster
            if not (final / "libagentvm.a").exists():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def inputs(arguments: list[str]) -> list[str]:
    """The arguments that name files to compile or link."""
    found, skip = [], False
    for argument in arguments:
        if skip:
            skip = False
        elif argument in USES_VALUE:
            skip = True
        elif not argument.startswith("-") or argument == "-":
            found.append(argument)
    return found


def is_cxx(arguments: list[str]) -> bool:
    """Whether the C++ driver is needed."""
    pairs = list(zip(arguments, arguments[1:], strict=False))
    if ("-x", "c++") in pairs or "-xc++" in arguments or Path(sys.argv[0]).stem == "c++":
        return True
    return any(Path(name).suffix in CXX_SUFFIXES for name in inputs(arguments))


def command(arguments: list[str]) -> list[str]:
    """The compiler's command line for the arguments of this program."""
    line = [*zig("c++" if is_cxx(arguments) else "cc"), TARGET, "-I", str(HERE / "include"), "-D_GNU_SOURCE"]
    if is_cxx(arguments) and "-fexceptions" not in arguments:
        line.append("-fno-exceptions")
    if NO_LINK & set(arguments) or not inputs(arguments):
        return [*line, *arguments]
    built = library()
    if not any(argument.startswith("-g") and argument != "-g0" for argument in arguments):
        line.append("-s")  # else every program carries wasi-libc's own debug information
    if not any("stack-size" in argument for argument in arguments):
        line.append(f"-Wl,-z,stack-size={STACK_BYTES}")
    # -x holds for every later file: what follows the program's own arguments must not be read as source.
    return [*line, str(built / "overrides.o"), *arguments, "-x", "none", str(built / "libagentvm.a")]


def main() -> int:
    """Run the compiler; its exit status is this program's."""
    try:
        return subprocess.run(command(sys.argv[1:]), check=False).returncode
    except subprocess.CalledProcessError as error:
        return error.returncode
    except ModuleNotFoundError as error:
        print(f"cc.py: {error}; `pip install ziglang==0.17.1` installs the compiler", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
