"""(d) What fuel and epochs cost a computing guest: the same loop on a plain engine and in a VM."""

import wasmtime

from agentvm import AgentVM
from tests.bench.starts import timed

LOOPS = 100_000_000
KERNELS = {
    "tight loop": "(local.set $x (i64.add (local.get $x) (i64.const 3)))",
    "xorshift": """(local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
      (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
      (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))""",
    "memory": """(i64.store (i32.and (local.get $i) (i32.const 0xfff8))
      (i64.add (i64.load (i32.and (local.get $i) (i32.const 0xfff8))) (local.get $x)))
      (local.set $x (i64.add (local.get $x) (i64.const 1)))""",
}


def _guest(kernel: str) -> bytes:
    return bytes(
        wasmtime.wat2wasm(f"""(module (memory (export "memory") 1) (func (export "_start") (local $i i32) (local $x i64)
   (local.set $x (i64.const 88172645463325252))
   (loop $again {kernel}
     (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {LOOPS}))))
   (if (i64.eqz (local.get $x)) (then (unreachable)))))""")
    )


def measure() -> str:
    lines = []
    for name, kernel in KERNELS.items():
        wasm = _guest(kernel)
        engine = wasmtime.Engine()
        module = wasmtime.Module(engine, wasm)
        store = wasmtime.Store(engine)
        start = wasmtime.Instance(store, module, []).exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        with AgentVM() as vm:
            metered = timed(lambda vm=vm, wasm=wasm: vm.run(wasm).check(), 5)[2]
        plain = timed(lambda start=start, store=store: start(store), 5)[2]
        lines.append(f"{name:12} metered {metered:.3f} s, unmetered {plain:.3f} s, ratio {metered / plain:.2f}")
    return "\n".join(lines)
