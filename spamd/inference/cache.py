"""Scores of texts that were scored before: a campaign sends one text to many, and the model need read it once.

Bounded: the score that was not asked for the longest goes first. Keeps checksums and scores, never a text. Knows nothing of
queues and engines. Called by `batching`.
"""

import secrets
from collections import OrderedDict
from hashlib import blake2b

from spamd.inference.scored import Scored

KEY_BYTES = 16


class ScoreCache:
    """Scores by the checksum of their text.

    Args:
        size: scores that are kept; 0 keeps none.

    Attributes:
        num_hits: texts that the model need not read: their score was here, or was under way for somebody else.
        num_asked: texts that were looked for.
    """

    def __init__(self, size: int) -> None:
        self.num_hits = 0
        self.num_asked = 0
        self._size = size
        self._scores: OrderedDict[bytes, Scored] = OrderedDict()
        # Of this process alone, so that nobody outside can make two texts that share a checksum.
        self._secret = secrets.token_bytes(KEY_BYTES)

    def __len__(self) -> int:
        """Count the scores that are kept."""
        return len(self._scores)

    @property
    def hit_rate(self) -> float:
        """Hits among all that were asked for, 0.0 to 1.0; 0.0 before the first."""
        return self.num_hits / self.num_asked if self.num_asked else 0.0

    def key(self, text: str) -> bytes:
        """Compute the checksum of a text."""
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self._secret, digest_size=KEY_BYTES).digest()

    def find(self, key: bytes, checkpoint: str) -> Scored | None:
        """Look for a score.

        Args:
            key: checksum of the text.
            checkpoint: id of the checkpoint that must have given it.

        Returns:
            The score, which is the youngest now, or None.
        """
        self.num_asked += 1
        scored = self._scores.get(key)
        if scored is None or scored.checkpoint != checkpoint:
            return None
        self._scores.move_to_end(key)
        self.num_hits += 1
        return scored

    def keep(self, key: bytes, scored: Scored) -> None:
        """Keep a score, at the cost of the oldest where there is no room."""
        self._scores[key] = scored
        self._scores.move_to_end(key)
        while len(self._scores) > self._size:
            self._scores.popitem(last=False)

    def clear(self) -> None:
        """Forget all scores; the counts go on."""
        self._scores.clear()
