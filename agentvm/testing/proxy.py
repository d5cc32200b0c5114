"""A guest that passes every call on: each import of a module re-exported, so that a test makes real calls through wasm.

Its memory is filled with "?", so that a call which writes too much or too little shows.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agentvm.abi.syscall import SyscallSpec
from agentvm.api.reactor import Instance
from agentvm.api.vm import AgentVM
from agentvm.errno import Errno

__all__ = ["MASK", "MEMORY_BYTES", "ProxyGuest", "exported", "proxy_module"]

MASK = b"?"
#: The size of the proxy's memory: every address from here on is a bad one.
MEMORY_BYTES = 2 * 65536
#: The first byte that `ProxyGuest.put` gives out; lower addresses are the test's own.
_FIRST_FREE = 4096


def proxy_module(calls: Iterable[SyscallSpec], more: str = "") -> str:
    """Return the text of a module that imports each call and exports it again under its name, or where an earlier one
    has that name, under `module.name`. `more` is text to put at its end."""
    imports, exports = [], []
    for name, spec in exported(calls).items():
        params = f"(param {' '.join(spec.wasm_params)})" if spec.wasm_params else ""
        results = f"(result {' '.join(spec.wasm_results)})" if spec.wasm_results else ""
        imports.append(f'(import "{spec.module}" "{spec.name}" (func ${name} {params} {results}))')
        gets = " ".join(f"(local.get {index})" for index in range(len(spec.wasm_params)))
        exports.append(f'(func (export "{name}") {params} {results} (call ${name} {gets}))')
    return "\n".join(["(module", *imports, f'(memory (export "memory") {MEMORY_BYTES >> 16})', *exports, more, ")"])


def exported(calls: Iterable[SyscallSpec]) -> Mapping[str, SyscallSpec]:
    """Return the calls by the names under which a proxy exports them."""
    named: dict[str, SyscallSpec] = {}
    for spec in calls:
        named[spec.name if spec.name not in named else f"{spec.module}.{spec.name}"] = spec
    return named


class ProxyGuest:
    """One proxy process in a VM, driven call by call."""

    def __init__(self, vm: AgentVM, calls: Iterable[SyscallSpec], wasm: bytes, **start: Any) -> None:
        """`wasm` is `proxy_module(calls)`, assembled; `start` goes to `AgentVM.instantiate`."""
        self.vm = vm
        self.specs = exported(calls)
        self.instance: Instance = vm.instantiate(wasm, **start)
        self._free = _FIRST_FREE
        self.instance.write_memory(0, MASK * MEMORY_BYTES)

    def call(self, name: str, *arguments: int) -> Errno:
        """Make a call with raw arguments, and return its errno."""
        return Errno(self.result(name, *arguments))

    def result(self, name: str, *arguments: int) -> int:
        """Make a call with raw arguments, and return what it returns itself, as a signed number."""
        spec = self.specs[name]
        assert len(arguments) == len(spec.wasm_params), f"{spec.signature_text()} got {arguments}"
        result = self.instance.call(name, *arguments)
        assert isinstance(result, int)
        return result

    def memory(self) -> bytes:
        """Return a copy of all memory."""
        return self.instance.read_memory(0, MEMORY_BYTES)

    def put(self, data: bytes) -> int:
        """Place bytes in the guest's memory, 8-aligned, and return their address."""
        address = self._free
        self.instance.write_memory(address, data)
        self._free = (address + len(data) + 15) & ~7
        return address

    def space(self, size: int) -> int:
        """Return the address of `size` masked bytes."""
        return self.put(MASK * size)

    def read(self, address: int, size: int) -> bytes:
        return self.instance.read_memory(address, size)

    def number(self, address: int, size: int = 4) -> int:
        """Return an unsigned little-endian number."""
        return int.from_bytes(self.read(address, size), "little")

    def text(self, name: str) -> tuple[int, int]:
        """Place a string, and return its address and length, as path parameters take them."""
        data = name.encode()
        return self.put(data), len(data)

    def iovecs(self, *buffers: tuple[int, int]) -> tuple[int, int]:
        """Place an iovec array, and return its address and count."""
        packed = b"".join(p.to_bytes(4, "little") + n.to_bytes(4, "little") for p, n in buffers)
        return self.put(packed), len(buffers)
