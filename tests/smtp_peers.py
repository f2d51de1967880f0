"""Who the proxy meets in tests besides the next hop: a client that sends raw bytes, and a judge that does as it is told."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from spamd.verdict import Unscored, Verdict

HAM = Verdict(score=0.01, threshold=0.5, checkpoint="2026-11-22-abcdef")
SPAM = Verdict(score=0.99, threshold=0.5, checkpoint="2026-11-22-abcdef")
UNSCORED = Unscored("timeout", "2026-11-22-abcdef")
VERDICTS = {"ham": HAM, "spam": SPAM, "unscored": UNSCORED}
REPLY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FixedJudgement:
    """A judgement as the filter makes them."""

    verdict: Verdict | Unscored
    defects: tuple[str, ...] = ()
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class FixedJudge:
    """A judge with one opinion.

    Attributes:
        verdict: the opinion.
        delay_seconds: how long it takes.
        error: what it raises instead.
        judged: the messages it was shown.
        num_cancelled: how often it was stopped while it thought.
        is_asked: set when a message comes.
    """

    verdict: Verdict | Unscored = HAM
    delay_seconds: float = 0.0
    error: Exception | None = None
    judged: list[bytes] = field(default_factory=list)
    num_cancelled: int = 0
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def judge(self, message: bytes) -> FixedJudgement:
        """Judge as told."""
        self.judged.append(message)
        self.is_asked.set()
        try:
            await asyncio.sleep(self.delay_seconds)
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        if self.error:
            raise self.error
        return FixedJudgement(self.verdict, ("no date",), {"extract": 0.5, "score": 1.5})


class Client:
    """A client that says exactly what it is told; an asynchronous context manager.

    Args:
        address: of the proxy.
        tls: TLS from the first byte, with whom to trust.
        name: the name that the proxy's certificate must bear.
        first: bytes to send before all else, a PROXY header for one.
    """

    def __init__(self, address: str, *, tls: ssl.SSLContext | None = None, name: str | None = None, first: bytes = b"") -> None:
        self._address, self._tls, self._name, self._first = address, tls, name, first

    async def __aenter__(self) -> Self:
        """Connect and read the greeting."""
        if self._address.startswith("unix:"):
            self.reader, self.writer = await asyncio.open_unix_connection(self._address.removeprefix("unix:"))
        else:
            host, _, port = self._address.rpartition(":")
            self.reader, self.writer = await asyncio.open_connection(
                host.strip("[]"),
                int(port),
                ssl=None if self._first else self._tls,
                server_hostname=None if self._first else self._name,
            )
        if self._first:
            self.writer.write(self._first)
            if self._tls:
                await self.writer.start_tls(self._tls, server_hostname=self._name)
        self.greeting = await self.reply()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def reply(self) -> bytes:
        """Read one reply, all of its lines; empty at the end of the connection."""
        reply = b""
        async with asyncio.timeout(REPLY_SECONDS):
            with contextlib.suppress(ConnectionError):
                while line := await self.reader.readline():
                    reply += line
                    if line[3:4] != b"-":
                        break
        return reply.removesuffix(b"\r\n")

    async def send(self, sent: bytes) -> None:
        """Send bytes."""
        self.writer.write(sent)
        await self.writer.drain()

    async def say(self, line: bytes) -> bytes:
        """Send one command line and return the reply."""
        await self.send(line + b"\r\n")
        return await self.reply()

    async def envelope(self, sender: bytes = b"sender@client.test", recipient: bytes = b"user@next-hop.test") -> bytes:
        """Say everything up to DATA and return the last reply: that to DATA, or the first refusal."""
        reply = b""
        for line in (b"EHLO client.test", b"MAIL FROM:<" + sender + b">", b"RCPT TO:<" + recipient + b">", b"DATA"):
            reply = await self.say(line)
            if reply[:1] not in b"23":
                break
        return reply

    async def submit(self, wire: bytes, **addresses: bytes) -> bytes:
        """Send a message in wire form and return the reply to its dot, or the first refusal."""
        reply = await self.envelope(**addresses)
        return await self.say(wire + b".") if reply.startswith(b"354") else reply


OUR_FIELDS = re.compile(
    rb"Received: .*\r\n(?: .*\r\n)*X-Spam-Checker-Version: .*\r\n(?:X-Spam-(?:Flag|Score|Level): .*\r\n)*X-Spam-Status: .*\r\n"
)


def below_our_fields(content: bytes) -> bytes:
    """Return what stands below the fields that the proxy puts in front."""
    return content[OUR_FIELDS.match(content).end() :]
