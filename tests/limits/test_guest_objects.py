"""What programs make for themselves ends with its errno at its cap, and can be had again once it is given back.

A VM beside them keeps its pace.
"""

import pytest

from agentvm import AgentVM, Errno
from agentvm.doctor.checks_guest import Caller
from tests.limits.harness import beside_a_sibling, drives

UNLOCK = 8


@drives("max_pipes")
def test_pipes_end_with_enfile_and_a_place_is_free_once_both_ends_are_closed() -> None:
    def scenario(vm: AgentVM) -> list[Errno]:
        with Caller(vm) as caller:
            made = [caller.pipe() for _ in range(9)]
            caller.close(3)
            made.append(caller.pipe())
            caller.close(4)
            return [*made, caller.pipe()]

    made = beside_a_sibling(scenario, max_pipes=8)
    assert made == [Errno.SUCCESS] * 8 + [Errno.ENFILE, Errno.ENFILE, Errno.SUCCESS]


@drives("max_file_locks")
def test_locks_end_with_enolck_and_a_place_is_free_once_one_is_given_up() -> None:
    def scenario(vm: AgentVM) -> list[Errno]:
        with Caller(vm) as caller:
            for _ in range(2):
                caller.pipe()
            made = [caller.lock(fd) for fd in (0, 1, 2, 3, 5)]  # 3 and 4 are one pipe
            caller.lock(0, UNLOCK)
            made.append(caller.lock(5))
            caller.close(1)
            return [*made, caller.lock(0)]

    made = beside_a_sibling(scenario, max_file_locks=4)
    assert made == [Errno.SUCCESS] * 4 + [Errno.ENOLCK, Errno.SUCCESS, Errno.SUCCESS]


@drives("max_spawn_actions", "max_spawn_action_bytes")
@pytest.mark.parametrize("caps", [{"max_spawn_actions": 20}, {"max_spawn_action_bytes": 20 * 24}], ids=str)
def test_a_spawn_with_too_many_file_actions_is_e2big_and_the_next_one_is_made(caps: dict[str, int]) -> None:
    def scenario(vm: AgentVM) -> list[Errno]:
        with Caller(vm) as caller:
            return [caller.spawn(count) for count in (20, 21, 20)]

    assert beside_a_sibling(scenario, **caps) == [Errno.SUCCESS, Errno.E2BIG, Errno.SUCCESS]
