"""What holds for all calls alike: bad pointers, bad descriptors, missing rights, and how traces write them."""

import pytest
import wasmtime

from agentvm import Errno
from agentvm.abi.params import Param
from agentvm.abi.preview1 import PREVIEW1
from agentvm.abi.rights import Rights
from agentvm.testing.proxy import MEMORY_BYTES
from tests.abi.baseline import BASELINES
from tests.abi.rig import WILD, Boot, Rig

_SIZES = {"argv": 4, "argv_buf": 8, "environ": 4, "environ_buf": 4, "subscriptions": 48, "events": 32}


def _prepared(boot: Boot, name: str) -> tuple[Rig, list[int]]:
    rig = boot(env={"A": "1"}, listeners=1)
    return rig, BASELINES[name].make(rig)


def _fd_positions(name: str) -> list[int]:
    return [
        index for index, (param, _) in enumerate(PREVIEW1[name].raw_params) if param in ("fd", "to", "old_fd", "new_fd")
    ]


def _pointers(name: str) -> list[tuple[int, int]]:
    """The raw parameters of a call that are pointers, and the bytes that the baseline makes each point to."""
    spec, found, position = PREVIEW1[name], [], 0
    for param, kind in spec.params:
        if _is_pointer(kind):
            found.append((position, _SIZES.get(param, 1)))
        position += len(kind.wasm)
    return [*found, *((position + index, result.size) for index, result in enumerate(spec.results))]


def _is_pointer(kind: Param) -> bool:
    return Errno.EFAULT in kind.errnos


WITH_POINTERS = [(name, *pointer) for name in BASELINES for pointer in _pointers(name)]
WITH_LENGTHS = [
    (name, index)
    for name in BASELINES
    for index, (param, _) in enumerate(PREVIEW1[name].raw_params)
    if param.endswith("_len")
]
WITH_FDS = [(name, index) for name in BASELINES for index in _fd_positions(name)]
WITH_RIGHTS = [(name, index, right) for name, row in BASELINES.items() for index, right in row.rights]


def test_every_call_that_returns_has_a_baseline() -> None:
    assert sorted(BASELINES) == sorted(name for name, spec in PREVIEW1.items() if spec.returns)


@pytest.mark.parametrize("name", BASELINES)
def test_a_good_call_succeeds_and_is_traced(boot: Boot, name: str) -> None:
    rig, arguments = _prepared(boot, name)
    rig.ok(name, *arguments)
    names = ", ".join(
        f"{param}={value}" for (param, _), value in zip(PREVIEW1[name].raw_params, arguments, strict=True)
    )
    assert rig.trace[-1] == f"{name}({names}) -> OK"


@pytest.mark.parametrize(("name", "position", "size"), WITH_POINTERS)
def test_a_bad_pointer_is_efault_before_anything_happens(boot: Boot, name: str, position: int, size: int) -> None:
    rig, arguments = _prepared(boot, name)
    for pointer in (WILD, MEMORY_BYTES, MEMORY_BYTES - size + 1):
        bad = [*arguments]
        bad[position] = pointer
        assert rig.call(name, *bad) is Errno.EFAULT
        assert rig.trace[-1].endswith(" -> EFAULT")
    rig.ok(name, *arguments)  # the failures left everything as it was


@pytest.mark.parametrize(("name", "position"), WITH_LENGTHS)
def test_a_length_that_overflows_is_refused_before_anything_happens(boot: Boot, name: str, position: int) -> None:
    rig, arguments = _prepared(boot, name)
    is_array = PREVIEW1[name].raw_params[position][0] in ("iovs_len", "ri_data_len", "si_data_len")
    for length in (0xFFFF_FFFF, 0x8000_0000, 0x2000_0001):
        bad = [*arguments]
        bad[position] = length
        assert rig.call(name, *bad) is (Errno.EINVAL if is_array else Errno.EFAULT)
    rig.ok(name, *arguments)


@pytest.mark.parametrize(("name", "position"), WITH_FDS)
def test_a_number_that_is_not_open_is_ebadf(boot: Boot, name: str, position: int) -> None:
    rig, arguments = _prepared(boot, name)
    for fd in (99, 0xFFFF_FFFF, 0x8000_0000):
        bad = [*arguments]
        bad[position] = fd
        assert rig.call(name, *bad) is Errno.EBADF
    rig.ok(name, *arguments)


@pytest.mark.parametrize(("name", "position", "right"), WITH_RIGHTS, ids=lambda value: getattr(value, "name", None))
def test_a_descriptor_without_the_right_is_refused(boot: Boot, name: str, position: int, right: Rights) -> None:
    rig, arguments = _prepared(boot, name)
    rig.drop(arguments[position], right)
    expected = Errno.EBADF if right in (Rights.FD_READ, Rights.FD_WRITE) else Errno.ENOTCAPABLE
    assert rig.call(name, *arguments) is expected


@pytest.mark.parametrize("name", [name for name, row in BASELINES.items() if row.repeatable])
def test_a_call_can_be_made_again(boot: Boot, name: str) -> None:
    rig, arguments = _prepared(boot, name)
    rig.ok(name, *arguments)
    rig.ok(name, *arguments)


def test_calls_of_a_module_without_memory_fail_with_efault(boot: Boot) -> None:
    """A module need not export its memory; nothing can be read from it then."""
    rig = boot()
    text = (
        '(module (import "wasi_snapshot_preview1" "random_get" (func $get (param i32 i32) (result i32)))'
        ' (func (export "get") (result i32) (call $get (i32.const 0) (i32.const 1))))'
    )
    with rig.vm.instantiate(bytes(wasmtime.wat2wasm(text))) as instance:
        assert instance.call("get") == Errno.EFAULT
