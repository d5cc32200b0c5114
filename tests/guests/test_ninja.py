"""Ninja, unpatched: a build tool that itself calls posix_spawn, waits in ppoll and catches signals, as on Linux."""

import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from agentvm import Limits
from tests.guests.worlds import InVM, OnLinux, Outcome, World

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def in_vm() -> Iterator[InVM]:
    with InVM("ninja", "lua") as world:
        yield world


@pytest.fixture
def on_linux(tmp_path: Path) -> OnLinux:
    return OnLinux(tmp_path, "ninja", "lua")


def played(scenario: Callable[[World], object], *worlds: World) -> object:
    """What a scenario comes to, which must be the same in all worlds."""
    first, *others = [scenario(world) for world in worlds]
    for other in others:
        assert first == other
    return first


# -- a small project --------------------------------------------------------------------------------------------------
# "Modules" are compiled to Lua's bytecode, and linked to one program; `use` lines are their headers.
COMPILE = """
local source, object, depfile = arg[1], arg[2], arg[3]
local function text(name) local f = assert(io.open(name)) local all = f:read("a") f:close() return all end
local deps = ""
local body = text(source):gsub('use "(.-)"', function(name) deps = deps .. " " .. name return text(name) end)
local f = assert(io.open(object, "wb")) f:write(string.dump(assert(load(body, "=" .. source)), true)) f:close()
f = assert(io.open(depfile, "w")) f:write(object, ": ", source, deps, "\\n") f:close()
"""
LINK = """
local out = assert(io.open(arg[1], "wb"))
for name in io.open(arg[2]):read("a"):gmatch("%S+") do
  local f = assert(io.open(name, "rb")) local code = f:read("a") f:close()
  out:write(("assert(load(%q))()\\n"):format(code))
end
out:close()
"""
MANIFEST = """
ninja_required_version = 1.10
builddir = out
rule compile
  command = lua compile.lua $in $out $out.d
  deps = gcc
  depfile = $out.d
  description = COMPILE $in
rule link
  command = lua link.lua $out $out.rsp
  rspfile = $out.rsp
  rspfile_content = $in
  description = LINK $out
rule run
  command = lua $in > $out && cat $out
  description = RUN $in
build out/greet.luac: compile src/greet.lua
build out/count.luac: compile src/count.lua
build out/deep/er/main.luac: compile src/main.lua
build out/program: link out/greet.luac out/count.luac out/deep/er/main.luac
build out/result.txt: run out/program
default out/result.txt
"""
SOURCES = {
    "src/names.inc": 'names = {"one", "two"}\n',
    "src/greet.lua": 'use "src/names.inc" function greet(name) print("hello " .. name) end\n',
    "src/count.lua": "function count(list) return #list end\n",
    "src/main.lua": "for _, name in ipairs(names) do greet(name) end print(count(names))\n",
}


def project(world: World) -> None:
    for name, text in {**SOURCES, "compile.lua": COMPILE, "link.lua": LINK, "build.ninja": MANIFEST}.items():
        world.write(name, text)


def full_build(world: World) -> list[object]:
    project(world)
    steps: list[object] = [world.run("ninja", "-j1"), world.read("out/result.txt"), world.run("ninja", "-j4")]
    world.write("src/count.lua", "function count(list) return #list * 100 end\n")
    steps += [world.run("ninja", "-j1", "-v"), world.read("out/result.txt")]
    world.write("src/names.inc", 'names = {"three"}\n')  # known from the depfile only
    steps += [world.run("ninja", "-j2", "-d", "explain"), world.read("out/result.txt")]
    steps += [world.run("ninja", "-t", tool) for tool in ("deps", "recompact")]
    steps += [
        world.run("ninja", "-t", *words) for words in (("commands",), ("targets", "all"), ("query", "out/program"))
    ]
    steps += [world.run("ninja", "-t", "clean"), world.exists("out/program"), world.run("ninja", "-n", "-j1")]
    return steps


def test_a_project_is_built_and_rebuilt(in_vm: InVM, on_linux: OnLinux) -> None:
    steps = full_build(in_vm)
    built = "[1/5] COMPILE src/greet.lua\n[2/5] COMPILE src/count.lua\n[3/5] COMPILE src/main.lua\n"
    built += "[4/5] LINK out/program\n[5/5] RUN out/program\nhello one\nhello two\n2\n"
    assert steps[:3] == [
        Outcome(0, built, ""),
        "hello one\nhello two\n2\n",
        Outcome(0, "ninja: no work to do.\n", ""),
    ]
    assert steps[4] == "hello one\nhello two\n200\n"
    assert steps[6] == "hello three\n100\n"
    assert without_times(steps) == without_times(full_build(on_linux))


def without_times(steps: list[object]) -> list[str]:
    """`-t deps` and `-d explain` print moments."""
    return [re.sub(r"\d{16,}", "TIME", repr(step)) for step in steps]


# -- failures ---------------------------------------------------------------------------------------------------------
FAILURES = """
rule sh
  command = $do
  description = $out
build a: sh
  do = echo a1; echo a2 1>&2; exit 3
build b: sh
  do = echo b > b
build c: sh
  do = kill -TERM $$$$
build d: sh
  do = no-such-program 2>/dev/null
build e: sh | a
  do = echo e > e
build f: sh
  do = echo f > f
build all: phony a b c d e f
default all
"""


@pytest.mark.parametrize("options", [("-j1",), ("-j1", "-k2"), ("-j1", "-k0"), ("-j3", "-k0", "--quiet", "b")])
def test_commands_fail(in_vm: InVM, on_linux: OnLinux, options: tuple[str, ...]) -> None:
    def scenario(world: World) -> tuple[Outcome, list[str]]:
        world.write("build.ninja", FAILURES)
        return world.run("ninja", *options), [name for name in "abcdef" if world.exists(name)]

    played(scenario, in_vm, on_linux)


def test_a_failed_command_is_shown_with_what_it_said(in_vm: InVM) -> None:
    in_vm.write("build.ninja", FAILURES)
    stdout = "[1/6] a\nFAILED: [code=3] a \necho a1; echo a2 1>&2; exit 3\na1\na2\n"
    stdout += "ninja: build stopped: subcommand failed.\n"
    assert in_vm.run("ninja", "-j1") == Outcome(3, stdout, "")


BROKEN = {
    "missing source": "rule r\n  command = cat $in > $out\nbuild out: r gone\n",
    "cycle": "rule r\n  command = cat $in > $out\nbuild a: r b\nbuild b: r a\nbuild c: phony a\n",
    "unknown rule": "build a: nothing\n",
    "syntax": "rule r\n  command\n",
}


@pytest.mark.parametrize("manifest", BROKEN)
def test_a_broken_manifest(in_vm: InVM, on_linux: OnLinux, manifest: str) -> None:
    def scenario(world: World) -> Outcome:
        world.write("build.ninja", BROKEN[manifest])
        return world.run("ninja")

    outcome = played(scenario, in_vm, on_linux)
    assert isinstance(outcome, Outcome)
    assert outcome.status == 1


# -- at once ----------------------------------------------------------------------------------------------------------
#: Each command waits for all others to have started: it can end only if all run at once.
TOGETHER = """
rule meet
  command = : > $out.here; until [ -f a.here ] && [ -f b.here ] && [ -f c.here ]; do sleep 0.01; done; : > $out
  description = $out
build a: meet
build b: meet
build c: meet
"""


def test_jobs_run_at_once(in_vm: InVM) -> None:
    in_vm.write("build.ninja", TOGETHER)
    outcome = in_vm.run("ninja", "-j3", "-l", "100")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert sorted(line.split()[1] for line in outcome.stdout.splitlines()) == ["a", "b", "c"]


POOLED = """
pool narrow
  depth = $depth
rule step
  command = echo + >> log; sleep 0.03; echo - >> log; : > $out
  pool = narrow
"""


@pytest.mark.parametrize("depth", [1, 2])
def test_a_pool_bounds_what_runs_at_once(in_vm: InVM, on_linux: OnLinux, depth: int) -> None:
    manifest = f"depth = {depth}\n" + POOLED + "".join(f"build o{i}: step\n" for i in range(8))
    for world in (in_vm, on_linux):
        world.write("build.ninja", manifest)
        assert world.run("ninja", "-j8").status == 0
        running = most = 0
        for mark in world.read("log").split():
            running += 1 if mark == "+" else -1
            most = max(most, running)
        assert most == depth
        assert running == 0


def test_the_console_pool_has_ninjas_own_streams(in_vm: InVM, on_linux: OnLinux) -> None:
    def scenario(world: World) -> Outcome:
        world.write(
            "build.ninja",
            "rule ask\n  command = read word; echo got $$word; : > $out\n  pool = console\nbuild a: ask\n",
        )
        return world.run("ninja", "-v", stdin="an answer\n")

    outcome = played(scenario, in_vm, on_linux)
    assert isinstance(outcome, Outcome)
    assert "\ngot an answer\n" in outcome.stdout


def test_a_hundred_commands(in_vm: InVM, on_linux: OnLinux) -> None:
    def scenario(world: World) -> tuple[int, str, str]:
        lines = ["rule copy\n  command = cat $in > $out; echo made $out\n  description = $out\n"]
        lines += [f"build s{i}: copy s{i - 1}\n" if i % 10 else f"build s{i}: copy seed\n" for i in range(100)]
        lines += [
            "rule join\n  command = cat $in > $out\nbuild all: join " + " ".join(f"s{i}" for i in range(100)) + "\n"
        ]
        world.write("build.ninja", "".join(lines))
        world.write("seed", "seed\n")
        outcome = world.run("ninja", "-j8", "all")
        return (
            outcome.status,
            "\n".join(sorted(line for line in outcome.stdout.splitlines() if "made" in line)),
            world.read("all"),
        )

    status, made, joined = played(scenario, in_vm, on_linux)  # type: ignore[misc]
    assert (status, made.count("made"), joined) == (0, 100, "seed\n" * 100)


# -- restat -----------------------------------------------------------------------------------------------------------
RESTAT = """
rule keep
  command = lua keep.lua $in $out
  restat = 1
  description = KEEP $out
rule copy
  command = cat $in > $out
  description = COPY $out
build middle: keep source
build end: copy middle
"""
KEEP = """
local function text(name) local f = io.open(name) local all = f and f:read("a") if f then f:close() end return all end
local new = text(arg[1]):lower()
if new ~= text(arg[2]) then local f = io.open(arg[2], "w") f:write(new) f:close() print("wrote") end
"""


def test_restat_spares_what_depends_on_an_output_that_stayed(in_vm: InVM, on_linux: OnLinux) -> None:
    def scenario(world: World) -> list[Outcome]:
        world.write("build.ninja", RESTAT)
        world.write("keep.lua", KEEP)
        outcomes = []
        for text in ("Text", "TEXT", "other"):
            world.write("source", text)
            outcomes += [world.run("ninja", "-j1"), world.run("ninja", "-j1")]
        return outcomes

    idle = Outcome(0, "ninja: no work to do.\n", "")
    full = Outcome(0, "[1/2] KEEP middle\nwrote\n[2/2] COPY end\n", "")
    assert played(scenario, in_vm, on_linux) == [full, idle, Outcome(0, "[1/2] KEEP middle\n", ""), idle, full, idle]


# -- signals ----------------------------------------------------------------------------------------------------------
SLOW = """
rule slow
  command = echo part > $out; : > started; sleep 100; echo whole > $out
  description = SLOW
rule after
  command = cat $in > $out
build slow: slow
build end: after slow
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_build_and_its_commands(in_vm: InVM, on_linux: OnLinux, number: int) -> None:
    def scenario(world: World) -> Outcome:
        world.write("build.ninja", SLOW)
        session = world.start("ninja", "-j2")
        deadline = monotonic() + 60
        while not world.exists("started"):
            assert monotonic() < deadline, "the command did not start"
        session.send_signal(number)
        return session.finish()

    assert played(scenario, in_vm, on_linux) == Outcome(130, "ninja: build stopped: interrupted by user.\n", "")
    assert not in_vm.exists("end")
    assert in_vm.processes() == 0


# -- caps -------------------------------------------------------------------------------------------------------------
def test_more_jobs_than_processes_end_the_build_with_linuxs_message() -> None:
    manifest = "rule r\n  command = sleep 0.2; : > $out\n" + "".join(f"build o{i}: r\n" for i in range(8))
    with InVM("ninja", limits=Limits(max_processes=4)) as world:
        world.write("build.ninja", manifest)
        outcome = world.run("ninja", "-j8")
        assert (outcome.status, outcome.stderr) == (1, "ninja: fatal: posix_spawn: Resource temporarily unavailable\n")
        assert world.run("ninja", "-j1").status == 0
