"""The one log line about a message, whatever the protocol that brought it: ids, size, the verdict, the reply, milliseconds.

Gathers facts while a message passes and writes them at the end. Decides nothing. Called by `smtp.handler` and `spamc.session`,
which add what their protocols know.

Security: never content, subject or addresses; whoever adds facts adds none of these.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from spamd.service.judge import Judgement, verdict_values

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class MessageRecord:
    """What the log will say about a message.

    Attributes:
        queue_id: our id for it.
        client: the client's address; empty where it has none.
        num_bytes: its size.
        facts: what the protocol knows besides, fit for the log.
        judgement: what the judge said; None where it was not asked.
        milliseconds: time by stage, added to the judge's own; `receive` comes first.
        started: when it began to come, on the monotonic clock.
    """

    queue_id: str
    client: str
    num_bytes: int = 0
    facts: dict[str, object] = field(default_factory=dict)
    judgement: Judgement | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.milliseconds[name] = 1000 * (time.monotonic() - started)

    def write(self, reply: int) -> None:
        """Write the line.

        Args:
            reply: the code that the client is told.
        """
        log.info(
            "message",
            queue_id=self.queue_id,
            client=self.client,
            bytes=self.num_bytes,
            **self.facts,
            **verdict_values(self.judgement),
            reply=reply,
            milliseconds={name: round(value, 2) for name, value in self._stages().items()},
        )

    def _stages(self) -> dict[str, float]:
        """Time by stage, in order."""
        judged = self.judgement.milliseconds if self.judgement else {}
        total = 1000 * (time.monotonic() - self.started)
        return {"receive": self.milliseconds.get("receive", 0.0), **judged, **self.milliseconds, "total": total}
