"""Sets two transcripts side by side: which calls differ, and in what."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

__all__ = ["Difference", "differences"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One line that is not the same. `wasmtime` or `agentvm` is None where only the other printed it."""

    call: str
    wasmtime: str | None
    agentvm: str | None

    def __str__(self) -> str:
        return f"{self.call!r}: wasmtime {self.wasmtime!r}, agentvm {self.agentvm!r}"


def differences(wasmtime: Sequence[str], agentvm: Sequence[str]) -> list[Difference]:
    """Return what differs, in order. Lines about the same call are paired, in each piece that differs."""
    if wasmtime == agentvm:
        return []  # the search below is slow where lines repeat
    found = []
    matcher = SequenceMatcher(a=wasmtime, b=agentvm, autojunk=False)
    for kind, start, end, our_start, our_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        ours = [_split(line) for line in agentvm[our_start:our_end]]
        for call, result in map(_split, wasmtime[start:end]):
            same = next((index for index, (our_call, _) in enumerate(ours) if our_call == call), None)
            if same is None:
                found.append(Difference(call, result, None))
                continue
            found += [Difference(our_call, None, our_result) for our_call, our_result in ours[:same]]
            our_result = ours[same][1]
            del ours[: same + 1]
            if our_result != result:
                found.append(Difference(call, result, our_result))
        found += [Difference(our_call, None, our_result) for our_call, our_result in ours]
    return found


def _split(line: str) -> tuple[str, str]:
    """Tell the call from its result: "call -> result", or "what: result", "what result" of guests that print facts."""
    if line.startswith(" "):
        return line, ""  # more about the call above
    call, arrow, result = line.rpartition(" -> ")
    if arrow:
        return call, result
    call, _, result = line.partition(": " if ": " in line else " ")
    return call, result
