"""Our own client towards the next hop.

Sends command lines and messages as the very bytes it is given, since smtplib and aiosmtplib both rewrite addresses
(`a,b@c.d` becomes `<a>`), and keeps replies with all their lines. Speaks SMTP and LMTP, waits for each reply before it sends on,
and never tries anything twice. Knows nothing of sessions or verdicts. Called by `next_hop` and `transaction`.

Security: the next hop is trusted to deliver mail, not to be well: replies are bounded in size and time, a reply that comes
unasked ends the connection, and a message that could end early on the wire is not sent.
"""

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from spamd.errors import RelayError
from spamd.smtp.bell import Bell
from spamd.smtp.outbox import Outbox
from spamd.smtp.replies import MAX_REPLY_LINES, Reply
from spamd.smtp.tls import encrypted
from spamd.smtp.wire import CRLF, END

MAX_REPLY_BYTES = 65_536
SLICE_BYTES = 262_144
REPLY_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -]).*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long we wait for the next hop, in seconds: for a connection, for the reply to a command, for the reply to the dot."""

    connect_seconds: float = 5.0
    command_seconds: float = 30.0
    dot_seconds: float = 300.0


class Connection(asyncio.Protocol):
    """One connection to the next hop.

    Args:
        where: its address, for error texts.
        timeouts: how long to wait.
        outbox: where commands and messages go out.

    Attributes:
        capabilities: what its EHLO announced: keyword in upper case -> parameters.
        num_messages: messages that it took.
        is_lost: whether nothing can be sent any more.
        was_closed: whether it was the next hop that ended it.
        was_kept: whether it has waited between messages, when the next hop may have given it up.
        has_sent_dot: whether a message has been sent to its end and its reply has not come yet.
        idle_since: when it was last used, on the loop's clock.
    """

    def __init__(self, where: str, timeouts: Timeouts, outbox: Outbox) -> None:
        self.capabilities: Mapping[str, str] = {}
        self.num_messages = 0
        self.is_lost = False
        self.was_closed = False
        self.was_kept = False
        self.has_sent_dot = False
        self.idle_since = 0.0
        self._where = where
        self._timeouts = timeouts
        self._outbox = outbox
        self._arrived = bytearray()
        self._is_paused = False
        self._is_in_message = False
        self._bell = Bell()
        self._transport: asyncio.Transport | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it is open and nothing has come unasked, a pending 421 for one."""
        return not self.is_lost and not self._arrived

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: the connection stands."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Asyncio: bytes came."""
        self._arrived += data
        if len(self._arrived) > MAX_REPLY_BYTES:
            self.abort()
        self._bell.ring()

    def connection_lost(self, _error: Exception | None) -> None:
        """Asyncio: it is over, because of an end of file or an error."""
        self.was_closed = not self.is_lost
        self.is_lost = True
        self._bell.close()
        self._bell.ring()

    def pause_writing(self) -> None:
        """Asyncio: the other side reads more slowly than we write."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """Asyncio: there is room again."""
        self._is_paused = False
        self._bell.ring()

    def close(self) -> None:
        """Say goodbye and close, or close at once within a message, where a command would be content."""
        if self._is_in_message:
            self.abort()
        elif self._transport and not self.is_lost:
            self._outbox.send(self._transport, b"QUIT\r\n")
            self._outbox.flush()
            self._transport.close()
        self.is_lost = True

    def abort(self) -> None:
        """Close at once and drop what was not sent, so that no message can be taken for whole."""
        self.is_lost = True
        if self._transport:
            self._transport.abort()

    async def greet(self) -> None:
        """Take the greeting.

        Raises:
            RelayError: the next hop does not want to talk to us.
        """
        greeting = await self.read_reply("our connection", self._timeouts.command_seconds)
        if not greeting.is_positive:
            raise self.failure(f"refused our connection with {greeting.code}; look into its log", greeting)

    async def introduce(self, verb: bytes, hostname: str) -> None:
        """Say who we are and learn the capabilities.

        Args:
            verb: EHLO or LHLO.
            hostname: our name.

        Raises:
            RelayError: the next hop does not want to talk to us.
        """
        reply = await self.command(verb + b" " + hostname.encode("ascii", "replace"))
        if not reply.is_positive:
            raise self.failure(f"refused {verb.decode()} with {reply.code}; check smtp.next_hop_protocol", reply)
        self.capabilities = _capabilities(reply)

    async def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Encrypt from here on; what was learnt in plain text is forgotten (RFC 3207, section 4.2).

        Args:
            context: says whom to trust.
            name: the name that the next hop's certificate must bear.

        Raises:
            RelayError: more came in plain text than the answer to STARTTLS; somebody in between may have put it there.
            OSError: no encryption came about; nothing may be sent any more.
        """
        if self._arrived or self._transport is None:
            raise self.failure("said more than its answer to STARTTLS")
        self.capabilities = {}
        self._transport = await encrypted(self._transport, self, context, seconds=self._timeouts.command_seconds, name=name)

    async def command(self, line: bytes) -> Reply:
        """Send one command and wait for its reply.

        Args:
            line: the whole line without CRLF; sent verbatim.

        Raises:
            RelayError: the connection is lost, silent or out of step; it is closed then.
        """
        verb = line.partition(b" ")[0].partition(b":")[0].decode("ascii", "replace").upper()
        self._write(line + CRLF, verb)
        return await self.read_reply(verb, self._timeouts.command_seconds)

    async def send(self, wire: bytes) -> Reply:
        """Send a message, from DATA to the reply to its dot.

        Args:
            wire: dot-stuffed, ends in CRLF; the terminating dot is added here.

        Returns:
            The next hop's word on the message. Before it came, `has_sent_dot` told whether the message may have been taken.

        Raises:
            RelayError: no reply, or none that makes sense. The message must not be sent elsewhere then.
            ValueError: the message could end early on the wire.
        """
        if not wire.endswith(CRLF) or wire.startswith(END[2:]) or END in wire:
            raise ValueError("a message in wire form ends in CRLF and holds no line of a single dot")
        self._is_in_message = True
        reply = await self.command(b"DATA")
        if reply.is_refusal:
            self._is_in_message = False
            return reply
        if reply.code != 354:  # noqa: PLR2004  RFC 5321 4.1.1.4
            raise self.failure(f"answered DATA with {reply.code} instead of 354", reply)
        view = memoryview(wire)
        last = max(0, len(view) - SLICE_BYTES)
        for start in range(0, last, SLICE_BYTES):
            self._write(view[start : min(start + SLICE_BYTES, last)], "the message", is_first=start == 0)
            # Or the whole message would be out before the transport knows whether it is taken.
            self._outbox.flush()
            await self._drain()
            if self._arrived:
                return await self._refused_early()
        self.has_sent_dot = True
        self._write(b"".join((view[last:], END[2:])), "the message")
        reply = await self.read_reply("the end of the message", self._timeouts.dot_seconds)
        self.has_sent_dot = self._is_in_message = False
        self.num_messages += 1
        return reply

    async def read_reply(self, stage: str, seconds: float) -> Reply:
        """Wait for one reply.

        Args:
            stage: what it answers, for the error text.
            seconds: how long to wait for it.

        Raises:
            RelayError: it did not come or makes no sense; the connection is closed then.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._arrived or (reply := self._take_reply(stage)) is None:
            if self.is_lost:
                raise self.failure(f"closed the connection before it answered {stage}")
            if not await self._bell.wait(deadline):
                raise self.failure(f"did not answer {stage} within {seconds:g} s; check that it is not overloaded")
        self.idle_since = asyncio.get_running_loop().time()
        return reply

    def failure(self, what: str, reply: Reply | None = None) -> RelayError:
        """Close the connection and make the error that says why."""
        self.abort()
        return RelayError(f"The next hop {self._where} {what}.", reply.wire if reply else None)

    def _write(self, piece: bytes | memoryview, stage: str, *, is_first: bool = True) -> None:
        """Write, unless the other side has spoken out of turn: its word would be taken for the answer to this."""
        if self.is_lost or self._transport is None:
            raise self.failure(f"closed the connection before {stage} could be sent")
        if self._arrived and is_first:
            raise self.failure(f"spoke before {stage} was sent")
        self._outbox.send(self._transport, piece)

    async def _drain(self) -> None:
        """Wait until there is room to write on, or something else happened."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.command_seconds
        while self._is_paused and not self.is_lost and not self._arrived:
            if not await self._bell.wait(deadline):
                raise self.failure(f"read nothing of a message for {self._timeouts.command_seconds:g} s")

    async def _refused_early(self) -> Reply:
        """Take a refusal that came in the middle of a message; anything but a refusal makes no sense there."""
        reply = await self.read_reply("the message", self._timeouts.command_seconds)
        error = self.failure(f"answered {reply.code} in the middle of a message", reply)
        if reply.is_refusal:
            return reply
        raise error

    def _take_reply(self, stage: str) -> Reply | None:
        """Cut one whole reply off what has arrived; None where its end has not come yet."""
        lines: list[bytes] = []
        start = 0
        while (newline := self._arrived.find(b"\n", start)) >= 0:
            lines.append(bytes(self._arrived[start:newline]).removesuffix(b"\r"))
            start = newline + 1
            match = REPLY_LINE.fullmatch(lines[-1])
            if not match or match[1] != lines[0][:3] or len(lines) > MAX_REPLY_LINES:
                raise self.failure(f"answered {stage} with something that is no SMTP reply")
            if match[2] != b"-":
                del self._arrived[:start]
                return Reply(int(match[1]), CRLF.join(lines))
        return None


def _capabilities(reply: Reply) -> dict[str, str]:
    """Read an EHLO reply."""
    lines = [line[4:].decode("ascii", "replace").strip() for line in reply.wire.split(CRLF)[1:]]
    return {line.partition(" ")[0].upper(): line.partition(" ")[2].strip() for line in lines if line}
