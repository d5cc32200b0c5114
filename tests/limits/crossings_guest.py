"""Drivers for what guests of the host ABI make: pipes, locks, other programs."""

from agentvm import AgentVM, Errno
from agentvm.doctor.checks_guest import Caller
from tests.limits.crossing import Stage, crosses

__all__ = ()

UNLOCK = 8
ACTION_BYTES = 24


def _done(*errnos: Errno) -> None:
    assert set(errnos) == {Errno.SUCCESS}


@crosses("max_pipes")
def pipes(stage: Stage) -> None:
    with stage.open(max_pipes=5) as vm, Caller(vm) as caller:
        _done(*(caller.pipe() for _ in range(3)))
        stage.quiet()
        _done(caller.pipe())
        stage.warned()
        _done(*(caller.close(fd) for fd in (3, 4, 5, 6)))
        stage.recovered()
        _done(*(caller.pipe() for _ in range(2)))
        stage.warned()
        _done(caller.pipe())
        assert caller.pipe() is Errno.ENFILE
        stage.refused()


@crosses("max_file_locks")
def locks(stage: Stage) -> None:
    with stage.open(max_file_locks=5) as vm, Caller(vm) as caller:
        _done(*(caller.pipe() for _ in range(3)))
        _done(*(caller.lock(fd) for fd in range(3)))
        stage.quiet()
        _done(caller.lock(3))
        stage.warned()
        _done(*(caller.lock(fd, UNLOCK) for fd in (0, 1)))
        stage.recovered()
        _done(*(caller.lock(fd) for fd in (0, 1)))
        stage.warned()
        _done(caller.lock(5))  # 3 and 4, 5 and 6, 7 and 8 are one pipe each
        assert caller.lock(7) is Errno.ENOLCK
        stage.refused()


def _spawns(stage: Stage, vm: AgentVM) -> None:
    """A cap of ten file actions."""
    with Caller(vm) as caller:
        _done(caller.spawn(7))
        stage.quiet()
        _done(caller.spawn(8), caller.spawn(9))
        stage.warned()
        _done(caller.spawn(3))
        stage.recovered()
        _done(caller.spawn(9), caller.spawn(10))
        stage.warned()
        assert caller.spawn(11) is Errno.E2BIG
        stage.refused()


@crosses("max_spawn_actions")
def spawn_actions(stage: Stage) -> None:
    with stage.open(max_spawn_actions=10) as vm:
        _spawns(stage, vm)


@crosses("max_spawn_action_bytes")
def spawn_action_bytes(stage: Stage) -> None:
    with stage.open(max_spawn_action_bytes=10 * ACTION_BYTES) as vm:
        _spawns(stage, vm)
