"""Work in the background: one thread while there is something to do, none after, and no wake-up lost."""

import os
import threading
from collections import deque
from collections.abc import Callable

import pytest

from agentvm.background import Background

SECONDS = 60.0


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


def until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(SECONDS * 1000)):
        if condition():
            return
        gate.wait(0.001)
    pytest.fail("it never came about")


class Queue:
    """Items that a background thread takes away."""

    def __init__(self) -> None:
        self.items: deque[int] = deque()
        self.done: list[int] = []
        self.busy = 0
        self.most_busy = 0
        self.work = Background(self._step)

    def put(self, item: int) -> None:
        self.items.append(item)
        self.work.wake()

    def _step(self) -> float | None:
        self.busy += 1
        self.most_busy = max(self.busy, self.most_busy)
        try:
            if not self.items:
                return None
            self.done.append(self.items.popleft())
            return 0.0
        finally:
            self.busy -= 1


def test_there_is_a_thread_only_while_there_is_work() -> None:
    before, queue = threads(), Queue()
    assert not queue.work.is_running
    queue.put(1)
    assert queue.work.settle(SECONDS)
    until(lambda: not queue.work.is_running and threads() <= before)
    assert queue.done == [1]


def test_no_wake_up_is_lost_and_one_thread_works_at_a_time() -> None:
    queue, producers, each = Queue(), 8, 2000

    def produce() -> None:
        for item in range(each):
            queue.put(item)

    running = [threading.Thread(target=produce) for _ in range(producers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    until(lambda: len(queue.done) == producers * each)
    assert queue.most_busy == 1


def test_waking_a_thread_that_is_about_to_end_is_never_too_late() -> None:
    queue = Queue()
    for item in range(3000):  # each one comes at another moment of the thread's end
        queue.put(item)
        until(lambda: not queue.items)
    until(lambda: len(queue.done) == 3000)


def test_a_step_that_wants_a_pause_is_called_again_after_it_or_when_woken() -> None:
    calls: list[int] = []
    pauses = iter([3600.0, 0.01, None])
    work = Background(lambda: calls.append(1) or next(pauses))
    work.wake()
    assert work.settle(SECONDS)
    assert len(calls) in (1, 2)  # settling wakes it, too
    work.wake()
    until(lambda: len(calls) >= 3 and not work.is_running)


def test_settling_gives_up_in_time() -> None:
    gate = threading.Event()
    work = Background(lambda: gate.wait(SECONDS) and None)
    work.wake()
    assert not work.settle(0.01)
    gate.set()
    assert work.settle(SECONDS)


def test_where_the_host_refuses_a_thread_the_next_wake_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    queue = Queue()
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        queue.put(1)
        assert not queue.work.settle(SECONDS)
    queue.put(2)
    assert queue.work.settle(SECONDS)
    assert queue.done == [1, 2]


def test_a_start_that_ctrl_c_interrupts_leaves_one_thread_and_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    import _thread

    queue, start = Queue(), _thread.start_new_thread

    def interrupted(*arguments: object) -> None:
        start(*arguments)  # type: ignore[call-overload]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", interrupted)
        with pytest.raises(KeyboardInterrupt):
            queue.put(1)
    queue.put(2)
    until(lambda: queue.done == [1, 2])
    assert queue.most_busy == 1


def test_a_fork_has_a_thread_of_its_own() -> None:
    queue, gate = Queue(), threading.Event()
    blocked = Background(lambda: gate.wait(SECONDS) and None)
    blocked.wake()
    queue.put(1)
    assert queue.work.settle(SECONDS)
    pid = os.fork()
    if pid == 0:
        queue.put(2)
        is_well = not blocked.is_running and queue.work.settle(SECONDS) and queue.done == [1, 2]
        os._exit(0 if is_well else 1)
    gate.set()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
