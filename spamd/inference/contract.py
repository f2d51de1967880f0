"""What a spamd and the fleet that scores for it say to each other: one request, one answer, as JSON over HTTP.

docs/fleet.md is the contract in words. Bytes in, checked values out, and back; opens no connection and listens nowhere. The
client is `remote`, the server `spamd.fleet.app`; the versioned path changes when a field does.

Security: both sides take the other's bytes for hostile. What is wrong with them is told without quoting them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from spamd.errors import ConfigError
from spamd.inference.scored import Scored

PATH = "/v1/score"

MAX_TEXTS = 256
"""Texts of one request."""

MAX_REQUEST_BYTES = 1_048_576
"""Length of a request; the longest text that there is takes less, whatever it consists of."""

MAX_CHARACTER_BYTES = 12
"""What a character takes at most: two surrogates, each written `\\\\udddd`."""

MAX_ANSWER_BYTES = 65_536
"""Length of an answer about as many texts as there may be."""

MAX_DEADLINE_MILLISECONDS = 600_000
MIN_TOKEN_CHARACTERS = 16
MAX_TOKEN_CHARACTERS = 1024

_MAX_NAME = 200
_MAX_TOKENS = 1_000_000
_READABLE_BY_ALL = 0o004


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """What is asked.

    Attributes:
        checkpoint: id of the checkpoint that must score, and no other.
        deadline_milliseconds: time from the request's arrival after which nobody wants the answer.
        texts: what the model reads, each the text of one message.
    """

    checkpoint: str
    deadline_milliseconds: int
    texts: Sequence[str]


def encode_request(request: ScoreRequest) -> bytes:
    """Write a request."""
    fields = {
        "checkpoint": request.checkpoint,
        "deadline_milliseconds": request.deadline_milliseconds,
        "texts": list(request.texts),
    }
    # ASCII alone: a text may hold lone surrogates, for which there is no UTF-8.
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def decode_request(body: bytes) -> ScoreRequest:
    """Read a request.

    Raises:
        ValueError: it is none; the text says why, fit for the client.
    """
    checkpoint, deadline, texts = _fields(_parse(body), "checkpoint", "deadline_milliseconds", "texts")
    if not isinstance(checkpoint, str) or not 0 < len(checkpoint) <= _MAX_NAME:
        raise ValueError("checkpoint must be the id of a checkpoint.")
    if not _is_count(deadline, MAX_DEADLINE_MILLISECONDS) or not deadline:
        raise ValueError(f"deadline_milliseconds must be a whole number from 1 to {MAX_DEADLINE_MILLISECONDS}.")
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"texts must be a list of 1 to {MAX_TEXTS} strings.")
    return ScoreRequest(checkpoint, deadline, texts)


def encode_answer(checkpoint: str, scores: Sequence[Scored]) -> bytes:
    """Write an answer with scores, in the order of the texts."""
    rows = [{"score": one.score, "num_tokens": one.num_tokens, "is_truncated": one.is_truncated} for one in scores]
    return json.dumps({"checkpoint": checkpoint, "scores": rows}, separators=(",", ":"), allow_nan=False).encode("ascii")


def decode_answer(body: bytes, *, checkpoint: str, threshold: float, num_texts: int) -> list[Scored]:
    """Read an answer with scores.

    Args:
        body: what came.
        checkpoint: id of the checkpoint that was to score.
        threshold: its operating point.
        num_texts: how many texts were sent.

    Raises:
        ValueError: it is no such answer; the text says why and quotes nothing.
    """
    scored_by, rows = _fields(_parse(body), "checkpoint", "scores")
    if scored_by != checkpoint:
        raise ValueError("another checkpoint than the one that was asked for has scored.")
    if not isinstance(rows, list) or len(rows) != num_texts:
        raise ValueError(f"scores must be a list of {num_texts}, one a text.")
    return [_scored(row, threshold, checkpoint) for row in rows]


def _scored(row: Any, threshold: float, checkpoint: str) -> Scored:
    """Read one score."""
    score, num_tokens, is_truncated = _fields(row, "score", "num_tokens", "is_truncated")
    # A bool is an int to Python, and NaN is below any threshold: it must not pass for ham.
    if type(score) not in (int, float) or not math.isfinite(score) or not 0.0 <= score <= 1.0:
        raise ValueError("a score is no number from 0 to 1.")
    if not _is_count(num_tokens, _MAX_TOKENS) or not isinstance(is_truncated, bool):
        raise ValueError("num_tokens is no count, or is_truncated is neither true nor false.")
    return Scored(float(score), threshold, checkpoint, num_tokens, is_truncated)


def encode_error(reason: str, **fields: str) -> bytes:
    """Write an answer without scores."""
    return json.dumps({"error": reason} | fields, separators=(",", ":")).encode("ascii")


def loaded_checkpoint(body: bytes) -> str:
    """Read from an answer 409 which checkpoint is loaded; anything that is no id is called `another`."""
    try:
        loaded = _parse(body).get("checkpoint")
    except (ValueError, AttributeError):
        return "another"
    is_name = isinstance(loaded, str) and 0 < len(loaded) <= _MAX_NAME and loaded.isascii() and loaded.isprintable()
    return loaded if is_name else "another"


def read_token(file: Path, setting: str) -> str:
    """Read the token that both sides hold.

    Args:
        file: holds it, and perhaps white space around it.
        setting: what names the file, for the sentence where it cannot be used.

    Raises:
        ConfigError: it cannot be read, is no secret, or is not fit for one; the sentence does not quote it.
    """
    try:
        if file.stat().st_mode & _READABLE_BY_ALL:
            raise ConfigError(f"{setting}: everybody may read {file}; take that away with chmod o-r.")
        token = file.read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"{setting}: {file} cannot be read: {error.strerror}.") from None
    text = token.decode("ascii", "replace")
    is_word = text.isascii() and text.isprintable() and " " not in text
    if not is_word or not MIN_TOKEN_CHARACTERS <= len(text) <= MAX_TOKEN_CHARACTERS:
        raise ConfigError(
            f"{setting}: {file} must hold one word of {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} ASCII characters, "
            "such as `openssl rand -hex 32` prints."
        )
    return text


def _parse(body: bytes) -> Any:
    """Read JSON, with none of Python's additions to it."""
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON.") from None


def _refuse(_constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which are not JSON."""
    raise ValueError


def _fields(value: Any, *names: str) -> list[Any]:
    """Return the values of an object that has these fields and no other."""
    if not isinstance(value, dict) or set(value) != set(names):
        raise ValueError(f"an object with the fields {', '.join(names)} and no other must stand there.")
    return [value[name] for name in names]


def _is_count(value: Any, most: int) -> bool:
    """Tell whether a value is a whole number from 0 to `most`."""
    return type(value) is int and 0 <= value <= most
