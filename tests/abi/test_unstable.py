"""wasi_unstable: where it differs from preview1."""

import struct

import pytest

from agentvm import Errno, ManualClock
from agentvm.abi.preview1 import UNSTABLE
from agentvm.kernel.stat import Filetype
from tests.abi.baseline import BASELINES
from tests.abi.rig import Boot, Rig

SECOND = 1_000_000_000


@pytest.fixture
def old(boot: Boot) -> Rig:
    return boot(module="unstable")


def test_a_file_is_made_written_and_read(old: Rig) -> None:
    fd = old.create("/tmp/a", b"12345")
    assert old.read_fd(fd, 3) == b"123"
    assert old.write(fd, b"X") == 1
    assert old.vm.fs.read("/tmp/a") == b"123X5"
    assert old.trace[-1].startswith("fd_write(")


def test_fd_seek_numbers_whence_cur_end_set(old: Rig) -> None:
    fd = old.create("/tmp/a", b"0123456789")
    found = []
    for offset, whence in ((4, 2), (2, 0), (-1, 1)):
        old.ok("fd_seek", fd, offset, whence, 64, writes=[(64, 8)])
        found.append(old.number(64, 8))
    assert found == [4, 6, 9]
    assert old.call("fd_seek", fd, 0, 3, 64) is Errno.EINVAL
    assert old.call("fd_seek", 0, 0, 0, 64) is Errno.ESPIPE


@pytest.mark.parametrize("call", ["fd_filestat_get", "path_filestat_get"])
def test_a_filestat_has_56_bytes_and_a_32_bit_link_count(old: Rig, call: str) -> None:
    fd = old.create("/tmp/a", b"12345")
    old.ok("path_link", 3, 0, *old.text("tmp/a"), 3, *old.text("tmp/b"))
    arguments = (fd,) if call == "fd_filestat_get" else (3, 0, *old.text("tmp/a"))
    old.ok(call, *arguments, 128, writes=[(128, 56)])
    _, _, filetype, nlink, size, *times = struct.unpack("<QQB3xIQQQQ", old.read(128, 56))
    assert (filetype, nlink, size) == (Filetype.REGULAR_FILE, 2, 5)
    assert all(times)
    assert old.call(call, *arguments, 0x20000 - 55) is Errno.EFAULT
    old.ok(call, *arguments, 0x20000 - 56)


def test_poll_oneoff_has_subscriptions_of_56_bytes(boot: Boot) -> None:
    clock = ManualClock()
    rig = boot(module="unstable", vm={"clock": clock}, stdin=b"abc")
    fd = struct.pack("<QB7xI36x", 7, 1, 0)
    timer = struct.pack("<QB7xQI4xQQH6x", 8, 0, 99, 1, 5 * SECOND, 0, 0)
    assert len(fd) == len(timer) == 56
    rig.ok("poll_oneoff", rig.put(timer + fd), 128, 2, 64, writes=[(64, 4), (128, 32)])
    assert (rig.number(64), rig.number(128, 8)) == (1, 7)
    rig.ok("poll_oneoff", rig.put(timer), 128, 1, 64)
    assert (rig.number(64), rig.number(128, 8)) == (1, 8)
    assert clock.monotonic_ns() == 5 * SECOND
    assert rig.call("poll_oneoff", 0x20000 - 55, 128, 1, 64) is Errno.EFAULT


def test_poll_oneoff_of_unknown_flags_is_einval(old: Rig) -> None:
    timer = struct.pack("<QB7xQI4xQQH6x", 8, 0, 99, 1, 0, 0, 2)
    assert old.call("poll_oneoff", old.put(timer), 128, 1, 64) is Errno.EINVAL


def test_a_program_may_use_both_names_of_the_module(boot: Boot) -> None:
    import wasmtime

    text = """(module
      (import "wasi_unstable" "fd_seek" (func $old (param i32 i64 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_seek" (func $new (param i32 i64 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "both") (result i32)
        (i32.add (i32.mul (i32.const 100) (call $old (i32.const 0) (i64.const 0) (i32.const 9) (i32.const 0)))
                 (call $new (i32.const 0) (i64.const 0) (i32.const 9) (i32.const 0)))))"""
    with boot().vm.instantiate(bytes(wasmtime.wat2wasm(text))) as instance:
        assert instance.call("both") == 100 * Errno.EINVAL + Errno.ESPIPE


@pytest.mark.parametrize(
    "name", [name for name in BASELINES if name in UNSTABLE and not name.startswith(("poll", "sock"))]
)
def test_every_other_call_is_that_of_preview1(boot: Boot, name: str) -> None:
    rig = boot(module="unstable", env={"A": "1"})
    arguments = BASELINES[name].make(rig)
    rig.ok(name, *([arguments[0], 3, 2, arguments[3]] if name == "fd_seek" else arguments))
    assert rig.trace[-1].startswith(f"{name}(")
