"""When a message arrived, or at least says that it was sent.

Reads two fields and no more. Called by `training.splits`, which parts mail by time. Security: hostile input; never raises.
"""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

from spamd.mail.fields import MAX_HEADER_BYTES, read_fields, split_head

_MAX_DATE = 100
_NEWLINE = re.compile(rb"\r\n?")


def arrival(raw: bytes) -> float | None:
    """Tell when a message arrived.

    The topmost Received field counts, which our own side wrote (RFC 5321, section 4.4); where there is none, the Date field,
    which its sender wrote as he liked.

    Args:
        raw: the message, headers first, any line ends.

    Returns:
        Seconds since 1970, UTC; None where no date can be read.
    """
    fields, _ = read_fields(split_head(_NEWLINE.sub(b"\n", raw[:MAX_HEADER_BYTES]))[0])
    received = fields.get("received", b"").rpartition(b";")[2]
    for value in (received, fields.get("date", b"")):
        try:
            moment = parsedate_to_datetime(value[:_MAX_DATE].decode("ascii", "replace").strip())
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
