"""The one log line about a message, and what goes into it.

Gathers facts while a message passes and writes them at the end: ids, sizes, the verdict, the reply and milliseconds by stage.
Decides nothing. Called by `handler` and `session`.

Security: never content, subject, addresses or a client's host name; the only foreign text is the next hop's queue id, a word.
"""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import structlog

from spamd.service.judge import Judgement, verdict_values
from spamd.smtp.replies import Reply
from spamd.verdict import Action

log = structlog.get_logger(__name__)

NEXT_HOP_QUEUE_ID = re.compile(rb"(?i)(?:queued as|\bid=)\s*([a-z0-9][a-z0-9._-]{2,63})")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, for the trace field and the log.

    Attributes:
        client: the client's address; empty where it has none.
        helo: the name it gave.
        protocol: `SMTP` or `ESMTP`.
        receive_milliseconds: from DATA to the dot.
    """

    client: str
    helo: str
    protocol: str
    receive_milliseconds: float = 0.0


@dataclass(slots=True)
class MessageRecord:
    """What the log will say about a message.

    Attributes:
        queue_id: our id for it, which its Received field bears too.
        origin: where it came from.
        num_bytes: its size on the wire, as received.
        num_recipients: recipients that the next hop accepted.
        judgement: what the judge said; None where it was not asked.
        action: what was done; None where it did not come to that.
        milliseconds: time by stage, added to the judge's own.
        started: when its last byte was here.
    """

    queue_id: str
    origin: Origin
    num_bytes: int
    num_recipients: int
    judgement: Judgement | None = None
    action: Action | None = None
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

    def write(self, reply: Reply) -> None:
        """Write the line.

        Args:
            reply: what the client is told.
        """
        next_hop_id = NEXT_HOP_QUEUE_ID.search(reply.wire) if reply.is_positive else None
        log.info(
            "message",
            queue_id=self.queue_id,
            client=self.origin.client,
            next_hop_queue_id=next_hop_id[1].decode("ascii") if next_hop_id else None,
            bytes=self.num_bytes,
            num_recipients=self.num_recipients,
            **verdict_values(self.judgement),
            action=self.action.value if self.action else None,
            reply=reply.code,
            milliseconds={name: round(value, 2) for name, value in self._stages().items()},
        )

    def _stages(self) -> dict[str, float]:
        """Time by stage, in order."""
        received = self.origin.receive_milliseconds
        judged = self.judgement.milliseconds if self.judgement else {}
        total = received + 1000 * (time.monotonic() - self.started)
        return {"receive": received, **judged, **self.milliseconds, "total": total}
