"""What the proxy adds to the log line about a message, and where a message came from.

`service.record` writes the line. Decides nothing. Called by `handler` and `session`.

Security: never content, subject, addresses or a client's host name; the only foreign text is the next hop's queue id, a word.
"""

import re
import time
from dataclasses import dataclass

from spamd.service.record import MessageRecord
from spamd.smtp.replies import Reply

NEXT_HOP_QUEUE_ID = re.compile(rb"(?i)(?:queued as|\bid=)\s*([a-z0-9][a-z0-9._-]{2,63})")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message came from, for the trace field and the log.

    Attributes:
        client: the client's address; empty where it has none.
        helo: the name it gave.
        protocol: `SMTP`, `ESMTP` or `ESMTPS`.
        receive_milliseconds: from DATA to the dot.
    """

    client: str
    helo: str
    protocol: str
    receive_milliseconds: float = 0.0


def record_of(queue_id: str, origin: Origin, num_bytes: int, num_recipients: int) -> MessageRecord:
    """Begin the record of a message that has just come to its end.

    Args:
        queue_id: our id for it, which its Received field bears too.
        origin: where it came from.
        num_bytes: its size on the wire, as received.
        num_recipients: recipients that the next hop accepted.
    """
    return MessageRecord(
        queue_id,
        origin.client,
        num_bytes,
        facts={"next_hop_queue_id": None, "num_recipients": num_recipients, "action": None},
        milliseconds={"receive": origin.receive_milliseconds},
        started=time.monotonic() - origin.receive_milliseconds / 1000,
    )


def write_record(record: MessageRecord, reply: Reply) -> None:
    """Write the line.

    Args:
        record: what was gathered.
        reply: what the client is told; names the next hop's id for the message where that took it.
    """
    next_hop_id = NEXT_HOP_QUEUE_ID.search(reply.wire) if reply.is_positive else None
    record.facts["next_hop_queue_id"] = next_hop_id[1].decode("ascii") if next_hop_id else None
    record.write(reply.code)
