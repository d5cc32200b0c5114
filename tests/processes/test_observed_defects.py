"""What the reference product was seen to get wrong, and need no shell: each ends by itself, as on Linux, long before it
would be ended."""

import gc

import pytest

from agentvm import AgentVM, Limits, Result
from tests.limits.harness import MIB, resident_bytes
from tests.processes.test_caps import install

#: Seen to hang for a minute, or for ever.
ENOUGH_SECONDS = 30.0


def _run(*args: str, limits: Limits | None = None) -> Result:
    with AgentVM(limits) as vm:
        return vm.run(install(vm), args, timeout=ENOUGH_SECONDS)


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("slept", "reaped 1"),  # `sleep 1 & wait` hung
        ("killed", "ended by 15"),  # `sleep 30 & kill $!; wait` hung
        ("handled", "handled 1"),  # `trap 'echo x' USR1; kill -USR1 $$` hung
        ("head", "writer ended by 13"),  # `yes | head -1` took 41 s
        ("zeros", "whole 20"),  # short reads from /dev/zero
    ],
)
def test_it_ends_at_once_and_says_what_linux_says(mode: str, said: str) -> None:
    result = _run(mode)
    assert result.ok, result.describe()
    assert result.stdout_text == said + "\n"


def test_a_full_filesystem_is_enospc_and_no_bad_address() -> None:
    assert _run("fill", "/big", limits=Limits(max_filesystem_bytes="2MiB")).stdout_text == "ENOSPC\n"


def test_arguments_that_are_too_long_are_e2big() -> None:
    assert _run("arguments", "2000000").stdout_text == "E2BIG\n"
    assert _run("arguments", "100000").stdout_text == "OK\n"


def test_a_loop_of_symlinks_is_eloop() -> None:
    with AgentVM() as vm:
        program = install(vm)
        vm.fs.symlink("/b", "/a")
        vm.fs.symlink("/a", "/b")
        assert vm.run(program, ["follow", "/a"]).stdout_text == "ELOOP\n"


def test_what_programs_held_is_given_back_when_their_vms_are_closed() -> None:
    def hold() -> None:
        vms = [AgentVM(Limits(max_memory_bytes="24MiB")) for _ in range(10)]
        for vm in vms:
            program = install(vm)
            vm.fs.write("/big", bytes(4 * MIB))
            holder = vm.spawn(program, ["memory", "3"])
            said = b""
            while b"holding" not in said:
                said += holder.stdout.read(100)
        assert resident_bytes() - before > 100 * MIB, "nothing was held"
        for vm in vms:
            vm.close()

    with AgentVM() as vm:
        vm.run(install(vm), ["exit", "0"]).check()
    gc.collect()
    before = resident_bytes()
    hold()
    gc.collect()
    assert resident_bytes() - before < 32 * MIB
