"""Which passages of a message made its verdict.

The text is cut into passages: lines, and the sentences of long lines. Each is left out once, and what that does to the score, in
points on SpamAssassin's scale, is what the passage says for spam (above 0) or for ham (below). That asks the very model and
needs no gradient, so that any head and any device will do; it does not see that two passages say the same, of which either
would have done. Of a text longer than the model's budget the unread middle bears no points. Knows nothing of messages and of
torch. Called by `cli.explain` and `benchmarks/explanations.py`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from spamd.inference.scored import Scored, Scorer

MAX_PASSAGES = 40
"""Passages of one message; where there are more, neighbours are joined. Bounds the time: each is one more text to score."""
MAX_PASSAGE_CHARACTERS = 160
"""A longer passage is cut between words, so that one long sentence is not marked as a whole."""

_CERTAINTY = 1e-12
"""Scores stay this far from 0 and 1, so that log-odds are finite."""
_FIELD = r"(?:From|Reply-To|Subject): [^\n]*"
# Sentences shorter than that are mostly the ends of abbreviations. Plain wording leaves no full-width "!" and "?"; behind the
# narrow ones no blank stands in Chinese and Japanese.
_SENTENCE = re.compile(
    rf"(?:{_FIELD}|[^\n]{{1,15}}(?=\n|\Z)|[^\n]{{16,}}?(?:[.!?؟।…]+[)\"'»”]*(?=[\s\u3000-\uffef])|。+|(?=\n)|\Z))\s*"
)
_WORDS = re.compile(rf"[\s\S]{{1,{MAX_PASSAGE_CHARACTERS}}}(?:(?<=\s)|\Z)|[\s\S]{{1,{MAX_PASSAGE_CHARACTERS}}}")


class Reader(Scorer, Protocol):
    """A scorer that can tell how much of a text it reads; `spamd.inference.engine.Engine` is the real one."""

    def extent(self, text: str) -> tuple[int, int]:
        """Tell how many characters are read from the beginning, and how many at the end of a longer text."""
        ...


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of the text; all of them, end to end, are the text.

    Attributes:
        text: its characters, white space behind it included.
        points: by how much it raises the score, in points (units of log-odds); None where the model did not read it.
    """

    text: str
    points: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """A score and what made it.

    Attributes:
        scored: the score of the whole text.
        passages: the text in pieces.
    """

    scored: Scored
    passages: tuple[Passage, ...]


def explain(text: str, engine: Reader, *, max_passages: int = MAX_PASSAGES) -> Explanation:
    """Find out what each passage of a text does to its score.

    Args:
        text: what the model reads of a message.
        engine: what scores it.
        max_passages: at most so many passages; the text is scored once for each, and twice more.

    Returns:
        The score and the passages, in the order of the text.

    Raises:
        ScoringError: the model computed something that is not a probability.
    """
    head, tail = engine.extent(text)
    pieces = [*passages(text[:head], max_passages if not tail else max_passages * 3 // 4)]
    num_head = len(pieces)
    pieces += passages(text[len(text) - tail :], max_passages // 4) if tail else []
    scores = engine.score([text, "".join(pieces), *(without(pieces, {number}) for number in range(len(pieces)))])
    points = [_log_odds(scores[1]) - _log_odds(one) for one in scores[2:]]
    found = [Passage(piece, measured) for piece, measured in zip(pieces, points, strict=True)]
    unread = text[head : len(text) - tail]
    if unread:
        found.insert(num_head, Passage(unread, None))
    return Explanation(scores[0], tuple(found))


def without(pieces: Sequence[str], left_out: set[int]) -> str:
    """Join passages, leaving out those of the given numbers."""
    return "".join(piece for number, piece in enumerate(pieces) if number not in left_out).strip()


def passages(text: str, most: int) -> list[str]:
    """Cut a text into passages.

    Args:
        text: any text.
        most: at most so many; at least 1.

    Returns:
        Pieces, none empty, which joined are the text.
    """
    pieces = list(_cut(text))
    while len(pieces) > most:
        # Of all neighbours those are joined that make the shortest passage.
        shortest = min(range(len(pieces) - 1), key=lambda number: len(pieces[number]) + len(pieces[number + 1]))
        pieces[shortest : shortest + 2] = [pieces[shortest] + pieces[shortest + 1]]
    return pieces


def _cut(text: str) -> Iterator[str]:
    """Yield sentences, and the parts of long ones."""
    start = 0
    for match in _SENTENCE.finditer(text):
        # What no sentence begins with, such as an empty first line, belongs to the one behind it.
        sentence = text[start : match.end()]
        start = match.end()
        yield from _WORDS.findall(sentence)
    if start < len(text):
        yield text[start:]


def _log_odds(scored: Scored) -> float:
    """Log-odds of a score."""
    score = min(max(scored.score, _CERTAINTY), 1.0 - _CERTAINTY)
    return math.log(score / (1.0 - score))
