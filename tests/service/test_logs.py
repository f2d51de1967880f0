"""Log lines: form, levels, and what never gets into them."""

import io
import json
import logging
import warnings

import pytest
import structlog

from spamd.service.logs import configure_logging, describe, set_level


@pytest.fixture(autouse=True)
def _restore():
    """Undo the process-wide set-up of logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("spamd", "mail", "asyncio", "py.warnings"):
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.fixture
def lines():
    """Configure JSON lines; call to read what was logged."""
    stream = io.StringIO()
    configure_logging("info", "auto", stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_time_and_level(lines):
    """Where no terminal reads, a line is one JSON object with event, level, time and the given fields."""
    structlog.get_logger("spamd.test").info("message", bytes=10, verdict="ham")
    (line,) = lines()

    assert {"event": "message", "level": "info", "bytes": 10, "verdict": "ham"} == {k: line[k] for k in line if k != "timestamp"}
    assert line["timestamp"].endswith("Z")


def test_console_format_is_for_people():
    """The console form is columns, without colours where no terminal reads."""
    stream = io.StringIO()
    configure_logging("info", "console", stream)
    structlog.get_logger("spamd.test").info("message", bytes=10)

    assert "bytes=10" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_level_changes_while_running(lines):
    """Debug lines are left out until the level says otherwise."""
    log = structlog.get_logger("spamd.test")
    log.debug("before")
    set_level("debug")
    log.debug("after")

    assert ["after"] == [line["event"] for line in lines()]


def test_aiosmtpd_is_quiet(lines):
    """Addresses that aiosmtpd logs on the way never appear, its errors do."""
    logging.getLogger("mail.log").info("sender: someone@example.com")
    logging.getLogger("mail.log").warning("someone@example.com")
    logging.getLogger("mail.log").error("broken")

    assert ["broken"] == [line["event"] for line in lines()]


def test_warnings_become_lines(lines):
    """A Python warning is logged as a line like any other."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)

    assert ["warning"] == [line["level"] for line in lines()]


def test_exceptions_are_logged_without_their_text(lines):
    """An exception is told by type and place; its text may quote a message and stays out."""
    try:
        try:
            int("my secret subject")
        except ValueError as error:
            raise KeyError("my secret body") from error
    except KeyError:
        structlog.get_logger("spamd.test").exception("failed")
        logging.getLogger("asyncio").exception("failed too")

    for line in lines():
        assert "KeyError from ValueError" == line["exception"]
        assert "service/test_logs.py:" in line["raised_at"]
        assert "secret" not in json.dumps(line)


def test_describe_stops_at_a_circle():
    """Causes that lead back to the error end the description."""
    error = ValueError()
    error.__cause__ = cause = KeyError()
    cause.__cause__ = error

    assert "ValueError from KeyError" == describe(error)["exception"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nobody_forges_a_line(log_format):
    """Line ends and terminal controls in a value are escaped."""
    stream = io.StringIO()
    configure_logging("info", log_format, stream)
    structlog.get_logger("spamd.test").info("message", client="a\n{}\x1b[2J\u2028")

    assert 1 == len(stream.getvalue().splitlines())
    assert "\x1b" not in stream.getvalue()
