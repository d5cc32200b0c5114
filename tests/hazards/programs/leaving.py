"""The interpreter exits while guests run: `leaving end|raise|exit|close`. They compute, call, wait, and stay."""

import sys

from tests.support.engine_rig import BUSY, SPIN, WAIT, Rig, until


def main(how: str) -> None:
    rig = Rig()
    executions = [rig.start(body) for body in (SPIN, BUSY, WAIT) for _ in range(3)]
    executions.append(rig.start('(func (export "one"))', entry="_initialize"))
    until(lambda: rig.waiting == 3 and executions[0].time.cpu_time_ns() > 10**6)
    if how == "raise":
        raise SystemExit(0)
    if how == "exit":
        sys.exit()
    if how == "close":
        rig.machine.kill_all()


if __name__ == "__main__":
    main(sys.argv[1])
