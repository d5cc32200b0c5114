#!/usr/bin/env python3
"""Compile and link C or C++ programs for the guest ABI: `cc.py [--c++] [any flag of zig cc] -o prog.wasm prog.c`.

The compiler is `python -m ziglang cc`, or `c++` with --c++, `-x c++` or a C++ source, for `--target=wasm32-wasi`. The
SDK's own library is built once into a directory whose name is a hash of its sources and of the compiler, below
$AGENTVM_SDK_CACHE or else the user's cache directory.
"""

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["command", "library"]

_HERE = Path(__file__).resolve().parent
_TARGET = "--target=wasm32-wasi"
#: setjmp and longjmp are made of WebAssembly's exceptions; a program that uses neither has none.
_SETJMP = ("-mexception-handling", "-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false")
_INCLUDE = ("-I", str(_HERE / "include"))
_STACK_BYTES = 1024 * 1024  # zig's own default of 16 MiB would count as memory of every process
_CACHE_VARIABLE = "AGENTVM_SDK_CACHE"

#: The files that take over functions of wasi-libc; the first one says why they become one object.
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

_NO_LINK = {"-c", "-S", "-E", "-M", "-MM", "-fsyntax-only", "--version", "-dumpversion", "-dumpmachine"}
_WITH_VALUE = {"-o", "-I", "-D", "-U", "-L", "-l", "-include", "-isystem", "-x", "-MF", "-MT", "-MQ", "-Xlinker", "-u"}
_CXX_SUFFIXES = {".cc", ".cpp", ".cxx", ".C", ".c++"}


def _zig(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "ziglang", *arguments]


def _fingerprint() -> str:
    """Return a name for what the library is built from: sources, headers, flags, and the compiler's version."""
    digest = hashlib.sha256(repr((OVERRIDES, LIBRARY_FLAGS, version("ziglang"))).encode())
    for path in sorted(p for name in ("include", "src") for p in (_HERE / name).rglob("*") if p.is_file()):
        digest.update(str(path.relative_to(_HERE)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _cache_root() -> Path:
    own = os.environ.get(_CACHE_VARIABLE)
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "agentvm-sdk"


def _build(into: Path) -> None:
    """Compile every source; merge the overriding ones into overrides.o, put the others into libagentvm.a."""
    sources = sorted(path for path in (_HERE / "src").iterdir() if path.suffix in {".c", ".s"})
    for source in sources:
        output = str(into / f"{source.stem}.o")
        flags = (*_SETJMP, *LIBRARY_FLAGS, *_INCLUDE) if source.suffix == ".c" else _SETJMP[:1]
        subprocess.run([*_zig("cc"), _TARGET, *flags, "-c", str(source), "-o", output], check=True)
    overrides = [str(into / f"{name}.o") for name in OVERRIDES]
    subprocess.run([*_zig("wasm-ld"), "-r", "-o", str(into / "overrides.o"), *overrides], check=True)
    members = [str(into / f"{source.stem}.o") for source in sources if source.stem not in OVERRIDES]
    subprocess.run([*_zig("ar"), "rcs", str(into / "libagentvm.a"), *members], check=True)


def library() -> Path:
    """Return the directory with overrides.o and libagentvm.a, built on the first call for these sources."""
    final = _cache_root() / _fingerprint()
    if (final / "libagentvm.a").exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".build-", dir=final.parent))
    try:
        _build(scratch)
        scratch.rename(final)
    except OSError:
        if not (final / "libagentvm.a").exists():  # else another process was faster
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def _inputs(arguments: list[str]) -> list[str]:
    """Return the arguments that name files to compile or link."""
    return [
        argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
        if before not in _WITH_VALUE and (argument == "-" or not argument.startswith("-"))
    ]


def _is_cxx(arguments: list[str]) -> bool:
    pairs = itertools.pairwise(arguments)
    by_suffix = any(Path(name).suffix in _CXX_SUFFIXES for name in _inputs(arguments))
    return by_suffix or "-xc++" in arguments or ("-x", "c++") in pairs


def command(arguments: list[str]) -> list[str]:
    """Return the compiler's command line for the arguments of this program; builds the library if that links it."""
    cxx = "--c++" in arguments or _is_cxx(arguments)
    arguments = [argument for argument in arguments if argument != "--c++"]
    line = [*_zig("c++" if cxx else "cc"), _TARGET, *_SETJMP]
    if cxx:  # compilers for Linux define this for C++, too
        line += ["-D_GNU_SOURCE", "-fno-exceptions"]
    if _NO_LINK & set(arguments) or not _inputs(arguments):
        return [*line, *arguments, *_INCLUDE]  # a program's own directories come first
    if not any(argument.startswith("-g") and argument != "-g0" for argument in arguments):
        line.append("-s")  # or every program carries wasi-libc's own debug information
    if not any("stack-size" in argument for argument in arguments):
        line.append(f"-Wl,-z,stack-size={_STACK_BYTES}")
    built = library()
    # A -x among the arguments holds for every later file, and the library is no source.
    return [*line, str(built / "overrides.o"), *arguments, *_INCLUDE, "-x", "none", str(built / "libagentvm.a")]


def _main() -> int:
    try:
        return subprocess.run(command(sys.argv[1:]), check=False).returncode
    except subprocess.CalledProcessError as error:
        return error.returncode
    except PackageNotFoundError:
        print("cc.py: the compiler is missing; `pip install ziglang==0.17.1` gets it", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(_main())
