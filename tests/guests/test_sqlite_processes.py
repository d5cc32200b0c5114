"""The SQLite shell with subprocesses and locks: unpatched, it runs commands, and two share a database as on Linux."""

import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.guests.worlds import InVM, OnLinux, Outcome, Session, World

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]

PROMPT = "sqlite> "


@pytest.fixture
def in_vm() -> Iterator[InVM]:
    with InVM("sqlite") as world:
        yield world


@pytest.fixture
def on_linux(tmp_path: Path) -> OnLinux:
    return OnLinux(tmp_path, "sqlite")


def opened(world: World, *before: str) -> Session:
    """A shell that waits at its prompt, with the test's database open."""
    session = world.start("sqlite", "-interactive", "test.db")
    session.until(PROMPT)
    for line in before:
        session.say(line, PROMPT)
    return session


# -- commands ---------------------------------------------------------------------------------------------------------
COMMANDS = """\
.shell echo from the shell
.system exit 3
.shell no-such-program 2>/dev/null
.shell kill -TERM $$
.shell cat rows.csv | wc -l
create table t(id integer, name text);
.mode csv
.import rows.csv t
.import "|echo 3,three; echo 4,four" t
.mode list
select count(*), sum(id), group_concat(name) from t;
.once '|cat > once.txt'
select name from t order by id desc;
.output '|wc -l'
select * from t a, t b;
.output
.read '|echo "select max(id) from t;"'
select edit('kept ', 'echo changed >>');
.shell sqlite test.db "insert into t values(5, 'by a child')"
select * from t where id = 5;
"""

PRINTED = """\
from the shell
2
4|10|one,two,three,four
16
4
kept changed

5|by a child
"""

SAID = """\
System command returns 768
System command returns 32512
System command returns 15
"""


def test_the_shell_runs_commands_and_pipes(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        world.write("rows.csv", "1,one\n2,two\n")
        assert world.run("sqlite", "test.db", stdin=COMMANDS) == Outcome(0, PRINTED, SAID)
        assert world.read("once.txt") == "four\nthree\ntwo\none\n"


# -- locks ------------------------------------------------------------------------------------------------------------
#: Who says what, and what is printed for it; "!" stands for an error.
DIALOGUE = [
    ("first", "create table t(x); insert into t values(1);", ""),
    ("first", "begin immediate; insert into t values(2);", ""),
    ("second", "select count(*) from t;", "1\n"),
    ("second", "insert into t values(3);", "!"),
    ("second", "begin exclusive;", "!"),
    ("first", "commit;", ""),
    ("second", "insert into t values(3);", ""),
    ("second", "begin; select count(*) from t;", "3\n"),
    ("first", "select count(*) from t;", "3\n"),
    ("first", "insert into t values(4);", "!"),
    ("second", "commit;", ""),
    ("first", "insert into t values(4);", ""),
    ("first", "begin exclusive;", ""),
    ("second", "select count(*) from t;", "!"),
    ("first", ".shell sqlite test.db 'select count(*) from t'", "!!"),
    ("first", "rollback;", ""),
    ("second", "select count(*), sum(x) from t;", "4|10\n"),
    ("first", "pragma journal_mode = wal;", "delete\n"),
    ("first", "pragma integrity_check;", "ok\n"),
]
LOCKED = "Runtime error: database is locked (5)\n"
CHILD_LOCKED = "Error: in prepare, database is locked (5)\nSystem command returns 1280\n"


def test_two_shells_lock_each_other_out_where_linux_does(in_vm: InVM, on_linux: OnLinux) -> None:
    said = [(who, line, printed.strip("!")) for who, line, printed in DIALOGUE]
    errors = {
        name: "".join(
            LOCKED if printed == "!" else CHILD_LOCKED
            for who, _, printed in DIALOGUE
            if who == name and printed.startswith("!")
        )
        for name in ("first", "second")
    }
    for world in (in_vm, on_linux):
        sessions = {"first": opened(world), "second": opened(world)}
        assert [(who, line, sessions[who].say(line, PROMPT)) for who, line, _ in DIALOGUE] == said
        ends = {name: session.finish() for name, session in sessions.items()}
        assert {name: end.stderr for name, end in ends.items()} == errors
        assert {end.status for end in ends.values()} == {1}  # the shell's, after any error


def test_a_shell_with_a_timeout_waits_for_the_lock(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        # The first one, too: its commit may find the second one just looking.
        first, second = (opened(world, ".timeout 60000") for _ in range(2))
        first.say("create table t(x);", PROMPT)
        first.say("begin immediate; insert into t values('first');", PROMPT)
        second.send("insert into t values('second'); select group_concat(x) from t;")
        first.say("insert into t values('still first'); commit;", PROMPT)
        assert second.until(PROMPT) == "first,still first,second\n"
        assert (first.finish().stderr, second.finish().stderr) == ("", "")


def test_a_timeout_ends_the_wait(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        first, second = opened(world, "create table t(x); begin immediate;"), opened(world, ".timeout 300")
        begun = monotonic()
        assert second.say("insert into t values(1);", PROMPT) == ""
        assert 0.25 < monotonic() - begun < 10
        assert (first.finish().stderr, second.finish().stderr) == ("", LOCKED)


INCREMENT = "begin immediate; update counter set n = n + 1; commit;\n"


def test_writers_at_once_lose_nothing(in_vm: InVM) -> None:
    in_vm.run("sqlite", "test.db", "create table counter(n); insert into counter values(0)")
    writers = [in_vm.start("sqlite", "test.db") for _ in range(4)]
    for writer in writers:
        writer.send(".timeout 60000\n" + 25 * INCREMENT)
    assert [writer.finish() for writer in writers] == [Outcome(0, "", "")] * 4
    assert in_vm.run("sqlite", "test.db", "select n from counter").stdout == "100\n"


# -- ends -------------------------------------------------------------------------------------------------------------
MANY = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) insert into t select i from n;"


def test_a_killed_writer_leaves_its_locks_and_a_journal_that_is_rolled_back(in_vm: InVM, on_linux: OnLinux) -> None:
    for world in (in_vm, on_linux):
        first, second = opened(world, "create table t(x); insert into t values(1);"), opened(world)
        first.say("pragma cache_size = 5; begin; delete from t;", PROMPT)
        first.say(MANY, PROMPT)
        assert world.exists("test.db-journal")
        second.say("select * from t;", PROMPT)  # locked: the file itself is being written
        first.send_signal(signal.SIGKILL)
        assert first.finish().status == -signal.SIGKILL
        assert second.say("select * from t; pragma integrity_check;", PROMPT) == "1\nok\n"
        assert second.finish() == Outcome(1, "\n", LOCKED.replace("Runtime", "Parse"))
        assert not world.exists("test.db-journal")


def test_a_reader_that_leaves_its_pipe_ends_the_shell_of_the_command_only(in_vm: InVM, on_linux: OnLinux) -> None:
    script = ".output '|head -n 1'\nselect 'line';\n.output\nselect 'alive';\n"
    for world in (in_vm, on_linux):
        assert world.run("sqlite", ":memory:", stdin=script) == Outcome(0, "line\nalive\n", "")
