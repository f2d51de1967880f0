"""Asking for a judgement, whatever the protocol that brought the message: in time, and never at the message's cost.

`filter` judges; this is what the doors know of it. Loads no model and decides nothing. Called by `smtp` and `spamc`.

Security: the message is only handed on; of an error no text is logged that could quote it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from spamd.service.logs import describe
from spamd.verdict import Unscored, Verdict

T = TypeVar("T")

log = structlog.get_logger(__name__)

JUDGE_GRACE_SECONDS = 5.0
"""The judge keeps its own deadline; one that overruns it by this is given up."""

SMALL_BYTES = 262_144
"""Work on the bytes of larger messages is done in a thread, so that other sessions are served meanwhile."""

NO_CHECKPOINT = "none"


class Judgement(Protocol):
    """What a judge says about a message."""

    @property
    def verdict(self) -> Verdict | Unscored:
        """The decision, or why there is none."""
        ...

    @property
    def defects(self) -> Sequence[str]:
        """What is wrong with the message's form."""
        ...

    @property
    def milliseconds(self) -> Mapping[str, float]:
        """Time by stage."""
        ...


class MessageJudge(Protocol):
    """Whoever says what a message is."""

    async def judge(self, message: bytes) -> Judgement:
        """Judge a message as stored. May take its time and may raise: neither costs the message."""
        ...


@dataclass(frozen=True, slots=True)
class NotJudged:
    """The judgement where the judge failed."""

    verdict: Unscored
    defects: Sequence[str] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)


async def judgement_of(judge: MessageJudge, message: bytes, deadline_seconds: float) -> Judgement:
    """Ask a judge; one that fails or hangs leaves the message without a verdict.

    Args:
        judge: whom to ask.
        message: the message as stored.
        deadline_seconds: time within which the judge means to answer.

    Returns:
        Its judgement, or one that is `Unscored` with `timeout` or `error`.
    """
    try:
        async with asyncio.timeout(deadline_seconds + JUDGE_GRACE_SECONDS):
            return await judge.judge(message)
    except TimeoutError:
        log.error("the judge hangs", deadline_seconds=deadline_seconds)  # noqa: TRY400  nothing to trace
        return NotJudged(Unscored("timeout", NO_CHECKPOINT))
    except Exception as error:  # noqa: BLE001  a message is never lost because the judge failed
        log.error("no verdict", **describe(error))  # noqa: TRY400  a traceback may quote the message
        return NotJudged(Unscored("error", NO_CHECKPOINT))


def verdict_values(judgement: Judgement | None) -> dict[str, object]:
    """Return what a judge said as values for the log line about a message; None where it was not asked."""
    verdict = judgement.verdict if judgement else None
    scored = verdict if isinstance(verdict, Verdict) else None
    return {
        "label": scored.label.value if scored else None,
        "score": scored.score if scored else None,
        "points": scored.points if scored else None,
        "unscored": verdict.reason if isinstance(verdict, Unscored) else None,
        "checkpoint": verdict.checkpoint if verdict else None,
        "defects": list(judgement.defects) if judgement else [],
    }


async def off_loop(work: Callable[..., T], message: bytes, *arguments: object) -> T:
    """Do work on the bytes of a message, in a thread where it may take long."""
    if len(message) <= SMALL_BYTES:
        return work(message, *arguments)
    return await asyncio.to_thread(work, message, *arguments)
