"""Runs a hazardous program in a process of its own, so that what it would kill is not the test run."""

import subprocess
import sys
from pathlib import Path

__all__ = ["hazard"]

ROOT = Path(__file__).resolve().parents[2]
#: Far above what any of them takes; a hang is a failure.
TIMEOUT_SECONDS = 90


def hazard(program: str, *arguments: str, flags: tuple[str, ...] = ()) -> str:
    """Run `tests/hazards/programs/<program>.py`; it must exit with 0. Returns its output."""
    command = [sys.executable, *flags, "-m", f"tests.hazards.programs.{program}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, (
        f"{program} {arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    )
    return done.stdout + done.stderr
