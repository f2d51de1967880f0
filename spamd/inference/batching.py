"""Gathers waiting texts into batches for a blocking engine, so that the event loop never stalls.

One thread scores; the loop only queues and wakes. A lone text never waits for company: it starts at once when the engine is idle,
and what arrives meanwhile forms the next batch. A batch is kept as small as the engine has shown to be slow: on a processor that
takes seconds for one long text, a full batch would make everyone miss the deadline. The queue is bounded, and a caller that
gives up frees its place. Knows nothing of messages and nothing of torch: any `Scorer` will do. Called by `service.filter`;
built by `daemon`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from spamd.errors import ScoringError, ScoringTimeout
from spamd.inference.scored import Scored, Scorer


@dataclass(frozen=True, slots=True)
class Served:
    """A score and the time that it took.

    Attributes:
        scored: the engine's answer.
        queue_milliseconds: time from the call to the start of its batch.
        score_milliseconds: time that the whole batch took.
    """

    scored: Scored
    queue_milliseconds: float
    score_milliseconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """One text whose caller waits."""

    text: str
    arrived: float
    future: "asyncio.Future[Served]"


class Batcher:
    """An asyncio front for a blocking engine. Everything but `engine.score` runs in the loop's thread.

    Args:
        engine: what scores, until `swap`.
        max_batch_tokens: estimated tokens that are handed to the engine at once; a longer text goes alone.
        max_waiting: texts that may wait at once, the ones being scored not counted.
        batch_seconds: time that a batch of several texts should take at most, by the engine's speed so far.
    """

    def __init__(
        self, engine: Scorer, *, max_batch_tokens: int = 8192, max_waiting: int = 1000, batch_seconds: float = 1.0
    ) -> None:
        self._engine = engine
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting = max_waiting
        self._batch_seconds = batch_seconds
        self._tokens_per_second = 0.0
        # An ordered set: first come, first served, and whoever gives up is taken out at once.
        self._waiting: dict[_Waiting, None] = {}
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scoring")

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
            asyncio.QueueFull: `max_waiting` texts wait already.
        """
        if self._is_closed:
            raise ScoringError("no message is scored any more, because spamd is stopping.")
        if len(self._waiting) >= self._max_waiting:
            raise asyncio.QueueFull
        loop = asyncio.get_running_loop()
        waiting = _Waiting(text, loop.time(), loop.create_future())
        self._waiting[waiting] = None
        if self._runner is None:
            self._runner = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout_at(deadline):
                return await waiting.future
        except TimeoutError:
            raise ScoringTimeout("the message got no score before its deadline.") from None
        finally:
            self._waiting.pop(waiting, None)

    def swap(self, engine: Scorer) -> Scorer:
        """Let another engine score from the next batch on; the batch being scored ends with the old one.

        Args:
            engine: the new engine, ready to score.

        Returns:
            The old engine.
        """
        old, self._engine = self._engine, engine
        return old

    async def turn(self) -> None:
        """Wait until the thread that scores has had time for something else: a sign that it lives and moves."""
        await asyncio.get_running_loop().run_in_executor(self._thread, bool)

    async def close(self) -> None:
        """Take nothing new, score all that waits, and end the thread."""
        self._is_closed = True
        if self._runner is not None:
            await self._runner
        self._thread.shutdown(wait=False)

    async def _run(self) -> None:
        """Score batch after batch until nothing waits."""
        while self._waiting:
            await self._score_batch(self._gather())
        # No await lies between the last look at the queue and this line, so that no text can slip in unseen.
        self._runner = None

    def _gather(self) -> list[_Waiting]:
        """Take the first texts that fit the token budget, at least one."""
        budget = self._max_batch_tokens
        if self._tokens_per_second:
            budget = min(budget, int(self._tokens_per_second * self._batch_seconds))
        batch: list[_Waiting] = []
        num_tokens = 0
        for waiting in self._waiting:
            num_tokens += self._engine.estimate_tokens(waiting.text)
            if batch and num_tokens > budget:
                break
            batch.append(waiting)
        for waiting in batch:
            del self._waiting[waiting]
        return batch

    async def _score_batch(self, batch: list[_Waiting]) -> None:
        """Score one batch in the thread and wake its callers; a failure is theirs alone."""
        loop = asyncio.get_running_loop()
        # Kept by name: the batcher's may be swapped before the thread answers.
        engine = self._engine
        started = loop.time()
        try:
            scores = await loop.run_in_executor(self._thread, engine.score, [waiting.text for waiting in batch])
            took = loop.time() - started
            answers = [
                Served(scored, 1000 * (started - waiting.arrived), 1000 * took)
                for waiting, scored in zip(batch, scores, strict=True)
            ]
        except Exception as error:  # noqa: BLE001  whatever an engine raises, the loop and the other messages go on
            _fail(batch, engine.checkpoint, error)
            return
        num_tokens = sum(engine.estimate_tokens(waiting.text) for waiting in batch)
        self._tokens_per_second = num_tokens / max(took, 1e-6)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(answer)


def _fail(batch: list[_Waiting], checkpoint: str, error: Exception) -> None:
    """Tell the callers of a batch that it failed, each by an error of its own."""
    for waiting in batch:
        if not waiting.future.done():
            failure = ScoringError(f"checkpoint {checkpoint} failed on a batch of {len(batch)} messages.")
            failure.__cause__ = error
            waiting.future.set_exception(failure)
