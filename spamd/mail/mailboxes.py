"""Messages as they lie on disk: single files, folders, Maildirs and mboxes, read one at a time.

Nothing is written, locked or moved, and no more than one message is in memory. Which kind a path is shows on itself: a folder
with `cur` or `new` inside is a Maildir, any other folder is searched to its depth, and a file whose first line is an mbox `From `
line is an mbox, unless its name ends in `.eml`: such a file is one message, whose `From ` line the parser skips. Called by `cli`
and by the datasets of `training`.
"""

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Bytes of one message that are read; what follows is left out."""

_DELIVERED = frozenset({"cur", "new"})
_MAX_LINE = 1024 * 1024
_POSTMARK = re.compile(rb"From (?:\S.{0,500} )?\S*\d{1,2}:\d{2}(?::\d{2})?.{0,40} \d{4}\b")


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message and where it lay.

    Attributes:
        raw: the message as bytes, an mbox `From ` line left out.
        origin: the path, and for an mbox ` message N`, counted from 1.
    """

    raw: bytes
    origin: str


def read_messages(path: Path) -> Iterator[StoredMessage]:
    """Read every message at a path, files of a folder in the order of their names.

    Args:
        path: a message, an mbox, a Maildir or a folder that holds any of these at any depth.

    Yields:
        The messages. Names that begin with a dot, and what is neither file nor folder, are passed over in folders.

    Raises:
        FileNotFoundError: nothing is at the path; bears its name.
        OSError: something cannot be read; bears its name.
    """
    for file in message_files(path):
        yield from _read_file(file)


def message_files(path: Path) -> Iterator[Path]:
    """List the files that `read_messages` reads, for callers that go on where one of them cannot be read.

    Args:
        path: as for `read_messages`.

    Yields:
        The path itself where it is no folder, else the files below it.

    Raises:
        FileNotFoundError: nothing is at the path; bears its name.
        OSError: a folder cannot be read; bears its name.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.is_dir():
        yield from _files_below(path)
    else:
        yield path


def read_stream(file: BufferedReader, name: str) -> Iterator[StoredMessage]:
    """Read a message or an mbox from an open file.

    Args:
        file: where it comes from; read from where it stands.
        name: what origins call it.

    Yields:
        The messages.
    """
    if file.peek(5)[:5] == b"From ":
        yield from _read_mbox(file, name)
    else:
        yield StoredMessage(file.read(MAX_MESSAGE_BYTES), name)


def _files_below(folder: Path) -> Iterator[Path]:
    """Walk a folder; of a Maildir only what has been delivered (`cur`, `new`) and its subfolders (`.Name`)."""
    entries = sorted(folder.iterdir())
    is_maildir = any(entry.name in _DELIVERED and entry.is_dir() for entry in entries)
    for entry in entries:
        is_dotted = entry.name.startswith(".")
        if entry.is_dir() and not entry.is_symlink():
            if entry.name in _DELIVERED or is_dotted == is_maildir:
                yield from _files_below(entry)
        elif entry.is_file() and not is_dotted and not is_maildir:
            yield entry


def _read_file(path: Path) -> Iterator[StoredMessage]:
    """Read one file: a message or an mbox."""
    with path.open("rb") as file:
        if path.suffix.lower() == ".eml":
            yield StoredMessage(file.read(MAX_MESSAGE_BYTES), str(path))
        else:
            yield from read_stream(file, str(path))


def _read_mbox(file: BufferedReader, name: str) -> Iterator[StoredMessage]:
    """Cut an mbox at its `From ` lines: those behind an empty line that bear a time and a year, as delivery agents write them."""
    number = 1
    message = bytearray()
    file.readline(_MAX_LINE)
    is_behind_empty = False
    while line := file.readline(_MAX_LINE):
        if is_behind_empty and line.startswith(b"From ") and _POSTMARK.match(line):
            yield StoredMessage(bytes(message), f"{name} message {number}")
            number += 1
            message.clear()
            is_behind_empty = False
            continue
        is_behind_empty = line in (b"\n", b"\r\n")
        if len(message) < MAX_MESSAGE_BYTES:
            message += line
    yield StoredMessage(bytes(message), f"{name} message {number}")
