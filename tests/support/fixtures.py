"""Finds the committed test guests: programs as paths, text modules as bytes. The probe's lies in the package."""

from functools import lru_cache
from pathlib import Path

import wasmtime

from agentvm.doctor.probe import PROBE

__all__ = ["GUESTS", "guest", "guest_names", "process_guest", "wat", "wat_names"]

GUESTS = Path(__file__).resolve().parents[2] / "fixtures" / "guests"
PROCESSES = GUESTS.parent / "processes"


def guest(name: str) -> Path:
    """Return the path of `NAME.wasm`. Raises `LookupError` with the names that there are."""
    path = PROBE if name == PROBE.stem else GUESTS / f"{name}.wasm"
    if not path.is_file():
        raise LookupError(f"no guest {name}; there are {', '.join(guest_names())}")
    return path


def process_guest(name: str) -> Path:
    """Return the path of a program of the guest SDK: `fixtures/processes/NAME.wasm`."""
    path = PROCESSES / f"{name}.wasm"
    if not path.is_file():
        raise LookupError(f"no guest {name} in {PROCESSES.name}")
    return path


def guest_names() -> list[str]:
    """Every committed guest."""
    return sorted(path.stem for path in [*GUESTS.glob("*.wasm"), PROBE])


@lru_cache
def wat(name: str) -> bytes:
    """Return `NAME.wat` as a binary module. Raises `LookupError` with the names that there are."""
    path = GUESTS / f"{name}.wat"
    if not path.is_file():
        raise LookupError(f"no module {name}; there are {', '.join(wat_names())}")
    return bytes(wasmtime.wat2wasm(path.read_text(encoding="utf-8")))


def wat_names() -> list[str]:
    """Every committed text module."""
    return sorted(path.stem for path in GUESTS.glob("*.wat"))
