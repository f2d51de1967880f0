"""How fast an engine has shown to be, and so how long a queue will take. Arithmetic alone; called by `batching`."""

MEMORY = 0.5
"""Weight of what was known before a batch: an engine that turns slow is believed after a few batches."""

SHORTEST_SECONDS = 1e-6


class Pace:
    """Tokens a second, by the batches so far, the latest ones first of all."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

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
        self._tokens = MEMORY * self._tokens + num_tokens
        self._seconds = MEMORY * self._seconds + max(seconds, SHORTEST_SECONDS)

    def seconds_for(self, num_tokens: int) -> float:
        """Tell how long tokens will take; 0.0 before the first batch."""
        return num_tokens / self.tokens_per_second if self._seconds else 0.0
