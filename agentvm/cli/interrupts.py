"""Ctrl-C and SIGTERM while a program runs: noted where they come, dealt with where the main thread waits.

A handler that does more runs between any two instructions: with a lock held that it wants too, or in the middle of a
`with` whose end then fails.
"""

import signal
from queue import Empty, SimpleQueue

__all__ = ["Interrupts"]

#: Python notices a signal late if it comes right before a wait that never ends: so the wait looks up, in seconds.
_LOOK_UP = 0.2


class Interrupts:
    """Within this context signals interrupt nothing, and wait to be taken. The main thread only.

    A signal that the process was started to ignore, as by `nohup`, stays ignored.
    """

    def __init__(self) -> None:
        # A SimpleQueue's put may interrupt its own get: a handler needs that. Signals that nobody takes are few: the
        # main thread always comes to its next wait.
        self._noted: SimpleQueue[int] = SimpleQueue()
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal returned

    def _note(self, number: int, _frame: object) -> None:
        self._noted.put(number)

    def wake(self) -> None:
        """Let `wait` return. Any thread, any time."""
        self._noted.put(0)

    def wait(self) -> int:
        """Wait for the next signal and return its number, or 0 for a `wake`."""
        while True:
            try:
                return self._noted.get(timeout=_LOOK_UP)
            except Empty:
                continue

    def exit_if_any(self) -> None:
        """Raise SystemExit with 128 + N if signal N has come."""
        while not self._noted.empty():
            if number := self._noted.get():
                raise SystemExit(128 + number)
