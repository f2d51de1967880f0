"""One client's connection: a request in, a reply out, and a close that no reply is lost in.

Reads the request within its times and sizes, has the message judged, writes the reply in one piece and ends its own side, since
some clients read until then. What such a client still sends is read and dropped before the connection goes: closing with bytes
unread would reset it, and the reply might never arrive. Knows neither spellings (`protocol`) nor replies (`replies`). Made by
`server`, one per connection.

Security: everything from the client is hostile and bounded in size, time and memory.
"""

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from spamd.config import SpamcSettings
from spamd.service.judge import MessageJudge, judgement_of, off_loop
from spamd.service.listening import Neighbourhood
from spamd.service.logs import describe
from spamd.service.memory import Holding, Memory, Outcome
from spamd.service.record import MessageRecord
from spamd.spamc import replies
from spamd.spamc.protocol import (
    JUDGING,
    MAX_HEADERS,
    PROTOCOL,
    TIMEOUT,
    UNAVAILABLE,
    Refused,
    Request,
    read_command,
    read_headers,
    split_mbox_line,
    too_big,
    unpack,
)
from spamd.spamc.replies import Signature

T = TypeVar("T")

log = structlog.get_logger(__name__)

MAX_HEAD_BYTES = 65_536
CHUNK_BYTES = 65_536
LINGER_SECONDS = 5.0
COPIES = 3
"""A message in flight is held as it came, unpacked or without its mbox line, and in the reply."""

SHUTTING_DOWN = Refused(UNAVAILABLE, "shutting down")


@dataclass(frozen=True, slots=True)
class Policy:
    """What all sessions share.

    Attributes:
        settings: limits and timeouts.
        judge: says what a message is.
        neighbourhood: who may come in.
        memory: what all messages may hold together.
        signature: what our fields bear besides the verdict.
        deadline_seconds: time within which the judge means to answer.
    """

    settings: SpamcSettings
    judge: MessageJudge
    neighbourhood: Neighbourhood
    memory: Memory
    signature: Signature
    deadline_seconds: float


class Session:
    """One connection.

    Args:
        policy: shared by all sessions.
        reader: from the client.
        writer: to the client.
        record: of what the client brings, with its id and the client.

    Attributes:
        task: what serves it; done when it is over.
    """

    def __init__(self, policy: Policy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: MessageRecord) -> None:
        self._policy = policy
        self._reader = reader
        self._writer = writer
        self._record = record
        self._holding = Holding(policy.memory, policy.settings.max_message_bytes, COPIES)
        self._is_waiting = True
        self._is_answered = False
        self.task = asyncio.create_task(self._serve())
        # Not in the task itself: one that is cancelled before its first step does nothing.
        self.task.add_done_callback(lambda _: writer.close())

    def dismiss(self) -> None:
        """End a session that has brought no request yet, or has got its reply; the others finish."""
        if self._is_waiting and not self._writer.is_closing():
            self._writer.write(SHUTTING_DOWN.wire)
        if self._is_waiting or self._is_answered:
            self.task.cancel()

    def abort(self) -> None:
        """End at once."""
        self.task.cancel()
        self._writer.transport.abort()

    async def _serve(self) -> None:
        """Serve the one request of this connection."""
        try:
            self._stop_if_gone()
            # To wait for the buffer is then to wait until the system has taken all of it.
            self._writer.transport.set_write_buffer_limits(0)
            with structlog.contextvars.bound_contextvars(queue_id=self._record.queue_id):
                reply = await self._reply()
                self._holding.release()
                await self._send(reply)
        except OSError as error:
            log.info("client gone", queue_id=self._record.queue_id, client=self._record.client, **describe(error))
        finally:
            self._holding.release()

    def _stop_if_gone(self) -> None:
        """Raise what reading from a lost connection raises; writing to one is an error without a class of its own in uvloop."""
        if self._writer.is_closing():
            raise ConnectionResetError

    async def _reply(self) -> bytes:
        """Read the request and answer it, with an error where it cannot be."""
        try:
            return await self._answer()
        except Refused as refused:
            self._write_refusal(refused)
            return refused.wire
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001  a mistake of ours must not look like a verdict
            log.error("no reply", **describe(error))  # noqa: TRY400  a traceback may quote the message
            return Refused(UNAVAILABLE, "internal error").wire
        finally:
            self._is_waiting = False

    async def _answer(self) -> bytes:
        """Do what the client wants."""
        settings, record = self._policy.settings, self._record
        if record.client not in self._policy.neighbourhood:
            raise Refused(UNAVAILABLE, "this client is not in spamc.allowed_clients")
        with record.stage("receive"):
            request = await _in_time(self._read_head(), settings.command_timeout_seconds, "the request")
            self._is_waiting = False
            if request.command not in JUDGING:
                return self._answer_at_once(request)
            message = await _in_time(self._read_message(request), settings.message_timeout_seconds, "the message")
        return await self._judge(request, message)

    def _answer_at_once(self, request: Request) -> bytes:
        """Answer what needs no message; what may follow it is dropped unread."""
        if request.command == "PING":
            return replies.PONG
        if request.command == "TELL":
            raise Refused(UNAVAILABLE, "TELL commands are not enabled, train with spamd-admin retrain")
        # The client found the message too big to send, and wants no reply.
        log.info("message skipped by the client", client=self._record.client)
        return b""

    async def _judge(self, request: Request, message: bytes) -> bytes:
        """Have a message judged, and write the reply and the log line."""
        policy, record = self._policy, self._record
        record.num_bytes = len(message)
        _, judged = split_mbox_line(message)
        record.judgement = judgement = await judgement_of(policy.judge, judged, policy.deadline_seconds)
        del judged
        reply = await off_loop(replies.reply_to, message, request, judgement.verdict, policy.signature)
        record.write(0)
        return reply

    def _write_refusal(self, refused: Refused) -> None:
        """Write the log line about a request that got an error, in words of our own."""
        record = self._record
        command = record.facts["command"]
        log.warning(
            "request refused",
            queue_id=record.queue_id,
            client=record.client,
            command=command,
            reply=refused.code,
            reason=refused.topic,
        )

    async def _read_head(self) -> Request:
        """Read the command line and the headers."""
        request = read_command(await self._read_line())
        # Not the `User` that a client may name, which can be an address.
        self._record.facts["command"] = request.command
        lines: list[bytes] = []
        while request.has_headers:
            line = await self._read_line()
            if line in {b"\r\n", b"\n"}:
                return read_headers(request, lines)
            if not line.endswith(b"\n"):
                raise Refused(PROTOCOL, "(EOF during headers)")
            lines.append(line)
            if len(lines) > MAX_HEADERS or sum(map(len, lines)) > MAX_HEAD_BYTES:
                raise Refused(PROTOCOL, "(too many headers)")
        return request

    async def _read_line(self) -> bytes:
        """Read a line with its end; without one at the end of what the client sends."""
        try:
            return await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            return error.partial
        except asyncio.LimitOverrunError:
            raise Refused(PROTOCOL, "(line too long)") from None

    async def _read_message(self, request: Request) -> bytes:
        """Read the message: as many bytes as the client announced, or all that it sends."""
        length, max_bytes = request.length, self._policy.settings.max_message_bytes
        if length is not None and length > max_bytes:
            raise too_big(max_bytes)
        chunks: list[bytes] = []
        num_bytes = 0
        while length is None or num_bytes < length:
            chunk = await self._reader.read(CHUNK_BYTES if length is None else min(CHUNK_BYTES, length - num_bytes))
            if not chunk:
                break
            self._keep(len(chunk))
            num_bytes += len(chunk)
            chunks.append(chunk)
        if length is not None and num_bytes < length:
            raise Refused(PROTOCOL, f"(Content-Length mismatch: Expected {length} bytes, got {num_bytes} bytes)")
        message = b"".join(chunks)
        return await self._unpacked(message) if request.is_packed else message

    def _keep(self, num_bytes: int) -> None:
        """Count bytes that came.

        Raises:
            Refused: they are too many for one message, or others hold the memory.
        """
        outcome = self._holding.keep(num_bytes)
        if outcome is Outcome.TOO_BIG:
            raise too_big(self._policy.settings.max_message_bytes)
        if outcome is Outcome.NO_ROOM:
            raise Refused(UNAVAILABLE, "too much mail at once, try again")

    async def _unpacked(self, packed: bytes) -> bytes:
        """Unpack a message as far as it may go, with other sessions served meanwhile."""
        self._holding.count_anew()
        pieces = []
        for piece in unpack(packed):
            self._keep(len(piece))
            pieces.append(piece)
            await asyncio.sleep(0)
        return b"".join(pieces)

    async def _send(self, reply: bytes) -> None:
        """Send the reply and the end of our side, and see the client off."""
        settings = self._policy.settings
        try:
            async with asyncio.timeout(settings.reply_timeout_seconds):
                self._stop_if_gone()
                self._writer.write(reply)
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise
        self._writer.write_eof()
        self._is_answered = True
        if self._record.client not in self._policy.neighbourhood:
            return
        # To close with bytes unread would reset the connection, and the reply might be lost with it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(settings.message_timeout_seconds):
                while await asyncio.wait_for(self._reader.read(CHUNK_BYTES), LINGER_SECONDS):
                    pass


async def _in_time(reading: Awaitable[T], seconds: float, what: str) -> T:
    """Wait for something to be read, or refuse the request."""
    try:
        async with asyncio.timeout(seconds):
            return await reading
    except TimeoutError:
        raise Refused(TIMEOUT, f"({seconds:g} second timeout while reading {what})") from None
