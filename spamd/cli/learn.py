"""`spamd-admin learn`: store mail under the label that a person gave it; list it; forget it.

Trains nothing: `spamd-admin retrain --dataset feedback` does. Called by Typer.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from spamd.cli.options import ConfigOption, path_of
from spamd.cli.score import STDIN, Reader
from spamd.cli.sources import open_store
from spamd.config import load_settings
from spamd.mail.mailboxes import StoredMessage
from spamd.mail.text import message_text
from spamd.service.feedback import Feedback, FeedbackStore, identify
from spamd.verdict import Label

_MAX_SUBJECT = 60


def learn(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE|DIR|MAILDIR|MBOX|-", help="Messages, or what holds them; with --forget also ids.", parser=path_of
        ),
    ] = None,
    *,
    is_spam: Annotated[bool, typer.Option("--spam", help="They are spam.")] = False,
    is_ham: Annotated[bool, typer.Option("--ham", help="They are ham.")] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Forget them.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List what is stored: id, day, label, subject.")] = False,
    config: ConfigOption = None,
) -> None:
    """Store mail as ham or spam, to train on with `retrain --dataset feedback`.

    The same message again is stored once; the last label counts.
    """
    if is_spam + is_ham + forget + show != 1:
        raise typer.BadParameter("Say one of --spam, --ham, --forget and --list.")
    if not show and not paths:
        raise typer.BadParameter("Name at least one message.")
    store = open_store(load_settings(config))
    if show:
        for one in store:
            typer.echo(_line(one))
    elif forget:
        _forget(store, paths or [])
    else:
        _learn(store, paths or [], Label.SPAM if is_spam else Label.HAM)


def _learn(store: FeedbackStore, paths: list[Path], label: Label) -> None:
    """Store messages, and say what came of it."""
    reader = Reader(paths)
    counts = Counter(store.learn(_with_content(reader), label))
    stored = Counter(one.label for one in store)
    typer.echo(
        f"Learned {counts['new']:,} {label}, relabelled {counts['relabelled']:,}, knew {counts['known']:,}. "
        f"Stored are {stored[Label.HAM]:,} ham and {stored[Label.SPAM]:,} spam; `spamd-admin retrain --dataset feedback` trains "
        "on them."
    )
    if reader.exit_code:
        raise typer.Exit(reader.exit_code)


def _with_content(messages: Iterable[StoredMessage]) -> Iterator[StoredMessage]:
    """Pass on messages; those of no bytes, as a full disk or a mailbox that was emptied leaves them, are told and passed over."""
    for message in messages:
        if message.raw:
            yield message
        else:
            typer.echo(f"{message.origin}: is empty, and was not stored.", err=True)


def _forget(store: FeedbackStore, names: list[Path]) -> None:
    """Forget messages by file or id; where one name is unclear none is forgotten."""
    exit_code = os.EX_OK
    for name, (identifiers, reader_code) in {name: _identified(store, name) for name in names}.items():
        number = sum(map(store.forget, identifiers))
        typer.echo(f"{name}: {number:,} forgotten")
        exit_code = exit_code or reader_code or (os.EX_OK if number else os.EX_NOINPUT)
    if exit_code:
        raise typer.Exit(exit_code)


def _identified(store: FeedbackStore, name: Path) -> tuple[list[str], int]:
    """Find the ids that a file or the beginning of an id stands for, and the exit code of reading it."""
    if name == STDIN or name.exists():
        reader = Reader([name])
        return [identify(message_text(message.raw).text) for message in reader], reader.exit_code
    found = [one.id for one in store if one.id.startswith(str(name))]
    if len(found) > 1:
        raise typer.BadParameter(f"{name} is the beginning of several ids: {', '.join(found)}; write one out.")
    return found, os.EX_OK


def _line(one: Feedback) -> str:
    """`0a1b2c3d4e5f 2026-11-23 spam Subject of the message`."""
    day = datetime.fromtimestamp(one.learned, UTC).date().isoformat()
    found = [line.removeprefix("Subject: ") for line in one.text.splitlines()[:3] if line.startswith("Subject: ")]
    subject = "".join(c if c.isprintable() else " " for c in (found or [one.text.strip()])[0][:_MAX_SUBJECT])
    return f"{one.id} {day} {one.label.value:4} {subject}"
