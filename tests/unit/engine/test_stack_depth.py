"""The depth of a guest's calls, as its ticks find it: right to a few percent, warned of once, and never an overflow."""

from functools import cache

import pytest

from agentvm.engine.stack_depth import stack_pointer
from agentvm.kernel.outcome import Signal
from tests.support.engine_rig import SPIN, Rig, ended, until

KIB = 1024

#: Nests its calls as deep as the word at 0 says, and stays there until the word at 4 is not 0; then 8 and 12, and so
#: on. A depth of 0 ends it.
_DIVER = """(memory (export "memory") 1) (data (i32.const 0) "{}")
  (func $dive (param $left i32) (param $gate i32)
    (if (local.get $left)
      (then (call $dive (i32.sub (local.get $left) (i32.const 1)) (local.get $gate)))
      (else (loop $stay (br_if $stay (i32.eqz (i32.load (local.get $gate))))))))
  (func (export "_start") (local $at i32)
    (loop $next
      (if (i32.load (local.get $at)) (then
        (call $dive (i32.load (local.get $at)) (i32.add (local.get $at) (i32.const 4)))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (br $next)))))"""

needs_a_stack_pointer = pytest.mark.skipif(stack_pointer() is None, reason="this C library has no getcontext")


def diver(*depths: int, stays: bool = True) -> str:
    words = b"".join(word.to_bytes(4, "little") for depth in depths for word in (depth, not stays))
    return _DIVER.format("".join(f"\\{byte:02x}" for byte in words))


class Dive:
    """A guest that dives to each of `depths` in turn, and stays at each until it is let go."""

    def __init__(self, rig: Rig, *depths: int) -> None:
        self.execution = rig.start(diver(*depths))
        self._gate = 4

    def let_go(self) -> None:
        self.execution.memories.view()[self._gate] = 1
        self._gate += 8

    def sees_ticks(self) -> None:
        """Let the guest compute for some ticks."""
        mark = self.execution.cpu_time_ns() + 50 * 10**6
        until(lambda: self.execution.cpu_time_ns() > mark, "the guest computed")


@cache
def deepest(stack_bytes: int) -> int:
    """How many calls deep the guest can dive."""
    low, high = 0, stack_bytes // 16
    with Rig(max_wasm_stack_bytes=stack_bytes) as rig:
        while low < high:
            middle = (low + high + 1) // 2
            fits = rig.run(diver(middle, stays=False)).status.code == 0
            low, high = (middle, high) if fits else (low, middle - 1)
    assert low > 100
    return low


@needs_a_stack_pointer
@pytest.mark.parametrize("stack_bytes", [64 * KIB, 1024 * KIB], ids=["64 KiB", "1 MiB"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.85, 1.0])
def test_observed_depth_is_the_share_of_the_stack_that_is_used(share: float, stack_bytes: int) -> None:
    with Rig(max_wasm_stack_bytes=stack_bytes) as rig:
        ceiling = rig.registry.ceiling("max_wasm_stack_bytes")
        dive = Dive(rig, int(deepest(stack_bytes) * share))
        until(lambda: ceiling.peak > 0, "a tick")
        dive.sees_ticks()
        slack = 3 * KIB  # the frames of the tick itself, and of the way into the guest
        assert share * stack_bytes - slack <= ceiling.peak <= min(stack_bytes, share * stack_bytes + slack)
        assert (ceiling.warnings, ceiling.refused) == (share > 0.8, 0)
        dive.let_go()
        assert ended(dive.execution).status.code == 0


@needs_a_stack_pointer
def test_deep_guest_warns_once_and_again_after_it_came_up() -> None:
    most = deepest(64 * KIB)
    deep, deeper, shallow = most * 85 // 100, most * 95 // 100, most * 30 // 100
    with Rig(max_wasm_stack_bytes=64 * KIB) as rig:
        ceiling = rig.registry.ceiling("max_wasm_stack_bytes")
        dive = Dive(rig, shallow, deep, most * 60 // 100, deeper, shallow, deep)
        dive.sees_ticks()
        assert ceiling.warnings == 0
        dive.let_go()
        until(lambda: ceiling.warnings == 1, "the warning")
        for _ in range(2):  # neither far enough up to count, nor a second warning when it is down again
            dive.let_go()
            dive.sees_ticks()
            assert ceiling.warnings == 1
        dive.let_go()
        until(lambda: not ceiling.warned, "a tick that sees the guest far up")
        dive.let_go()
        until(lambda: ceiling.warnings == 2, "the second warning")
        dive.let_go()
        assert ended(dive.execution).status.code == 0
        assert ceiling.refused == 0


@needs_a_stack_pointer
def test_shallow_sibling_does_not_make_the_vm_forget_a_deep_guest() -> None:
    with Rig(max_wasm_stack_bytes=64 * KIB) as rig:
        ceiling = rig.registry.ceiling("max_wasm_stack_bytes")
        dive = Dive(rig, deepest(64 * KIB) * 9 // 10)
        until(lambda: ceiling.warnings == 1, "the warning")
        sibling = rig.start(SPIN)
        until(lambda: sibling.cpu_time_ns() > 50 * 10**6, "the sibling computed")
        dive.sees_ticks()
        assert (ceiling.warnings, ceiling.warned) == (1, True)


def test_overflow_is_noted_as_a_refusal() -> None:
    with Rig(max_wasm_stack_bytes=64 * KIB) as rig:
        ending = rig.run(diver(64 * KIB, stays=False))
        assert ending.status.signal is Signal.SIGSEGV
        assert rig.registry.ceiling("max_wasm_stack_bytes").refused == 1
