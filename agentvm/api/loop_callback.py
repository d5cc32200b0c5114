"""A callback for events that runs on an event loop, one event at a time."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["AsyncCallback", "LoopCallback"]

Event = TypeVar("Event")

#: A function or a coroutine function.
AsyncCallback = Callable[[Event], Awaitable[object] | object]

#: How often the wait for a callback looks whether the loop was closed meanwhile, in seconds.
_LOOK_SECONDS = 1.0


class LoopCallback(Generic[Event]):
    """Calls `callback` on the loop on which it was made, and waits for its end. A loop that is closed is no error."""

    def __init__(self, callback: AsyncCallback[Event]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None  # so that it is not collected while it runs

    def __call__(self, event: Event) -> None:
        """Raises what the callback raises."""
        done, failures = threading.Event(), list[BaseException]()

        def begin() -> None:
            self._task = self._loop.create_task(self._call(event))
            self._task.add_done_callback(end)

        def end(task: "asyncio.Task[None]") -> None:
            self._task = None
            failure = None if task.cancelled() else task.exception()
            if failure is not None:
                failures.append(failure)
            done.set()

        try:
            self._loop.call_soon_threadsafe(begin)
        except RuntimeError:  # closed
            return
        while not done.wait(_LOOK_SECONDS):
            if self._loop.is_closed():
                return
        if failures:
            raise failures[0]

    async def _call(self, event: Event) -> None:
        outcome = self._callback(event)
        if inspect.isawaitable(outcome):
            await outcome
