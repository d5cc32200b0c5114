"""What agentvm tells the operator: one line at a time on stderr, never on stdout, and never at a guest's expense; see
docs/rationale.md, "Why the log writes on a thread of its own" and "Why the log asks `logging` before each line".

AGENTVM_LOG=error|warn|info|debug (default warn) says how much, AGENTVM_LOG_FORMAT=console|json how (default console
where stderr is a terminal, json elsewhere). A program that embeds agentvm and has configured `logging` gets records of
the logger "agentvm" instead, under its own levels and handlers; see docs/observability.md.
"""

import atexit
import io
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TextIO

from agentvm.background import Background

if TYPE_CHECKING:
    from logging import Logger

    from structlog.typing import EventDict, FilteringBoundLogger

__all__ = ["FORMATS", "LEVELS", "Meter", "configure", "count_with", "debug", "enabled", "error", "flush", "info",
           "load", "warn", "write"]  # fmt: skip

#: The levels by name, with the numbers of `logging`.
LEVELS: Mapping[str, int] = {"error": 40, "warn": 30, "info": 20, "debug": 10}
FORMATS = ("console", "json")

_DEFAULT_LEVEL = "warn"
#: A guest chooses what some values hold: more of one is cut.
_MOST_CHARACTERS = 2000
#: How long the exit of the interpreter waits for stderr.
_EXIT_SECONDS = 1.0
#: Fields that a line for people leaves out, because its text says them.
_IN_THE_TEXT = frozenset(
    {"capacity", "count", "fill_percent", "kind", "limit", "observed", "setting", "timestamp", "usage"}
)


class _Settings(NamedTuple):
    level: int
    format: str | None  # None: as stderr is
    sink: TextIO | None  # None: stderr, or the program's own `logging`


class Meter(Protocol):
    """Who counts the lines that wait for stderr. Called without any lock of the log's."""

    @property
    def cap(self) -> float:
        """How many may wait; the rest are lost, and counted. Lines about limits wait elsewhere: see `Outlet`."""

    def set(self, used: int) -> None:
        """So many wait now."""

    def refuse(self, observed: int) -> None:
        """A line was lost."""


class _Nobody:
    cap = 1000.0

    def set(self, used: int) -> None:
        pass

    def refuse(self, observed: int) -> None:
        pass


class _Line(NamedTuple):
    method: str
    event: str
    fields: dict[str, Any]


_settings: _Settings | None = None
_logger: "Logger | None" = None
_streaming = threading.RLock()  # held while a line is written
_queueing = threading.RLock()
_waiting: deque[_Line] = deque()  # guarded by _queueing; bounded by the meter's cap: max_waiting_log_lines
_lost = 0  # guarded by _queueing
_meter: Meter = _Nobody()


def count_with(meter: Meter) -> None:
    """Have `meter` count the lines that wait, and bound them."""
    global _meter  # noqa: PLW0603 - one log for the process
    _meter = meter


def configure(level: str | None = None, format: str | None = None, sink: TextIO | None = None) -> None:  # noqa: A002
    """Say what holds where the environment says nothing. With a `sink` all lines go there, in our format.

    Called again without arguments it takes everything back. Raises `ValueError` for an unknown level or format.
    """
    if level is not None and level not in LEVELS:
        raise ValueError(f"level is {level!r}: it takes {_words(LEVELS)}")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format is {format!r}: it takes {_words(FORMATS)}")
    _resolve(level or _DEFAULT_LEVEL, format, sink)


def enabled(level: str) -> bool:
    """Whether anybody listens at that level. Cheap enough to be asked before each line is made."""
    settings = _settings or _resolve(_DEFAULT_LEVEL, None, None)
    logger = _program_logger() if settings.sink is None else None
    if logger is not None:
        return logger.isEnabledFor(LEVELS[level])
    return LEVELS[level] >= settings.level


def error(event: str, *, exc_info: BaseException | bool | None = None, **fields: Any) -> None:
    """agentvm itself failed. Never blocks on stderr: the line is written by a thread of the log."""
    _say("error", event, exc_info, fields)


def warn(event: str, *, exc_info: BaseException | bool | None = None, **fields: Any) -> None:
    """Something that the operator should look at; see `error`."""
    _say("warn", event, exc_info, fields)


def info(event: str, *, exc_info: BaseException | bool | None = None, **fields: Any) -> None:
    """Something in the ordinary course of things; see `error`."""
    _say("info", event, exc_info, fields)


def debug(event: str, *, exc_info: BaseException | bool | None = None, **fields: Any) -> None:
    """Something for those who look closely; see `error`."""
    _say("debug", event, exc_info, fields)


def write(level: str, event: str, **fields: Any) -> None:
    """Write a line on this thread, which waits for stderr as long as that takes. Never raises."""
    if enabled(level) and not _pass_on(level, event, None, fields):
        _write(_line(level, event, None, fields))


def load() -> None:
    """Import now what the first line takes, if it will be ours to write."""
    settings = _settings or _resolve(_DEFAULT_LEVEL, None, None)
    if settings.sink is not None or _program_logger() is None:
        _renderer(_format(settings))


def flush(timeout_seconds: float) -> bool:
    """Wait until no line waits; return whether none does, within the timeout."""
    if not _waiting and not _writer.is_running:
        return True
    load()  # what importing takes is not counted
    return _writer.settle(timeout_seconds)


# ---- what is in force ----


def _resolve(level: str, format: str | None, sink: TextIO | None) -> _Settings:  # noqa: A002
    """Put settings in force, those of the environment first; a bad one of those is told, once."""
    global _settings  # noqa: PLW0603 - one log for the process
    asked, wanted = os.environ.get("AGENTVM_LOG", ""), os.environ.get("AGENTVM_LOG_FORMAT", "")
    level = asked if asked in LEVELS else level
    settings = _settings = _Settings(LEVELS[level], wanted if wanted in FORMATS else format, sink)
    if asked and asked not in LEVELS:
        _complain(f"AGENTVM_LOG is {asked!r}: it takes {_words(LEVELS)}; {level} is in force")
    if wanted and wanted not in FORMATS:
        _complain(f"AGENTVM_LOG_FORMAT is {wanted!r}: it takes {_words(FORMATS)}")
    return settings


@cache
def _complain(text: str) -> None:
    warn(text)


def _words(choices: Mapping[str, int] | tuple[str, ...]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}"


def _program_logger() -> "Logger | None":
    """Return the logger "agentvm" if the program has configured it, or `logging` as a whole."""
    global _logger  # noqa: PLW0603 - one log for the process
    logger = _logger
    if logger is None:
        # Imported by nobody, it cannot be configured; importing it takes as long as starting a VM.
        logging = sys.modules.get("logging")
        if logging is None or not hasattr(logging, "getLogger"):
            return None
        logger = _logger = logging.getLogger("agentvm")
    return logger if logger.level or logger.hasHandlers() else None


def _format(settings: _Settings) -> str:
    if settings.format is not None:
        return settings.format
    try:
        is_terminal = (settings.sink or sys.stderr).isatty()
    except (AttributeError, ValueError):  # there is none, or it is closed
        is_terminal = False
    return "console" if is_terminal else "json"


# ---- the way of a line ----


def _say(level: str, event: str, exc_info: BaseException | bool | None, fields: dict[str, Any]) -> None:
    global _lost  # noqa: PLW0603 - one log for the process
    if not enabled(level):
        return
    failure = sys.exc_info()[1] if exc_info is True else exc_info or None
    if _pass_on(level, event, failure, fields):
        return
    line = _line(level, event, failure, fields)
    meter = _meter
    with _queueing:
        waiting = len(_waiting)
        fits = waiting < meter.cap
        if fits:
            _waiting.append(line)
        else:
            _lost += 1
    if fits:
        meter.set(waiting + 1)
    else:
        meter.refuse(waiting + 1)
    _writer.wake()


def _pass_on(level: str, event: str, failure: BaseException | None, fields: dict[str, Any]) -> bool:
    """Give a line to the program's own logging; False if it has configured none."""
    logger = None if _settings is None or _settings.sink is not None else _program_logger()
    if logger is None:
        return False
    # Whatever the program's handlers do: a guest's thread may be waiting here.
    with suppress(Exception):
        logger.log(LEVELS[level], "%s", _text(event, fields), exc_info=failure, extra={"agentvm": fields}, stacklevel=4)
    return True


def _line(level: str, event: str, failure: BaseException | None, fields: dict[str, Any]) -> _Line:
    from datetime import UTC, datetime  # importing it takes as long as starting a VM

    fields = {"timestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}", **fields}
    if failure is not None:
        # As text: the frames hold memory of guests.
        import traceback

        fields["exception"] = "".join(traceback.format_exception(failure))
    return _Line("warning" if level == "warn" else level, event, fields)


def _write_next() -> float | None:
    global _lost
    with _queueing:
        line = _waiting.popleft() if _waiting else None
        left, lost = len(_waiting), 0
        if line is None:
            lost, _lost = _lost, 0
    _meter.set(left)
    if line is None and lost:
        line = _line("warn", f"{lost:,} lines of this log were lost, because nobody read it", None, {})
    if line is None:
        return None
    _write(line)
    return 0.0


_writer = Background(_write_next)


def _write(line: _Line) -> None:
    # A stderr that is closed, or a sink that fails, costs the line and nothing else.
    with suppress(Exception):
        getattr(_renderer(_format(_settings or _resolve(_DEFAULT_LEVEL, None, None))), line.method)(
            line.event, **line.fields
        )


@atexit.register
def _flush_at_exit() -> None:
    if not flush(_EXIT_SECONDS) and not _writer.is_running:
        while _write_next() is not None:  # no thread can be started so late
            pass


def _after_fork() -> None:
    """In a fork: whoever held these locks is not there."""
    global _streaming, _queueing, _waiting
    _streaming, _queueing, _waiting = threading.RLock(), threading.RLock(), deque()


os.register_at_fork(after_in_child=_after_fork)


# ---- how a line looks ----


@cache
def _renderer(format: str) -> "FilteringBoundLogger":  # noqa: A002
    """Return a logger of structlog's that is ours alone: its global configuration is the embedding program's."""
    import structlog

    last = _render_console if format == "console" else structlog.processors.JSONRenderer(default=repr)
    logger: FilteringBoundLogger = structlog.wrap_logger(
        _Stream(),
        processors=[_cut, structlog.processors.add_log_level, last],
        wrapper_class=structlog.make_filtering_bound_logger(0),
        context_class=dict,
    )
    return logger


class _Stream:
    """Where finished lines go. The methods are those that structlog calls."""

    @staticmethod
    def msg(text: str) -> None:
        settings = _settings
        stream = (settings and settings.sink) or sys.stderr
        with _streaming:
            if stream is None or getattr(stream, "closed", False):
                return
            file = _file_of(stream)
            if file is not None:
                # Not through its buffer: a thread that is stuck in that would abort the interpreter's exit.
                _write_all(file.fileno(), f"{text}\n".encode(stream.encoding, "backslashreplace"))
            else:
                stream.write(f"{text}\n")
                stream.flush()

    error = warning = info = debug = msg


def _file_of(stream: TextIO) -> io.FileIO | None:
    """Return the file that a stream writes to, if it does nothing else with the bytes."""
    buffer = stream.buffer if type(stream) is io.TextIOWrapper else None
    raw = getattr(buffer, "raw", buffer)
    return raw if isinstance(raw, io.FileIO) else None


def _write_all(fd: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:  # somebody made it non-blocking
            import select

            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def _cut(_logger: object, _method: str, fields: "EventDict") -> "EventDict":
    cut = {name: _shortened(value) if name != "exception" else value for name, value in fields.items()}
    return {"timestamp": cut.pop("timestamp"), "level": "", "event": cut.pop("event"), **cut}


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        return f"{value[:_MOST_CHARACTERS]}..."
    return value


def _render_console(_logger: object, _method: str, fields: "EventDict") -> str:
    level, event, trace = fields.pop("level"), fields.pop("event"), fields.pop("exception", "")
    lines = [f"agentvm: {level}: {_text(event, fields)}", *(f"  {_printable(line)}" for line in trace.splitlines())]
    return "\n".join(lines)


def _text(event: str, fields: Mapping[str, Any]) -> str:
    """Return a line for people: the event, and what of the fields it does not say itself."""
    shown = [
        f"{name}={_word(value)}" for name, value in fields.items() if name not in _IN_THE_TEXT and value is not None
    ]
    return _printable(f"{event}; {' '.join(shown)}" if shown else event)


def _word(value: object) -> str:
    text = str(value)
    return repr(text) if " " in text or not text else text


def _printable(text: str) -> str:
    """Spell out what is no printable character: some values come from guests, and may not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
