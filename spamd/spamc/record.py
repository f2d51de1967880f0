"""The one log line about a message that came through this door; the proxy's is its model. Decides nothing. Called by `session`.

Security: never content, nor the `User` that a client names, which may be an address.
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
        command: what the client wanted.
        num_bytes: size of the message, unpacked.
        judgement: what the judge said; None where it was not asked.
        milliseconds: time by stage, added to the judge's own.
        started: when the connection stood.
    """

    queue_id: str
    client: str
    command: str = ""
    num_bytes: int = 0
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

    def write(self) -> None:
        """Write the line about a message that was judged."""
        judged = self.judgement.milliseconds if self.judgement else {}
        stages = {
            "receive": self.milliseconds.get("receive", 0.0),
            **judged,
            **self.milliseconds,
            "total": 1000 * (time.monotonic() - self.started),
        }
        log.info(
            "message",
            queue_id=self.queue_id,
            client=self.client,
            command=self.command,
            bytes=self.num_bytes,
            **verdict_values(self.judgement),
            reply=0,
            milliseconds={name: round(value, 2) for name, value in stages.items()},
        )

    def write_refusal(self, code: int, topic: str) -> None:
        """Write the line about a request that got an error.

        Args:
            code: the response code.
            topic: why, in words of our own.
        """
        log.warning("request refused", queue_id=self.queue_id, client=self.client, command=self.command, reply=code, reason=topic)
