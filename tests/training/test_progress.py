"""Progress is a bar on a terminal, plain lines elsewhere, and never more than one line in ten seconds."""

import io

import pytest

from spamd.training import progress
from spamd.training.progress import Bar, Lines, show_on


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        """Say so."""
        return True


def test_no_terminal_gets_plain_lines():
    """Into a pipe go a line a task and the lines that stay, without control characters."""
    stream = io.StringIO()
    with show_on(stream) as display:
        display.begin("Epoch 1 of 2", 100)
        for _ in range(100):
            display.advance(1, "loss 0.5")
        display.say("[done] 95 % interval")

    assert isinstance(display, Lines)
    assert "Epoch 1 of 2\n[done] 95 % interval\n" == stream.getvalue()


def test_slow_work_tells_how_far_it_is(monkeypatch):
    """After ten seconds a line says how much is done, out of how much, and how it goes."""
    stream = io.StringIO()
    now = iter([0.0, 5.0, 11.0, 12.0, 40.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    lines = Lines(stream)
    lines.begin("Reading", 4000)
    for count in (500, 500, 500):
        lines.advance(count, "loss 0.5")
    lines.advance()

    assert "Reading\nReading: 1,000 of 4,000, loss 0.5\nReading: 1,501 of 4,000\n" == stream.getvalue()


def test_unknown_totals_are_left_out(monkeypatch):
    """Where nobody knows how many there are, the count alone is told."""
    stream = io.StringIO()
    now = iter([0.0, 11.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    lines = Lines(stream)
    lines.begin("Reading")
    lines.advance(7)

    assert "Reading\nReading: 7\n" == stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch):
    """On a terminal a bar is drawn, lines stay above it as they are, and it is gone at the end, whatever happened."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    stream = Terminal()

    def work():
        with show_on(stream) as display:
            display.begin("One", 10)
            display.begin("Epoch 1 of 2", 10)
            display.advance(5, "loss 0.5")
            display.say("[bold]kept[/bold]")
            assert isinstance(display, Bar)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()

    assert "[bold]kept[/bold]" in stream.getvalue()
    # The cursor shows again.
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_brackets_are_no_markup(monkeypatch):
    """A task and a note show as they are: a path such as `m[/x]` ends nothing, and no word in brackets is lost."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    with show_on(stream) as display:
        display.begin("Reading m[/x]", 10)
        display.advance(5, "loss [red]0.5")

    assert "Reading m[/x]" in stream.getvalue()
    assert "loss [red]0.5" in stream.getvalue()


def test_silence_is_silent(capsys):
    """Nothing shows where nothing is to be shown."""
    progress.SILENT.begin("One", 1)
    progress.SILENT.advance()
    progress.SILENT.say("line")

    assert ("", "") == tuple(capsys.readouterr())
