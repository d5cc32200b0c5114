"""A fork after a VM was opened: `forked`. The child is refused with words, and ends like any other process."""

import os
import sys

from agentvm.errors import VMClosed
from tests.support.engine_rig import HELLO, SPIN, Program, Rig, load


def child(rig: Rig, program: Program) -> None:
    for attempt in (lambda: rig.start(program), Rig):
        try:
            attempt()
        except VMClosed as error:
            text = str(error)
        else:
            raise AssertionError("a VM worked in a fork")
        assert "fork" in text, text
    assert rig.machine.close(1)


def main() -> None:
    with Rig() as rig:
        program = load(HELLO)  # compiling needs threads of its own
        rig.start(SPIN)
        pid = os.fork()
        if pid == 0:
            child(rig, program)
            sys.exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert rig.run(HELLO).status.code == 0


if __name__ == "__main__":
    main()
