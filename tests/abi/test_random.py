"""preview1 randomness."""

from tests.abi.rig import Boot, Rig


def _random(rig: Rig, size: int) -> bytes:
    rig.ok("random_get", 64, size, writes=[(64, size)])
    return rig.read(64, size)


def test_random_get_fills_exactly_the_buffer(rig: Rig) -> None:
    rig.ok("random_get", 1, 5, writes=[(1, 5)])
    assert rig.trace == ["random_get(buf=1, buf_len=5) -> OK"]


def test_random_get_of_nothing_is_fine(rig: Rig) -> None:
    rig.ok("random_get", 1, 0, writes=[])
    rig.ok("random_get", 0x20000, 0, writes=[])


def test_random_get_repeats_with_the_same_seed_alone(boot: Boot) -> None:
    first, second, other = (boot(vm={"seed": seed}) for seed in (7, 7, 8))
    drawn = [_random(first, 32), _random(first, 32)]
    assert drawn == [_random(second, 32), _random(second, 32)]
    assert drawn[0] != drawn[1]
    assert drawn[0] != _random(other, 32)


def test_random_get_fills_all_of_memory(boot: Boot) -> None:
    rig = boot(vm={"deterministic": False})
    rig.ok("random_get", 0, 0x20000)
    assert len(set(rig.memory())) == 256


def test_random_get_is_not_bounded_by_one_piece(boot: Boot) -> None:
    """Past 1 MiB it goes on piece by piece, to the last byte."""
    import wasmtime

    text = (
        '(module (import "wasi_snapshot_preview1" "random_get" (func $get (param i32 i32) (result i32)))'
        ' (memory (export "memory") 40)'
        ' (func (export "get") (param i32 i32) (result i32) (call $get (local.get 0) (local.get 1))))'
    )
    size = (2 << 20) + 17
    with boot().vm.instantiate(bytes(wasmtime.wat2wasm(text))) as instance:
        assert instance.call("get", 5, size) == 0
        filled = instance.read_memory(0, size + 10)
        assert filled[:5] == bytes(5)
        assert filled[5 + size :] == bytes(5)
        assert filled[-5 - 64 : -5] != bytes(64)
