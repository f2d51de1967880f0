"""`spamd-admin score`: judge stored messages, one line each, with the very parts that the daemon uses.

Reads and scores in chunks, so that a thousand files load the model once and a mailbox of any size fits the memory. Writes nothing
but its lines. Called by Typer.
"""

import errno
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Annotated, TypeVar, cast

import typer

from spamd import cli
from spamd.cli.options import ConfigOption, MessagePaths
from spamd.config import load_settings
from spamd.inference.scored import Scorer
from spamd.mail.mailboxes import StoredMessage, message_files, read_messages, read_stream
from spamd.mail.text import MessageText, message_text
from spamd.service.filter import verdict_of
from spamd.service.registry import Registry
from spamd.verdict import Label, Verdict

CHUNK_MESSAGES = 128
STDIN = Path("-")

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Judged:
    """One message with its verdict.

    Attributes:
        origin: where the message lies.
        text: what the model read, and the message's defects.
        verdict: the decision.
        extract_milliseconds: time from bytes to text.
        score_milliseconds: this message's share of its chunk's scoring.
    """

    origin: str
    text: MessageText
    verdict: Verdict
    extract_milliseconds: float
    score_milliseconds: float


class Reader:
    """Reads messages of many paths; one that cannot be read is told and skipped.

    Args:
        paths: files, folders, Maildirs, mboxes; `-` is standard input.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.exit_code = os.EX_OK
        """Exit code of the first path that could not be read."""
        self._paths = paths

    def __iter__(self) -> Iterator[StoredMessage]:
        """Yield the messages in the order of the paths."""
        for path in self._paths:
            if path == STDIN:
                yield from self._readable(_standard_input())
                continue
            for file in self._readable(message_files(path)):
                yield from self._readable(read_messages(file))

    def _readable(self, found: Iterator[Found]) -> Iterator[Found]:
        """Pass on what is found, up to an error, which is told."""
        try:
            yield from found
        except OSError as error:
            sentence, code = cli.worded(error)
            typer.echo(f"error: {sentence}", err=True)
            self.exit_code = self.exit_code or code


def score(
    paths: MessagePaths,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a message.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if any message is spam.")] = False,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="ID|FOLDER", help="Score with this checkpoint instead of the promoted one.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Judge messages: label, score (5.0 and above is spam), probability of spam, path."""
    settings = load_settings(config)
    registry = Registry(settings.state_dir)
    folder = registry.locate(checkpoint) if checkpoint else registry.current()
    reader = Reader(paths)
    form = _json_line if as_json else _line
    is_any_spam = False

    from spamd.loading import load_engine, load_heads

    engine = load_engine(settings, load_heads(settings), folder)
    for judged in judge(reader, engine, settings.scoring.threshold):
        is_any_spam |= judged.verdict.label is Label.SPAM
        sys.stdout.write(form(judged) + "\n")
    sys.stdout.flush()
    if reader.exit_code or (exit_code and is_any_spam):
        raise typer.Exit(reader.exit_code or 1)


def _standard_input() -> Iterator[StoredMessage]:
    """Read what comes on standard input; where that was closed (`<&-`), it is not taken for an empty message."""
    if sys.stdin is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard input")
    yield from read_stream(cast("BufferedReader", sys.stdin.buffer), str(STDIN))


def judge(messages: Iterable[StoredMessage], engine: Scorer, threshold: float | None) -> Iterator[Judged]:
    """Judge messages in chunks.

    Args:
        messages: what to judge; read as it is needed.
        engine: what scores.
        threshold: operating point instead of the checkpoint's own, or None.

    Yields:
        One judgement a message, in their order.
    """
    unread = iter(messages)
    while texts := [_read_out(message) for message in islice(unread, CHUNK_MESSAGES)]:
        started = time.perf_counter()
        scores = engine.score([text.text for _, text, _ in texts])
        share = 1000 * (time.perf_counter() - started) / len(texts)
        for (origin, text, extract_milliseconds), scored in zip(texts, scores, strict=True):
            yield Judged(origin, text, verdict_of(text.text, scored, threshold), extract_milliseconds, share)


def _read_out(message: StoredMessage) -> tuple[str, MessageText, float]:
    """Return a message's origin, text, and the milliseconds that the text took; the bytes are let go."""
    started = time.perf_counter()
    text = message_text(message.raw)
    return message.origin, text, 1000 * (time.perf_counter() - started)


def _line(judged: Judged) -> str:
    """`spam 9.1 0.9987 path`; a path cannot break the line."""
    verdict = judged.verdict
    path = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in judged.origin)
    return f"{verdict.label} {verdict.points:.1f} {verdict.score:.4f} {path}"


def _json_line(judged: Judged) -> str:
    """Everything that is known about one message, as one JSON object."""
    verdict = judged.verdict
    return json.dumps(
        {
            "path": judged.origin,
            "label": verdict.label,
            "probability": verdict.score,
            "score": verdict.points,
            "threshold": verdict.threshold,
            "checkpoint": verdict.checkpoint,
            "tokens": verdict.num_tokens,
            "truncated": verdict.is_truncated,
            "defects": judged.text.defects,
            "milliseconds": {
                "extract": round(judged.extract_milliseconds, 3),
                "score": round(judged.score_milliseconds, 3),
            },
        }
    )
