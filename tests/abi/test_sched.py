"""preview1 scheduling."""

from tests.abi.rig import Rig


def test_sched_yield_returns(rig: Rig) -> None:
    for _ in range(3):
        rig.ok("sched_yield", writes=[])
    assert rig.trace == ["sched_yield() -> OK"] * 3
