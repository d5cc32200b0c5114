"""Checks of what a guest holds: processes, descriptors, sockets, queues, memory, output."""

import threading

from agentvm.api.reactor import Instance
from agentvm.doctor.check import Trial, check
from agentvm.doctor.finding import name_of
from agentvm.doctor.modules import START, waiting_reactor
from agentvm.doctor.probe import PROBE, Probe
from agentvm.doctor.seen import Seen, answered, ended, errno_name, refused
from agentvm.errors import AgentVMError, InvalidArgument, ProcessLimit
from agentvm.kernel.outcome import Signal
from agentvm.limits.spec import LimitSpec

__all__ = ()

_PAGE = 65_536


@check("max_processes", by="kernel")
def processes(trial: Trial) -> Seen:
    with trial.vm(1) as vm, Probe(vm):
        return refused(lambda: vm.run(START), ProcessLimit, trial.spec, errno="EAGAIN")


@check("max_open_fds_per_process", by="kernel")
def descriptors_of_a_process(trial: Trial) -> Seen:
    with trial.vm(8) as vm, Probe(vm) as probe:
        return answered(probe, "open 20", "EMFILE", [8 - trial.used(vm)])


@check("max_open_fds", by="kernel")
def descriptors_of_the_vm(trial: Trial) -> Seen:
    with trial.vm(16) as vm, Probe(vm), Probe(vm) as probe:
        return answered(probe, "open 20", "ENFILE", [16 - trial.used(vm)])


@check("max_sockets", by="kernel")
def sockets(trial: Trial) -> Seen:
    with trial.vm(1) as vm:
        start = lambda: Probe(vm, listeners=2).close()  # noqa: E731
        return refused(start, InvalidArgument, trial.spec, errno="ENFILE")


@check("max_listener_backlog", by="kernel")
def backlog(trial: Trial) -> Seen:
    with trial.vm(1) as vm, Probe(vm, listeners=1) as probe:
        probe.process.connect()
        return refused(probe.process.connect, ConnectionRefusedError, trial.spec)


@check("max_pipe_bytes", by="kernel")
def pipe(trial: Trial) -> Seen:
    """What the guest writes at once does not fit until somebody has read."""
    size, cap = 10_000, 4096
    with trial.vm(cap) as vm, Probe(vm) as probe:
        probe.tell(f"send {size} 2")
        errors = probe.process.stderr
        assert errors is not None
        first = len(errors.read(size))
        left = size - first
        while left:
            left -= len(errors.read(left))
        said = probe.answer()
        return Seen(f"{said}, {first:,} at first", said == f"OK {size}" and first <= cap)


@check("max_waiting_calls", by="host API")
def waiting_calls(trial: Trial) -> Seen:
    """One call is served and one waits: a third is refused, or waits too."""
    with trial.vm(1) as vm, vm.instantiate(waiting_reactor(), stdin=None) as instance:
        first, second, third = (_Caller(instance, trial.spec) for _ in range(3))
        first.start()
        trial.until(lambda: vm.usage()[trial.spec.name].peak == 1 and not trial.used(vm))
        second.start()
        trial.until(lambda: trial.used(vm) == 1)
        third.start()
        trial.until(lambda: third.seen is not None or trial.used(vm) > 1)
        assert instance.stdin is not None
        instance.stdin.write(b"123")
        for caller in (first, second, third):
            caller.join(trial.rig.patience_seconds)
        return third.seen or Seen("nothing", False)


class _Caller(threading.Thread):
    """Calls the reactor that waits, once."""

    def __init__(self, instance: Instance, spec: LimitSpec) -> None:
        super().__init__(name="doctor-call", daemon=True)
        self.seen: Seen | None = None
        self._instance = instance
        self._spec = spec

    def run(self) -> None:
        try:
            self.seen = refused(lambda: self._instance.call("wait"), InvalidArgument, self._spec)
        except AgentVMError as error:
            self.seen = Seen(name_of(error), False)


# -- memory -----------------------------------------------------------------------------------------------------------


@check("max_memory_bytes", by="memory creator")
def memory_of_the_vm(trial: Trial) -> Seen:
    return _memory(trial)


@check("max_memory_per_process_bytes", by="memory creator")
def memory_of_a_process(trial: Trial) -> Seen:
    return _memory(trial)


def _memory(trial: Trial) -> Seen:
    """The last page that fits is had, and not one more."""
    cap = 64 * _PAGE
    with trial.vm(cap) as vm, Probe(vm) as probe:
        probe.done("grow 0")  # by now it has all that it needs itself
        room = (cap - trial.used(vm)) // _PAGE
        probe.done(f"grow {room}")
        errno, _ = probe.do("grow 1")
        return Seen(f"{errno} after {room} pages", errno == "ENOMEM")


@check("max_wasm_stack_bytes", by="compiled code")
def call_stack(trial: Trial) -> Seen:
    """The smallest stack; so many calls fit into one of the default size."""
    with trial.vm("64KiB") as vm, Probe(vm) as probe:
        return ended(probe, "deep 5000", Signal.SIGSEGV, trial.spec.name)


# -- output -----------------------------------------------------------------------------------------------------------


@check("max_log_bytes", by="kernel")
def captured_output(trial: Trial) -> Seen:
    with trial.vm(5000) as vm:
        result = vm.run(PROBE, stdin=b"print 9000\nexit\n")
        kept, errno = len(result.stdout) + len(result.stderr), errno_name(result.exit_code)
        mark = "truncated" if result.truncated else "whole"
        return Seen(f"{errno} after {kept:,}; {mark}", (errno, kept, mark) == ("ENOSPC", 5000, "truncated"))


@check("max_output_bytes", by="kernel")
def streamed_output(trial: Trial) -> Seen:
    with trial.vm(5000) as vm, Probe(vm) as probe:
        probe.tell("print 9000\nexit")
        errno = errno_name(probe.process.wait().exit_code)
        assert probe.process.stderr is not None
        shown = len(probe.process.stderr.read())
        return Seen(f"{errno} after {shown:,}", (errno, shown) == ("ENOSPC", 5000))
