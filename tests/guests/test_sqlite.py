"""The SQLite shell, built from its sources: a database file with a journal, positioned reads and writes, truncation."""

import pytest

from agentvm import AgentVM, Limits
from tests.support.real_guests import real_guest

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

FILL = """
create table t(id integer primary key, name text, score real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 50000)
  insert into t select i, 'name-' || i, i * 0.5 from n;
create index by_name on t(name);
select count(*), sum(id), max(score) from t;
select id from t where name = 'name-31337';
begin; delete from t where id % 2; rollback;
pragma integrity_check;
"""


def test_sqlite_keeps_50000_rows_in_a_file(vm: AgentVM) -> None:
    sqlite = real_guest("sqlite")
    result = vm.run(sqlite, args=["/test.db"], stdin=FILL.encode(), env={"HOME": "/"})
    assert result.exit_code == 0
    assert result.stdout == b"50000|1250025000|25000.0\n31337\nok\n"
    assert vm.fs.read("/test.db")[:16] == b"SQLite format 3\0"
    again = vm.run(
        sqlite, args=["/test.db", "select count(*) from t; vacuum; select max(id) from t"], env={"HOME": "/"}
    )
    assert (again.exit_code, again.stdout) == (0, b"50000\n50000\n")


def test_sqlite_dump_restores_the_same_rows(vm: AgentVM) -> None:
    sqlite = real_guest("sqlite")
    vm.run(sqlite, args=["/a.db"], stdin=FILL.encode(), env={"HOME": "/"}).check()
    dump = vm.run(sqlite, args=["/a.db", ".dump"], env={"HOME": "/"}).check()
    assert dump.stdout.count(b"INSERT INTO t VALUES") == 50_000
    vm.run(sqlite, args=["/b.db"], stdin=dump.stdout, env={"HOME": "/"}).check()
    again = vm.run(sqlite, args=["/b.db", ".dump"], env={"HOME": "/"}).check()
    assert again.stdout == dump.stdout


def test_sqlite_reports_a_full_disk_and_its_file_stays_whole() -> None:
    with AgentVM(limits=Limits(max_filesystem_bytes="1MiB")) as vm:
        sqlite = real_guest("sqlite")
        vm.run(sqlite, args=["/t.db", "create table kept(x); insert into kept values(1)"], env={"HOME": "/"}).check()
        full = vm.run(sqlite, args=["/t.db"], stdin=FILL.encode(), env={"HOME": "/"})
        assert b"full" in full.stderr
        check = vm.run(sqlite, args=["/t.db", "select x from kept; pragma integrity_check"], env={"HOME": "/"})
        assert (check.exit_code, check.stdout) == (0, b"1\nok\n")
