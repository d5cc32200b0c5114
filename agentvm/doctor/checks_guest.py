"""Checks of what guests of the host ABI make: pipes, locks, other programs."""

from agentvm.abi.agentos import AGENTOS
from agentvm.abi.preview1 import PREVIEW1
from agentvm.api.reactor import Instance
from agentvm.api.vm import AgentVM
from agentvm.doctor.check import Trial, check
from agentvm.doctor.modules import START, calling
from agentvm.doctor.seen import Seen
from agentvm.errno import Errno
from agentvm.errors import GuestFailed

__all__ = ["Caller"]

_CALLS = AGENTOS["host_process"]
_EXCLUSIVE = 2
_ACTION_BYTES = 24
_CLOSE = 1
_START = b"/start"
_EXE, _ACTIONS, _RESULT, _IOVEC = 0, 64, 32, 40


class Caller:
    """A guest whose calls the host makes one by one."""

    def __init__(self, vm: AgentVM) -> None:
        vm.fs.write(_START.decode(), START, mode=0o755)
        calls = [_CALLS[name] for name in ("fd_pipe", "fd_flock", "proc_spawn_v3", "proc_waitpid_v3")]
        self._instance: Instance = vm.instantiate(calling(PREVIEW1["fd_close"], PREVIEW1["fd_read"], *calls))
        self._instance.write_memory(_EXE, _START)

    def __enter__(self) -> "Caller":
        return self

    def __exit__(self, *_: object) -> None:
        self._instance.close()

    def pipe(self) -> Errno:
        """Make a pipe."""
        return self._call("fd_pipe", _RESULT, _RESULT + 4)

    def starve(self) -> str:
        """Read from the last pipe to be had, which only the guest itself could fill; return how that ended."""
        while self.pipe() is Errno.SUCCESS:
            pass
        self._instance.write_memory(_IOVEC, bytes(4) + (1).to_bytes(4, "little"))
        try:
            fd = int.from_bytes(self._instance.read_memory(_RESULT, 4), "little")
            return self._call("fd_read", fd, _IOVEC, 1, 48).name
        except GuestFailed:
            result = self._instance.close()
            return f"{result.signal.name if result.signal else 'OK'}, {result.cause.kind.value}"

    def close(self, fd: int) -> Errno:
        """Close a descriptor."""
        return self._call("fd_close", fd)

    def lock(self, fd: int, operation: int = _EXCLUSIVE) -> Errno:
        """Lock an open file, with the numbers of flock(2)."""
        return self._call("fd_flock", fd, operation)

    def spawn(self, actions: int) -> Errno:
        """Start a program that ends at once, with file actions that do nothing."""
        record = b"".join(number.to_bytes(4, "little") for number in (_CLOSE, 99, 0, 0, 0, 0))
        self._instance.write_memory(_ACTIONS, record * actions)
        strings = _EXE, len(_START), 0, 0, 0, 0
        made = self._call("proc_spawn_v3", *strings, _ACTIONS, len(record) * actions, 0, 0, 0, 0, 0, 0, 0, 0, _RESULT)
        if made is Errno.SUCCESS:
            self._call("proc_waitpid_v3", -1, 0, _RESULT, _RESULT + 4)
        return made

    def _call(self, name: str, *arguments: int) -> Errno:
        result = self._instance.call(name, *arguments)
        assert isinstance(result, int)
        return Errno(result)


def _told(done: int, errno: Errno, wanted: Errno, count: int) -> Seen:
    return Seen(f"{errno.name} after {done:,}", (done, errno) == (count, wanted))


@check("max_pipes", by="kernel")
def pipes(trial: Trial) -> Seen:
    with trial.vm(3) as vm, Caller(vm) as caller:
        made = [caller.pipe() for _ in range(4)]
        return _told(made.count(Errno.SUCCESS), made[-1], Errno.ENFILE, 3)


@check("max_file_locks", by="kernel")
def locks(trial: Trial) -> Seen:
    with trial.vm(2) as vm, Caller(vm) as caller:
        made = [caller.lock(fd) for fd in range(3)]
        return _told(made.count(Errno.SUCCESS), made[-1], Errno.ENOLCK, 2)


@check("max_spawn_actions", by="kernel")
def spawn_actions(trial: Trial) -> Seen:
    with trial.vm(2) as vm, Caller(vm) as caller:
        made = [caller.spawn(2), caller.spawn(3)]
        return _told(made.count(Errno.SUCCESS), made[-1], Errno.E2BIG, 1)


@check("max_spawn_action_bytes", by="kernel")
def spawn_action_bytes(trial: Trial) -> Seen:
    with trial.vm(2 * _ACTION_BYTES) as vm, Caller(vm) as caller:
        made = [caller.spawn(2), caller.spawn(3)]
        return _told(made.count(Errno.SUCCESS), made[-1], Errno.E2BIG, 1)


@check("max_pipes", by="kernel", setting="on_stall", promised='"kill": SIGKILL for who waits for itself')
def stall(trial: Trial) -> Seen:
    with trial.vm(3, on_stall="kill") as vm, Caller(vm) as caller:
        seen = caller.starve()
        return Seen(seen, seen == "SIGKILL, stalled")
