"""How fast an engine has shown to be, and so how long a queue will take. Arithmetic alone; called by `batching`.

A batch weighs as many tokens as it has: short messages, of which each costs more than its tokens say, do not make the engine look
slow for the long ones.
"""

HALF_LIFE_TOKENS = 2048
"""After so many tokens what was known before weighs half."""

LEAST_TOKENS = 512
"""Fewer tokens show nothing about how long others will take."""

SHORTEST_SECONDS = 1e-6


class Pace:
    """Tokens a second, by the batches so far, the latest ones first of all."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0
        self._seen = 0

    @property
    def tokens_per_second(self) -> float:
        """The speed; 0.0 before the first batch."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def note(self, num_tokens: int, seconds: float) -> None:
        """Learn from a batch.

        Args:
            num_tokens: its tokens, estimated as those are that will be asked about.
            seconds: what it took.
        """
        kept = 0.5 ** (num_tokens / HALF_LIFE_TOKENS)
        self._tokens = kept * self._tokens + num_tokens
        self._seconds = kept * self._seconds + max(seconds, SHORTEST_SECONDS)
        self._seen += num_tokens

    def seconds_for(self, num_tokens: int) -> float:
        """Tell how long tokens will take; 0.0 before enough of them have been seen."""
        return num_tokens / self.tokens_per_second if self._seen >= LEAST_TOKENS else 0.0
