"""preview1 process control: the calls that end a program."""

import pytest

from agentvm import CauseKind, Errno, Result, Signal
from agentvm.errors import GuestFailed
from tests.abi.rig import Boot, Rig

HARMLESS = {"none": 0, "chld": 16, "cont": 17, "stop": 18, "tstp": 19, "ttin": 20, "ttou": 21, "urg": 22, "winch": 27}
DEADLY = {
    "hup": (1, Signal.SIGHUP),
    "int": (2, Signal.SIGINT),
    "quit": (3, Signal.SIGQUIT),
    "ill": (4, Signal.SIGILL),
    "trap": (5, Signal.SIGTRAP),
    "abrt": (6, Signal.SIGABRT),
    "bus": (7, Signal.SIGBUS),
    "fpe": (8, Signal.SIGFPE),
    "kill": (9, Signal.SIGKILL),
    "usr1": (10, Signal.SIGUSR1),
    "segv": (11, Signal.SIGSEGV),
    "usr2": (12, Signal.SIGUSR2),
    "pipe": (13, Signal.SIGPIPE),
    "alrm": (14, Signal.SIGALRM),
    "term": (15, Signal.SIGTERM),
    "xcpu": (23, Signal.SIGXCPU),
    "xfsz": (24, Signal.SIGXFSZ),
    "sys": (30, Signal.SIGSYS),
}


def _end(rig: Rig, name: str, argument: int) -> Result:
    with pytest.raises(GuestFailed):
        rig.instance.call(name, argument)
    return rig.instance.close()


@pytest.mark.parametrize("code", [0, 1, 126, 255, 256, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_proc_exit_ends_the_program_with_its_code(boot: Boot, code: int) -> None:
    rig = boot()
    result = _end(rig, "proc_exit", code)
    assert (result.exit_code, result.signal, result.cause.kind) == (code, None, CauseKind.EXIT)
    assert rig.trace == [f"proc_exit(rval={code})"]


def test_proc_exit_keeps_what_was_printed(boot: Boot) -> None:
    rig = boot()
    rig.write(1, b"last words")
    assert _end(rig, "proc_exit", 3).stdout == b"last words"


@pytest.mark.parametrize("number", HARMLESS.values(), ids=HARMLESS)
def test_proc_raise_of_a_harmless_signal_returns(rig: Rig, number: int) -> None:
    rig.ok("proc_raise", number, writes=[])


@pytest.mark.parametrize(("number", "signal"), DEADLY.values(), ids=DEADLY)
def test_proc_raise_of_a_deadly_signal_ends_the_program(boot: Boot, number: int, signal: Signal) -> None:
    result = _end(boot(), "proc_raise", number)
    assert (result.exit_code, result.signal) == (None, signal)


@pytest.mark.parametrize("number", [31, 64, 0xFFFF_FFFF])
def test_proc_raise_of_an_unknown_signal_is_einval(rig: Rig, number: int) -> None:
    assert rig.call("proc_raise", number) is Errno.EINVAL
