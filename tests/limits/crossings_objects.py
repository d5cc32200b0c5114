"""Drivers for what a guest holds: processes, descriptors, sockets, files, memory, the call stack, queues."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agentvm import AgentVM, HostDirectory
from agentvm.errors import InvalidArgument, ProcessLimit
from agentvm.kernel.outcome import Signal
from tests.limits.crossing import Stage, crosses, until
from tests.limits.harness import assemble
from tests.limits.probe import Probe
from tests.support.fixtures import guest

__all__ = ()

MIB = 1 << 20
PAGE = 65_536


@crosses("max_processes")
def processes(stage: Stage) -> None:
    with stage.open(max_processes=5) as vm:
        probes = [Probe(vm) for _ in range(3)]
        stage.quiet()
        probes.append(Probe(vm))
        stage.warned()
        for probe in probes[2:]:
            probe.close()
        stage.recovered()
        probes[2:] = [Probe(vm), Probe(vm)]
        stage.warned()
        probes.append(Probe(vm))
        with pytest.raises(ProcessLimit, match="EAGAIN"):
            Probe(vm)
        stage.refused()


@crosses("max_open_fds_per_process")
def descriptors_of_a_process(stage: Stage) -> None:
    with stage.open(max_open_fds_per_process=20) as vm, Probe(vm) as probe:
        held = int(stage.use.used)
        probe.done(f"open {15 - held}")
        stage.quiet()
        probe.done("open 2")
        stage.warned()
        probe.done("close 7")
        stage.recovered()
        probe.done("open 8")
        stage.warned()
        assert probe.do("open 5") == ("EMFILE", 2)
        stage.refused()


@crosses("max_open_fds")
def descriptors_of_the_vm(stage: Stage) -> None:
    with stage.open(max_open_fds=40) as vm, Probe(vm) as probe, Probe(vm) as other:
        other.done("open 10")
        held = int(stage.use.used)
        probe.done(f"open {31 - held}")
        stage.quiet()
        probe.done("open 1")
        stage.warned()
        probe.done(f"close {32 - held}")
        stage.recovered()
        probe.done(f"open {32 - held}")
        stage.warned()
        assert probe.do("open 20") == ("ENFILE", 8)
        stage.refused()


@crosses("max_sockets")
def sockets(stage: Stage) -> None:
    with stage.open(max_sockets=10) as vm:
        with Probe(vm, listeners=8):
            stage.warned()
        stage.recovered()
        with Probe(vm, listeners=8):
            stage.warned()
            with pytest.raises(InvalidArgument, match="ENFILE"):
                Probe(vm, listeners=3)
        stage.refused()


@crosses("max_listener_backlog")
def backlog(stage: Stage) -> None:
    with stage.open(max_listener_backlog=5) as vm, Probe(vm, listeners=1) as probe:
        for _ in range(3):
            probe.process.connect()
        stage.quiet()
        probe.process.connect()
        stage.warned()
        probe.done("accept 2")
        stage.recovered()
        for _ in range(2):
            probe.process.connect()
        stage.warned()
        probe.process.connect()
        with pytest.raises(ConnectionRefusedError):
            probe.process.connect()
        stage.refused()


@crosses("max_pipe_bytes")
def pipe(stage: Stage) -> None:
    with stage.open(max_pipe_bytes=8192) as vm, Probe(vm) as probe:
        errors = probe.process.stderr
        assert errors is not None
        probe.done("send 6000 2")
        stage.quiet()
        probe.done("send 1000 2")
        stage.warned()
        assert len(errors.read(4000)) == 4000
        stage.recovered()
        probe.done("send 4000 2")
        stage.warned()
        probe.tell("send 8000 2")
        until(lambda: stage.use.refused > 0, "the writer's wait")
        stage.refused()
        left = 7000 + 8000
        while left:
            left -= len(errors.read(left))
        assert probe.answer() == "OK 8000"


#: Answers calls of "wait", each of which reads one byte of its standard input.
_WAITING = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")
  (func (export "_initialize"))
  (func (export "wait") (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 24)))))"""


@crosses("max_waiting_calls")
def waiting_calls(stage: Stage) -> None:
    with stage.open(max_waiting_calls=5) as vm, vm.instantiate(assemble(_WAITING), stdin=None) as instance:
        callers: list[threading.Thread] = []

        def call(times: int) -> None:
            for _ in range(times):
                callers.append(threading.Thread(target=instance.call, args=("wait",), daemon=True))
                callers[-1].start()

        call(1)
        until(lambda: stage.use.peak >= 1 and not stage.use.used, "the first call's start")
        call(4)
        until(lambda: stage.use.used == 4, "four calls that wait")
        stage.warned()
        instance.stdin.write(b"12")
        until(lambda: stage.use.used == 2, "two answers")
        stage.recovered()
        call(2)
        until(lambda: stage.use.used == 4, "four calls that wait")
        stage.warned()
        call(1)
        until(lambda: stage.use.used == 5, "five calls that wait")
        with pytest.raises(InvalidArgument, match="max_waiting_calls"):
            instance.call("wait")
        stage.refused()
        instance.stdin.write(b"123456")
        for caller in callers:
            caller.join(60)


# -- files ------------------------------------------------------------------------------------------------------------


def _fill(stage: Stage, probe: Probe, path: str, errno: str = "ENOSPC") -> None:
    """A cap of 1 MiB on bytes: up to 90 %, back to next to nothing, up again, and past it."""
    probe.done(f"fill 700000 {path}")
    stage.quiet()
    probe.done(f"fill 200000 {path}")
    stage.warned()
    probe.done(f"cut 100 {path}")
    stage.recovered()
    probe.done(f"fill 900000 {path}")
    stage.warned()
    found, _ = probe.do(f"fill 300000 {path}")
    assert found == errno
    stage.refused()


@crosses("max_filesystem_bytes")
def filesystem(stage: Stage) -> None:
    with stage.open(max_filesystem_bytes="1MiB") as vm, Probe(vm) as probe:
        _fill(stage, probe, "/filled")


@crosses("max_temp_storage_bytes")
def temporary_files(stage: Stage) -> None:
    with stage.open(max_temp_storage_bytes="1MiB") as vm, Probe(vm) as probe:
        _fill(stage, probe, "/tmp/filled")


@crosses("max_file_bytes")
def one_file(stage: Stage) -> None:
    with stage.open(max_file_bytes="1MiB") as vm, Probe(vm) as probe:
        probe.done("fill 700000")
        stage.quiet()
        probe.done("fill 200000")
        stage.warned()
        probe.done("fill 200000 /another")
        stage.recovered()
        probe.done("cut 0")
        probe.done("fill 900000")
        stage.warned()
        assert probe.do("fill 300000")[0] == "EFBIG"
        stage.refused()


@crosses("max_inodes")
def inodes(stage: Stage) -> None:
    with stage.open(max_inodes=100) as vm, Probe(vm) as probe:
        held = int(stage.use.used)
        _make(stage, probe, "/", held)


def _make(stage: Stage, probe: Probe, directory: str, held: int) -> None:
    """A cap of 100 on files, of which some are there."""
    probe.done(f"make {79 - held} {directory}")
    stage.quiet()
    probe.done(f"make 5 {directory}")
    stage.warned()
    probe.done("remove 40")
    stage.recovered()
    probe.done(f"make 40 {directory}")
    stage.warned()
    assert probe.do(f"make 40 {directory}") == ("ENOSPC", 16)
    stage.refused()


@contextmanager
def _mounted(stage: Stage, **limits: object) -> Iterator[Probe]:
    with tempfile.TemporaryDirectory() as directory, stage.open(**limits) as vm:
        vm.mount("/mnt", HostDirectory(directory))
        with Probe(vm) as probe:
            yield probe


@crosses("max_host_write_bytes")
def host_bytes(stage: Stage) -> None:
    with _mounted(stage, max_host_write_bytes="1MiB") as probe:
        _fill(stage, probe, "/mnt/filled")


@crosses("max_host_inodes")
def host_inodes(stage: Stage) -> None:
    with _mounted(stage, max_host_inodes=100) as probe:
        _make(stage, probe, "/mnt", 0)


# -- memory -----------------------------------------------------------------------------------------------------------


def _grow(stage: Stage, vm: AgentVM, *, cap_pages: int) -> None:
    """Memory never shrinks: it recovers with the end of the process."""
    for last in (False, True):
        with Probe(vm) as probe:
            held = int(stage.use.used) // PAGE + 1
            probe.done(f"grow {cap_pages * 7 // 10 - held}")
            stage.quiet()
            probe.done(f"grow {cap_pages * 2 // 10}")
            stage.warned()
            if last:
                assert probe.do(f"grow {cap_pages * 2 // 10}")[0] == "ENOMEM"
                stage.refused()
        if not last:
            stage.recovered()


@crosses("max_memory_bytes")
def memory_of_the_vm(stage: Stage) -> None:
    with stage.open(max_memory_bytes=100 * PAGE) as vm:
        _grow(stage, vm, cap_pages=100)


@crosses("max_memory_per_process_bytes")
def memory_of_a_process(stage: Stage) -> None:
    with stage.open(max_memory_per_process_bytes=100 * PAGE) as vm:
        _grow(stage, vm, cap_pages=100)


@crosses("max_wasm_stack_bytes")
def call_stack(stage: Stage) -> None:
    """The depth is seen on the tick, so the guest computes for a while where it is deep."""
    with stage.open(max_wasm_stack_bytes="1MiB", max_memory_bytes="64MiB") as vm:
        with Probe(vm) as probe:
            probe.done("deep 2000")
            each = stage.use.peak / 2000
            assert 16 <= each <= 512, "bytes of the call stack for each call"
            stage.quiet()
            probe.done(f"deep {int(0.9 * MIB / each)}")
            stage.warned()
            probe.done("deep 100")
            stage.recovered()
            probe.done(f"deep {int(0.9 * MIB / each)}")
            stage.warned()
            probe.tell(f"deep {int(2 * MIB / each)}")
            assert probe.process.wait(60).signal is Signal.SIGSEGV
        stage.refused()


# -- output -----------------------------------------------------------------------------------------------------------


@crosses("max_log_bytes")
def captured_output(stage: Stage) -> None:
    with stage.open(max_log_bytes=100_000) as vm, vm.spawn(guest("probe"), capture=True) as process:
        assert process.stdin is not None
        process.stdin.write(b"print 79000\n")
        until(lambda: stage.use.used > 79_000, "the first output")
        stage.quiet()
        process.stdin.write(b"print 10000\n")
        until(lambda: stage.use.used > 89_000, "more output")
        stage.warned()
        process.stdin.write(b"print 50000\n")
        process.stdin.close()
        assert process.wait(60).truncated
        stage.refused()


@crosses("max_output_bytes")
def streamed_output(stage: Stage) -> None:
    with stage.open(max_output_bytes=50_000) as vm, Probe(vm) as probe:
        probe.done("print 39000")
        stage.quiet()
        probe.done("print 5000")
        stage.warned()
        probe.tell("print 10000")
        until(lambda: stage.use.refused > 0, "the refusal")
        stage.refused()
