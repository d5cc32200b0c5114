"""Runs a guest under wasmtime's own WASI, in a directory of its own: what agentvm's answers are compared with."""

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import wasmtime

from tests.support.cache import cache_folder

__all__ = ["Outcome", "ReferenceVM"]

MEMORY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: with an exit code, a trap, or an error of wasmtime's own, as for a call that it won't serve."""

    exit_code: int | None
    trap: wasmtime.TrapCode | None
    stdout: bytes
    stderr: bytes
    error: str = ""


class ReferenceVM:
    """A temporary directory, preopened as `/` for every program that runs here. Use as a context manager."""

    def __init__(self) -> None:
        config = wasmtime.Config()
        config.wasm_exceptions = True
        config.max_wasm_stack = 1 << 20
        self._engine = wasmtime.Engine(config)
        self._folder = tempfile.TemporaryDirectory(prefix="agentvm-reference-")
        #: The directory that is `/` to the programs.
        self.root = Path(self._folder.name, "root")
        self.root.mkdir()

    def __enter__(self) -> "ReferenceVM":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._folder.cleanup()

    def run(
        self, program: Path, args: Sequence[str] = (), env: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> Outcome:
        """Run `_start` to its end."""
        streams = [Path(self._folder.name, name) for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(stdin)
        wasi = wasmtime.WasiConfig()
        wasi.argv = [program.name, *args]
        wasi.env = list((env or {}).items())
        wasi.preopen_dir(str(self.root), "/")
        wasi.stdin_file, wasi.stdout_file, wasi.stderr_file = map(str, streams)
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=MEMORY_BYTES)
        store.set_wasi(wasi)
        linker = wasmtime.Linker(self._engine)
        linker.define_wasi()
        instance = linker.instantiate(store, self._module(program.read_bytes()))
        start = instance.exports(store)["_start"]
        assert isinstance(start, wasmtime.Func)
        code: int | None = 0
        trap, error = None, ""
        try:
            start(store)
        except wasmtime.ExitTrap as ended:
            code = ended.code
        except wasmtime.Trap as trapped:
            code, trap = None, trapped.trap_code
        except wasmtime.WasmtimeError as failed:
            code, error = None, str(failed)
        return Outcome(code, trap, streams[1].read_bytes(), streams[2].read_bytes(), error)

    def _module(self, wasm: bytes) -> wasmtime.Module:
        """Compiling the large ones takes seconds: keep the result, by content and wasmtime version."""
        kept = cache_folder("reference") / f"{hashlib.sha256(wasm).hexdigest()}-{metadata.version('wasmtime')}.cwasm"
        if kept.exists():
            try:
                return wasmtime.Module.deserialize(self._engine, kept.read_bytes())
            except wasmtime.WasmtimeError:
                kept.unlink()  # of another machine or configuration
        module = wasmtime.Module(self._engine, wasm)
        partial = kept.with_suffix(".partial")
        partial.write_bytes(bytes(module.serialize()))
        partial.rename(kept)
        return module
