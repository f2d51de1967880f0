"""The life of a message whatever the protocol that brought it: bytes, text, score, verdict.

Everything happens under one deadline and off the event loop. A message that cannot be judged is `Unscored`, never an exception:
what becomes of it is the caller's policy. Reads and writes no header, opens no connection, and never loads the model. Called by
`smtp.handler` through its own protocol; built by `daemon`.

Security: the bytes are hostile. They are only handed to `message_text`, which bounds its own work, in threads of which one stuck
message can hold but one; nothing of them is logged.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import structlog

from spamd.errors import ScoringTimeout
from spamd.inference.batching import Batcher
from spamd.inference.scored import Scored
from spamd.mail.text import MessageText, message_text
from spamd.service.logs import describe
from spamd.verdict import GTUBE, Unscored, Verdict

log = structlog.get_logger(__name__)

MIN_EXTRACTION_THREADS = 2
MAX_EXTRACTION_THREADS = 4


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the filter says about one message.

    Attributes:
        verdict: the decision, or why there is none.
        defects: what is wrong with the message's form.
        milliseconds: time by stage: `extract` (bytes to text, waiting included), `queue` (until the batch began), `score` (the
            batch). Stages that were not reached are missing.
    """

    verdict: Verdict | Unscored
    defects: tuple[str, ...]
    milliseconds: dict[str, float]


class MessageFilter:
    """Judges messages, many at once.

    Args:
        batcher: scores the texts.
        deadline_seconds: time within which a message is judged or given up.
        threshold: operating point instead of the checkpoint's own; may be changed at any time.
        extract: the text function; another one only in tests.
    """

    def __init__(
        self,
        batcher: Batcher,
        *,
        deadline_seconds: float,
        threshold: float | None = None,
        extract: Callable[[bytes], MessageText] = message_text,
    ) -> None:
        self.threshold = threshold
        self._batcher = batcher
        self._deadline_seconds = deadline_seconds
        self._extract = extract
        num_threads = min(max(len(os.sched_getaffinity(0)), MIN_EXTRACTION_THREADS), MAX_EXTRACTION_THREADS)
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="extraction")

    async def judge(self, message: bytes) -> Judgement:
        """Judge one message; never raises, save for the cancellation of the caller.

        Args:
            message: the message as stored, dot-stuffing undone.

        Returns:
            The verdict, or `Unscored` with `timeout`, `overload` or `error`.
        """
        milliseconds: dict[str, float] = {}
        defects: tuple[str, ...] = ()
        try:
            deadline = asyncio.get_running_loop().time() + self._deadline_seconds
            text = await self._text(message, deadline, milliseconds)
            defects = text.defects
            served = await self._batcher.score(text.text, deadline)
        except ScoringTimeout:
            return Judgement(self._unscored("timeout"), defects, milliseconds)
        except asyncio.QueueFull:
            return Judgement(self._unscored("overload"), defects, milliseconds)
        except Exception as error:  # noqa: BLE001  a message is never lost because the filter failed
            log.error("no verdict", **describe(error))  # noqa: TRY400  a traceback may quote the message
            return Judgement(self._unscored("error"), defects, milliseconds)
        milliseconds |= {"queue": served.queue_milliseconds, "score": served.score_milliseconds}
        return Judgement(verdict_of(text.text, served.scored, self.threshold), defects, milliseconds)

    def close(self) -> None:
        """Take nothing new; texts that are being read out are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _text(self, message: bytes, deadline: float, milliseconds: dict[str, float]) -> MessageText:
        """Read a message's text out in a thread; one whose caller has gone before its turn is skipped."""
        loop, started = asyncio.get_running_loop(), time.monotonic()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(self._threads, self._extract, message)
        except TimeoutError:
            raise ScoringTimeout("the message's text could not be read out before its deadline.") from None
        finally:
            milliseconds["extract"] = 1000 * (time.monotonic() - started)

    def _unscored(self, reason: str) -> Unscored:
        return Unscored(reason, self._batcher.engine.checkpoint)


def verdict_of(text: str, scored: Scored, threshold: float | None) -> Verdict:
    """Make a verdict of a score; the daemon and the command line share it.

    Args:
        text: what the model read; holds GTUBE or not.
        scored: the engine's answer.
        threshold: operating point instead of the checkpoint's own, or None.

    Returns:
        The verdict, which bears the id of the checkpoint that scored.
    """
    return Verdict(
        score=scored.score,
        threshold=scored.threshold if threshold is None else threshold,
        checkpoint=scored.checkpoint,
        num_tokens=scored.num_tokens,
        is_truncated=scored.is_truncated,
        is_gtube=GTUBE in text,
    )
