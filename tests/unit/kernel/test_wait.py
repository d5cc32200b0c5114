"""The one function that blocks: no wake-up is lost, and kills and deadlines end it."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentvm import ManualClock, Signal
from agentvm.kernel.process import GuestKilled, Image, Process
from agentvm.kernel.process_table import ProcessTable
from agentvm.kernel.wait import Event, HostThread, Lock, Waiter, WaitQueue, block_until
from agentvm.limits.catalogue import Limits
from agentvm.limits.registry import Registry


class Recording:
    """A scheduler that tells when a thread is about to sleep."""

    def __init__(self) -> None:
        self.asleep = threading.Event()
        self.pauses = 0
        self.resumes = 0

    def pause(self) -> None:
        self.pauses += 1
        self.asleep.set()

    def resume(self) -> None:
        self.resumes += 1
        self.asleep.clear()

    def give_way(self) -> None:
        """Nobody waits."""


@pytest.fixture
def process() -> Process:
    return ProcessTable(Registry(Limits())).spawn(Image((b"p",)), None)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


def _wait(
    process: Process,
    lock: threading.Lock,
    queues: list[WaitQueue],
    condition: Callable[[], bool],
    deadline: int | None = None,
) -> bool:
    with lock:
        return block_until(process, lock, ManualClock(), queues, condition, deadline)


def test_a_condition_that_holds_does_not_sleep(process: Process) -> None:
    scheduler = process.scheduler = Recording()
    assert _wait(process, Lock(), [WaitQueue()], lambda: True)
    assert scheduler.pauses == 0


def test_a_wake_up_before_the_sleep_is_not_lost(process: Process) -> None:
    """The notification comes between the look at the condition and the sleep."""
    lock, queue, looks = Lock(), WaitQueue(), []

    def condition() -> bool:
        looks.append(1)
        if len(looks) == 1:
            queue.notify()
        return len(looks) == 2

    assert _wait(process, lock, [queue], condition)


def test_a_notified_waiter_looks_again_and_leaves_all_queues(process: Process, pool: ThreadPoolExecutor) -> None:
    lock, queues, done = Lock(), [WaitQueue(), WaitQueue()], []
    scheduler = process.scheduler = Recording()
    waiting = pool.submit(_wait, process, lock, queues, lambda: bool(done))
    assert scheduler.asleep.wait(60)
    with lock:
        assert [len(queue) for queue in queues] == [1, 1]
        queues[0].notify()  # for nothing: the condition does not hold yet
        done.append(1)
        queues[1].notify()
    assert waiting.result(60)
    assert [len(queue) for queue in queues] == [0, 0]
    assert scheduler.pauses == scheduler.resumes


def test_the_lock_is_free_while_a_thread_sleeps_and_held_after(process: Process, pool: ThreadPoolExecutor) -> None:
    lock, queue, done = Lock(), WaitQueue(), []
    scheduler = process.scheduler = Recording()

    def wait() -> bool:
        with lock:
            block_until(process, lock, ManualClock(), [queue], lambda: bool(done))
            return lock.locked()

    waiting = pool.submit(wait)
    assert scheduler.asleep.wait(60)
    with lock:
        done.append(1)
        queue.notify()
    assert waiting.result(60)
    assert not lock.locked()


def test_a_kill_ends_a_wait(process: Process, pool: ThreadPoolExecutor) -> None:
    queue = WaitQueue()
    scheduler = process.scheduler = Recording()
    waiting = pool.submit(_wait, process, Lock(), [queue], lambda: False)
    assert scheduler.asleep.wait(60)
    assert process.kill(Signal.SIGKILL)
    with pytest.raises(GuestKilled):
        waiting.result(60)
    assert len(queue) == 0


def test_a_killed_process_does_not_wait_at_all(process: Process) -> None:
    process.kill(Signal.SIGTERM)
    with pytest.raises(GuestKilled):
        _wait(process, Lock(), [], lambda: True)


def test_a_deadline_ends_a_wait_without_real_time(process: Process) -> None:
    clock, lock = ManualClock(), Lock()
    with lock:
        assert not block_until(process, lock, clock, [WaitQueue()], lambda: False, 5_000_000_000)
        assert clock.monotonic_ns() == 5_000_000_000
        assert not block_until(process, lock, clock, [], lambda: False, 4_000_000_000)
    assert clock.monotonic_ns() == 5_000_000_000


def test_a_condition_that_holds_wins_over_a_deadline_that_passed(process: Process) -> None:
    assert _wait(process, Lock(), [], lambda: True, -1)


def test_every_waiter_of_a_queue_is_woken(pool: ThreadPoolExecutor) -> None:
    lock, queue, done = Lock(), WaitQueue(), []
    table = ProcessTable(Registry(Limits()))
    processes = [table.spawn(Image((b"p",)), None) for _ in range(2)]
    schedulers = [Recording(), Recording()]
    for waiter, scheduler in zip(processes, schedulers, strict=True):
        waiter.scheduler = scheduler
    waiting = [pool.submit(_wait, waiter, lock, [queue], lambda: bool(done)) for waiter in processes]
    assert all(scheduler.asleep.wait(60) for scheduler in schedulers)
    with lock:
        done.append(1)
        queue.notify()
    assert [result.result(60) for result in waiting] == [True, True]


def test_a_thread_of_the_host_waits_like_a_process(pool: ThreadPoolExecutor) -> None:
    lock, queue, done = Lock(), WaitQueue(), list[int]()

    def wait() -> bool:
        with lock:
            return block_until(HostThread(), lock, ManualClock(), [queue], lambda: bool(done))

    waiting = pool.submit(wait)
    with lock:
        done.append(1)
        queue.notify()
    assert waiting.result(60)


def test_waking_twice_opens_the_gate_once() -> None:
    waiter = Waiter()
    waiter.wake()
    waiter.wake()
    assert waiter.gate.acquire(blocking=False)
    assert not waiter.gate.acquire(blocking=False)
    waiter.wake()
    waiter.reset()
    assert not waiter.gate.acquire(blocking=False)


def test_discarding_an_absent_waiter_is_fine() -> None:
    queue, waiter = WaitQueue(), Waiter()
    queue.discard(waiter)
    queue.add(waiter)
    queue.discard(waiter)
    assert len(queue) == 0


# -- events -----------------------------------------------------------------------------------------------------------


def test_an_event_wakes_all_who_wait_and_holds_nobody_after() -> None:
    for _ in range(200):
        event = Event()
        with ThreadPoolExecutor(6) as pool:
            waiting = [pool.submit(event.wait, timeout) for timeout in (None, 60, 60, 0.0001)]
            pool.submit(event.set)
            pool.submit(event.set)
            assert [wait.result(60) for wait in waiting[:3]] == [True] * 3
            assert event.wait()
        assert not event._gates


def test_an_event_that_does_not_happen_is_waited_for_as_long_as_was_said() -> None:
    event = Event()
    assert not event.wait(0.01)
    assert not event.wait(-1)
    assert not event._gates


def test_a_wait_that_a_signal_interrupts_takes_no_lock_from_whoever_sets_the_event() -> None:
    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def disturb(event: Event) -> None:
        while not event._gates:
            continue
        signal.pthread_kill(main, signal.SIGUSR1)
        event.set()
        done.append(event)

    main, done = threading.main_thread().ident, list[Event]()
    assert main is not None
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for _ in range(300):
            event = Event()
            thread = threading.Thread(target=disturb, args=(event,))
            thread.start()
            with contextlib.suppress(KeyboardInterrupt):
                while True:  # until the signal comes, and nothing else
                    event.wait(0.2)
            thread.join(60)
            assert done.pop() is event
    finally:
        signal.signal(signal.SIGUSR1, before)
