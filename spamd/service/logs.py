"""Structured log lines on standard error: JSON for machines, columns for people.

All loggers end in one renderer: ours, aiosmtpd's, asyncio's and Python's warnings. Ours do not take the way through `logging`,
which would cost as much as the rest of a line, and there is one for each message. Nothing here decides what is logged; it only
takes care that a line stays one line, that no exception carries a piece of a message into the log, and that a full disk stops no
mail. Called by `daemon`.

Security: texts of exceptions may quote the mail that caused them, so that only their types and places are written; control
characters in values are escaped, so that nobody forges a line.
"""

import contextlib
import json
import logging
import sys
import traceback
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

OTHERS = ("", "asyncio", "py.warnings")
"""Loggers that are heard from warnings up, however much of ours is wanted."""

QUIET_LOGGERS = ("mail",)
"""Loggers that are heard from errors up: aiosmtpd writes sender and recipients below that."""

NUM_FRAMES = 5

FIRST_KEYS = ("timestamp", "level", "event")
"""What every line begins with."""


def configure_logging(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every log line to a stream.

    Args:
        level: least level of our own lines: `debug`, `info`, `warning` or `error`.
        log_format: `json`, `console`, or `auto` for JSON unless the stream is a terminal.
        stream: where to write; None means standard error.
    """
    stream = stream or sys.stderr
    is_console = log_format == "console" or (log_format == "auto" and stream.isatty())
    renderer: Processor = structlog.dev.ConsoleRenderer(colors=stream.isatty()) if is_console else _JSON
    lines = _Lines(stream)
    structlog.configure(processors=[*_SHARED, renderer], logger_factory=lambda *_: lines)
    form = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_SHARED, processors=form))
    logging.getLogger().handlers[:] = [handler]
    logging.captureWarnings(capture=True)
    for name in OTHERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    set_level(level)


def set_level(level: str) -> None:
    """Change the least level of our own lines.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))


class _Lines:
    """Where our own lines go.

    Args:
        stream: written to and flushed line by line; a line that it does not take is lost.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


def describe(error: BaseException) -> dict[str, str]:
    """Describe an error for the log by type and place, without its text, which may quote a message.

    Args:
        error: what was raised.

    Returns:
        `exception`, the types from the error to its first cause, and `raised_at`, the innermost frames.
    """
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    frames = traceback.extract_tb(chain[-1].__traceback__)[-NUM_FRAMES:]
    return {
        "exception": " from ".join(type(one).__name__ for one in chain),
        "raised_at": " ".join(f"{'/'.join(frame.filename.split('/')[-2:])}:{frame.lineno}" for frame in frames),
    }


def _place_of_exception(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Replace an exception by its types and places."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event.update(describe(error))
    return event


def _one_line(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """Escape control characters, and put first what every line has."""
    line = {key: event[key] for key in FIRST_KEYS if key in event}
    for key, value in event.items():
        is_plain = not isinstance(value, str) or value.isprintable()
        line[key] = value if is_plain else value.encode("unicode_escape").decode("ascii")
    return line


_SHARED: tuple[Processor, ...] = (
    # Whatever a protocol bound for the message at hand, its queue id for one, stands in every line about it.
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _place_of_exception,
    _one_line,
)
"""What happens to every line, ours or not, before it is rendered."""

_encode = json.JSONEncoder(default=str).encode

_JSON = structlog.processors.JSONRenderer(serializer=lambda event, **_: _encode(event))
"""With one encoder for all lines; `json.dumps` would make one for each."""
