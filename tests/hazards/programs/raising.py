"""Make one kind of callback raise: `raising CALLBACK EXCEPTION [broken]`. With `broken` the handler of it fails too."""

import builtins
import sys
from collections.abc import Callable
from typing import Any

from agentvm.engine import memory as memory_module
from agentvm.engine.execution import Execution
from agentvm.engine.memory import GuestMemories, LinearMemory
from agentvm.kernel.outcome import CauseKind
from tests.support import engine_rig
from tests.support.engine_rig import HELLO, SPIN, START, Rig

GROW = '(memory (export "memory") 1)' + START.format("(drop (memory.grow (i32.const 1))) (loop $l (br $l))")


def main(kind: str, exception: str, broken: bool) -> None:
    error: type[BaseException] = getattr(builtins, exception)

    def fail(*_: Any) -> Any:
        raise error("on purpose")

    armed = [True]

    def once(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            return fail() if armed[0] else original(*arguments)

        return call

    class Lost(dict[int, LinearMemory]):
        def __getitem__(self, key: int) -> LinearMemory:
            return fail() if armed[0] else super().__getitem__(key)  # type: ignore[no-any-return]

    body = HELLO
    if kind == "host":
        engine_rig.FAULT = error
        body = START.format("(call $fault)")
    elif kind == "epoch":
        Execution.tick = once(Execution.tick)  # type: ignore[method-assign]
        body = SPIN
    elif kind == "new":
        GuestMemories.make = once(GuestMemories.make)  # type: ignore[method-assign]
    elif kind == "grow":
        LinearMemory.grow = once(LinearMemory.grow)  # type: ignore[method-assign]
        body = GROW
    elif kind == "get":
        memory_module._memories = Lost()
    elif kind == "drop":
        LinearMemory.unmap = once(LinearMemory.unmap)  # type: ignore[method-assign]
    if broken:
        Execution.note_bug = once(Execution.note_bug)  # type: ignore[method-assign]
    rig = Rig()
    execution = rig.start(body, timeout_seconds=2)
    ending = execution.wait(30)
    assert ending is not None
    if not broken and kind != "drop":
        assert ending.cause.kind is CauseKind.HOST_BUG, ending
    armed[0] = False
    # The host lives, and the next guest runs as if nothing had been.
    with Rig() as other:
        assert other.run(HELLO).status.code == 0
    print("the host lives:", ending.cause.message)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], "broken" in sys.argv[3:])
