"""Several GPUs as one scorer: an engine on each, with a thread of its own, and every batch divided among them.

A GPU that is lost leaves the team as long as others are there; the last one goes on by the CPU, as a lone engine does. Blocking,
like every scorer, and to be called from one thread at a time. Built by `daemon`, where `scoring.device` says `cuda:all`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import structlog

from spamd.inference.dividing import put_together, shared_out
from spamd.inference.engine import Engine
from spamd.inference.scored import Scored

log = structlog.get_logger(__name__)


class Team:
    """Scores texts with several engines at once.

    Args:
        engines: at least one, all with the same checkpoint, each on a device of its own.
    """

    def __init__(self, engines: Sequence[Engine]) -> None:
        self._engines = list(engines)
        self._threads = ThreadPoolExecutor(len(engines), thread_name_prefix="scoring-gpu")

    @property
    def checkpoint(self) -> str:
        """Id of the checkpoint that all have loaded."""
        return self._engines[0].checkpoint

    @property
    def threshold(self) -> float:
        """Its operating point."""
        return self._engines[0].threshold

    @property
    def num_lanes(self) -> int:
        """One call at a time: it divides each among all."""
        return 1

    def estimate_tokens(self, text: str) -> int:
        """Tell roughly, and at no cost, how many tokens a text will take."""
        return self._engines[0].estimate_tokens(text)

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Score texts; the answer has their order.

        Raises:
            ScoringError: an engine computed something that is no score.
        """
        shares = shared_out([self.estimate_tokens(text) for text in texts], len(self._engines))
        answers = [
            self._threads.submit(engine.score, [texts[number] for number in share])
            for engine, share in zip(self._engines, shares, strict=False)
        ]
        # All of them, even where one fails: no engine may be asked again while it still computes.
        wait(answers)
        self._leave_out_the_lost()
        return put_together(shares, [answer.result() for answer in answers])

    def _leave_out_the_lost(self) -> None:
        """Go on without engines that have lost their GPU: on the CPU they would keep the others waiting."""
        sound = [engine for engine in self._engines if not engine.has_lost_gpu]
        if len(sound) < len(self._engines) and len(self._engines) > 1:
            log.error("scoring goes on with fewer GPUs", num_gpus=len(sound))
            self._engines = sound or self._engines[:1]
