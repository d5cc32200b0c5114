"""The guest SDK compiles without a warning, its examples link, and nothing that is built imports an unknown call."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import wasmtime

from tests.guest_sdk.reference_abi import REFERENCE, Signature
from tests.guest_sdk.wasm_objects import defined_symbols, members

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed"),
    pytest.mark.timeout(600),  # the first build compiles wasi-libc
]

SDK = Path(__file__).parents[2] / "guest_sdk"
EXAMPLES = SDK / "examples"
PROGRAMS = {path.stem: [path] for path in sorted(EXAMPLES.glob("*.c"))} | {"sh": sorted((EXAMPLES / "sh").glob("*.c"))}
LETTERS = {"i32": "i", "i64": "I"}

HELLO = '#include <stdio.h>\nint main(void) { puts("hello"); return 0; }\n'
HANDLER = "#include <signal.h>\nstatic void on(int s) { (void)s; }\nint main(void) { signal(SIGINT, on); return 0; }\n"
CXX = """
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
int main(int argc, char **argv) {
  std::signal(SIGPIPE, SIG_IGN);
  pid_t pid;
  int status = 0;
  if (posix_spawn(&pid, argv[argc - 1], nullptr, nullptr, argv, environ) == 0) waitpid(pid, &status, 0);
  std::cout << std::string("status ") << WEXITSTATUS(status) << std::endl;
}
"""


def compile_program(output: Path, *arguments: str | Path) -> Path:
    """Run the SDK's driver; warnings are errors."""
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-o", str(output), *map(str, arguments)]
    done = subprocess.run([sys.executable, SDK / "cc.py", *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def compile_text(directory: Path, name: str, text: str) -> Path:
    """Write a source and compile it."""
    source = directory / name
    source.write_text(text)
    return compile_program(directory / "text.wasm", source)


def imports(program: Path) -> dict[tuple[str, str], Signature]:
    """What a program imports, with the types."""
    module = wasmtime.Module(wasmtime.Engine(), program.read_bytes())
    return {
        (each.module, each.name or ""): (
            "".join(LETTERS[str(value)] for value in each.type.params),
            "".join(LETTERS[str(value)] for value in each.type.results),
        )
        for each in module.imports
    }


def exports(program: Path) -> set[str]:
    """What a program exports."""
    return {each.name for each in wasmtime.Module(wasmtime.Engine(), program.read_bytes()).exports}


def test_library_compiles(tmp_path: Path) -> None:
    """Every source of the SDK, with -Wall -Wextra -Werror, in a cache that was empty."""
    environ = {**os.environ, "AGENTVM_SDK_CACHE": str(tmp_path / "cache")}
    source = tmp_path / "hello.c"
    source.write_text(HELLO)
    command = [sys.executable, SDK / "cc.py", "-o", tmp_path / "hello.wasm", source]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    built = {path.stem: path.read_bytes() for path in (tmp_path / "cache").rglob("*.o")}
    sources = {path.stem for path in (SDK / "src").iterdir() if path.suffix in {".c", ".s"}}
    assert built.keys() == sources | {"overrides"}
    symbols = Counter(symbol for name in sources for symbol in defined_symbols(built[name]))
    assert [name for name, count in symbols.items() if count > 1] == []  # of two weak ones the linker takes the first


@pytest.mark.parametrize("name", PROGRAMS)
def test_example_builds(name: str, tmp_path: Path) -> None:
    """Each example builds, and imports nothing that the reference product lacks."""
    found = imports(compile_program(tmp_path / "example.wasm", *PROGRAMS[name]))
    assert found == {key: REFERENCE.get(key) for key in found}


HEADERS = sorted(str(path.relative_to(SDK / "include")) for path in (SDK / "include").rglob("*.h"))
PUBLIC_HEADERS = [name for name in HEADERS if not name.startswith("__")]


@pytest.mark.parametrize("language", ["-xc -std=c99 -Wpedantic", "-xc -std=gnu17", "-xc++ -std=c++17"])
def test_each_header_stands_alone(language: str, tmp_path: Path) -> None:
    """Each header compiles by itself and twice over, in strict C, in C and in C++."""
    assert len(PUBLIC_HEADERS) > 20
    for header in PUBLIC_HEADERS:
        source = tmp_path / "header.c"
        source.write_text(f"#include <{header}>\n#include <{header}>\nextern int nothing;\n")
        flags = [*language.split(), "-Wall", "-Wextra", "-Werror", "-c", "-o", str(tmp_path / "header.o"), str(source)]
        done = subprocess.run([sys.executable, SDK / "cc.py", *flags], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{header}: {done.stderr}"


def test_every_declared_call_is_the_references() -> None:
    """abi.h names no call that the reference lacks, nor declares another type for one."""
    text = re.sub(r"/\*.*?\*/|#define[^\n]*", "", (SDK / "src" / "abi.h").read_text(), flags=re.DOTALL)
    declared = re.findall(r"(HOST|HOST64)\((\w+), (\w+)\)\s+abi_\w+\(([^)]*)\)", text)
    assert len(declared) > 80
    for kind, module, name, parameters in declared:
        types = "".join("I" if re.match(r"\s*u?int64_t \w", each) else "i" for each in parameters.split(","))
        assert REFERENCE.get((module, name)) == (types, "I" if kind == "HOST64" else "i"), name


def test_hello_imports_little(tmp_path: Path) -> None:
    """What a program does not use, it does not import."""
    program = compile_text(tmp_path, "hello.c", HELLO)
    assert imports(program).keys() == {
        ("wasi_snapshot_preview1", "fd_close"),
        ("wasi_snapshot_preview1", "fd_fdstat_get"),
        ("wasi_snapshot_preview1", "fd_seek"),
        ("wasi_snapshot_preview1", "fd_write"),
        ("wasi_snapshot_preview1", "proc_exit"),
        ("host_user", "isatty"),
    }
    assert exports(program) == {"memory", "_start", "__agentos_set_initial_sigmask"}


def test_trampoline_is_exported_where_signals_are_handled(tmp_path: Path) -> None:
    """Only a program with handlers has the export by which the host runs them."""
    assert "__wasi_signal_trampoline" in exports(compile_text(tmp_path, "handler.c", HANDLER))


def test_cxx_builds(tmp_path: Path) -> None:
    """C++ with its standard library, by the suffix of the source."""
    found = imports(compile_text(tmp_path, "program.cpp", CXX))
    assert ("host_process", "proc_spawn_v4") in found
    assert found == {key: REFERENCE.get(key) for key in found}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that a link takes: the SDK's, and zig's libc."""
    directory = tmp_path_factory.mktemp("objects")
    source = directory / "hello.c"
    source.write_text(HELLO)
    command = [sys.executable, SDK / "cc.py", "-v", "-o", directory / "hello.wasm", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("wasm-ld "))
    return {Path(word).name: Path(word).read_bytes() for word in line.split() if word.endswith((".a", ".o"))}


def test_overrides_replace_whole_members(objects: dict[str, bytes]) -> None:
    """A member of libc.a of which the SDK took a part could come back for the rest and bring its own of that part."""
    ours = defined_symbols(objects["overrides.o"])
    assert {"open", "read", "stat", "getcwd", "close", "abort"} <= ours
    partly = {
        name: sorted(symbols - ours)
        for name, data in members(objects["libc.a"])
        if (symbols := defined_symbols(data)) & ours and not symbols <= ours
    }
    partly = {Path(name).name: rest for name, rest in partly.items()}
    # The emulation of signals, of which <signal.h> calls nothing; and other names for what is taken.
    assert partly == {
        "signal.o": ["__sysv_signal", "bsd_signal", "signal"],
        "clock_nanosleep.o": ["__clock_nanosleep"],
        "creat.o": ["creat64"],
    }


def test_overrides_are_all_named(objects: dict[str, bytes]) -> None:
    """names.c lists what the SDK takes over from libc.a: only that is known ahead of the first reference."""
    text = (SDK / "src" / "names.c").read_text()
    named = set(re.findall(r"\(name\)(\w+)", text)) | {"__wasilibc_cwd"}
    libc = {symbol for _, data in members(objects["libc.a"]) for symbol in defined_symbols(data)}
    assert defined_symbols(objects["overrides.o"]) & libc <= named


def test_library_and_libc_do_not_collide(objects: dict[str, bytes]) -> None:
    """A function of libagentvm.a that libc.a has too would never be linked: zig puts its libc first."""
    libc = {symbol for _, data in members(objects["libc.a"]) for symbol in defined_symbols(data)}
    own = {symbol for _, data in members(objects["libagentvm.a"]) for symbol in defined_symbols(data)}
    assert own & libc == set()


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_makefile_builds(tmp_path: Path) -> None:
    """The way in for plain Makefiles, as its example shows it."""
    directory = tmp_path / "examples"
    shutil.copytree(EXAMPLES, directory)
    makefile = directory / "Makefile"
    makefile.write_text(makefile.read_text().replace("../sdk.mk", str(SDK / "sdk.mk")))
    done = subprocess.run(
        ["make", f"SDK_PYTHON={sys.executable}"], cwd=directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.stem for path in directory.glob("*.wasm")} == set(PROGRAMS)


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_cmake_builds(tmp_path: Path) -> None:
    """The way in for CMake: a library, a C program and a C++ program, and a check for a function."""
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(example C CXX)\ninclude(CheckFunctionExists)\n"
        "check_function_exists(posix_spawn HAVE_SPAWN)\ncheck_function_exists(no_such HAVE_NONE)\n"
        "if(NOT HAVE_SPAWN OR HAVE_NONE)\n  message(FATAL_ERROR wrong)\nendif()\n"
        "add_library(part STATIC part.c)\nadd_executable(first first.c)\ntarget_link_libraries(first part)\n"
        "add_executable(second second.cpp)\n"
    )
    (tmp_path / "part.c").write_text("int part(void) { return 0; }\n")
    (tmp_path / "first.c").write_text("int part(void);\nint main(void) { return part(); }\n")
    (tmp_path / "second.cpp").write_text(CXX)
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={SDK / 'toolchain.cmake'}"
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "out", toolchain, f"-DSDK_PYTHON={sys.executable}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    done = subprocess.run(["cmake", "--build", tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in (tmp_path / "out").glob("*.wasm")} == {"first.wasm", "second.wasm"}


def test_files_stay_short() -> None:
    """A file of the SDK has one subject: at most 400 lines."""
    files = [path for path in SDK.rglob("*") if path.suffix in {".c", ".h", ".py", ".mk", ".cmake"}]
    assert len(files) > 60
    assert [str(path) for path in files if len(path.read_text().splitlines()) > 400] == []
