"""Lua with subprocesses: io.popen and os.execute of an unpatched Lua do in a VM what they do on Linux."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentvm import Limits
from tests.guests.worlds import InVM, OnLinux, Outcome, World

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def in_vm() -> Iterator[InVM]:
    with InVM("lua") as world:
        yield world


@pytest.fixture
def on_linux(tmp_path: Path) -> OnLinux:
    return OnLinux(tmp_path, "lua")


def lua(world: World, script: str, *args: str, stdin: str = "", env: dict[str, str] | None = None) -> Outcome:
    """Run a script whose own output and that of its children come in the order of the statements."""
    world.write("script.lua", 'io.stdout:setvbuf("no")\n' + script)
    return world.run("lua", "script.lua", *args, stdin=stdin, env=env)


EXECUTE = """
print(os.execute())
print(os.execute("exit 0"))
print(os.execute("exit 3"))
print(os.execute("kill -TERM $$"))
print(os.execute("kill -KILL $$"))
print(os.execute("no-such-program 2>/dev/null"))
print(os.execute("echo first; echo second | cat"))
print(os.execute("cat"))
print(os.execute("echo $NAME $0; NAME=other; export NAME; env | head -n 0"))
print(os.execute("false || true && exit 9"))
"""

EXECUTED = """\
true
true\texit\t0
nil\texit\t3
nil\tsignal\t15
nil\tsignal\t9
nil\texit\t127
first
second
true\texit\t0
input of the child
true\texit\t0
a value sh
true\texit\t0
nil\texit\t9
"""


def test_os_execute_tells_how_the_command_ended(in_vm: InVM, on_linux: OnLinux) -> None:
    expected = Outcome(0, EXECUTED, "")
    for world in (in_vm, on_linux):
        assert lua(world, EXECUTE, stdin="input of the child\n", env={"NAME": "a value"}) == expected


READ = """
for line in io.popen("echo a b; echo; echo c"):lines() do print("[" .. line .. "]") end
local p = io.popen("echo out; echo err 1>&2; exit 4"); print(p:read("a")); print(p:close())
p = io.popen("kill -TERM $$"); print(p:read("a")); print(p:close())
p = io.popen("no-such-program 2>/dev/null"); print(p:read("l")); print(p:close())
p = io.popen("yes | head -n 100000 | wc -c"); print(p:read("n")); print(p:close())
p = io.popen("yes 0123456789 | head -n 50000"); print(#p:read("a")); print(p:close())
print(io.type(p), pcall(p.read, p))
print(pcall(io.popen, "true", "rw"))
"""

READ_BACK = """\
[a b]
[]
[c]
out

nil\texit\t4

nil\tsignal\t15
nil
nil\texit\t127
200000
true\texit\t0
550000
true\texit\t0
closed file\tfalse\tattempt to use a closed file
false\tbad argument #2 to 'io.popen' (invalid mode)
"""


def test_popen_reads_what_a_command_prints(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, READ) == Outcome(0, READ_BACK, "err\n")


WRITE = """
local p = io.popen("cat > copy.txt; exit 7", "w")
for i = 1, 100000 do p:write(i, "\\n") end
print(p:close())
local sum = 0 for line in io.lines("copy.txt") do sum = sum + line end print(sum)
p = io.popen("wc -l", "w"); p:write("1\\n2\\n3\\n"); print(p:close())
local first, second = io.popen("cat > first.txt", "w"), io.popen("cat > second.txt", "w")
for i = 1, 3 do first:write(i) second:write(-i) end
print(first:close()) print(second:close())
print(io.open("first.txt"):read("a"), io.open("second.txt"):read("a"))
"""


def test_popen_writes_what_a_command_reads(in_vm: InVM, on_linux: OnLinux) -> None:
    expected = "nil\texit\t7\n5000050000\n3\ntrue\texit\t0\ntrue\texit\t0\ntrue\texit\t0\n123\t-1-2-3\n"
    for world in (in_vm, on_linux):
        assert lua(world, WRITE) == Outcome(0, expected, "")
    assert in_vm.read("copy.txt") == on_linux.read("copy.txt")


def test_a_reader_that_leaves_ends_lua_by_sigpipe(in_vm: InVM, on_linux: OnLinux) -> None:
    script = """local p = io.popen("head -n 1", "w") for i = 1, 1e6 do p:write("line\\n") end print("alive")"""
    for world in (in_vm, on_linux):
        assert lua(world, script) == Outcome(-signal.SIGPIPE, "line\n", "")


@pytest.mark.parametrize(
    ("statement", "status"),
    [("os.exit()", 0), ("os.exit(false)", 1), ("os.exit(42)", 42), ("os.exit(258)", 2), ("os.exit(5, true)", 5)],
)
def test_os_exit(in_vm: InVM, on_linux: OnLinux, statement: str, status: int) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, f'io.write("kept") {statement}').status == status


CLOSES = """
local p = io.popen("cat > late.txt; echo child", "w"); p:write("buffered")
print("parent"); os.exit(3, true)
"""


def test_a_closed_state_waits_for_its_children(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, CLOSES) == Outcome(3, "parent\nchild\n", "")
        assert world.read("late.txt") == "buffered"


TEMPORARY = """
local names, distinct = {}, 0
for i = 1, 20 do
  local name = os.tmpname()
  assert(name:match("^/tmp/lua_%w%w%w%w%w%w$"), name)
  assert(io.open(name, "r+")):close()
  if not names[name] then distinct = distinct + 1 end
  names[name] = true
end
for name in pairs(names) do assert(os.remove(name)) end
local f = io.tmpfile(); f:write("kept"); f:seek("set"); print(distinct, f:read("a"))
"""


def test_temporary_files(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, TEMPORARY) == Outcome(0, "20\tkept\n", "")
    assert in_vm.vm.fs.listdir("/tmp") == []


FAMILY = """
local depth = tonumber(arg[1])
if depth == 0 then print("bottom") os.exit(10) end
local p = io.popen("lua script.lua " .. depth - 1)
for line in p:lines() do print(depth .. " " .. line) end
os.exit(select(3, p:close()) + 1)
"""


def test_lua_runs_lua_runs_lua(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, FAMILY, "4") == Outcome(14, "4 3 2 1 bottom\n", "")


MANY = """
local pipes = {}
for i = 1, 25 do pipes[i] = assert(io.popen("echo " .. i .. "; cat; echo done", "r")) end
local sum = 0
for i = 25, 1, -1 do sum = sum + pipes[i]:read("n"); pipes[i]:read("a"); assert(pipes[i]:close()) end
print(sum)
"""


def test_many_commands_at_once(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        assert lua(world, MANY) == Outcome(0, "325\n", "")


REFUSED = """
local first = io.popen("read line; echo $line")
print(select(2, io.popen("echo no")))
print(select(2, os.execute("echo no")))
print(first:read("l"), first:close())
print(io.popen("echo again"):read("l"))
"""


def test_a_command_past_the_cap_of_processes_is_refused_as_fork_would_be() -> None:
    with InVM("lua", limits=Limits(max_processes=2)) as world:
        outcome = lua(world, REFUSED, stdin="word\n")
    # The numbers are those of WASI.
    assert outcome.stdout.splitlines() == [
        "echo no: Resource temporarily unavailable\t6",
        "Resource temporarily unavailable\t6",
        "word\ttrue\texit\t0",
        "again",
    ]


def test_ctrl_c_is_an_error_in_the_script(in_vm: InVM, on_linux: OnLinux) -> None:
    script = 'io.write("ready\\n") io.stdout:flush() while true do os.time() end'
    for world in (in_vm, on_linux):
        world.write("loop.lua", script)
        session = world.start("lua", "loop.lua")
        session.until("ready\n")
        session.send_signal(signal.SIGINT)
        outcome = session.finish()
        assert outcome.status == 1
        assert outcome.stderr.startswith("lua: ")
        assert "interrupted!" in outcome.stderr


def test_ctrl_c_is_nothing_to_lua_while_it_waits_for_a_command(in_vm: InVM, on_linux: OnLinux) -> None:
    script = """os.execute("echo ready; read line; echo got $line") print("lua goes on")"""
    for world in (in_vm, on_linux):
        world.write("wait.lua", script)
        session = world.start("lua", "wait.lua")
        session.until("ready\n")
        session.send_signal(signal.SIGINT)
        assert session.say("a line", "got a line\n") == ""
        assert session.finish() == Outcome(0, "lua goes on\n", "")
