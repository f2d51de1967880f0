"""What an engine gives, and what it must be able to do; without torch, so that its users start and test fast.

Implemented by `engine`, `crew` and `fallback`; used by `batching`, `service.filter` and `cli.score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CHARACTERS_PER_TOKEN = 3
"""What `estimate_tokens` reckons with; text in Latin letters has more, so that batches rather stay below their budget."""


def estimate_tokens(text: str, most: int) -> int:
    """Tell roughly, and at no cost, how many tokens of a text are computed.

    Args:
        text: what the model reads.
        most: tokens that it computes of any text.
    """
    return min(most, len(text) // CHARACTERS_PER_TOKEN + 1)


@dataclass(frozen=True, slots=True)
class Scored:
    """The score of one text, together with who gave it.

    Attributes:
        score: calibrated probability of spam, 0.0 to 1.0.
        threshold: operating point of the checkpoint that scored.
        checkpoint: id of that checkpoint.
        num_tokens: tokens that the model read.
        is_truncated: whether text was left out to fit the token budget.
    """

    score: float
    threshold: float
    checkpoint: str
    num_tokens: int
    is_truncated: bool


class Scorer(Protocol):
    """A blocking scorer; `spamd.inference.engine.Engine` is the real one."""

    @property
    def checkpoint(self) -> str:
        """Id of the loaded checkpoint."""
        ...

    @property
    def threshold(self) -> float:
        """Operating point of the loaded checkpoint."""
        ...

    @property
    def num_lanes(self) -> int:
        """Calls of `score` that it can make use of at once, each from a thread of its own; 1 for one after another."""
        ...

    def estimate_tokens(self, text: str) -> int:
        """Tell roughly, and at no cost, how many tokens a text will take."""
        ...

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts; the answer has their order."""
        ...


class LoadedScorer(Scorer, Protocol):
    """A scorer whose checkpoint takes memory until it is closed; `spamd.inference.crew.CrewScorer` is the real one."""

    def close(self) -> None:
        """Let the checkpoint go, once no call computes any more."""
        ...
