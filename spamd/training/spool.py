"""Texts of messages that wait on disk between reading and tokenising, so that memory holds a hundred bytes of each.

Knows no labels' meaning and no splits. Called by `gathering`.

Security: one file without a name, mode 0600, gone with its last reader.
"""

import contextlib
import json
import os
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from spamd.training.splits import Example
from spamd.verdict import Label


@dataclass(frozen=True, slots=True)
class Kept:
    """One message as `splits.Example` has it, with its text and origin on disk.

    Attributes:
        label: the truth.
        dataset: which dataset it belongs to.
        spool: where its text lies.
        start: position there.
        num_bytes: length there.
        is_html: whether its text was taken from a page.
        arrived: seconds since 1970, or None where that is not known.
    """

    label: Label
    dataset: str
    spool: "Spool"
    start: int
    num_bytes: int
    is_html: bool = False
    arrived: float | None = None

    @property
    def text(self) -> str:
        """What `message_text` made of it."""
        return self._read()[0]

    @property
    def origin(self) -> str:
        """Where it came from."""
        return self._read()[1]

    def _read(self) -> list[str]:
        """Read text and origin back."""
        found: list[str] = json.loads(self.spool.read(self.start, self.num_bytes))
        return found


class Spool:
    """A file of texts.

    Args:
        folder: on whose disk; made if missing.

    Raises:
        OSError: there is no such place.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  open as long as texts are read
        weakref.finalize(self, _close, self._file)
        self._end = 0

    def keep(self, example: Example) -> Kept:
        """Put a message's text on disk.

        Raises:
            OSError: the disk is full.
        """
        # JSON, since a text may hold lone surrogates, which UTF-8 does not know.
        content = json.dumps([example.text, example.origin]).encode()
        try:
            self._file.write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._folder)) from error
        kept = Kept(example.label, example.dataset, self, self._end, len(content), example.is_html, example.arrived)
        self._end += len(content)
        return kept

    def read(self, start: int, num_bytes: int) -> bytes:
        """Read bytes back."""
        self._file.flush()
        return os.pread(self._file.fileno(), num_bytes, start)


def _close(file: IO[bytes]) -> None:
    """Close a file whose last reader has gone; what did not fit on the disk was complained about before."""
    with contextlib.suppress(OSError):
        file.close()
