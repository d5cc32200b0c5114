"""The process tree against a small model: spawn, end, stop, continue, groups, signals, masks, waits, reparenting.

No engine: what a guest would do on its own thread, the machine does step by step under no lock but its own.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentvm import Cause, CauseKind, Errno, Limits, ManualClock, Signal
from agentvm.errno import KernelError
from agentvm.kernel import signalling
from agentvm.kernel.fd_table import Descriptor
from agentvm.kernel.open_file import OpenFile
from agentvm.kernel.outcome import ExitStatus
from agentvm.kernel.process import Ending, Image, Process, ProcessState
from agentvm.kernel.process_table import ProcessTable
from agentvm.kernel.signals import Disposition, Reaction, bit_of
from agentvm.kernel.wait import Lock
from agentvm.kernel.wait_child import CONTINUED, NO_HANG, UNTRACED, wait_for_child
from agentvm.limits.registry import Registry

MOST = 6
TERM, USR1, CHLD, CONT, STOP, TSTP, KILL = (
    Signal.SIGTERM, Signal.SIGUSR1, Signal.SIGCHLD, Signal.SIGCONT, Signal.SIGSTOP, Signal.SIGTSTP, Signal.SIGKILL,
)  # fmt: skip
ALL = (TERM, USR1, CHLD, CONT, STOP, TSTP, KILL)
MASKABLE = (TERM, USR1, CHLD, CONT, TSTP)
STOPS = {STOP, TSTP}


@dataclass
class Model:
    """What the machine believes of one process."""

    pid: int
    parent: int  # 1: nobody's
    pgid: int
    sid: int
    is_hosts: bool
    state: str = "R"  # R, T or Z
    code: int | None = None
    killed_by: Signal | None = None
    stopped_by: Signal | None = None
    tells_stop: bool = False
    tells_continue: bool = False
    blocked: set[Signal] = field(default_factory=set)
    pending: set[Signal] = field(default_factory=set)
    reactions: dict[Signal, Reaction] = field(default_factory=dict)

    def reaction(self, signal: Signal) -> Reaction:
        return self.reactions.get(signal, Reaction.DEFAULT)

    @property
    def lives(self) -> bool:
        return self.state != "Z"


#: Stands for one of the processes, or of the ways to name some, that there are at a step.
ANY = st.integers(0, 59)
#: As a sender would choose: few end somebody.
SENT = (0, USR1, USR1, CHLD, CONT, CONT, STOP, STOP, TSTP, TSTP, TERM, KILL)


def somebody_runs(machine: "ProcessTree") -> bool:
    return bool(machine.running)


class ProcessTree(RuleBasedStateMachine):
    """A step draws numbers, which choose among the processes that there are then."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(Limits(max_processes=MOST))
        self.table = ProcessTable(self.registry)
        self.lock, self.clock = Lock(), ManualClock()
        self.model: dict[int, Model] = {}
        self.last_pid = 1
        #: Who was to be killed: the engine notices, and ends them.
        self.doomed: list[int] = []

    # -- the model's own rules ----------------------------------------------------------------------------------------
    def post(self, pid: int, signal: Signal) -> None:
        one = self.model[pid]
        if not one.lives:
            return
        if signal is KILL:
            self.doom(one, signal)
            return
        if signal is CONT:
            one.pending -= STOPS
            self.resume(one)
        elif signal in STOPS:
            one.pending.discard(CONT)
        if signal in one.blocked:
            one.pending.add(signal)
        elif one.reaction(signal) is Reaction.HANDLER:
            one.pending.add(signal)
        elif one.reaction(signal) is Reaction.DEFAULT:
            self.take_default(one, signal)

    def take_default(self, one: Model, signal: Signal) -> None:
        if signal in (CHLD, CONT):
            return
        if signal in STOPS:
            if signal is STOP or not self.is_orphaned(one.pgid):
                self.stop(one, signal)
        elif one.state == "T":
            one.pending.add(signal)
        else:
            self.doom(one, signal)

    def doom(self, one: Model, signal: Signal) -> None:
        if one.killed_by is None:
            one.killed_by = signal
            self.doomed.append(one.pid)

    def stop(self, one: Model, signal: Signal) -> None:
        if one.state == "R":
            one.state, one.stopped_by = "T", signal
            one.tells_stop, one.tells_continue = True, False
            self.tell_parent(one)

    def resume(self, one: Model) -> None:
        if one.state == "T":
            one.state, one.stopped_by = "R", None
            one.tells_stop, one.tells_continue = False, True
            self.tell_parent(one)
            self.let_through(one)

    def let_through(self, one: Model) -> None:
        for signal in sorted(one.pending - one.blocked):
            if one.reaction(signal) is not Reaction.HANDLER and signal in one.pending:
                one.pending.discard(signal)
                self.post(one.pid, signal)

    def tell_parent(self, one: Model) -> None:
        if one.parent in self.model:
            self.post(one.parent, CHLD)

    def is_orphaned(self, pgid: int) -> bool:
        for one in self.model.values():
            if one.pgid != pgid or not one.lives:
                continue
            parent = self.model.get(one.parent)
            if one.is_hosts or (parent is not None and parent.pgid != pgid and parent.sid == one.sid):
                return False
        return True

    def end(self, pid: int) -> None:
        """A process has ended: its children go to process 1, and its parent hears of it."""
        one = self.model[pid]
        one.state, one.pending = "Z", set()
        groups = {one.pgid}
        for child in [child for child in self.model.values() if child.parent == pid]:
            child.parent = 1
            groups.add(child.pgid)
            if not child.lives:
                del self.model[child.pid]
        self.hang_up(groups)
        parent = self.model.get(one.parent)
        if parent is None:
            if not one.is_hosts:
                del self.model[pid]
            return
        ignores = parent.reaction(CHLD) is Reaction.IGNORE
        if ignores:
            del self.model[pid]
        else:
            self.post(parent.pid, CHLD)

    def hang_up(self, groups: set[int]) -> None:
        for pgid in groups:
            members = [one for one in self.model.values() if one.pgid == pgid and one.lives]
            if any(one.state == "T" for one in members) and self.is_orphaned(pgid):
                for one in members:
                    self.hup(one)

    def hup(self, one: Model) -> None:
        """SIGHUP, which nobody here handles or blocks, and SIGCONT."""
        if one.state == "T":
            one.pending.add(Signal.SIGHUP)
        else:
            self.doom(one, Signal.SIGHUP)
        self.post(one.pid, CONT)

    # -- steps --------------------------------------------------------------------------------------------------------
    def settle(self) -> None:
        """End, in the table and in the model, who was to be killed; that may doom others."""
        while self.doomed:
            pid = self.doomed.pop(0)
            process = self.table.get(pid)
            assert process.ending is not None
            assert process.ending.status.signal is self.model[pid].killed_by
            self.table.exit(process, process.ending)
            self.end(pid)

    @property
    def running(self) -> list[int]:
        """Those that can make calls; a stopped one makes none."""
        return [pid for pid, one in self.model.items() if one.state == "R"]

    def caller(self, number: int) -> Process:
        return self.table.get(self.running[number % len(self.running)])

    def selector(self, number: int) -> int:
        """Return what kill or waitpid may be given."""
        groups = sorted({-one.pgid for one in self.model.values()})
        choices = [0, -1, 1, 99, -99, *self.model, *groups]
        return choices[number % len(choices)]

    def errno(self, call: Any, *arguments: Any, **options: Any) -> Errno | None:
        try:
            call(*arguments, **options)
        except KernelError as error:
            return error.errno
        return None

    @initialize()
    def first(self) -> None:
        self.made(self.made(None))

    def made(self, parent: int | None) -> int:
        caller = None if parent is None else self.table.get(parent)
        process = self.table.spawn(Image((b"p",)), None, parent=caller)
        process.fds.open(Descriptor(OpenFile(), 0, 0))
        self.last_pid += 1
        assert process.pid == self.last_pid
        of = None if parent is None else self.model[parent]
        one = Model(
            process.pid,
            1 if of is None else of.pid,
            process.pid if of is None else of.pgid,
            process.pid if of is None else of.sid,
            of is None,
        )
        if of is not None:
            one.blocked = set(of.blocked)
            one.reactions = {signal: what for signal, what in of.reactions.items() if what is Reaction.IGNORE}
        self.model[process.pid] = one
        return process.pid

    def spawn(self, caller: Process | None) -> None:
        if len(self.model) < MOST:
            self.made(None if caller is None else caller.pid)
        else:
            assert self.errno(self.table.spawn, Image((b"p",)), None, parent=caller) is Errno.EAGAIN

    @rule()
    def host_spawns(self) -> None:
        self.spawn(None)

    @precondition(somebody_runs)
    @rule(parent=ANY)
    def guest_spawns(self, parent: int) -> None:
        self.spawn(self.caller(parent))

    @precondition(somebody_runs)
    @rule(parent=ANY)
    def guest_spawns_one_more(self, parent: int) -> None:
        self.spawn(self.caller(parent))

    @precondition(somebody_runs)
    @rule(who=ANY, code=st.integers(0, 255))
    def exit(self, who: int, code: int) -> None:
        process = self.caller(who)
        pid = process.pid
        self.model[pid].code = code
        self.table.exit(process, Ending(ExitStatus.exited(code), Cause(CauseKind.EXIT)))
        self.end(pid)
        self.settle()

    @precondition(somebody_runs)
    @rule(who=ANY, whom=ANY, signal=st.sampled_from(SENT))
    def kill(self, who: int, whom: int, signal: int) -> None:
        process, selector = self.caller(who), self.selector(whom)
        sender = process.pid
        pgid = self.model[sender].pgid
        if selector == 1:
            expected: list[int] | Errno = Errno.EPERM
        elif selector > 0:
            expected = [selector] if selector in self.model else Errno.ESRCH
        elif selector == -1:
            expected = [pid for pid in self.model if pid != sender] or Errno.ESRCH
        else:
            expected = [pid for pid, one in self.model.items() if one.pgid == (-selector or pgid)] or Errno.ESRCH
        found = self.errno(signalling.kill, self.table, process, selector, signal)
        if isinstance(expected, Errno):
            assert found is expected
            return
        assert found is None
        for pid in expected if signal else ():
            self.post(pid, Signal(signal))
        self.settle()

    @precondition(somebody_runs)
    @rule(who=ANY, mask=st.sets(st.sampled_from(MASKABLE)))
    def block(self, who: int, mask: set[Signal]) -> None:
        process = self.caller(who)
        pid = process.pid
        signalling.change_mask(process, sum(map(bit_of, mask)))
        self.model[pid].blocked = set(mask)
        self.let_through(self.model[pid])
        self.settle()

    @precondition(somebody_runs)
    @rule(who=ANY, signal=st.sampled_from(ALL), reaction=st.sampled_from(Reaction))
    def react(self, who: int, signal: Signal, reaction: Reaction) -> None:
        process = self.caller(who)
        pid = process.pid
        found = self.errno(signalling.set_disposition, process, signal, Disposition(reaction))
        if signal in (KILL, STOP):
            assert found is Errno.EINVAL
            return
        assert found is None
        one = self.model[pid]
        one.reactions[signal] = reaction
        if reaction is Reaction.IGNORE or (reaction is Reaction.DEFAULT and signal in (CHLD,)):
            one.pending.discard(signal)
        self.let_through(one)
        self.settle()

    @precondition(somebody_runs)
    @rule(who=ANY)
    def run_handlers(self, who: int) -> None:
        process = self.caller(who)
        pid = process.pid
        one = self.model[pid]
        while (delivery := process.signals.take()) is not None:
            due = {signal for signal in one.pending - one.blocked if one.reaction(signal) is Reaction.HANDLER}
            assert delivery.signal == min(due)
            one.pending.discard(Signal(delivery.signal))
            signalling.change_mask(process, delivery.mask_after)
        assert not {signal for signal in one.pending - one.blocked if one.reaction(signal) is Reaction.HANDLER}
        self.settle()

    @precondition(somebody_runs)
    @rule(who=ANY, whom=ANY, where=ANY)
    def setpgid(self, who: int, whom: int, where: int) -> None:
        process = self.caller(who)
        caller = process.pid
        pids = [caller, *self.model]
        one = self.model[pids[whom % len(pids)]]
        groups = [0, 0, -1, 99, *(other.pgid for other in self.model.values())]
        group = groups[where % len(groups)]
        own = self.model[caller]
        pgid = group or one.pid
        if group < 0:
            expected: Errno | None = Errno.EINVAL
        elif one is not own and one.parent != caller:
            expected = Errno.ESRCH
        elif one.sid != own.sid or one.sid == one.pid:
            expected = Errno.EPERM
        elif pgid != one.pid and not any(o.pgid == pgid and o.sid == one.sid for o in self.model.values()):
            expected = Errno.EPERM
        else:
            expected = None
        assert self.errno(self.table.set_group, process, self.table.get(one.pid), group) is expected
        if expected is None:
            one.pgid = pgid

    @precondition(somebody_runs)
    @rule(who=ANY, whom=ANY, stops=st.booleans(), continues=st.booleans())
    def wait(self, who: int, whom: int, stops: bool, continues: bool) -> None:
        process, selector = self.caller(who), self.selector(whom)
        caller = process.pid
        own = [one for one in self.model.values() if one.parent == caller]
        if selector > 0:
            meant = [one for one in own if one.pid == selector]
        elif selector == -1:
            meant = own
        else:
            meant = [one for one in own if one.pgid == (-selector or self.model[caller].pgid)]
        options = NO_HANG | (UNTRACED if stops else 0) | (CONTINUED if continues else 0)
        try:
            report = wait_for_child(self.table, process, self.lock, self.clock, selector, options)
        except KernelError as error:
            assert (error.errno, meant) == (Errno.ECHILD, [])
            return
        ready = [
            one for one in meant if not one.lives or (stops and one.tells_stop) or (continues and one.tells_continue)
        ]
        if report is None:
            assert meant
            assert not ready
            return
        one = self.model[report.pid]
        assert one in ready
        if not one.lives:
            assert report.status == (
                ExitStatus.signalled(one.killed_by) if one.killed_by is not None else ExitStatus.exited(one.code or 0)
            )
            del self.model[one.pid]
        elif stops and one.tells_stop:
            assert report.stopped_by is one.stopped_by
            one.tells_stop = False
        else:
            assert (report.status, report.stopped_by) == (None, None)
            one.tells_continue = False

    @rule()
    def host_reaps(self) -> None:
        for one in [one for one in self.model.values() if one.is_hosts and not one.lives]:
            self.table.reap(self.table.get(one.pid))
            del self.model[one.pid]

    # -- what holds after every step ----------------------------------------------------------------------------------
    @invariant()
    def the_table_is_as_the_model_says(self) -> None:
        assert {process.pid for process in self.table} == set(self.model)
        for process in self.table:
            one = self.model[process.pid]
            assert (process.ppid, process.pgid, process.sid) == (one.parent, one.pgid, one.sid)
            assert process.state_letter == one.state
            assert process.stopped_by is (one.stopped_by if one.lives else None)
            if one.lives:
                assert process.signals.blocked == sum(map(bit_of, one.blocked))
                assert process.signals.pending == sum(map(bit_of, one.pending))
                assert (process.has_stop_to_report, process.has_continue_to_report) == (
                    one.tells_stop,
                    one.tells_continue,
                )
            assert {child.pid for child in process.children.values()} == {
                other.pid for other in self.model.values() if other.parent == process.pid
            }

    @invariant()
    def gauges_equal_a_recount(self) -> None:
        assert self.registry.gauge("max_processes").used == len(self.model)
        living = [process for process in self.table if process.state is ProcessState.RUNNING]
        assert self.registry.gauge("max_open_fds").used == len(living)
        for process in living:
            assert process.gauges.gauge("max_open_fds_per_process").used == len(process.fds) == 1
        assert self.table.stalls.zombies == sum(not one.lives for one in self.model.values())

    def teardown(self) -> None:
        for process in self.table:
            if process.state is ProcessState.RUNNING:
                self.table.exit(process, Ending(ExitStatus.exited(0), Cause(CauseKind.EXIT)))
        for process in self.table:
            self.table.reap(process)
        used = {name: self.registry.gauge(name).used for name in ("max_processes", "max_open_fds")}
        assert used == {"max_processes": 0, "max_open_fds": 0}
        assert len(self.table) == 0


TestProcessTree = ProcessTree.TestCase
TestProcessTree.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
