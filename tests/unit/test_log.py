"""The log: what a line looks like, who hears of it, and that nothing of it hurts anybody."""

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from agentvm import log

#: A program of its own, because only there nobody has configured `logging`.
TIMEOUT = 60
EVENT = {"limit": "max_inodes", "observed": 33, "capacity": 40, "vm": "vm-1", "pid": 2}


@pytest.fixture(autouse=True)
def _unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AGENTVM_LOG", "AGENTVM_LOG_FORMAT"):
        monkeypatch.delenv(name, raising=False)
    log.configure()
    yield
    log.flush(TIMEOUT)
    monkeypatch.undo()
    log.configure()


@pytest.fixture
def sink() -> io.StringIO:
    return io.StringIO()


def lines(sink: io.StringIO) -> list[str]:
    assert log.flush(TIMEOUT)
    return sink.getvalue().splitlines()


def program(script: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, os, logging\nfrom agentvm import log\n{script}"],
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done


# ---- what a line looks like ----


def test_a_line_for_people_says_it_once(sink: io.StringIO) -> None:
    log.configure(format="console", sink=sink)
    log.warn("max_inodes is at 82 % (33 of 40)", **EVENT)
    log.error("it broke", vm=None, name="two words")
    assert lines(sink) == [
        "agentvm: warning: max_inodes is at 82 % (33 of 40); vm=vm-1 pid=2",
        "agentvm: error: it broke; name='two words'",
    ]


def test_a_line_for_programs_is_one_object_with_all_fields(sink: io.StringIO) -> None:
    log.configure(format="json", sink=sink)
    log.warn("max_inodes is at 82 %\n", **EVENT)
    log.error("it broke", nothing=None)
    first, second = (json.loads(line) for line in lines(sink))
    assert first.pop("timestamp").endswith("Z")
    assert first == {"level": "warning", "event": "max_inodes is at 82 %\n", **EVENT}
    assert (second["level"], second["nothing"]) == ("error", None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\nagentvm: error: forged", r"a\nagentvm: error: forged"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x85\u2028\x9b31m", r"\x85\u2028\x9b31m"),
        ("\udcff", r"\udcff"),
        ("grün 日本", "grün 日本"),
    ],
)
@pytest.mark.parametrize("format_", log.FORMATS)
def test_what_a_guest_chose_cannot_steer_a_terminal(sink: io.StringIO, format_: str, text: str, shown: str) -> None:
    log.configure(format=format_, sink=sink)
    log.warn(f"running {text}", path=text.replace(" ", ""))
    (line,) = lines(sink)
    assert line.isprintable()
    if format_ == "console":
        assert line == f"agentvm: warning: running {shown}; path={shown.replace(' ', '')}"
    else:
        assert json.loads(line)["path"] == text.replace(" ", "")


def test_a_long_value_is_cut(sink: io.StringIO) -> None:
    log.configure(format="json", sink=sink)
    log.warn("x" * 10**6, path="y" * 10**6)
    (line,) = lines(sink)
    assert len(line) < 5000


def test_a_traceback_follows_indented_or_as_a_field(sink: io.StringIO) -> None:
    for format_ in log.FORMATS:
        log.configure(format=format_, sink=sink)
        try:
            raise ValueError("\x1b[0m forged:\nagentvm: error: x")
        except ValueError:
            log.error("serving a process failed", pid=3, exc_info=True)
        log.flush(TIMEOUT)
    first, *trace, last = lines(sink)
    assert first == "agentvm: error: serving a process failed; pid=3"
    assert all(line.startswith("  ") and line.isprintable() for line in trace)
    assert any("ValueError" in line for line in trace)
    assert "ValueError: \x1b[0m forged" in json.loads(last)["exception"]


# ---- who hears of it ----


@pytest.mark.parametrize("level", log.LEVELS)
def test_a_level_lets_itself_and_the_graver_ones_through(sink: io.StringIO, level: str) -> None:
    log.configure(level=level, sink=sink, format="json")
    for each in log.LEVELS:
        getattr(log, each)(each)
        assert log.enabled(each) == (log.LEVELS[each] >= log.LEVELS[level])
    assert [json.loads(line)["event"] for line in lines(sink)] == list(log.LEVELS)[: list(log.LEVELS).index(level) + 1]


def test_warnings_are_heard_and_less_is_not_by_default() -> None:
    done = program("log.info('no'); log.debug('no'); log.warn('yes'); log.error('yes')")
    assert [json.loads(line)["level"] for line in done.stderr.splitlines()] == ["warning", "error"]
    assert done.stdout == b""


def test_the_environment_wins_over_what_the_program_or_its_file_say() -> None:
    script = "log.configure(level='error', format='json'); log.debug('deep')"
    assert program(script).stderr == b""
    done = program(script, AGENTVM_LOG="debug", AGENTVM_LOG_FORMAT="console")
    assert done.stderr == b"agentvm: debug: deep\n"


@pytest.mark.parametrize(("name", "words"), [("AGENTVM_LOG", "warn is in force"), ("AGENTVM_LOG_FORMAT", "console")])
def test_a_bad_value_is_one_clear_line_and_the_default(name: str, words: str) -> None:
    script = "log.warn('a'); log.info('no'); log.configure(); log.warn('b')"
    events = [json.loads(line)["event"] for line in program(script, **{name: "loud"}).stderr.splitlines()]
    assert sorted(events)[1:] == ["a", "b"]
    complaint = sorted(events)[0]
    assert complaint.startswith(f"{name} is 'loud': it takes ")
    assert words in complaint


def test_configure_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="error, warn, info or debug"):
        log.configure(level="loud")
    with pytest.raises(ValueError, match="console or json"):
        log.configure(format="xml")


@pytest.mark.parametrize(
    "prepare",
    [
        "logging.basicConfig(stream=sys.stdout, format='%(levelname)s %(name)s %(message)s', level='WARNING')",
        "h = logging.StreamHandler(sys.stdout); logging.getLogger('agentvm').addHandler(h)\n"
        "h.setFormatter(logging.Formatter('%(levelname)s %(name)s %(message)s'))",
    ],
    ids=["root", "agentvm"],
)
def test_a_program_that_configured_logging_gets_ordinary_records(prepare: str) -> None:
    done = program(f"{prepare}\nlog.warn('near', vm='v', limit='x')\nlog.info('no')\nlog.error('broke\\n')")
    assert done.stdout.splitlines() == [b"WARNING agentvm near; vm=v", rb"ERROR agentvm broke\n"]
    assert done.stderr == b""


def test_a_record_carries_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "agentvm"):
        log.debug("uses much", **EVENT)
        error = ValueError("x")
        log.error("broke", exc_info=error)
    first, second = caplog.records
    assert first.agentvm == EVENT  # type: ignore[attr-defined]
    assert (first.levelno, first.funcName) == (logging.DEBUG, "test_a_record_carries_the_fields")
    assert second.exc_info is not None
    assert second.exc_info[1] is error


def test_the_programs_level_counts_and_not_ours() -> None:
    script = "logging.getLogger('agentvm').setLevel('ERROR'); log.warn('no'); log.error('yes')"
    assert program(script, AGENTVM_LOG="debug").stderr == b"yes\n"
    script = "logging.getLogger('agentvm').addHandler(logging.NullHandler()); log.error('no')"
    assert program(script, AGENTVM_LOG="debug").stderr == b""


def test_the_programs_configuration_is_left_alone() -> None:
    script = (
        "assert 'structlog' not in sys.modules and 'logging' in sys.modules\n"
        "log.info('nobody hears this')\n"
        "assert not log.flush.__doc__ is None and log.flush(1) and 'structlog' not in sys.modules\n"
        "log.warn('a'); log.flush(9)\n"
        "import structlog; assert not structlog.is_configured()\n"
        "assert not logging.root.handlers and not logging.getLogger('agentvm').handlers\n"
        "structlog.configure(processors=[lambda *_: 1 / 0]); log.configure(format='console'); log.warn('b')\n"
    )
    first, second = program(script).stderr.splitlines()
    assert json.loads(first)["event"] == "a"
    assert second == b"agentvm: warning: b"


# ---- and that it hurts nobody ----


@pytest.mark.parametrize(
    "breaking",
    [
        "sys.stderr.close()",
        "os.close(2)",
        "sys.stderr = None",
        "sys.stderr = type('Odd', (), {'flush': lambda _: None})()",
        "r, w = os.pipe(); os.dup2(w, 2); os.close(r)",
        "logging.getLogger('agentvm').addFilter(lambda _: 1 / 0); logging.basicConfig()",
    ],
)
def test_a_stderr_that_is_gone_costs_the_line_only(breaking: str) -> None:
    done = program(f"{breaking}\nlog.warn('x'); log.write('warn', 'y'); log.flush(9)\nprint('alive', flush=True)")
    assert done.stdout == b"alive\n"


@pytest.mark.parametrize("stream", ["sys.stderr", "open(2, 'w')"])
def test_nobody_waits_for_a_stderr_that_is_not_read(stream: str) -> None:
    script = (
        f"import sys, time\nsys.stderr = {stream}\n"
        "for n in range(3000): log.error('x' * 1000, number=n)\n"
        "began = time.monotonic(); assert not log.flush(0.2)\n"
        "print(time.monotonic() - began < 30, flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", f"from agentvm import log\n{script}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"True\n"
    # It ends although nobody has read; what the pipe holds is whole lines, but for the last.
    assert process.wait(TIMEOUT) == 0
    numbers = [json.loads(line)["number"] for line in process.stderr.read().splitlines()[:-1]]
    assert numbers == list(range(len(numbers)))


def test_lines_that_found_no_room_are_counted() -> None:
    reader, writer = os.pipe()
    script = (
        f"import sys\nfrom agentvm import log\nsys.stderr = open({writer}, 'w')\n"
        "for n in range(3000): log.error('x' * 1000)\n"
        "print(flush=True); input(); log.flush(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[writer]
    )
    os.close(writer)
    assert process.stdout
    assert process.stdin
    process.stdout.readline()
    process.stdin.write(b"\n")
    process.stdin.close()
    with open(reader, "rb") as stream:
        *kept, last = stream.read().splitlines()
    assert process.wait(TIMEOUT) == 0
    lost = json.loads(last)["event"]
    assert lost.endswith("lines of this log were lost, because nobody read it")
    assert len(kept) + int(lost.split()[0].replace(",", "")) == 3000
    assert len(kept) >= 1000


def test_a_non_blocking_stderr_gets_whole_lines() -> None:
    script = "os.set_blocking(2, False)\nfor n in range(50): log.error('x' * 1900, number=n)\nlog.flush(60)"
    numbers = [json.loads(line)["number"] for line in program(script).stderr.splitlines()]
    assert numbers == list(range(50))


def test_a_fork_logs_too() -> None:
    script = (
        "log.warn('parent'); log.flush(9)\n"
        "pid = os.fork()\n"
        "log.warn('child' if pid == 0 else 'parent again'); log.flush(9)\n"
        "if pid: os.waitpid(pid, 0)\n"
    )
    events = sorted(json.loads(line)["event"] for line in program(script).stderr.splitlines())
    assert events == ["child", "parent", "parent again"]


def test_a_line_waits_where_the_host_refuses_a_thread(sink: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    log.configure(sink=sink, format="console")
    with monkeypatch.context() as patched:
        patched.setattr("_thread.start_new_thread", refuse)
        log.warn("first")
        assert not log.flush(0)
    log.warn("second")
    assert lines(sink) == ["agentvm: warning: first", "agentvm: warning: second"]


def test_a_line_at_the_exit_is_written() -> None:
    done = program("import atexit; atexit.register(log.warn, 'late'); log.warn('early')")
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["early", "late"]
