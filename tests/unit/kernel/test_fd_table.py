"""Descriptors: lowest number first, exact gauges, files closed with their last descriptor."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from agentvm import Errno
from agentvm.errno import KernelError
from agentvm.kernel.fd_table import Descriptor, FdTable
from agentvm.kernel.open_file import OpenFile
from agentvm.limits.catalogue import SPECS
from agentvm.limits.gauge import Gauge

PER_PROCESS, PER_VM = "max_open_fds_per_process", "max_open_fds"


class Counting(OpenFile):
    """A file that counts how often it was closed."""

    __slots__ = ("closed",)

    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def on_last_close(self) -> None:
        self.closed += 1


def _gauges(per_process: int = 8, per_vm: int = 12) -> tuple[Gauge, Gauge]:
    return Gauge(SPECS[PER_PROCESS], per_process), Gauge(SPECS[PER_VM], per_vm)


def _descriptor(file: OpenFile | None = None) -> Descriptor:
    return Descriptor(file or Counting(), 0, 0)


def _errno(call: object, *arguments: object) -> Errno:
    with pytest.raises(KernelError) as caught:
        call(*arguments)  # type: ignore[operator]
    return caught.value.errno


def test_the_lowest_free_number_comes_first() -> None:
    table = FdTable(*_gauges())
    assert [table.open(_descriptor()) for _ in range(5)] == [0, 1, 2, 3, 4]
    for number in (3, 1, 4):
        table.close(number)
    assert [table.open(_descriptor()) for _ in range(4)] == [1, 3, 4, 5]
    assert list(table) == [0, 1, 2, 3, 4, 5]


def test_a_file_is_closed_with_its_last_descriptor() -> None:
    table, other, file = FdTable(*_gauges()), FdTable(*_gauges()), Counting()
    numbers = [table.open(_descriptor(file)), table.open(_descriptor(file))]
    elsewhere = other.open(_descriptor(file))
    for number in numbers:
        table.close(number)
    assert file.closed == 0
    other.close(elsewhere)
    assert file.closed == 1


def test_closing_what_is_not_open_is_ebadf() -> None:
    table = FdTable(*_gauges())
    number = table.open(_descriptor())
    table.close(number)
    for bad in (number, 7, -1, 1 << 40):
        assert _errno(table.close, bad) is Errno.EBADF
        assert _errno(table.get, bad) is Errno.EBADF


def test_a_full_process_is_emfile_and_a_full_vm_enfile() -> None:
    per_process, per_vm = _gauges(2, 3)
    table, other = FdTable(per_process, per_vm), FdTable(Gauge(SPECS[PER_PROCESS], 5), per_vm)
    other.open(_descriptor())
    table.open(_descriptor())
    table.open(_descriptor())
    file = Counting()
    assert _errno(table.open, _descriptor(file)) is Errno.EMFILE  # both are full
    assert _errno(table.reserve) is Errno.EMFILE
    assert _errno(other.open, _descriptor(file)) is Errno.ENFILE
    assert _errno(other.reserve) is Errno.ENFILE
    assert (file.references, file.closed) == (0, 0)
    assert (per_process.used, per_vm.used, len(other)) == (2, 3, 1)


def test_reserving_takes_nothing_and_is_no_peak() -> None:
    per_process, per_vm = _gauges()
    table = FdTable(per_process, per_vm)
    table.reserve()
    assert (per_process.used, per_process.peak, per_vm.used, per_vm.peak) == (0, 0, 0, 0)


def test_renumber_replaces_the_target() -> None:
    per_process, per_vm = _gauges()
    table, files = FdTable(per_process, per_vm), [Counting() for _ in range(3)]
    for file in files:
        table.open(_descriptor(file))
    table.renumber(0, 2)
    assert [file.closed for file in files] == [0, 0, 1]
    assert table.get(2).file is files[0]
    assert (list(table), per_process.used, per_vm.used) == ([1, 2], 2, 2)
    assert table.open(_descriptor()) == 0


def test_renumber_to_itself_changes_nothing() -> None:
    table, file = FdTable(*_gauges()), Counting()
    number = table.open(_descriptor(file))
    table.renumber(number, number)
    assert (table.get(number).file, file.closed) == (file, 0)


def test_renumber_of_two_descriptors_of_one_file_keeps_it_open() -> None:
    table, file = FdTable(*_gauges()), Counting()
    table.open(_descriptor(file))
    table.open(_descriptor(file))
    table.renumber(0, 1)
    assert (file.closed, file.references) == (0, 1)


def test_closing_all_gives_everything_back() -> None:
    per_process, per_vm = _gauges()
    table, files = FdTable(per_process, per_vm), [Counting() for _ in range(4)]
    for file in files:
        table.open(_descriptor(file))
    table.close_all()
    assert ([file.closed for file in files], len(table)) == ([1] * 4, 0)
    assert (per_process.used, per_vm.used) == (0, 0)


class Tables(RuleBasedStateMachine):
    """Two processes of one VM against two dicts."""

    numbers = Bundle("numbers")

    def __init__(self) -> None:
        super().__init__()
        self.per_vm = Gauge(SPECS[PER_VM], 9)
        self.per_process = [Gauge(SPECS[PER_PROCESS], 6), Gauge(SPECS[PER_PROCESS], 6)]
        self.tables = [FdTable(gauge, self.per_vm) for gauge in self.per_process]
        self.models: list[dict[int, Counting]] = [{}, {}]
        self.files: list[Counting] = []

    @rule(target=numbers, which=st.integers(0, 1), shared=st.booleans())
    def open(self, which: int, shared: bool) -> tuple[int, int]:
        file = self.files[-1] if shared and self.files and not self.files[-1].closed else Counting()
        model = self.models[which]
        if len(model) == 6 or sum(map(len, self.models)) == 9:
            expected = Errno.EMFILE if len(model) == 6 else Errno.ENFILE
            assert _errno(self.tables[which].open, _descriptor(file)) is expected
            return which, 99
        number = self.tables[which].open(_descriptor(file))
        assert number == min(set(range(7)) - set(model))
        model[number] = file
        self.files.append(file)
        return which, number

    @rule(place=consumes(numbers))
    def close(self, place: tuple[int, int]) -> None:
        which, number = place
        if number not in self.models[which]:
            assert _errno(self.tables[which].close, number) is Errno.EBADF
            return
        self.tables[which].close(number)
        del self.models[which][number]

    @rule(place=numbers, other=numbers)
    def renumber(self, place: tuple[int, int], other: tuple[int, int]) -> None:
        which, source = place
        target, model = other[1], self.models[which]
        if source not in model or target not in model:
            assert _errno(self.tables[which].renumber, source, target) is Errno.EBADF
            return
        self.tables[which].renumber(source, target)
        model[target] = model.pop(source)

    @invariant()
    def gauges_equal_a_recount(self) -> None:
        for table, model, gauge in zip(self.tables, self.models, self.per_process, strict=True):
            assert {number: table.get(number).file for number in table} == model
            assert gauge.used == len(model)
        assert self.per_vm.used == sum(map(len, self.models))
        held = [file for model in self.models for file in model.values()]
        for file in self.files:
            assert file.references == sum(other is file for other in held)
            assert file.closed == (file.references == 0)


Tables.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestTables = Tables.TestCase
