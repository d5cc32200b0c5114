"""Lua 5.4, built from its sources: setjmp and longjmp as wasm exceptions, and the C library's file calls."""

import pytest

from agentvm import AgentVM, Limits
from tests.support.real_guests import real_guest

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

SCRIPT = """
print(pcall(error, "boom", 0))
local co = coroutine.wrap(function(a) local b = coroutine.yield(a + 1); error("in coroutine " .. b, 0) end)
print(co(1), pcall(co, "x"))
local f = assert(io.open("/lua.txt", "w")); for i = 1, 1000 do f:write(i, "\\n") end f:close()
local sum = 0; for line in io.lines("/lua.txt") do sum = sum + tonumber(line) end print(sum)
local g = io.open("/lua.txt", "r+"); g:seek("set", 2); g:write("X"); g:seek("end", -4); print(g:read("l")); g:close()
print(os.rename("/lua.txt", "/lua2.txt"), (select(2, io.open("/lua.txt"))))
local t = {} for i = 1, 1000000 do t[i] = i end print(#t, collectgarbage("count") > 10000)
local function deep() return 1 + deep() end print((select(2, pcall(deep)):match("stack overflow")))
print(string.format("%5.2f %s %q", math.pi, _VERSION, "a\\nb"), os.getenv("NAME"), arg[1])
os.exit(7)
"""


def test_lua_runs_a_script(vm: AgentVM) -> None:
    vm.fs.write("/t.lua", SCRIPT.encode())
    result = vm.run(real_guest("lua"), args=["/t.lua", "one"], env={"NAME": "value"})
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == [
        "false\tboom",
        "2\tfalse\tin coroutine x",
        "500500",
        "000",
        "true\t/lua.txt: No such file or directory",
        "1000000\ttrue",
        "stack overflow",
        ' 3.14 Lua 5.4 "a\\',
        'b"\tvalue\tone',
    ]
    assert result.exit_code == 7
    assert vm.fs.read("/lua2.txt")[:8] == b"1\nX\n3\n4\n"


def test_lua_reads_its_script_from_stdin(vm: AgentVM) -> None:
    result = vm.run(real_guest("lua"), args=["-"], stdin=b"print(1 + 1) print(#arg)")
    assert (result.exit_code, result.stdout) == (0, b"2\n0\n")


def test_lua_error_is_exit_status_1(vm: AgentVM) -> None:
    result = vm.run(real_guest("lua"), args=["-e", "error('no')"])
    assert result.exit_code == 1
    assert b"no" in result.stderr


EATER = """
local ok, why = pcall(function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(1000) .. i end end)
print(ok, why)
"""


def test_lua_out_of_memory_is_a_lua_error() -> None:
    with AgentVM(limits=Limits(max_memory_bytes="16MiB")) as vm:
        result = vm.run(real_guest("lua"), args=["-e", EATER])
        assert (result.exit_code, result.stdout) == (0, b"false\tnot enough memory\n")
