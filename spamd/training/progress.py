"""How long work shows itself: a bar on a terminal, plain lines elsewhere, nothing in tests.

Shows only; what is shown is decided by those who work. Used by `retraining`, `trainer` and `parts`, chosen by `cli`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Display(Protocol):
    """Where work shows itself: one task at a time, and lines that stay."""

    def begin(self, task: str, total: int | None = None) -> None:
        """Start a task of so many pieces, or of nobody knows how many; the one before is over."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Tell that pieces are done, and perhaps how it goes."""

    def say(self, line: str) -> None:
        """Print a line that stays."""


class Silent:
    """Shows nothing."""

    def begin(self, task: str, total: int | None = None) -> None:
        """Pass over a task."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Pass over pieces."""

    def say(self, line: str) -> None:
        """Pass over a line."""


SILENT = Silent()


class Lines:
    """Prints plain lines: for logs, pipes and terminals that cannot move their cursor.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._task, self._done, self._last = "", 0, 0.0
        self._total: int | None = None

    def begin(self, task: str, total: int | None = None) -> None:
        """Name the task."""
        self._task, self._total, self._done, self._last = task, total, 0, time.monotonic()
        self.say(task)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Print how far it is, not more often than every ten seconds."""
        self._done += count
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES:
            self._last = now
            of_total = f" of {self._total:,}" if self._total else ""
            self.say(f"{self._task}: {self._done:,}{of_total}{f', {note}' if note else ''}")

    def say(self, line: str) -> None:
        """Print a line at once."""
        self._stream.write(f"{line}\n")
        self._stream.flush()


class Bar:
    """Draws a bar with the time that remains.

    Args:
        progress: rich's bar, started.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def begin(self, task: str, total: int | None = None) -> None:
        """Replace the bar."""
        for over in self._progress.task_ids:
            self._progress.remove_task(over)
        self._progress.add_task(task, total=total, note="")

    def advance(self, count: int = 1, note: str = "") -> None:
        """Move the bar."""
        for task in self._progress.task_ids:
            self._progress.advance(task, count)
            if note:
                self._progress.update(task, note=note)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_on(stream: TextIO) -> Iterator[Display]:
    """Choose how to show work on a stream, and leave the terminal clean whatever happens.

    Args:
        stream: standard error, or another.
    """
    console = Console(file=stream)
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(stream)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress)
