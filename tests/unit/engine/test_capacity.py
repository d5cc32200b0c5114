"""The caps of the whole process: derived, configured, taken and given back."""

import threading

import pytest

from agentvm.engine import capacity as capacity_module
from agentvm.engine.capacity import HostCapacity, configure_host
from agentvm.errors import HostLimit, InvalidLimit
from agentvm.limits.events import EventKind
from agentvm.limits.host_catalogue import HOST_SPECS, HostLimits
from agentvm.limits.outlet import Outlet
from agentvm.limits.spec import Scope


def test_every_cap_is_derived_and_sensible() -> None:
    capacity = HostCapacity(HostLimits())
    for name, spec in HOST_SPECS.items():
        assert spec.scope is Scope.HOST
        assert spec.minimum <= capacity.cap(name) <= spec.maximum, name
    assert capacity.cap("max_computing_processes") >= 1


@pytest.mark.parametrize(
    ("function", "amount", "name", "cap"),
    [
        ("_threads", 1000.0, "max_running_processes", 750),
        ("_threads", 2.0, "max_running_processes", 4),
        ("_memory_bytes", float(4 << 30), "max_resident_memory_bytes", 3 << 30),
        ("_memory_bytes", float("inf"), "max_resident_memory_bytes", 1 << 50),
        ("_memory_bytes", float(1 << 30), "max_open_vms", (1 << 30) * 3 // 4 // 65_536),
    ],
)
def test_quarter_of_the_host_is_left(
    function: str, amount: float, name: str, cap: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capacity_module, function, lambda: amount)
    assert HostCapacity(HostLimits()).cap(name) == cap


def test_given_cap_wins() -> None:
    assert HostCapacity(HostLimits(max_resident_memory_bytes="2GiB")).cap("max_resident_memory_bytes") == 2 << 30


def test_refusal_names_the_values_and_the_way_out() -> None:
    capacity = HostCapacity(HostLimits(max_host_fds=8))
    capacity.acquire("max_host_fds", 8)
    with pytest.raises(HostLimit, match=r"max_host_fds: 9 asked .* 8 allowed; raise it with configure_host") as caught:
        capacity.acquire("max_host_fds")
    assert (caught.value.values["observed"], caught.value.values["cap"]) == (9, 8)
    capacity.release("max_host_fds", 3)
    capacity.acquire("max_host_fds", 3)
    use = capacity.usage()["max_host_fds"]
    assert (use.used, use.peak, use.cap, use.refused) == (8, 8, 8, 1)


def test_place_is_held_once_by_each_owner_and_given_back_once() -> None:
    capacity = HostCapacity(HostLimits(max_running_processes=2))
    one, two = object(), object()
    for owner in (one, one, two):
        capacity.hold_place(owner)
    with pytest.raises(HostLimit):
        capacity.hold_place(object())
    for owner in (one, one):
        capacity.give_place_back(owner)
    assert capacity.place_owners() == [two]
    assert capacity.gauge("max_running_processes").used == 1


def test_usage_lists_every_limit_in_the_order_of_the_catalogue() -> None:
    capacity = HostCapacity(HostLimits(max_host_fds=10))
    capacity.acquire("max_host_fds", 4)
    before = capacity.usage()
    capacity.acquire("max_host_fds", 4)
    assert [use.name for use in before] == list(HOST_SPECS)
    assert [(usage["max_host_fds"].used, usage["max_host_fds"].percent) for usage in (before, capacity.usage())] == [
        (4, 40.0),
        (8, 80.0),
    ]


def test_events_reach_the_outlets_of_the_process_with_no_vm() -> None:
    capacity, heard = HostCapacity(HostLimits(max_host_fds=10)), []
    outlet = Outlet(heard.append, interval_seconds=0.0)
    capacity.outlets = (outlet,)
    for _ in range(2):
        capacity.acquire("max_host_fds", 9)
        with pytest.raises(HostLimit):
            capacity.acquire("max_host_fds", 2)
        capacity.release("max_host_fds", 9)
        assert outlet.flush(60)
    said = [(event.kind, event.limit, event.observed, event.capacity, event.vm, event.pid) for event in heard]
    assert said == 2 * [
        (EventKind.WARNING, "max_host_fds", 9, 10, None, None),
        (EventKind.REFUSED, "max_host_fds", 11, 10, None, None),
    ]
    assert "configure_host(max_host_fds=20)" in heard[0].describe()


def test_changed_cap_moves_the_warning_and_goes_through_who_manages_it() -> None:
    capacity, told = HostCapacity(HostLimits(max_host_fds=100, max_compile_jobs=2)), []
    capacity.manage("max_compile_jobs", told.append)
    capacity.acquire("max_host_fds", 40)
    assert capacity.usage()["max_host_fds"].warnings == 0
    capacity.configure(HostLimits(max_host_fds=50, max_compile_jobs=3))
    capacity.acquire("max_host_fds")
    assert capacity.usage()["max_host_fds"].warnings == 1
    assert told == [3]


def test_counting_is_exact_from_many_threads() -> None:
    capacity = HostCapacity(HostLimits(max_host_fds=1000))

    def work() -> None:
        for _ in range(2000):
            capacity.acquire("max_host_fds")
            capacity.release("max_host_fds")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert capacity.gauge("max_host_fds").used == 0


def test_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidLimit, match="max_host_fds"):
        configure_host(max_fds=3)


def test_value_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidLimit, match="max_running_processes"):
        configure_host(max_running_processes=0)
