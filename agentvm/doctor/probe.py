"""The probe: a guest that does what it is told line by line, and says how it went. Source: fixtures/guests/probe.c."""

from pathlib import Path
from types import TracebackType

from agentvm.api.process import Process
from agentvm.api.vm import AgentVM
from agentvm.errors import GuestFailed

__all__ = ["PROBE", "Probe"]

#: The compiled guest, which is part of the package.
PROBE = Path(__file__).with_name("probe.wasm")


class Probe:
    """A running probe: `do("open 5")` returns the errno's name and how much was done."""

    def __init__(self, vm: AgentVM, **options: object) -> None:
        """`options` are those of `AgentVM.spawn`, whose errors it raises."""
        self.process: Process = vm.spawn(PROBE, **options)  # type: ignore[arg-type]

    def __enter__(self) -> "Probe":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def tell(self, line: str) -> None:
        """Send a line, and wait for no answer. Raises BrokenPipeError if the probe has ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")

    def answer(self) -> str:
        """Return the next line that it prints. Raises `GuestFailed` if it ends first."""
        assert self.process.stdout is not None
        said = b""
        while not said.endswith(b"\n"):
            piece = self.process.stdout.read(1)
            if not piece:
                result = self.process.wait()
                raise GuestFailed(f"the probe {result.describe()}", result=result)
            said += piece
        return said.decode().rstrip()

    def do(self, line: str) -> tuple[str, int]:
        """Send a line, and return the answer to it. Raises as `tell` and `answer` do."""
        self.tell(line)
        errno, done = self.answer().split()
        return errno, int(done)

    def done(self, line: str) -> None:
        """Send a line, which must work. Raises `GuestFailed` if it is refused."""
        errno, done = self.do(line)
        if errno != "OK":
            raise GuestFailed(f"{line!r} was refused with {errno} after {done}")

    def close(self) -> None:
        """End it."""
        self.process.close()
