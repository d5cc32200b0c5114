"""Outlets: events become one, come in order and not too often, and whoever posts them never waits."""

import gc
import os
import threading
from collections import Counter
from collections.abc import Callable
from time import monotonic

import pytest

from agentvm.limits.catalogue import SPECS
from agentvm.limits.events import EventKind, LimitEvent, is_flow
from agentvm.limits.outlet import INTERVAL_SECONDS, MOST_SLOTS, Collector, EventSink, Outlet
from agentvm.limits.spec import Past

SECONDS = 60.0
NAMES = list(SPECS)
FOREVER = 3600.0


def post(sink: EventSink, name: str = "max_inodes", observed: int = 8, *, vm: str | None = "v", **more: int) -> None:
    kind = EventKind.REFUSED if observed > 10 else EventKind.WARNING
    sink.post(kind, SPECS[name], observed, 10, vm=vm, pid=more.get("pid"))


def until(condition: Callable[[], bool]) -> None:
    gate = threading.Event()
    for _ in range(int(SECONDS * 1000)):
        if condition():
            return
        gate.wait(0.001)
    pytest.fail("it never came about")


class Listener:
    """Keeps what it hears; `gate` makes it stand still."""

    def __init__(self, *, still: bool = False) -> None:
        self.events: list[LimitEvent] = []
        self.gate = threading.Event()
        self.is_here = threading.Event()
        if not still:
            self.gate.set()

    def __call__(self, event: LimitEvent) -> None:
        self.events.append(event)
        self.is_here.set()
        self.gate.wait(SECONDS)

    @property
    def counts(self) -> list[tuple[str, EventKind, int]]:
        return [(event.limit, event.kind, event.count) for event in self.events]


def stands_still(listener: Listener, outlet: Outlet) -> None:
    """Have the listener busy with a first event."""
    post(outlet, "max_processes", vm="first")
    assert listener.is_here.wait(SECONDS)
    listener.events.clear()


# ---- what is told ----


def test_an_event_is_told_with_its_values() -> None:
    listener = Listener()
    outlet = Outlet(listener)
    post(outlet, "max_inodes", 33, pid=4)
    assert outlet.flush(SECONDS)
    (event,) = listener.events
    assert event == LimitEvent(EventKind.REFUSED, SPECS["max_inodes"], 33, 10, "v", 4, 1)


def test_events_that_come_faster_than_they_are_heard_are_one_with_the_latest_values() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    for observed in range(11, 1011):
        post(outlet, observed=observed, pid=observed)
    post(outlet, observed=9)
    listener.gate.set()
    assert outlet.flush(SECONDS)
    refused, warning = listener.events
    assert (refused.count, refused.observed, refused.pid, refused.kind) == (1000, 1010, 1010, EventKind.REFUSED)
    assert (warning.count, warning.kind) == (1, EventKind.WARNING)


def test_slots_are_told_in_the_order_in_which_they_were_filled() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    for name in NAMES + NAMES[::-1]:
        post(outlet, name)
    listener.gate.set()
    assert outlet.flush(SECONDS)
    assert listener.counts == [(name, EventKind.WARNING, 2) for name in NAMES]


def test_the_first_event_comes_at_once_and_the_next_of_its_kind_after_a_pause() -> None:
    listener, interval = Listener(), 0.1
    outlet = Outlet(listener, interval_seconds=interval)
    began = monotonic()
    post(outlet)
    until(lambda: len(listener.events) == 1)
    post(outlet)
    until(lambda: len(listener.events) == 2)
    assert monotonic() - began >= interval


def test_a_limit_that_pauses_holds_up_no_other() -> None:
    listener = Listener()
    outlet = Outlet(listener, interval_seconds=FOREVER)
    post(outlet)
    until(lambda: len(listener.events) == 1)
    post(outlet)
    post(outlet)
    post(outlet, "max_processes")
    until(lambda: len(listener.events) == 2)
    assert listener.counts[1] == ("max_processes", EventKind.WARNING, 1)
    assert outlet.flush(SECONDS)
    assert listener.counts[2] == ("max_inodes", EventKind.WARNING, 2)


def test_what_was_not_wanted_is_never_noted() -> None:
    asked, listener = [], Listener()

    def wants(kind: EventKind, spec: object) -> bool:
        asked.append((kind, spec))
        return kind is EventKind.REFUSED

    outlet = Outlet(listener, wants=wants)
    post(outlet, observed=8)
    assert outlet.is_empty
    assert not outlet.is_running
    post(outlet, observed=11)
    assert outlet.flush(SECONDS)
    assert [event.kind for event in listener.events] == [EventKind.REFUSED]
    assert len(asked) == 2


def test_one_vm_in_a_hurry_does_not_drag_the_others_along() -> None:
    listener = Listener()
    outlet = Outlet(listener, interval_seconds=FOREVER)
    for vm in ("a", "b", "a", "b"):
        post(outlet, vm=vm)
        until(lambda: not outlet._ready)
    outlet.hurry("a")
    until(lambda: len(listener.events) == 3)
    assert [event.vm for event in listener.events] == ["a", "b", "a"]
    assert not outlet.is_empty
    assert outlet.flush(SECONDS)
    assert [event.vm for event in listener.events] == ["a", "b", "a", "b"]


def test_after_it_is_closed_nothing_is_told() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    post(outlet)
    outlet.close()
    post(outlet, "max_open_fds")
    listener.gate.set()
    assert outlet.flush(SECONDS)
    assert listener.events == []
    until(lambda: not outlet.is_running)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_listener_that_raises_goes_on_hearing(error: type[BaseException]) -> None:
    heard = []

    def listen(event: LimitEvent) -> None:
        heard.append(event)
        raise error

    outlet = Outlet(listen)
    for name in NAMES:
        post(outlet, name)
    assert outlet.flush(SECONDS)
    assert [event.limit for event in heard] == NAMES


# ---- what it costs ----


def test_posting_never_waits_for_a_listener_that_stands_still() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    lock, done = threading.Lock(), threading.Event()

    def guest() -> None:
        with lock:  # as a kernel lock is held
            for number in range(50_000):
                post(outlet, NAMES[number % len(NAMES)], number)
        done.set()

    threading.Thread(target=guest, daemon=True).start()
    assert done.wait(SECONDS)
    with lock:
        pass
    listener.gate.set()
    assert outlet.flush(SECONDS)
    assert sum(event.count for event in listener.events) == 50_000
    assert len(listener.events) <= 2 * len(NAMES)


def test_nothing_is_lost_whatever_the_threads_do() -> None:
    counts: Counter[str] = Counter()

    def listen(event: LimitEvent) -> None:
        counts[event.limit] += event.count

    outlet, each = Outlet(listen, interval_seconds=0.001), 3000

    def guest(name: str) -> None:
        for _ in range(each):
            post(outlet, name)
        post(outlet, "max_inodes")

    threads = [threading.Thread(target=guest, args=(name,)) for name in NAMES[:4] for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: sum(counts.values()) == 8 * (each + 1))
    until(lambda: not outlet.is_running)  # and it ends by itself


def test_an_idle_outlet_has_no_thread_and_holds_nothing() -> None:
    listener = Listener()
    outlet = Outlet(listener)
    post(outlet)
    assert outlet.flush(SECONDS)
    assert outlet.is_running
    deadline = monotonic() + 2 * INTERVAL_SECONDS
    until(lambda: not outlet.is_running)
    assert monotonic() < deadline + SECONDS / 10  # an interval, and how slow the machine is
    assert not outlet._told


def test_ten_thousand_vms_are_held_by_a_bound_and_told_in_linear_time() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    for number in range(10_000):
        post(outlet, vm=f"vm-{number}")
        post(outlet, observed=11, vm=f"vm-{number}")
    assert len(outlet._ready) + len(outlet._held) == MOST_SLOTS + 2  # the two for all the rest
    listener.gate.set()
    assert outlet.flush(SECONDS)
    assert sum(event.count for event in listener.events) == 20_000
    merged = [event for event in listener.events if event.vm is None]
    assert sum(event.count for event in merged) == 20_000 - MOST_SLOTS
    post(outlet)
    until(lambda: not outlet._told and not outlet.is_running)


def test_a_finalizer_that_posts_in_the_middle_of_a_post_deadlocks_nothing() -> None:
    listener = Listener()
    outlet = Outlet(listener)

    class Talkative:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            post(outlet, "max_processes")
            outlet.hurry()

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for number in range(300):
            Talkative()
            post(outlet, NAMES[number % len(NAMES)], vm=f"v{number}")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    assert outlet.flush(SECONDS)
    assert any(event.limit == "max_processes" for event in listener.events)


def test_where_the_host_refuses_a_thread_events_wait_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    listener = Listener()
    outlet = Outlet(listener)
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        post(outlet)
        assert not outlet.flush(0.1)
    post(outlet)  # the same slot: it tries all the same
    assert outlet.flush(SECONDS)
    assert listener.counts == [("max_inodes", EventKind.WARNING, 2)]


def test_a_fork_tells_its_own_events_and_not_its_parents() -> None:
    listener = Listener(still=True)
    outlet = Outlet(listener)
    stands_still(listener, outlet)
    post(outlet)
    with outlet._lock:
        pid = os.fork()
        if pid == 0:
            listener.gate.set()
            post(outlet, "max_open_fds")
            is_well = outlet.flush(SECONDS) and listener.counts == [("max_open_fds", EventKind.WARNING, 1)]
            os._exit(0 if is_well else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    listener.gate.set()
    assert outlet.flush(SECONDS)
    assert listener.counts == [("max_inodes", EventKind.WARNING, 1)]


# ---- collectors, and what events say ----


def test_a_collector_keeps_one_event_for_each_limit_and_kind() -> None:
    collector = Collector()
    for _ in range(100):
        for name in NAMES:
            post(collector, name, 8)
            post(collector, name, 12)
    events = collector.events()
    assert len(events) == 2 * len(NAMES)
    assert {event.count for event in events} == {100}
    assert collector.events() == events


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
@pytest.mark.parametrize("kind", EventKind)
def test_every_event_says_what_where_and_the_way_out(kind: EventKind, spec: object) -> None:
    from agentvm.limits.spec import LimitSpec

    assert isinstance(spec, LimitSpec)
    event = LimitEvent(kind, spec, 8, 10, "v", 3)
    text = event.describe()
    assert spec.name in text
    assert event.setting in text
    assert spec.guest_sees in text
    assert "\n" not in text
    assert set(event.fields()) == {
        "kind", "vm", "pid", "limit", "observed", "capacity", "fill_percent", "count", "setting"
    }  # fmt: skip


@pytest.mark.parametrize("past", Past)
def test_only_what_is_refused_is_worth_a_warning_by_itself(past: Past) -> None:
    for spec in SPECS.values():
        if spec.past is past:
            assert is_flow(EventKind.REFUSED, spec) == (past is not Past.REFUSED)
            assert is_flow(EventKind.WARNING, spec) == (past in (Past.WAITS, Past.EVICTED))
