"""`GuestFile`: a program that lies in the VM's own files, perhaps written by a guest, runs under the caps of such."""

import asyncio
from pathlib import Path

import pytest
import wasmtime

from agentvm import AgentVM, AsyncAgentVM, GuestFile, HostDirectory, Limits
from agentvm.errors import (
    AgentVMError,
    CompileLimit,
    InvalidArgument,
    MissingExport,
    ModuleLimit,
    NotRunnable,
    NotWasm,
    ProgramNotFound,
)
from tests.support.fixtures import guest
from tests.support.wasm_builder import name, section, time_bomb

WASI = "wasi_snapshot_preview1"


def writer(content: bytes, path: str) -> bytes:
    """A program that writes `content` to a new file at `path`, and exits with the first errno."""
    escaped = "".join(f"\\{byte:02x}" for byte in content)
    return bytes(
        wasmtime.wat2wasm(f"""(module
          (import "{WASI}" "path_open"
            (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (import "{WASI}" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "{WASI}" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 4)
          (data (i32.const 16) "{path}") (data (i32.const 4096) "{escaped}")
          (func $must (param i32) (if (local.get 0) (then (call $exit (local.get 0)))))
          (func (export "_start")
            (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 16) (i32.const {len(path)}) (i32.const 1)
              (i64.const 0x40) (i64.const 0) (i32.const 0) (i32.const 8)))
            (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const {len(content)}))
            (call $must (call $write (i32.load (i32.const 8)) (i32.const 0) (i32.const 1) (i32.const 12)))))""")
    )


def put(vm: AgentVM, path: str, wasm: bytes) -> GuestFile:
    vm.fs.write(path, wasm, parents=True)
    return GuestFile(path)


def padded(size: int) -> bytes:
    """A program of exactly that many bytes."""
    bare = bytes(wasmtime.wat2wasm('(module (func (export "_start")))'))
    for padding in range(size - len(bare)):
        wasm = bare + section(0, name("padding") + bytes(padding))
        if len(wasm) == size:
            return wasm
    raise AssertionError(size)


def test_what_one_guest_writes_the_host_runs() -> None:
    """A program is written by a guest, call by call, and run; then another is written in its place."""
    with AgentVM() as vm:
        vm.fs.mkdir("/bin", exist_ok=True)
        for says in (b"one", b"other"):
            tool = writer(says, "said.txt")
            vm.run(writer(tool, "bin/tool.wasm")).check()
            vm.run(GuestFile("/bin/tool.wasm")).check()
            assert vm.fs.read("/said.txt") == says
            vm.fs.remove("/said.txt")


def test_arguments_start_with_the_path_in_the_vm() -> None:
    with AgentVM() as vm:
        cat = put(vm, "/opt/tools/cat.wasm", guest("cat").read_bytes())
        assert vm.run(cat, ["/proc/self/cmdline"]).stdout == b"/opt/tools/cat.wasm\0/proc/self/cmdline\0"
        assert vm.run(cat, ["/proc/self/comm"]).stdout == b"cat.wasm\n"
        assert vm.run(cat, ["/proc/self/cmdline"], argv0="cat").stdout.startswith(b"cat\0")


def test_every_way_to_start_a_program_takes_one() -> None:
    reactor = bytes(wasmtime.wat2wasm('(module (func (export "seven") (result i32) (i32.const 7)))'))

    async def run_async() -> str:
        async with AsyncAgentVM() as vm:
            await vm.fs.write("/hello.wasm", guest("hello").read_bytes())
            return (await vm.run(GuestFile("/hello.wasm"))).stdout_text

    with AgentVM() as vm:
        with vm.instantiate(put(vm, "/seven.wasm", reactor)) as instance:
            assert instance.call("seven") == 7
        process = vm.spawn(put(vm, "/hello.wasm", guest("hello").read_bytes()), stdin=b"", capture=True)
        assert process.wait().stdout_text == "hello from a VM\n"
    assert asyncio.run(run_async()) == "hello from a VM\n"


def test_path_may_lead_through_symlinks_and_mounts(tmp_path: Path) -> None:
    (tmp_path / "hello.wasm").write_bytes(guest("hello").read_bytes())
    with AgentVM() as vm:
        vm.mount("/mnt", HostDirectory(tmp_path))
        vm.fs.symlink("/mnt/hello.wasm", "/hello")
        for path in ("/mnt/hello.wasm", "/hello", "/mnt/../mnt/./hello.wasm"):
            assert vm.run(GuestFile(path)).ok


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/none.wasm", ProgramNotFound, "there is no file /none.wasm in the VM"),
        ("/file/below.wasm", ProgramNotFound, "there is no file"),
        ("/dangling", ProgramNotFound, "there is no file"),
        ("/", NotRunnable, "is a directory"),
        ("/dev/null", NotRunnable, "not a regular file"),
        ("/loop", NotRunnable, "ELOOP"),
        ("/" + "n" * 300, NotRunnable, "ENAMETOOLONG"),
        ("relative.wasm", InvalidArgument, "not absolute"),
        ("", InvalidArgument, "not absolute"),
        ("/file", NotWasm, "not a WebAssembly module"),
        ("/library.wasm", MissingExport, "_start"),
        ("/e\x1b[31m\n", ProgramNotFound, r"e\\x1b\[31m\\n"),
    ],
)
def test_what_cannot_run_is_a_typed_error(path: str, kind: type[AgentVMError], words: str) -> None:
    with AgentVM() as vm:
        vm.fs.write("/file", b"text")
        vm.fs.write("/library.wasm", bytes(wasmtime.wat2wasm("(module)")))
        vm.fs.symlink("/nowhere", "/dangling")
        vm.fs.symlink("/loop", "/loop")
        with pytest.raises(kind, match=words) as caught:
            vm.run(GuestFile(path))
        assert type(caught.value) is kind
        assert str(caught.value).isprintable()
        assert not list(vm._kernel.processes)


def test_it_has_the_caps_of_what_guests_write() -> None:
    with AgentVM(Limits(max_guest_module_bytes=1000, max_guest_compile_seconds=0.5)) as vm:
        for size in (900, 1000):
            vm.run(put(vm, "/tool.wasm", padded(size))).check()
        with pytest.raises(ModuleLimit, match="max_guest_module_bytes") as refused:
            vm.run(put(vm, "/tool.wasm", padded(1001)))
        assert (refused.value.values["observed"], refused.value.values["cap"]) == (1001, 1000)
        vm.run(padded(1001)).check()  # the operator's own
        use = vm.usage()["max_guest_module_bytes"]
        assert (use.peak, use.refused, use.warnings) == (1000, 1, 1)
        assert vm.usage()["max_module_bytes"].peak == 1001
        vm.raise_limit(max_guest_module_bytes="1MiB")
        with pytest.raises(CompileLimit, match="max_guest_compile_seconds"):
            vm.run(put(vm, "/bomb.wasm", time_bomb()))
        assert vm.usage()["max_guest_compile_seconds"].refused == 1
        assert vm.usage()["max_compile_seconds"].refused == 0


def test_file_that_grows_while_it_is_opened_is_refused_and_read_no_further() -> None:
    """A guest may write to it between the look at its size and the read."""
    from agentvm.api.guest_program import open_guest_file

    with AgentVM() as vm:
        program = open_guest_file(put(vm, "/tool.wasm", padded(900)), vm.fs)
        vm.fs.write("/tool.wasm", bytes(5000), append=True)
        with pytest.raises(ModuleLimit, match="max_guest_module_bytes"):
            program.read(1000)
        vm.fs.remove("/tool.wasm")
        with pytest.raises(ProgramNotFound):
            program.read(1000)
