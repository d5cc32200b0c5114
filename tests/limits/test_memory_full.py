"""on_memory_full="kill": who would pass a memory cap is killed, and nobody else; and memory warns as it grows."""

import json
from collections.abc import Callable, Iterator

import pytest

from agentvm import AgentVM, CauseKind, Limits, Result, Signal
from agentvm.engine.capacity import configure_host, host_usage
from agentvm.errors import GuestFailed, MemoryTooLarge
from tests.limits.harness import MIB, TIGHT, assemble, beside_a_sibling, opened
from tests.support.engine_rig import START, Rig
from tests.support.fixtures import guest

PAGE = 65_536
WASI = "wasi_snapshot_preview1"

#: Grows by as many pages as its argument says, and returns what memory.grow did.
REACTOR = assemble(
    '(module (memory (export "memory") 1) (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))'
)
#: Asks for 16 MiB more, and then prints "alive", with no loop and no call in between.
STRAIGHT = assemble(
    f"""(module
      (import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\\10\\00\\00\\00\\05\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00alive")
      (func (export "_start")
        (drop (memory.grow (i32.const 256)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"""
)


def probe(vm: AgentVM, *lines: str, **options: object) -> Result:
    """Run the probe through these lines to its end."""
    return vm.run(guest("probe"), stdin="".join(line + "\n" for line in lines).encode(), **options)  # type: ignore[arg-type]


@pytest.fixture
def host() -> Iterator[Callable[..., None]]:
    """Set process-wide caps, and put back what was there."""
    before = {use.name: use.cap for use in host_usage()}
    yield configure_host
    configure_host(**before)


@pytest.mark.parametrize("limit", ["max_memory_bytes", "max_memory_per_process_bytes"])
def test_process_that_would_pass_the_cap_is_killed(limit: str) -> None:
    def scenario(vm: AgentVM) -> Result:
        result = probe(vm, "grow 2", "grow 100", "grow 1")
        assert vm.usage()["max_memory_bytes"].used == 0
        assert probe(vm, "grow 2").ok, "the VM goes on"
        return result

    caps = {"max_memory_bytes": "8MiB", limit: "6MiB", "max_memory_per_process_bytes": "6MiB"}
    result = beside_a_sibling(scenario, on_memory_full="kill", **caps)
    assert result.signal is Signal.SIGKILL
    assert result.stdout_text == "OK 2\n"
    assert (result.cause.kind, result.cause.limit, result.cause.cap) == (CauseKind.LIMIT, limit, 6 * MIB)
    assert result.cause.observed is not None
    assert result.cause.observed > 6 * MIB
    assert limit in (result.cause.setting or "")
    assert result.usage[limit].refused == 1
    assert result.usage[limit].peak <= 6 * MIB


def test_refused_grow_is_the_default() -> None:
    with opened(max_memory_bytes="6MiB") as vm:
        assert probe(vm, "grow 100").stdout_text == "ENOMEM 100\n"


def test_killed_process_does_nothing_more() -> None:
    with opened(on_memory_full="kill", max_memory_bytes="4MiB") as vm:
        result = vm.run(STRAIGHT)
    assert (result.signal, result.stdout) == (Signal.SIGKILL, b"")


def test_cap_of_the_whole_process_kills_too(host: Callable[..., None]) -> None:
    with opened(on_memory_full="kill") as vm, opened() as other:
        host(max_resident_memory_bytes=int(host_usage()["max_resident_memory_bytes"].used) + 64 * PAGE)
        result = probe(vm, "grow 100")
        assert result.signal is Signal.SIGKILL
        assert result.cause.limit == "max_resident_memory_bytes"
        assert "configure_host(max_resident_memory_bytes=" in (result.cause.setting or "")
        assert probe(other, "grow 100").stdout_text == "ENOMEM 100\n", "each VM has its own way"


def test_siblings_run_on_with_what_they_have() -> None:
    with opened(on_memory_full="kill") as vm, vm.instantiate(REACTOR) as sibling:
        assert sibling.call("grow", 60) == 1
        assert probe(vm, "grow 60").cause.limit == "max_memory_bytes"
        assert sibling.call("grow", 20) == 61
        with pytest.raises(GuestFailed, match="max_memory_bytes"):
            sibling.call("grow", 100)


def test_caps_of_one_command_kill_it() -> None:
    with opened(on_memory_full="kill") as vm:
        result = probe(vm, "grow 40", limits=Limits(max_memory_per_process_bytes="3MiB"))
        assert (result.cause.limit, result.cause.cap) == ("max_memory_per_process_bytes", 3 * MIB)
        assert probe(vm, "grow 40").ok


def test_grow_inside_a_host_call_kills() -> None:
    """A handler that a host call enters is the guest's code like any other; the call does not return to the guest."""
    handler = '(func (export "handler") (param i32) (drop (memory.grow (local.get 0))))'
    body = f"(memory 1) {handler}" + START.format("(call $reenter (i32.const 1)) (call $reenter (i32.const 99)) {exit}")
    with Rig(max_memory_bytes=20 * PAGE, on_memory_full="kill") as rig:
        ending = rig.run(body.replace("{exit}", "(call $exit (i32.const 7))"))
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGKILL, "max_memory_bytes")
        assert ending.cause.observed == 101 * PAGE


def test_heap_of_exceptions_past_the_cap_kills() -> None:
    keep = """(tag $t) (table $kept 5000 exnref)
    (func $one (param $i i32) (local $e exnref)
      (block $caught (result exnref) (try_table (catch_all_ref $caught) (throw $t)) unreachable)
      (local.set $e) (table.set $kept (local.get $i) (local.get $e)))"""
    body = keep + START.format(
        """(local $i i32) (loop $l (call $one (i32.rem_u (local.get $i) (i32.const 5000)))
        (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 100000))))"""
    )
    with Rig(max_memory_bytes=PAGE + 5000 * 16, on_memory_full="kill") as rig:
        ending = rig.run(body)
        assert (ending.status.signal, ending.cause.limit) == (Signal.SIGKILL, "max_memory_bytes")


def test_growth_that_no_cap_forbids_is_refused_as_ever() -> None:
    """A module's own maximum, and what a 32-bit memory can have, are no limits of ours."""
    own = START.format("(call $exit (i32.sub (memory.grow (i32.const 9)) (i32.const -9)))")
    with Rig(on_memory_full="kill", max_memory_bytes="16GiB", max_memory_per_process_bytes="16GiB") as rig:
        assert rig.run("(memory 1 3)" + own).status.code == 8
        assert rig.run("(memory 1)" + own.replace("9)) (i32", "65536)) (i32")).status.code == 8


def test_start_that_does_not_fit_is_a_typed_error() -> None:
    big = assemble('(module (memory 100) (func (export "_start")))')
    with opened(on_memory_full="kill", max_memory_bytes="4MiB") as vm:
        with pytest.raises(MemoryTooLarge, match="max_memory_per_process_bytes"):
            vm.run(big)
        with vm.instantiate(REACTOR) as holder:
            holder.call("grow", 50)
            with pytest.raises(MemoryTooLarge, match="max_memory_bytes"):
                vm.run(assemble('(module (memory 20) (func (export "_start")))'))
            assert holder.call("grow", 1) == 51


def test_memory_warns_on_the_grow_itself() -> None:
    """What the guest reads of itself right after the grow that crossed the line shows the warning."""
    with AgentVM(TIGHT.replace(max_memory_bytes="8MiB", max_memory_per_process_bytes="8MiB")) as vm:
        start = int(probe(vm).usage["max_memory_bytes"].peak) // PAGE
        assert vm.usage()["max_memory_bytes"].warnings == 0
        cat = "cat /proc/agentvm/usage"
        result = probe(vm, f"grow {101 - start}", cat, f"grow {103 - start - (101 - start)}", cat, "grow 5", cat)
        lines = result.check().stdout_text.splitlines()
    shown = [json.loads(line) for line in lines if line.startswith("{")]
    for limit in ("max_memory_bytes", "max_memory_per_process_bytes"):
        assert [(use[limit]["used"] // PAGE, use[limit]["warnings"]) for use in shown] == [(101, 0), (103, 1), (108, 1)]
