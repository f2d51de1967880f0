"""A scorer that asks a fleet, and scores here whatever the fleet does not.

Each batch is divided among several requests at once, so that every replica has something to do. What fails is scored by the local
engine, which is loaded all the same; a fleet that keeps failing is left alone, and a request of our own, never mail, finds out
when it is back. Blocking, like every scorer. Built by `daemon`, which keeps the `Fleet` when the checkpoint changes.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from spamd.inference.breaker import CircuitBreaker
from spamd.inference.contract import MAX_CHARACTER_BYTES, MAX_REQUEST_BYTES, MAX_TEXTS
from spamd.inference.dividing import put_together, shared_out
from spamd.inference.remote import NoScores, RemoteScorer
from spamd.inference.scored import Scored, Scorer

MAX_PIECE_CHARACTERS = (MAX_REQUEST_BYTES - 4096) // MAX_CHARACTER_BYTES
"""Characters of a request, such that it is never too long whatever they are."""

GRACE_SECONDS = 0.5
"""A request keeps its own deadline, but for the look-up of a name; one that overruns it by this is waited for no longer."""

PROBE = [""]
"""What is scored to see whether the fleet is back: nobody's mail waits for it."""


class Fleet:
    """A fleet as this process knows it, whatever the checkpoint.

    Args:
        remote: its client.
        breaker: says whether to ask it.
        num_requests: requests at once.
    """

    def __init__(self, remote: RemoteScorer, breaker: CircuitBreaker, *, num_requests: int) -> None:
        self.remote = remote
        self.breaker = breaker
        self.num_requests = num_requests
        self.threads = ThreadPoolExecutor(num_requests, thread_name_prefix="fleet")
        self._lock = threading.Lock()
        self._counts = {"remote": 0, "local": 0}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many texts each side has scored, and how many requests were made again."""
        return self._counts | {"repeated": self.remote.num_repeated}

    def count(self, *, remote: int, local: int) -> None:
        """Add to the counts."""
        with self._lock:
            self._counts["remote"] += remote
            self._counts["local"] += local

    def close(self) -> None:
        """Let go of threads and connections."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.remote.close()


class FallbackScorer:
    """Scores by a fleet if it can, and by a local engine if it must.

    Args:
        local: the engine; its checkpoint is the one that the fleet is asked for.
        fleet: the fleet.
    """

    def __init__(self, local: Scorer, fleet: Fleet) -> None:
        self._local = local
        self._fleet = fleet
        self._lanes = ThreadPoolExecutor(local.num_lanes, thread_name_prefix="scoring-here")

    @property
    def checkpoint(self) -> str:
        """Id of the checkpoint that scores, here and there."""
        return self._local.checkpoint

    @property
    def threshold(self) -> float:
        """Its operating point."""
        return self._local.threshold

    @property
    def num_lanes(self) -> int:
        """One call at a time: it divides each among several requests."""
        return 1

    def estimate_tokens(self, text: str) -> int:
        """Tell roughly, and at no cost, how many tokens a text will take."""
        return self._local.estimate_tokens(text)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts; the answer has their order.

        Raises:
            ScoringError: neither the fleet nor the local model computed a score.
        """
        scored = self._by_fleet(texts) if texts and self._fleet.breaker.is_closed else {}
        if self._fleet.breaker.claim_probe():
            self._fleet.threads.submit(self._probe)
        rest = [number for number in range(len(texts)) if number not in scored]
        if rest:
            scored |= zip(rest, self._here([texts[number] for number in rest]), strict=True)
        self._fleet.count(remote=len(texts) - len(rest), local=len(rest))
        return [scored[number] for number in range(len(texts))]

    def _here(self, texts: Sequence[str]) -> list[Scored]:
        """Score by the local engine, in all its lanes at once."""
        shares = shared_out([self.estimate_tokens(text) for text in texts], self._local.num_lanes)
        parts = [[texts[number] for number in share] for share in shares]
        return put_together(shares, self._lanes.map(self._local.score, parts))

    def _by_fleet(self, texts: Sequence[str]) -> dict[int, Scored]:
        """Return what the fleet scores, by number of the text."""
        deadline = time.monotonic() + self._fleet.remote.timeout_seconds
        pieces = divided([len(text) for text in texts], self._fleet.num_requests)
        answers = [self._fleet.threads.submit(self._ask, [texts[number] for number in piece], deadline) for piece in pieces]
        scored: dict[int, Scored] = {}
        failure: NoScores | None = None
        scores: list[Scored] | NoScores
        for piece, answer in zip(pieces, answers, strict=True):
            try:
                scores = answer.result(max(0.0, deadline + GRACE_SECONDS - time.monotonic()))
            except TimeoutError:
                answer.cancel()
                scores = NoScores(
                    "it was not even reached in time; see scoring.remote_url, and how long a look-up of its name takes."
                )
            if isinstance(scores, NoScores):
                failure = scores
            else:
                scored |= zip(piece, scores, strict=True)
        self._report(failure)
        return scored

    def _ask(self, texts: Sequence[str], deadline: float | None = None) -> list[Scored] | NoScores:
        """Ask for the scores of a piece; a failure is an answer too, since the local engine goes on from there."""
        try:
            return self._fleet.remote.score(texts, self.checkpoint, self.threshold, deadline)
        except NoScores as failure:
            return failure
        except Exception as error:  # noqa: BLE001  whatever it is, mail is scored and somebody may probe again
            return NoScores(f"it cannot be asked: {type(error).__name__}.")

    def _probe(self) -> None:
        """See whether the fleet is back."""
        scores = self._ask(PROBE)
        self._report(scores if isinstance(scores, NoScores) else None)

    def _report(self, failure: NoScores | None) -> None:
        """Tell the breaker how it went."""
        if failure is None:
            self._fleet.breaker.succeeded()
        else:
            reason = f"{self._fleet.remote.url}: {failure}"
            self._fleet.breaker.failed(reason, is_lasting=failure.is_lasting, rest_seconds=failure.rest_seconds)


def divided(num_characters: Sequence[int], num_pieces: int) -> list[list[int]]:
    """Divide texts into pieces of like size that each fit a request.

    Args:
        num_characters: of each text.
        num_pieces: pieces wanted; more are made where the texts do not fit, fewer where they are few.

    Returns:
        Numbers of the texts.
    """
    longest_first = sorted(range(len(num_characters)), key=num_characters.__getitem__, reverse=True)
    pieces: list[list[int]] = []
    for start in range(min(num_pieces, len(longest_first))):
        piece: list[int] = []
        size = 0
        for number in longest_first[start::num_pieces]:
            if piece and (len(piece) == MAX_TEXTS or size + num_characters[number] > MAX_PIECE_CHARACTERS):
                pieces.append(piece)
                piece, size = [], 0
            piece.append(number)
            size += num_characters[number]
        pieces.append(piece)
    return pieces
