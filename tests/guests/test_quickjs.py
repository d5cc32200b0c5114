"""QuickJS: a JavaScript engine with its own file, directory and timer calls."""

import pytest

from agentvm import AgentVM
from tests.support.real_guests import real_guest

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

SCRIPT = """
const f = std.open("/js.txt", "w"); f.puts("from js\\n"); f.close();
print(std.loadFile("/js.txt").trim(), scriptArgs.slice(1).join());
print(os.readdir("/")[0].includes("js.txt"), os.stat("/js.txt")[0].size);
print(os.rename("/js.txt", "/js2.txt"), os.stat("/js.txt")[1] !== 0);
const before = Date.now(); os.sleep(20); print(Date.now() - before >= 19);
print([3, 1, 2].sort(), JSON.stringify({a: 2n ** 70n + ""}), /(\\d+)/.exec("x42")[1]);
Promise.resolve(7).then(print);
os.setTimeout(() => { print("timer"); std.exit(9); }, 5);
"""


def test_quickjs_evaluates_an_expression(vm: AgentVM) -> None:
    result = vm.run(real_guest("quickjs"), args=["-e", "console.log(6 * 7, [1, 2].map(x => x * x))"])
    assert (result.exit_code, result.stdout) == (0, b"42 1,4\n")


def test_quickjs_runs_a_script_with_files_sleep_and_timers(vm: AgentVM) -> None:
    vm.fs.write("/t.js", SCRIPT.encode())
    result = vm.run(real_guest("quickjs"), args=["--std", "/t.js", "a", "b"])
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == [
        "from js a,b",
        "true 8",
        "0 true",
        "true",
        '1,2,3 {"a":"1180591620717411303424"} 42',
        "7",
        "timer",
    ]
    assert result.exit_code == 9
    assert vm.fs.read("/js2.txt") == b"from js\n"


def test_quickjs_exception_is_its_own_exit_code(vm: AgentVM) -> None:
    result = vm.run(real_guest("quickjs"), args=["-e", "throw new TypeError('no')"])
    assert result.exit_code == 1
    assert b"TypeError: no" in result.stdout + result.stderr


def test_quickjs_recursion_without_end_ends_only_the_guest(vm: AgentVM) -> None:
    quickjs = real_guest("quickjs")
    result = vm.run(quickjs, args=["-e", "function f() { return f() + 1 } f()"])
    # This build has no stack check of its own: it overwrites its own memory and calls a function that is none.
    assert result.signal is not None
    assert vm.run(quickjs, args=["-e", "console.log('still here')"]).stdout == b"still here\n"
