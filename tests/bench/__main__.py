"""`python -m tests.bench [SECTION ...]`: every figure of docs/performance.md, as ratios measured in this very run."""

import argparse
import sys
from collections.abc import Callable

from tests.bench import calls, compute, lateness, memory, processes, rates, starts

SECTIONS: dict[str, tuple[str, Callable[[], str]]] = {
    "calls": ("(a) system calls", calls.measure),
    "start": ("(b) create + run a cached hello + close", starts.hello),
    "memory": ("(c) memory of idle VMs and running processes", memory.measure),
    "compute": ("(d) metered against unmetered compute", compute.measure),
    "cold": ("(e) cold agentvm run hello.wasm, the whole process", starts.cold),
    "python": ("(f) CPython's start, module cache warm", starts.python),
    "late": ("(g) deadlines and kills", lateness.measure),
    "rates": ("(h) rates against their caps", rates.measure),
    "spawn": ("(i) a guest that starts others", processes.spawn),
    "pipe": ("(j) a pipe between two guests", processes.pipe),
    "tcp": ("(k) loopback sockets", processes.tcp),
    "poll": ("(l) poll over many descriptors", processes.poll),
    "many": ("(m) a thousand processes in a hundred VMs", processes.many),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(SECTIONS)} (default: all)")
    chosen = parser.parse_args().sections or list(SECTIONS)
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        parser.error(f"there is no section {unknown[0]!r}")
    for name in chosen:
        title, measure = SECTIONS[name]
        print(f"\n{title}\n{'-' * len(title)}\n{measure()}", flush=True)
    sys.stdout.flush()


main()
