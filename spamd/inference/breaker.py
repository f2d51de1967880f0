"""A circuit breaker: leaves whoever keeps failing alone for a while, and says so once.

Closed, all is well. After several failures in a row, or one that will not pass soon, it opens: nobody is to be asked. When the
pause is over one attempt is allowed, the probe; its success closes the breaker, its failure begins another pause. Knows nothing
of what is asked, and may be used from several threads. Called by `fallback`.
"""

import threading
import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

MAX_FAILURES = 3
MAX_REST_SECONDS = 60.0
"""However long a rest is asked for: a fleet that lies must not be left alone for ever."""


class CircuitBreaker:
    """Counts failures and decides whether to ask.

    Args:
        name: what it stands before, for the log.
        pause_seconds: how long it stays open before a probe.
        max_failures: failures in a row that open it.
        clock: the time in seconds; another one only in tests.
    """

    def __init__(
        self,
        name: str,
        *,
        pause_seconds: float,
        max_failures: int = MAX_FAILURES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._pause_seconds = pause_seconds
        self._max_failures = max_failures
        self._clock = clock
        self._lock = threading.Lock()
        self._num_failures = 0
        self._probe_at: float | None = None
        self._is_probing = False
        self._reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether all is well."""
        return self._probe_at is None

    def claim_probe(self) -> bool:
        """Tell whether it is time for a probe and nobody else makes it; who is told so reports how it went."""
        with self._lock:
            is_due = self._probe_at is not None and self._clock() >= self._probe_at and not self._is_probing
            self._is_probing |= is_due
            return is_due

    def succeeded(self) -> None:
        """Report a success: the breaker closes."""
        with self._lock:
            was_open = self._probe_at is not None
            self._num_failures, self._probe_at, self._is_probing, self._reason = 0, None, False, ""
        if was_open:
            log.warning("scorer is back", scorer=self._name)

    def failed(self, reason: str, *, is_lasting: bool = False, rest_seconds: float = 0.0) -> None:
        """Report a failure.

        Args:
            reason: why, a sentence that quotes nothing of a message.
            is_lasting: whether asking again soon is of no use.
            rest_seconds: how long whoever is asked wants to be left alone.
        """
        with self._lock:
            self._num_failures += 1
            self._is_probing = False
            if self._probe_at is None and not is_lasting and self._num_failures < self._max_failures:
                return
            pause = max(self._pause_seconds, min(rest_seconds, MAX_REST_SECONDS))
            is_news = self._probe_at is None or reason != self._reason
            self._probe_at, self._reason = self._clock() + pause, reason
        if is_news:
            log.error("scorer left alone", scorer=self._name, reason=reason, pause_seconds=pause)
