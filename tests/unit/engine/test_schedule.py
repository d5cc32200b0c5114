"""Run slots, the ticker, runner threads: who computes when, and that kills come through at once."""

import threading
from time import monotonic

from agentvm.engine import machine as machine_module
from agentvm.engine.runner import runner_threads
from agentvm.engine.slots import RunSlots, Ticket
from agentvm.kernel.outcome import Signal
from agentvm.limits.gauge import Gauge
from agentvm.limits.host_catalogue import HOST_SPECS
from tests.support.engine_rig import BUSY, HELLO, SPIN, START, WAIT, Rig, ended, until


def slots_of(capacity: int) -> RunSlots:
    return RunSlots(Gauge(HOST_SPECS["max_computing_processes"], capacity), lambda: None)


def in_thread(action: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=action, args=arguments, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_slots_are_given_first_come_first_served() -> None:
    slots, order = slots_of(1), []
    first = Ticket(0)
    slots.enter(first)

    def queue(name: int, ticket: Ticket) -> None:
        slots.enter(ticket)
        order.append(name)
        slots.leave(ticket)

    threads = []
    for name in range(5):
        threads.append(in_thread(queue, name, Ticket(0)))
        until(lambda name=name: slots.statistics().waiting == name + 1)  # type: ignore[misc]
    slots.leave(first)
    for thread in threads:
        thread.join(30)
    assert order == [0, 1, 2, 3, 4]
    assert slots.statistics().computing == 0


def test_cancelled_ticket_leaves_the_queue_and_never_holds_a_slot() -> None:
    slots = slots_of(1)
    first, second = Ticket(0), Ticket(0)
    slots.enter(first)
    thread = in_thread(slots.enter, second)
    until(lambda: slots.statistics().waiting == 1)
    slots.cancel(second)
    slots.cancel(second)
    thread.join(30)
    assert not thread.is_alive()
    assert not second.held
    slots.leave(second)
    slots.leave(first)
    third = Ticket(0)
    slots.enter(third)
    assert third.held


def test_interrupted_cancel_can_be_made_again() -> None:
    """Ctrl-C may come between any two steps of the first one."""
    slots = slots_of(1)
    first, second, third = Ticket(0), Ticket(0), Ticket(0)
    slots.enter(first)
    threads = [in_thread(slots.enter, second)]
    until(lambda: slots.statistics().waiting == 1)
    second.cancelled = True
    second.gate.release()
    threads.append(in_thread(slots.enter, third))
    until(lambda: slots.statistics().waiting == 2)
    slots.cancel(second)
    slots.leave(first)
    for thread in threads:
        thread.join(30)
    assert third.held
    assert not second.held


def test_more_slots_let_the_waiting_in_at_once() -> None:
    slots = slots_of(1)
    tickets = [Ticket(0) for _ in range(3)]
    slots.enter(tickets[0])
    threads = [in_thread(slots.enter, ticket) for ticket in tickets[1:]]
    until(lambda: slots.statistics().waiting == 2)
    slots.resize(3)
    for thread in threads:
        thread.join(30)
    assert all(ticket.held for ticket in tickets)


def test_rotate_goes_behind_those_who_wait() -> None:
    slots = slots_of(1)
    first, second = Ticket(0), Ticket(0)
    slots.enter(first)
    other = in_thread(slots.enter, second)
    until(lambda: slots.statistics().waiting == 1)
    back = in_thread(slots.rotate, first)
    other.join(30)
    assert second.held
    assert not first.held
    slots.leave(second)
    back.join(30)
    assert first.held


def test_many_guests_share_few_cores() -> None:
    """All get on, although each would compute for ever."""
    with Rig() as rig, Rig() as other:
        executions = [vm.start(body) for vm in (rig, other) for body in (SPIN, BUSY) for _ in range(4)]
        until(lambda: all(execution.cpu_time_ns() > 2 * 10**6 for execution in executions), "all took turns")
        statistics = rig.machine.slots.statistics()
        assert statistics.computing <= statistics.capacity


def test_blocked_guest_holds_no_slot() -> None:
    with Rig() as rig:
        blocked = [rig.start(WAIT) for _ in range(8)]
        until(lambda: rig.waiting == 8)
        until(lambda: not any(execution.statistics().is_computing for execution in blocked))
        assert rig.run(HELLO).status.code == 0
        rig.release()


def lateness_of_kills(guests: int, slots: int | None = None) -> float:
    """How long a kill takes to end a guest beside many that compute: the median of many, in seconds."""
    with Rig(max_processes=guests, max_cpu_percent="none") as rig:
        capacity = rig.machine.slots.statistics().capacity
        rig.machine.slots.resize(slots or capacity)
        try:
            executions = [rig.start(SPIN) for _ in range(guests)]
            until(lambda: sum(execution.cpu_time_ns() > 10**5 for execution in executions) > guests // 2)
            late = []
            for execution in executions[:24]:
                asked = monotonic()
                execution.kill(Signal.SIGTERM)
                ended(execution)
                late.append(monotonic() - asked)
        finally:
            rig.machine.slots.resize(capacity)
        return sorted(late)[len(late) // 2]


def test_run_slots_make_kills_beside_64_busy_guests_prompt() -> None:
    with_slots, without = lateness_of_kills(64), lateness_of_kills(64, slots=64)
    assert with_slots < without / 3, (with_slots, without)


def test_wall_deadline_of_a_queued_guest_holds() -> None:
    with Rig() as rig:
        for _ in range(8):
            rig.start(SPIN)
        ending = ended(rig.start(SPIN, timeout_seconds=0.05))
        assert ending.cause.limit == "max_wall_time_seconds"


def test_runner_threads_are_used_again() -> None:
    with Rig() as rig:
        rig.run(HELLO)
        before = runner_threads()
        for _ in range(50):
            rig.run(HELLO)
        assert runner_threads() <= before + 1


def test_ticker_ends_when_no_guest_is_left() -> None:
    with Rig() as rig:
        rig.run(HELLO)
    ticker = machine_module._ticker
    assert ticker is not None
    until(lambda: not ticker.is_running, "the ticker ended")
    with Rig() as rig:
        assert rig.run(SPIN, timeout_seconds=0.02).cause.limit == "max_wall_time_seconds"


def test_close_from_on_end_does_not_wait_for_itself() -> None:
    with Rig() as rig:
        closed = threading.Event()

        def close(_ending: object) -> None:
            rig.machine.close()
            closed.set()

        rig.start(HELLO, on_end=close)
        assert closed.wait(30)


def test_next_process_can_be_started_from_on_end() -> None:
    with Rig() as rig:
        codes: list[int | None] = []
        last = threading.Event()

        def again(ending: object) -> None:
            codes.append(ending.status.code)  # type: ignore[attr-defined]
            if len(codes) < 5:
                rig.start(HELLO, on_end=again)
            else:
                last.set()

        rig.start(HELLO, on_end=again)
        assert last.wait(30)
        assert codes == [0] * 5


def test_sched_yield_lets_others_run() -> None:
    body = START.format("(loop $l (call $yield) (br $l))")
    with Rig() as rig:
        executions = [rig.start(body) for _ in range(6)]
        until(lambda: all(execution.cpu_time_ns() > 10**6 for execution in executions))
