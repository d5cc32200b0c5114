"""The proxy guest with what the tests of calls need: a trace, checks on its memory, and a few shorthands."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Event
from typing import Any

import pytest
import wasmtime

from agentvm import AgentVM, Errno
from agentvm.abi.agentos import AGENTOS
from agentvm.abi.preview1 import PREVIEW1, UNSTABLE
from agentvm.abi.rights import ALL, DIRECTORY_BASE, DIRECTORY_INHERITING, FILE_BASE, Rights
from agentvm.abi.syscall import SyscallSpec
from agentvm.clock import Clock
from agentvm.kernel.fd_table import FIRST_TAGGED
from agentvm.kernel.process import Process
from agentvm.kernel.signalling import post
from agentvm.kernel.wait import Lock
from agentvm.testing.proxy import ProxyGuest, proxy_module
from tests.support.engine_rig import PATIENCE_SECONDS

__all__ = [
    "ALL",
    "CREAT",
    "DIRECTORY",
    "EVERY_FILE_RIGHT",
    "EXCL",
    "TRUNC",
    "WILD",
    "Boot",
    "Rig",
    "assembled",
    "calls_of",
]

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
EVERY_FILE_RIGHT = FILE_BASE
#: A pointer near the end of the 32-bit space: adding almost any length to it wraps around in 32 bits.
WILD = 0xFFFF_FFF8
ROOT = 3

Boot = Callable[..., "Rig"]


#: What the proxies of the host ABI have besides their calls: a handler that notes the signals which it is called for.
_TRAMPOLINE = """
(global $handled (mut i64) (i64.const 0))
(func (export "__wasi_signal_trampoline") (param $signal i32)
  (global.set $handled
    (i64.or (global.get $handled)
            (i64.shl (i64.const 1) (i64.extend_i32_u (i32.sub (local.get $signal) (i32.const 1)))))))
(func (export "handled") (result i64) (global.get $handled) (global.set $handled (i64.const 0)))
"""


def calls_of(module: str) -> list[SyscallSpec]:
    """Return the calls of a proxy: of "preview1", of "unstable", or of preview1 with the whole host ABI, "agentos"."""
    if module != "agentos":
        return list((PREVIEW1 if module == "preview1" else UNSTABLE).values())
    return [*PREVIEW1.values(), *(spec for table in AGENTOS.values() for spec in table.values())]


@cache
def assembled(module: str) -> bytes:
    """Return the proxy of these calls, as a binary module."""
    more = _TRAMPOLINE if module == "agentos" else ""
    return bytes(wasmtime.wat2wasm(proxy_module(calls_of(module), more)))


class Rig(ProxyGuest):
    """A proxy whose every failing call is checked to have left its memory alone."""

    def __init__(self, vm: AgentVM, module: str, trace: list[str], **start: Any) -> None:
        super().__init__(vm, calls_of(module), assembled(module), **start)
        self.trace = trace
        #: The descriptor of the root directory.
        self.root = FIRST_TAGGED if module == "agentos" else ROOT

    def call(self, name: str, *arguments: int) -> Errno:
        before = self.memory()
        errno = super().call(name, *arguments)
        if errno is not Errno.SUCCESS:
            assert self.memory() == before, f"{name} failed with {errno.name} and wrote to memory"
        return errno

    def ok(self, name: str, *arguments: int, writes: Iterable[tuple[int, int]] | None = None) -> None:
        """Make a call that must succeed; with `writes`, it may write to those (address, size) ranges alone."""
        before = bytearray(self.memory())
        errno = self.call(name, *arguments)
        assert errno is Errno.SUCCESS, f"{name}{arguments}: {errno.name}"
        if writes is not None:
            after = self.memory()
            for address, size in writes:
                before[address : address + size] = after[address : address + size]
            assert after == bytes(before), f"{name} wrote outside its results"

    # -- shorthands for calls that must succeed -----------------------------------------------------------------------
    def open(
        self,
        path: str,
        oflags: int = 0,
        rights: int = EVERY_FILE_RIGHT,
        inheriting: int = 0,
        fdflags: int = 0,
        *,
        base: int | None = None,
    ) -> int:
        """Open a file, and return its descriptor."""
        out, base = self.space(4), self.root if base is None else base
        self.ok("path_open", base, 1, *self.text(path), oflags, rights, inheriting, fdflags, out, writes=[(out, 4)])
        return self.number(out)

    def open_dir(self, path: str, rights: int = DIRECTORY_BASE, inheriting: int = DIRECTORY_INHERITING) -> int:
        return self.open(path, DIRECTORY, rights, inheriting)

    def create(self, path: str, data: bytes = b"") -> int:
        """Make a file in the VM, and return a descriptor that reads and writes."""
        self.vm.fs.write(path, data)
        return self.open(path.lstrip("/"))

    def write(self, fd: int, *pieces: bytes) -> int:
        """Write with fd_write, and return the count."""
        out = self.space(4)
        iovs = self.iovecs(*((self.put(piece), len(piece)) for piece in pieces))
        self.ok("fd_write", fd, *iovs, out, writes=[(out, 4)])
        return self.number(out)

    def read_fd(self, fd: int, size: int) -> bytes:
        """Read with fd_read."""
        out, buffer = self.space(4), self.space(size)
        self.ok("fd_read", fd, *self.iovecs((buffer, size)), out, writes=[(out, 4), (buffer, size)])
        return self.read(buffer, self.number(out))

    def made(self, name: str, *arguments: int) -> int:
        """Make a call that must succeed and whose one result is a 32-bit number, such as a descriptor; return that."""
        out = self.space(4)
        self.ok(name, *arguments, out, writes=[(out, 4)])
        return self.number(out)

    def rights(self, fd: int) -> tuple[int, int]:
        """Return the rights of a descriptor, and those it passes on."""
        out = self.space(24)
        self.ok("fd_fdstat_get", fd, out, writes=[(out, 24)])
        return self.number(out + 8, 8), self.number(out + 16, 8)

    def drop(self, fd: int, *rights: Rights) -> None:
        """Give up rights of a descriptor."""
        base, inheriting = self.rights(fd)
        for right in rights:
            base &= ~int(right)
        self.ok("fd_fdstat_set_rights", fd, base, inheriting)

    # -- calls that wait ----------------------------------------------------------------------------------------------
    @property
    def process(self) -> Process:
        """The kernel's record of the proxy."""
        return self.instance._context.process

    def send_signal(self, signal: int) -> None:
        """Send the proxy a signal, as the kernel does."""
        with self.instance._context.lock:
            post(self.process, signal)

    @contextmanager
    def waiting(self, name: str, *arguments: int) -> Iterator["Future[Errno]"]:
        """Make a call that waits; once it sleeps, run the body, in which something ends that. Its result comes after.

        No other call of this proxy can be made meanwhile.
        """
        asleep, clock = Event(), self.instance._context.clock
        sleep = type(clock).wait

        def wait(self: Clock, gate: Lock, timeout_ns: int | None) -> None:
            asleep.set()
            sleep(self, gate, timeout_ns)

        with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(clock), "wait", wait)
            made = pool.submit(self.call, name, *arguments)
            made.add_done_callback(lambda _: asleep.set())
            assert asleep.wait(PATIENCE_SECONDS)
            assert not made.done(), f"{name} did not wait: {made.result()}"
            yield made
            made.result(PATIENCE_SECONDS)

    def set_flags(self, fd: int, flags: int) -> None:
        self.ok("fd_fdstat_set_flags", fd, flags)

    def open_fds(self) -> list[int]:
        """Return the numbers that are open, without leaving a line in the trace."""
        lines = len(self.trace)
        found = [fd for fd in range(16) if super(Rig, self).call("fd_fdstat_get", fd, 64) is Errno.SUCCESS]
        self.instance.write_memory(64, b"?" * 24)
        del self.trace[lines:]
        return found
