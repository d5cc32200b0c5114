"""CPython 3.12 with its standard library: the program that uses most of what a VM has."""

import pytest

from agentvm import AgentVM, Limits, Signal
from tests.support.real_guests import real_guest

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

FILES = """
import os, stat
os.makedirs("/work/a/b")
with open("/work/a/f.txt", "w") as f:
    f.write("line\\n" * 1000)
print(os.path.getsize("/work/a/f.txt"), sorted(os.listdir("/work/a")))
os.rename("/work/a/f.txt", "/work/a/b/g.txt")
print([(d, sorted(x), sorted(y)) for d, x, y in os.walk("/work")])
with open("/work/a/b/g.txt", "r+b") as f:
    f.seek(10); f.write(b"XYZ"); f.truncate(20); f.seek(0)
    print(f.read())
with open("/work/a/b/g.txt", "ab") as f:
    f.write(b"end")
    print(f.tell())
os.symlink("g.txt", "/work/a/b/l")
print(os.readlink("/work/a/b/l"), stat.S_ISLNK(os.lstat("/work/a/b/l").st_mode), open("/work/a/b/l").read()[:4])
os.utime("/work/a/b/g.txt", (1_000_000_000, 2_000_000_000))
print(int(os.stat("/work/a/b/g.txt").st_mtime))
for bad in ("/nope", "/work", "/work/a/b/g.txt/x"):
    try:
        open(bad)
    except OSError as error:
        print(type(error).__name__)
os.remove("/work/a/b/l"); os.rename("/work/a/b/g.txt", "/kept.txt"); os.removedirs("/work/a/b")
print(os.path.exists("/work"))
"""

LIBRARY = """
import bz2, hashlib, json, random, re, struct, sys, time, zlib
print(json.loads(json.dumps({"a": [1, 2.5, None, "\\u00e9"]})))
data = b"x" * 100_000
print(zlib.decompress(zlib.compress(data)) == data, bz2.decompress(bz2.compress(data)) == data, zlib.crc32(b"agentvm"))
print(hashlib.sha256(b"abc").hexdigest()[:16], re.findall(r"\\d+", "a1b22"), struct.pack(">I", 258))
start = time.monotonic(); time.sleep(0.02); print(time.monotonic() - start >= 0.02)
print(len({random.SystemRandom().random() for _ in range(100)}) == 100, time.time() > 1_700_000_000)
print(sum(range(1_000_000)))
"""

ROWS = """
import sqlite3
db = sqlite3.connect("/rows.db")
db.execute("create table t(id integer primary key, name text)")
with db:
    db.executemany("insert into t values(?, ?)", ((i, f"name-{i}") for i in range(50_000)))
db.execute("create index by_name on t(name)")
db.close()
db = sqlite3.connect("/rows.db")
print(db.execute("pragma integrity_check").fetchone()[0], db.execute("select count(*), sum(id) from t").fetchone())
print(db.execute("select id from t where name = 'name-31337'").fetchone()[0])
db.execute("delete from t"); db.rollback()
print(db.execute("select count(*) from t").fetchone()[0])
"""


def test_python_runs_a_command(vm: AgentVM) -> None:
    result = vm.run(real_guest("python"), args=["-c", "import sys; print(6 * 7, sys.platform)"])
    assert (result.exit_code, result.stdout, result.stderr) == (0, b"42 wasi\n", b"")


def test_python_gets_its_arguments_environment_and_stdin(vm: AgentVM) -> None:
    code = "import os, sys; print(sys.argv[1:], os.environ['GREETING'], repr(sys.stdin.read())); sys.exit(5)"
    python = real_guest("python")
    result = vm.run(python, args=["-c", code, "x", "y z", ""], env={"GREETING": "hé"}, stdin=b"from\nstdin")
    assert result.stdout.decode() == "['x', 'y z', ''] hé 'from\\nstdin'\n"
    assert result.exit_code == 5


def test_python_works_with_files(vm: AgentVM) -> None:
    vm.fs.write("/files.py", FILES.encode())
    result = vm.run(real_guest("python"), args=["/files.py"])
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == [
        "5000 ['b', 'f.txt']",
        "[('/work', ['a'], []), ('/work/a', ['b'], []), ('/work/a/b', [], ['g.txt'])]",
        "b'line\\nline\\nXYZe\\nline\\n'",
        "23",
        "g.txt True line",
        "2000000000",
        "FileNotFoundError",
        "IsADirectoryError",
        "NotADirectoryError",
        "False",
    ]
    assert vm.fs.read("/kept.txt") == b"line\nline\nXYZe\nline\nend"


def test_python_reads_what_the_host_wrote(vm: AgentVM) -> None:
    content = bytes(range(256)) * 1000
    vm.fs.write("/data.bin", content)
    code = "d = open('/data.bin', 'rb').read(); open('/back.bin', 'wb').write(d[::-1]); print(len(d))"
    assert vm.run(real_guest("python"), args=["-c", code]).stdout == b"256000\n"
    assert vm.fs.read("/back.bin") == content[::-1]


def test_python_standard_library(vm: AgentVM) -> None:
    result = vm.run(real_guest("python"), args=["-c", LIBRARY])
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == [
        "{'a': [1, 2.5, None, 'é']}",
        "True True 921296089",
        "ba7816bf8f01cfea ['1', '22'] b'\\x00\\x00\\x01\\x02'",
        "True",
        "True True",
        "499999500000",
    ]


def test_python_keeps_50000_rows_in_a_sqlite_file(vm: AgentVM) -> None:
    result = vm.run(real_guest("python"), args=["-c", ROWS])
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == ["ok (50000, 1249975000)", "31337", "50000"]
    assert vm.fs.read("/rows.db").startswith(b"SQLite format 3\0")


def test_python_recursion_without_end_ends_only_the_guest(vm: AgentVM) -> None:
    code = """
import sys
sys.setrecursionlimit(10**9)
class A:
    def __getattr__(self, name):
        return getattr(self, name)
A().x
"""
    python = real_guest("python")
    result = vm.run(python, args=["-c", code])
    assert result.signal is Signal.SIGSEGV
    assert vm.run(python, args=["-c", "print('still here')"]).stdout == b"still here\n"


def test_python_out_of_memory_is_a_python_error() -> None:
    code = "try:\n  x = [bytearray(1 << 20) for _ in range(10000)]\nexcept MemoryError:\n  print('MemoryError')"
    with AgentVM(limits=Limits(max_memory_bytes="64MiB", max_memory_per_process_bytes="64MiB")) as vm:
        result = vm.run(real_guest("python"), args=["-c", code])
        assert (result.exit_code, result.stdout) == (0, b"MemoryError\n")


def test_python_out_of_storage_is_an_oserror() -> None:
    code = """
import errno, os
try:
    with open("/big", "wb", buffering=0) as f:
        while True: f.write(bytes(65536))
except OSError as error:
    print(errno.errorcode[error.errno], os.path.getsize("/big") > 900_000)
"""
    with AgentVM(limits=Limits(max_filesystem_bytes="1MiB")) as vm:
        result = vm.run(real_guest("python"), args=["-c", code])
        assert (result.exit_code, result.stdout) == (0, b"ENOSPC True\n")


def test_python_in_an_endless_loop_meets_its_deadline(vm: AgentVM) -> None:
    result = vm.run(real_guest("python"), args=["-c", "while True: pass"], timeout=1)
    assert result.signal is Signal.SIGKILL
    assert result.cause.limit == "max_wall_time_seconds"
