"""Gathers waiting texts into batches for a blocking engine, so that the event loop never stalls.

Threads score, as many as the engine has lanes; the loop only queues and wakes. A lone text never waits for company: it starts at
once when a lane is idle, and what arrives meanwhile forms the next batch. A batch is kept as small as the engine has shown to be
slow: on a processor that takes seconds for one long text, a full batch would make everyone miss the deadline.

What need not be read is not: a text whose score is known is answered from the cache, and one that is waiting or being scored
already is scored once for all who ask. What could not be read in time is refused at once, by the engine's speed so far, instead
of being scored when nobody wants it any more; a text that finds a lane idle is always tried, so that an engine that was slow
once is measured anew. A caller that gives up frees its place.

First come, first served is fair between sessions: each has at most one message here, and waits for its verdict before it can send
the next, so that one that sends without a pause waits behind all the others after each message. Knows nothing of messages and
nothing of torch: any `Scorer` will do. Called by `service.filter`; built by `daemon`.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from spamd.errors import ScoringError, ScoringTimeout
from spamd.inference.cache import ScoreCache
from spamd.inference.pace import Pace
from spamd.inference.scored import Scored, Scorer

MOST_LANES = 8
"""Batches that are scored at once at the most, whatever the engine says."""


@dataclass(frozen=True, slots=True)
class Served:
    """A score and the time that it took.

    Attributes:
        scored: the engine's answer.
        queue_milliseconds: time from the call to the start of its batch; 0 where the score was known or under way.
        score_milliseconds: time that the whole batch took; 0 where the score was known.
    """

    scored: Scored
    queue_milliseconds: float
    score_milliseconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """One text that callers wait for, each with the time at which it came."""

    text: str
    key: bytes
    num_tokens: int
    callers: "dict[asyncio.Future[Served], float]" = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is being scored: by whom, what, and since when; and whether it has ended, one way or another."""

    engine: Scorer
    members: dict[bytes, _Waiting]
    started: float
    has_ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def num_tokens(self) -> int:
        """Estimated tokens of the batch."""
        return _tokens(self.members)


class Batcher:
    """An asyncio front for a blocking engine. Everything but `engine.score` runs in the loop's thread.

    Args:
        engine: what scores, until `swap`.
        max_batch_tokens: estimated tokens that are handed to the engine at once; a longer text goes alone.
        max_waiting: texts that may wait at once; those being scored and copies of one another are not counted.
        batch_seconds: time that a batch of several texts should take at most, by the engine's speed so far.
        cache_size: scores that are kept; 0 keeps none.

    Attributes:
        cache: the scores that are kept.
    """

    def __init__(
        self,
        engine: Scorer,
        *,
        max_batch_tokens: int = 8192,
        max_waiting: int = 1000,
        batch_seconds: float = 1.0,
        cache_size: int = 10_000,
    ) -> None:
        self.cache = ScoreCache(cache_size)
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting = max_waiting
        self._batch_seconds = batch_seconds
        self._pace = Pace()
        # By key and in order: first come, first served, and what nobody wants any more is taken out at once.
        self._waiting: dict[bytes, _Waiting] = {}
        self._batches: list[_Batch] = []
        self._runners: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._threads = ThreadPoolExecutor(max_workers=MOST_LANES, thread_name_prefix="scoring")

    @property
    def engine(self) -> Scorer:
        """The engine that the next batch goes to."""
        return self._engine

    async def score(self, text: str, deadline: float) -> Served:
        """Score one text.

        Args:
            text: what the model reads.
            deadline: time of the running loop after which nobody wants the score any more.

        Returns:
            The score, by whichever engine its batch met.

        Raises:
            ScoringTimeout: the deadline passed.
            ScoringError: the batch failed, or the batcher is closed.
            asyncio.QueueFull: `max_waiting` texts wait already, or more than can be scored before the deadline.
        """
        if self._is_closed:
            raise ScoringError("no message is scored any more, because spamd is stopping.")
        loop = asyncio.get_running_loop()
        key = self.cache.key(text)
        if known := self.cache.find(key, self._engine.checkpoint):
            return Served(known, 0.0, 0.0)
        waiting = self._under_way(key)
        if waiting:
            self.cache.num_hits += 1
        else:
            waiting = self._line_up(text, key, deadline - loop.time())
        caller: asyncio.Future[Served] = loop.create_future()
        waiting.callers[caller] = time.monotonic()
        try:
            async with asyncio.timeout_at(deadline):
                return await caller
        except TimeoutError:
            raise ScoringTimeout("the message got no score before its deadline.") from None
        finally:
            del waiting.callers[caller]
            if not waiting.callers and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def swap(self, engine: Scorer) -> Scorer:
        """Let another engine score from the next batch on; the batch being scored ends with the old one.

        Args:
            engine: the new engine, ready to score.

        Returns:
            The old engine.
        """
        old, self._engine = self._engine, engine
        self.cache.clear()
        self._pace = Pace()
        return old

    async def turn(self) -> None:
        """Wait until what is being scored now has been: a sign that the threads that score live and move."""
        await asyncio.gather(*[batch.has_ended.wait() for batch in self._batches])

    async def close(self) -> None:
        """Take nothing new, score all that waits, and end the thread."""
        self._is_closed = True
        await asyncio.gather(*self._runners)
        self._threads.shutdown(wait=False)

    @property
    def _num_lanes(self) -> int:
        """Batches that may be scored at once."""
        return min(self._engine.num_lanes, MOST_LANES)

    def _under_way(self, key: bytes) -> _Waiting | None:
        """Find the same text where it waits or is being scored by the engine of now."""
        current = (batch.members for batch in self._batches if batch.engine is self._engine)
        return next((members[key] for members in current if key in members), None) or self._waiting.get(key)

    def _line_up(self, text: str, key: bytes, seconds: float) -> _Waiting:
        """Put a text at the end of the queue, if it can be scored in time.

        Raises:
            asyncio.QueueFull: it cannot.
        """
        waiting = _Waiting(text, key, self._engine.estimate_tokens(text))
        is_busy = bool(self._waiting) or len(self._runners) >= self._num_lanes
        if len(self._waiting) >= self._max_waiting or (is_busy and self._seconds_until_done(waiting) > seconds):
            raise asyncio.QueueFull
        self._waiting[key] = waiting
        if len(self._runners) < self._num_lanes:
            self._runners.add(asyncio.create_task(self._run()))
        return waiting

    def _seconds_until_done(self, waiting: _Waiting) -> float:
        """Tell when a text at the end of the queue will be scored, by the engine's speed so far."""
        now = time.monotonic()
        left = sum(max(0.0, self._pace.seconds_for(batch.num_tokens) - (now - batch.started)) for batch in self._batches)
        before = left + self._pace.seconds_for(_tokens(self._waiting))
        return before / self._num_lanes + self._pace.seconds_for(waiting.num_tokens)

    async def _run(self) -> None:
        """Score batch after batch until nothing waits, or the engine is another one with fewer lanes."""
        try:
            while self._waiting and len(self._runners) <= self._num_lanes:
                await self._score_batch(self._gather())
        finally:
            # No await lies between the last look at the queue and this line, so that no text can slip in unseen.
            self._runners.remove(cast("asyncio.Task[None]", asyncio.current_task()))

    def _gather(self) -> _Batch:
        """Take the first texts that fit the token budget, at least one."""
        budget = self._max_batch_tokens
        if speed := self._pace.tokens_per_second:
            budget = min(budget, int(speed * self._batch_seconds))
        # Lanes share what there is: one that took all would leave the others what trickles in, in batches of one or two.
        num_at_hand = len(self._waiting) + sum(len(batch.members) for batch in self._batches)
        most = math.ceil(num_at_hand / self._num_lanes)
        members: dict[bytes, _Waiting] = {}
        num_tokens = 0
        for key, waiting in self._waiting.items():
            num_tokens += waiting.num_tokens
            if members and (num_tokens > budget or len(members) == most):
                break
            members[key] = waiting
        for key in members:
            del self._waiting[key]
        # Kept by name: the batcher's engine may be swapped before the thread answers.
        return _Batch(self._engine, members, time.monotonic())

    async def _score_batch(self, batch: _Batch) -> None:
        """Score one batch in the thread and wake its callers; a failure is theirs alone."""
        loop = asyncio.get_running_loop()
        members = list(batch.members.values())
        self._batches.append(batch)
        try:
            scores = await loop.run_in_executor(self._threads, batch.engine.score, [waiting.text for waiting in members])
            answers = list(zip(members, scores, strict=True))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  whatever an engine raises (a panic of Rust's is no Exception), others go on
            _fail(members, batch.engine.checkpoint, error)
            return
        finally:
            self._batches.remove(batch)
            batch.has_ended.set()
        took = time.monotonic() - batch.started
        if batch.engine is self._engine:
            self._pace.note(batch.num_tokens, took)
            for waiting, scored in answers:
                self.cache.keep(waiting.key, scored)
        for waiting, scored in answers:
            _wake(waiting, scored, batch.started, took)


def _tokens(waiting: dict[bytes, _Waiting]) -> int:
    """Sum the estimated tokens of texts."""
    return sum(one.num_tokens for one in waiting.values())


def _wake(waiting: _Waiting, scored: Scored, started: float, took: float) -> None:
    """Tell everyone who waits for a text its score."""
    for caller, arrived in waiting.callers.items():
        if not caller.done():
            caller.set_result(Served(scored, 1000 * max(0.0, started - arrived), 1000 * took))


def _fail(members: Sequence[_Waiting], checkpoint: str, error: BaseException) -> None:
    """Tell the callers of a batch that it failed, each by an error of its own."""
    for caller in [caller for waiting in members for caller in waiting.callers]:
        if not caller.done():
            failure = ScoringError(f"checkpoint {checkpoint} failed on a batch of {len(members)} messages.")
            failure.__cause__ = error
            caller.set_exception(failure)
