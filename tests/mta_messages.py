"""Messages that mail servers and filters are known to stumble over, and what shows that they came through whole.

Used by `mta/`; every message ends its lines with CRLF and holds no field that a mail server would remove or add.
"""

import asyncio
import base64
import random
import re
from collections.abc import Iterable

from next_hop import NextHop, StoredMessage
from signing import sign

from spamd.smtp.wire import stuff

PATIENCE_SECONDS = 60.0

HEADER = (
    b"From: A <a@client.test>\r\nTo: b@next-hop.test\r\nSubject: x\r\n"
    b"Date: Sun, 22 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@client.test>\r\n"
)
TOP = HEADER + b"\r\n"
ATTACHED = (
    b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
    b"Content-Disposition: attachment; filename=big.bin\r\n\r\n"
)

MESSAGES = {
    "plain": TOP + b"body\r\n",
    "lines of dots": TOP + b".\r\n.a\r\n..b\r\n...\r\na.\r\n.\r\n",
    "empty lines": TOP + b"\r\n" * 50 + b"x\r\n\r\n\r\n",
    "5000-byte lines": TOP + (b"x" * 5000 + b"\r\n") * 3,
    "a 5000-byte field": HEADER + b"X-Long: " + b"y" * 5000 + b"\r\n\r\nbody\r\n",
    "NUL bytes": TOP + b"a\0b\0\0\r\n\0\r\n",
    "8-bit bytes": TOP + bytes(byte for byte in range(1, 256) if byte not in b"\r\n") + b"\r\n",
    "8-bit header": b"X-Odd: d\xe9j\xe0 vu \xf0\x9f\x92\xa9\r\n" + TOP + b"body\r\n",
    "empty body": TOP,
    "headers only": HEADER,
    "signed": sign(TOP + b".dots\r\n\r\n  d\xe9j\xe0  vu\r\n\r\n", (b"simple", b"simple")),
    "25 MB attachment": HEADER + ATTACHED + base64.encodebytes(random.Random(5).randbytes(18_500_000)).replace(b"\n", b"\r\n"),
}

RECEIVED = rb"Received: .*\r\n(?:[ \t].*\r\n)*"
OURS = (
    rb"Received: from .*\r\n(?:[ \t].*\r\n)*X-Spam-Checker-Version: .*\r\n(?:[ \t].*\r\n)*(?:X-Spam-[A-Z].*\r\n(?:[ \t].*\r\n)*)+"
)


def as_sent(content: bytes, *, behind: bytes = RECEIVED, before: bytes = RECEIVED) -> bytes:
    """Return what stands below the fields that mail servers and spamd put in front.

    Args:
        content: a message at the end of its way.
        behind: a pattern for what the server behind spamd put above our fields.
        before: a pattern for what the server before spamd put below them.
    """
    top = re.match(behind + OURS + before, content)
    assert top, content[:2000].decode(errors="replace")
    assert b"X-Spam-Checker-Version" not in content[top.end() : top.end() + 2000]
    return content[top.end() :]


def wire(message: bytes) -> bytes:
    """Return a message as it is sent between DATA and the final dot."""
    return stuff(message)


async def arrived(sink: NextHop, recipient: str, number: int = 1) -> list[StoredMessage]:
    """Wait until messages to a recipient have arrived.

    Args:
        sink: the end of the way.
        recipient: what the RCPT command must hold.
        number: how many.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(found := _sent_to(sink.messages, recipient.encode())) < number:  # noqa: ASYNC110  the sink tells nobody
            await asyncio.sleep(0.02)
    return found


def _sent_to(messages: Iterable[StoredMessage], recipient: bytes) -> list[StoredMessage]:
    """Return the messages to a recipient."""
    return [message for message in messages if any(recipient in line for line in message.recipients)]
