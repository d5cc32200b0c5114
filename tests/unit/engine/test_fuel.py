"""The pool of fuel by itself: leases + pool = what is left, whoever asks, gives back or waits."""

import random

import pytest

from agentvm.engine.fuel import FuelLease, FuelPool, FuelStatistics
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge
from agentvm.limits.spec import UNLIMITED, Cap


class Lease(FuelLease):
    """Notes what it is told."""

    def __init__(self, cap: Cap = UNLIMITED) -> None:
        super().__init__(Gauge(SPECS["max_fuel_per_process"], cap))
        self.asked = self.woken = 0

    def ask_back(self) -> None:
        self.asked += 1

    def wake(self) -> None:
        self.woken += 1


def pool_of(cap: Cap) -> FuelPool:
    return FuelPool(Gauge(SPECS["max_fuel"], cap))


def test_only_process_gets_everything() -> None:
    assert pool_of(1000).take(Lease()) == 1000


def test_own_cap_bounds_the_lease() -> None:
    assert pool_of(1000).take(Lease(300)) == 300
    assert pool_of(UNLIMITED).take(Lease(300)) == 300


def test_second_process_waits_until_the_first_gives_its_share() -> None:
    pool, first, second = pool_of(1000), Lease(), Lease()
    pool.take(first)
    assert pool.take(second) is None
    assert first.asked == 1
    assert pool.exchange(first, 100) == 450
    assert second.woken == 1
    assert pool.take(second) == 450


def test_child_counts_before_it_asks() -> None:
    pool, parent, child = pool_of(1000), Lease(), Lease()
    pool.take(parent)
    assert pool.exchange(parent, 0, child=child) == 500
    assert pool.take(child) == 500


def test_what_an_ended_process_leaves_is_offered_to_the_others() -> None:
    pool, first, second = pool_of(1000), Lease(), Lease()
    pool.take(first)
    pool.exchange(first, 0, child=second)
    pool.take(second)
    before = first.asked
    pool.settle(second, 200)
    assert first.asked == before + 1
    assert pool.exchange(first, 0) == 800


def test_spent_fuel_is_never_lent_again() -> None:
    pool, lease = pool_of(1000), Lease()
    pool.take(lease)
    pool.settle(lease, 1000)
    assert pool.take(lease) == 0
    assert pool.refuse(lease) == ("max_fuel", 1000, 1000)


def test_own_budget_is_named_if_it_is_the_one() -> None:
    pool, lease = pool_of(1000), Lease(10)
    pool.take(lease)
    pool.settle(lease, 10)
    assert pool.refuse(lease) == ("max_fuel_per_process", 10, 10)


def test_charge_is_at_most_the_lease() -> None:
    pool, lease = pool_of(1000), Lease(100)
    pool.take(lease)
    pool.settle(lease, 10**9)
    assert pool.statistics().spent == 100


def test_fuel_known_to_be_burnt_counts_at_once_and_only_once() -> None:
    pool, lease = pool_of(1000), Lease(600)
    pool.take(lease)
    pool.note(lease, 100)
    pool.note(lease, 400)
    pool.note(lease, 300)  # an older look
    assert pool.statistics() == FuelStatistics(spent=400, leased=200, cap=1000)
    assert lease.budget.used == 400
    pool.settle(lease, 450)
    assert pool.statistics() == FuelStatistics(spent=450, leased=0, cap=1000)
    assert lease.budget.used == 450


def test_budgets_warn_when_the_crossing_becomes_known() -> None:
    pool, lease = pool_of(1000), Lease(600)
    vm = pool._budget
    pool.take(lease)
    pool.note(lease, 479)
    assert (vm.warnings, lease.budget.warnings) == (0, 0)
    pool.note(lease, 480)
    assert (vm.warnings, lease.budget.warnings) == (0, 1)
    pool.settle(lease, 600)
    assert (vm.warnings, lease.budget.warnings) == (0, 1)
    other = Lease()
    pool.take(other)
    pool.note(other, 200)
    assert (vm.warnings, other.budget.warnings) == (1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_leases_and_pool_are_what_is_left_after_any_sequence(seed: int) -> None:
    chance = random.Random(seed)
    cap = chance.randrange(1, 100_000)
    pool = pool_of(cap)
    leases = [Lease(chance.choice([UNLIMITED, chance.randrange(1, cap + 1)])) for _ in range(6)]
    for _ in range(400):
        lease = chance.choice(leases)
        spent = chance.randrange(0, lease.amount + 1)
        match chance.randrange(4):
            case 0 if not lease.amount:
                pool.take(lease)
            case 1 if lease.amount:
                pool.exchange(lease, spent)
            case 2 if lease.amount:
                pool.settle(lease, spent)
            case 3 if lease.amount:
                pool.note(lease, spent)
        statistics = pool.statistics()
        assert statistics.leased == sum(each.amount - each.noted for each in leases)
        assert statistics.spent == sum(each.budget.used for each in leases)
        assert statistics.spent + statistics.leased <= cap
        assert all(each.budget.used + each.amount - each.noted <= each.budget.cap for each in leases)
    for lease in leases:
        pool.settle(lease, 0)
    assert pool.statistics().leased == 0
