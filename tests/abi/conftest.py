"""Boots proxy guests, over every way into the host, and watches what every call returns."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from agentvm import AgentVM, Errno, Limits
from agentvm.abi.syscall import SyscallSpec
from agentvm.abi.trace import format_call
from agentvm.api import machine
from tests.abi.rig import Boot, Rig

#: Disk rates that no test comes near: the calls go through what counts them.
RATES = {"max_disk_read_bytes_per_second": "1GiB/s", "max_disk_write_operations_per_second": "1000000/s"}


@pytest.fixture(params=["fast", "public", "rated"])
def host_calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs over every way into the host, that of VMs with disk rates too: they must not differ."""
    monkeypatch.setattr(machine, "PUBLIC_CALLS", request.param == "public")
    kind: str = request.param
    return kind


@pytest.fixture
def boot(host_calls: str) -> Iterator[Boot]:
    """Returns a function that starts a proxy in a VM of its own, with a clock that only moves when it is looked at.

    `setup` is called with the VM first; `vm` are arguments for `AgentVM`, or the VM of another proxy, in which this one
    is then a process of its own; all others are for `instantiate`. At the end of the test, no call may have failed with
    an errno that its declaration does not have.
    """
    undocumented: list[str] = []

    def start(
        *,
        module: str = "preview1",
        setup: Callable[[AgentVM], None] | None = None,
        vm: dict[str, Any] | AgentVM | None = None,
        **options: Any,
    ) -> Rig:
        lines: list[str] = []

        def trace(spec: SyscallSpec, raw: Sequence[int], errno: int) -> None:
            lines.append(format_call(spec, raw, errno))
            if errno and Errno(errno) not in spec.errnos:
                undocumented.append(lines[-1])

        if isinstance(vm, AgentVM):  # one that another proxy runs in
            lines.clear()
            return Rig(vm, module, lines, **options)
        asked: dict[str, Any] = {"deterministic": True, "limits": Limits()} | (vm or {})
        if host_calls == "rated":
            asked["limits"] = asked["limits"].replace(**RATES)
        machine_of_test = stack.enter_context(AgentVM(trace=trace, **asked))
        if setup is not None:
            setup(machine_of_test)
        rig = Rig(machine_of_test, module, lines, **options)
        lines.clear()
        return rig

    with ExitStack() as stack:
        yield start
    assert not undocumented, f"errnos that the declarations lack: {undocumented}"


@pytest.fixture
def rig(boot: Boot) -> Rig:
    """A proxy of preview1 with nothing special about it."""
    return boot()
