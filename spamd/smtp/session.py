"""One client's SMTP session.

Carried by aiosmtpd, of which it replaces what loses or alters mail: the command loop (raw lines, strict line ends), MAIL and RCPT
(which are the next hop's to judge), DATA (read as one piece, in wire form), errors (temporary, and nothing leaks), end of file (a
client that says QUIT early and half-closes still gets its message through, once) and the timer (silent while a message is being
filtered). Decides nothing about messages. Made by `server`, one per connection.

Security: everything from the client is hostile and bounded in size, time and number of errors. AUTH is not offered. Nothing that
came in plain text before TLS counts afterwards, commands that were slipped in behind STARTTLS least of all (CVE-2011-0411).
"""

import asyncio
import ssl
import time
from collections import defaultdict
from typing import cast

import structlog
from aiosmtpd.smtp import SMTP

from spamd.config import SmtpSettings
from spamd.service.memory import Memory
from spamd.smtp import replies
from spamd.smtp.bell import Patience
from spamd.smtp.commands import Commands
from spamd.smtp.handler import MessageHandler, report
from spamd.smtp.limits import LEAST_BYTES, Admission, Intake
from spamd.smtp.next_hop import NextHop
from spamd.smtp.outbox import Outbox
from spamd.smtp.proxy_protocol import Peer
from spamd.smtp.record import Origin
from spamd.smtp.replies import Reply, reply_to
from spamd.smtp.tls import HANDSHAKE_SECONDS, encrypted, reason_of
from spamd.smtp.transaction import CLOSING
from spamd.smtp.wire import CHUNK_BYTES, CRLF, LineTooLong, WireReader

log = structlog.get_logger(__name__)

MAX_COMMAND_BYTES = 8192
MAX_ERRORS = 20
WRONG_COMMAND = range(500, 510)
LINGER_SECONDS = 5.0


class FilterSMTP(SMTP):
    """One session.

    Args:
        settings: limits and timeouts.
        hostname: our name.
        next_hop: where mail goes on to.
        handler: takes the messages.
        admission: who may connect.
        memory: what all messages may hold together.
        outbox: where replies go out.
        client: who it is.
        is_announced: whether that is known from a load balancer in front, so that the next hop is told too.
        tls: what STARTTLS needs; None does not offer it.
    """

    line_length_limit = CHUNK_BYTES

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        hostname: str,
        next_hop: NextHop,
        handler: MessageHandler,
        admission: Admission,
        memory: Memory,
        outbox: Outbox,
        client: Peer,
        is_announced: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # aiosmtpd keeps these in one dictionary for all connections and clears it at each new one.
        self.command_size_limits = defaultdict(lambda: MAX_COMMAND_BYTES)
        super().__init__(None, hostname=hostname, enable_SMTPUTF8=True, loop=asyncio.get_running_loop())
        self.client = client.address
        self._settings = settings
        self._handler = handler
        self._admission = admission
        self._memory = memory
        self._outbox = outbox
        self._tls = tls
        self._commands = Commands(
            hostname,
            next_hop,
            settings.max_message_bytes,
            offers_tls=tls is not None,
            requires_tls=settings.tls_required and bool(self.client),
            announced=client if is_announced else None,
        )
        self._transaction = self._commands.transaction
        self._num_errors = 0
        self._patience = Patience(settings.command_timeout_seconds, self._lose_patience)
        self._is_busy = False
        self._is_ending = False
        self._is_dismissed = False

    @property
    def task(self) -> "asyncio.Task[None] | None":
        """What serves the session; None until the connection stands."""
        return self._handler_coroutine

    @property
    def _connection(self) -> asyncio.Transport | None:
        """The connection while it stands."""
        return cast("asyncio.Transport | None", self.transport)

    def dismiss(self) -> None:
        """Say 421 and end, at once or after the message in flight."""
        self._is_dismissed = True
        if not self._is_busy:
            self._say_goodbye(replies.SHUTTING_DOWN)

    def abort(self) -> None:
        """End at once, whatever is in flight."""
        if self.task:
            self.task.cancel()
        if self._connection:
            self._connection.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asyncio: a client is there."""
        super().connection_made(transport)
        self._wire = WireReader(cast("asyncio.Transport", transport))
        self._commands.is_encrypted = transport.get_extra_info("sslcontext") is not None

    def data_received(self, data: bytes) -> None:
        """Asyncio: the client says something."""
        self._wire.feed(data)

    def eof_received(self) -> bool:
        """Asyncio: the client will send no more. It may still wait for our reply, as Exim does after an early QUIT.

        Not so in TLS, which asyncio always ends in both directions; hence no PIPELINING there, without which Exim waits.
        """
        self._wire.feed_eof()
        return not self._commands.is_encrypted

    def connection_lost(self, error: Exception | None) -> None:
        """Asyncio: the client is gone. A message that the next hop may have taken already is seen through to its reply."""
        self._patience.end()
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self._wire.feed_eof()
        self.transport = None
        if self.task and not self._transaction.is_committed:
            self.task.cancel()

    def _reset_timeout(self, _duration: float | None = None) -> None:
        """Aiosmtpd, and we: the client has time again."""
        self._patience.renew()

    def _lose_patience(self) -> None:
        """The timer: perhaps the client said nothing, or read nothing, for too long."""
        if self._is_busy:
            self._patience.renew()
        else:
            self._say_goodbye(replies.IDLE)

    async def _handle_client(self) -> None:
        """Serve until the client leaves or is sent away."""
        refusal = self._admission.enter(self.client)
        try:
            if refusal:
                log.warning("client refused", client=self.client, reply=refusal.code, reason=refusal.wire.decode("ascii"))
            await self._say(refusal or Reply.of(f"220 {self.hostname} ESMTP spamd"))
            while not self._is_ending:
                await (self._say(replies.SHUTTING_DOWN) if self._is_dismissed else self._serve_command())
        except (ConnectionError, EOFError):
            log.debug("client gone", client=self.client)
        finally:
            self._transaction.abandon()
            self._close()
            # Of a connection that is lost within its handshake asyncio says nothing, and the timer would hold the session.
            self._patience.end()
            self._admission.leave(self.client)

    async def _serve_command(self) -> None:
        """Read one command and answer it."""
        self._patience.renew()
        try:
            line = await self._wire.read_line(MAX_COMMAND_BYTES)
        except LineTooLong:
            await self._say(replies.COMMAND_TOO_LONG)
            return
        command = line.removesuffix(b"\n").removesuffix(b"\r")
        is_bare = not line.endswith(CRLF) and self._settings.bare_newlines == "refuse"
        if is_bare or b"\r" in command or b"\0" in command:
            await self._say(replies.BAD_LINE)
            return
        reply = await self._answer(command)
        if reply is replies.START_TLS:
            await self._start_tls()
            return
        await self._say(reply)
        if self._wire.has_pending:
            # A client that sends a flood of commands in one piece must let the others have their turn.
            await asyncio.sleep(0)

    async def _start_tls(self) -> None:
        """Encrypt the session, which begins anew then (RFC 3207, section 4.2)."""
        connection, tls = self._connection, self._tls
        if connection is None or tls is None:
            return
        # From here on nothing is read in plain text any more, and what was read already shows a client that is not to be trusted.
        connection.pause_reading()
        if self._wire.has_pending:
            log.warning("commands behind STARTTLS", client=self.client)
            await self._say(replies.AFTER_STARTTLS)
            return
        await self._say(replies.START_TLS)
        self._outbox.flush()
        self._commands.begin_anew(is_encrypted=True)
        # Whoever ends the session within the handshake says nothing in plain text.
        self._is_ending = True
        try:
            connection = await encrypted(connection, self, tls, seconds=HANDSHAKE_SECONDS)
        except OSError as error:
            log.info("no TLS", client=self.client, reason=reason_of(error))
            return
        self._is_ending = False
        # Not a new reader: the first command may have come right behind the handshake.
        self.transport = connection
        self._wire.move_to(connection)
        self._writer = asyncio.StreamWriter(connection, self, self._reader, self.loop)

    async def _answer(self, command: bytes) -> Reply:
        """Answer a command, with a message where one follows."""
        try:
            reply = await self._commands.answer(command)
            if reply is replies.GO_AHEAD and not self._memory.has_room(LEAST_BYTES):
                await self._transaction.reset()
                return replies.NO_MEMORY
            if reply is replies.GO_AHEAD:
                # Not busy yet: a client that does not even read this is not waited for.
                await self._say(reply)
                self._is_busy = True
                reply = await self._take_message()
                self._is_busy = False
        except (ConnectionError, EOFError):
            raise
        except Exception as error:  # noqa: BLE001  whatever it is, the client keeps its message and tries again
            report(error)
            # Within a message nobody knows any more where the next command begins.
            self._is_ending = self._is_busy
            self._transaction.fail()
            return reply_to(error)
        return reply

    async def _say(self, reply: Reply) -> None:
        """Send a reply; 421 is the last one, and a client that makes too many errors gets it.

        A client may be gone by then, where its message was seen through; uvloop has no error of this class for a write.
        """
        if reply.code in WRONG_COMMAND:
            self._num_errors += 1
            reply = replies.TOO_MANY_ERRORS if self._num_errors > MAX_ERRORS else reply
        self._is_ending = self._is_ending or reply is replies.BYE or reply.code == CLOSING
        connection = self._connection
        if connection is None:
            raise ConnectionResetError
        self._outbox.send(connection, reply.clean().wire + CRLF)
        if connection.get_write_buffer_size():
            await self._writer.drain()

    def _say_goodbye(self, reply: Reply) -> None:
        """Send a last reply without waiting, and close."""
        if self._connection and not self._is_ending:
            self._outbox.send(self._connection, reply.wire + CRLF)
        self._is_ending = True
        self._close()

    def _close(self) -> None:
        """Close once all is sent; a client that does not read is not waited for."""
        if self._connection:
            self._outbox.flush()
            self._connection.close()
            if self._connection.get_write_buffer_size():
                self.loop.call_later(LINGER_SECONDS, self._connection.abort)

    async def _take_message(self) -> Reply:
        """Read a message and hand it on; the timer is silent meanwhile, for reading has clocks of its own."""
        intake = Intake(self._memory, self._settings.max_message_bytes)
        started = time.monotonic()
        try:
            wire = await intake.read(self._wire, self._settings.data_timeout_seconds)
            milliseconds = 1000 * (time.monotonic() - started)
            origin = Origin(self.client, self._commands.helo, self._commands.protocol, milliseconds)
            if wire is None:
                return await self._handler.refuse(intake.refusal, intake.num_bytes, origin, self._transaction)
            return await self._handler.handle(wire, origin, self._transaction)
        finally:
            intake.release()
