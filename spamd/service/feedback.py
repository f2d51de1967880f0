"""What people said about messages: a store of labelled mail, one SQLite file in the state folder.

The same text is stored once; labelled anew it changes its label. What is older than the retention goes whenever something is
stored or read. Learning stores only: `spamd-admin retrain --dataset feedback` trains on it. Every change is one transaction, so
any number of processes may store at once, and one that is killed leaves all of a message or nothing. Called by `cli.learn` and
`cli.sources`.

Security: the file holds mail and is its owner's alone; what is forgotten is overwritten there, not only unlinked as the
journal of that change is.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spamd.errors import DatasetError
from spamd.mail.likeness import digest
from spamd.mail.mailboxes import StoredMessage
from spamd.mail.text import message_text
from spamd.verdict import Label

FILE = "feedback.sqlite3"
"""Name of the store in the state folder."""

WAIT_SECONDS = 30.0
"""How long a process waits for another one that is storing."""

ID_DIGITS = 12
DAY = 86_400.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS message (
    id TEXT PRIMARY KEY,
    label TEXT NOT NULL CHECK (label IN ('ham', 'spam')),
    learned REAL NOT NULL,
    origin TEXT NOT NULL,
    text TEXT NOT NULL,
    is_html INTEGER NOT NULL,
    raw BLOB
) WITHOUT ROWID
"""

Learned = Literal["new", "relabelled", "known"]


@dataclass(frozen=True, slots=True)
class Feedback:
    """One labelled message.

    Attributes:
        id: hexadecimal digits that follow from its text.
        label: what it was said to be.
        learned: when, in seconds since 1970.
        origin: where it came from.
        text: what the model reads.
        is_html: whether that was taken from a page.
        raw: the message itself, where it was kept.
    """

    id: str
    label: Label
    learned: float
    origin: str
    text: str
    is_html: bool
    raw: bytes | None


class FeedbackStore:
    """Labelled mail on disk.

    Args:
        path: the file; made when something is stored.
        keeps_raw: whether messages are kept whole, or only the text that the model reads, recipients' addresses left out.
        retention_days: days after which a message is forgotten; 0 for never.
    """

    def __init__(self, path: Path, *, keeps_raw: bool = False, retention_days: int = 0) -> None:
        self.path = path
        self._keeps_raw = keeps_raw
        self._retention_days = retention_days

    def learn(self, messages: Iterable[StoredMessage], label: Label) -> Iterator[Learned]:
        """Store messages under a label, each as soon as it is asked for.

        Args:
            messages: the messages.
            label: what they are.

        Yields:
            For each whether it is new, was stored under the other label, or was known.

        Raises:
            DatasetError: the store cannot be written, or is no store.
        """
        with self._opened() as database:
            for message in messages:
                yield self._learn(database, message, label)

    def __iter__(self) -> Iterator[Feedback]:
        """Yield all messages in the order of their ids: the same at each call.

        Raises:
            DatasetError: the store cannot be read, or is no store.
        """
        if not self.path.exists():
            return
        with self._opened() as database:
            # Read whole pages of rows, so that nobody who stores waits for a slow reader.
            last = ""
            while rows := database.execute("SELECT * FROM message WHERE id > ? ORDER BY id LIMIT 100", (last,)).fetchall():
                last = rows[-1][0]
                yield from map(_feedback, rows)

    def forget(self, identifier: str) -> int:
        """Forget the messages whose id begins so.

        Returns:
            How many there were.

        Raises:
            DatasetError: the store cannot be written.
        """
        if not self.path.exists() or not identifier:
            return 0
        with self._opened() as database, database:
            return database.execute("DELETE FROM message WHERE substr(id, 1, ?) = ?", (len(identifier), identifier)).rowcount

    def _learn(self, database: sqlite3.Connection, message: StoredMessage, label: Label) -> Learned:
        """Store one message."""
        read = message_text(message.raw)
        identifier = identify(read.text)
        text, origin = read.text.encode("utf-8", "replace").decode(), message.origin.encode("utf-8", "backslashreplace").decode()
        row = (identifier, label.value, time.time(), origin, text, read.is_html, message.raw if self._keeps_raw else None)
        with database:
            # Nobody may store between this look and the storing.
            database.execute("BEGIN IMMEDIATE")
            before = database.execute("SELECT label FROM message WHERE id = ?", (identifier,)).fetchone()
            database.execute("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        if before is None:
            return "new"
        return "known" if before[0] == label.value else "relabelled"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """Open the file, with what is too old gone."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Made here, so that nobody else can ever read it.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            with contextlib.closing(sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)) as database:
                database.execute("PRAGMA secure_delete = ON")
                database.execute(_SCHEMA)
                if self._retention_days:
                    database.execute("DELETE FROM message WHERE learned < ?", (time.time() - DAY * self._retention_days,))
                yield database
        except sqlite3.Error as error:
            raise DatasetError(f"The store of labelled mail {self.path} cannot be used: {error}.") from error


def _feedback(row: tuple[Any, ...]) -> Feedback:
    """Make an object of a row."""
    identifier, label, learned, origin, text, is_html, raw = row
    return Feedback(identifier, Label(label), learned, origin, text, bool(is_html), raw)


def identify(text: str) -> str:
    """Return the id of the message with that text."""
    return digest(text).hex()[:ID_DIGITS]
