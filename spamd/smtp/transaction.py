"""One client session's dealings with the next hop: the state machine between MAIL and the reply to the dot.

Commands are passed on live and verbatim and the next hop's replies come back, so that refusals per recipient are exact. What went
wrong half-way stays wrong: once the next hop is lost, the rest of the transaction is refused for now. Does not read from the
client, look into messages or decide about them. Called by `session` and `handler`.

Security: a message is sent at most once, and never without the next hop having accepted every recipient that the client was told
it had.
"""

from enum import Enum, auto

from spamd.errors import RelayError
from spamd.smtp import replies
from spamd.smtp.next_hop import NextHop
from spamd.smtp.relay import Connection
from spamd.smtp.replies import Reply

CLOSING = 421


class Phase(Enum):
    """Where a transaction stands."""

    NONE = auto()
    OPEN = auto()
    FAILED = auto()
    """MAIL was refused for now, or the next hop was lost since: whatever the client still sends is refused for now too."""


class Transaction:
    """What one session has open at the next hop, one message after the other.

    Args:
        next_hop: where connections come from.

    Attributes:
        phase: where it stands.
        mail_line: the MAIL command as the client sent it.
        num_recipients: recipients that the next hop accepted.
        has_deferred: whether it refused one for now.
    """

    def __init__(self, next_hop: NextHop) -> None:
        self.phase = Phase.NONE
        self.mail_line = b""
        self.num_recipients = 0
        self.has_deferred = False
        self._next_hop = next_hop
        self._connection: Connection | None = None
        self._has_spoken = False

    @property
    def is_committed(self) -> bool:
        """Whether a message was sent to its end and the next hop's word on it is awaited: too late to stop."""
        return self._connection is not None and self._connection.has_sent_dot

    async def xforward(self, line: bytes) -> Reply:
        """Pass on what is known about the original client; it holds for the next transaction on the same connection.

        Raises:
            RelayError: the next hop is lost.
        """
        return await self._say(line)

    async def mail(self, line: bytes) -> Reply:
        """Open a transaction.

        Args:
            line: the client's MAIL command.

        Returns:
            The next hop's reply.

        Raises:
            RelayError: the next hop is lost; so is the transaction.
        """
        self.phase, self.mail_line, self.num_recipients, self.has_deferred = Phase.FAILED, line, 0, False
        reply = await self._say(line)
        if reply.is_positive:
            self.phase = Phase.OPEN
        elif reply.code >= 500:  # noqa: PLR2004  refused for good: there is no transaction
            self.phase = Phase.NONE
        if self._connection and not self._has_spoken:
            # Nothing is open at the next hop, so that the connection may serve others while this client thinks.
            self._next_hop.release(self._connection)
            self._connection = None
        return reply

    async def rcpt(self, line: bytes) -> Reply:
        """Add a recipient; an LMTP next hop, which answers per recipient in the end, gets one at a time.

        Raises:
            RelayError: the next hop is lost; so is the transaction.
        """
        if self._next_hop.is_lmtp and self.num_recipients:
            return replies.ONE_RECIPIENT_AT_A_TIME
        reply = await self._say(line)
        self.num_recipients += reply.is_positive
        self.has_deferred = self.has_deferred or 400 <= reply.code < 500  # noqa: PLR2004  RFC 5321 4.2.1
        return reply

    async def send(self, wire: bytes) -> Reply:
        """Send the message, and end the transaction whatever comes of it.

        Args:
            wire: the message in wire form.

        Returns:
            The next hop's final word.

        Raises:
            RelayError: there was none.
        """
        connection = self._connection
        if connection is None:
            raise RelayError("The next hop was lost before the message could be sent.")
        try:
            reply = await connection.send(wire)
        except BaseException:
            self.abandon()
            raise
        # Not before here: until then `is_committed` must find the connection.
        self._forget()
        if reply.is_positive:
            self._next_hop.release(connection)
            return reply
        # Over for the next hop too, but a connection with a refusal behind it is not worth keeping.
        connection.close()
        if not reply.is_refusal:
            raise _nonsense(reply)
        return reply

    async def redirect(self, wire: bytes, recipient: str) -> Reply:
        """Send the message to one recipient of ours in place of the client's.

        Args:
            wire: the message in wire form.
            recipient: its address.

        Returns:
            The next hop's final word, or its refusal of the sender or the recipient.

        Raises:
            RelayError: the next hop is lost.
        """
        has_dsn = self._connection is not None and "DSN" in self._connection.capabilities
        rcpt_line = f"RCPT TO:<{recipient}>{' NOTIFY=NEVER' if has_dsn else ''}".encode()
        for line in (b"RSET", self.mail_line, rcpt_line):
            reply = await self._say(line)
            if not reply.is_positive:
                self.abandon()
                return reply
        return await self.send(wire)

    async def reset(self) -> None:
        """End the transaction without a message and keep the connection where the next hop agrees."""
        connection, has_spoken = self._connection, self._has_spoken
        self._forget()
        if connection is None:
            return
        try:
            if not has_spoken or (await connection.command(b"RSET")).is_positive:
                self._next_hop.release(connection)
            else:
                connection.abort()
        except RelayError:
            connection.abort()
        except BaseException:
            connection.abort()
            raise

    def abandon(self) -> None:
        """End the transaction by closing the connection to the next hop, never with a dot."""
        if self._connection:
            self._connection.close()
        self._forget()

    def fail(self) -> None:
        """Close the connection to the next hop and remember that this transaction cannot succeed any more."""
        self.abandon()
        self.phase = Phase.FAILED

    async def _say(self, line: bytes) -> Reply:
        """Send a command on this transaction's connection and return the reply, a refusal included.

        Raises:
            RelayError: the next hop is lost, or says what makes no sense here; the transaction has failed.
        """
        try:
            reply = await self._exchange(line)
        except RelayError:
            self.fail()
            raise
        self._has_spoken = self._has_spoken or reply.is_positive
        if reply.code == CLOSING:
            self.fail()
        elif not (reply.is_positive or reply.is_refusal):
            self.fail()
            raise _nonsense(reply)
        return reply

    async def _exchange(self, line: bytes) -> Reply:
        """Send a command; a kept connection that proves to be closed at its first word is replaced, once."""
        if self._connection is None:
            self._connection = await self._next_hop.acquire()
        connection = self._connection
        may_be_stale = connection.was_kept and not self._has_spoken
        try:
            reply = await connection.command(line)
        except RelayError:
            if not (may_be_stale and connection.was_closed):
                raise
        else:
            if not (may_be_stale and reply.code == CLOSING):
                return reply
        connection.abort()
        self._connection = await self._next_hop.connect()
        return await self._connection.command(line)

    def _forget(self) -> None:
        """Be as new."""
        self.phase, self.mail_line, self.num_recipients, self.has_deferred = Phase.NONE, b"", 0, False
        self._connection, self._has_spoken = None, False


def _nonsense(reply: Reply) -> RelayError:
    """The error for a reply that says neither yes nor no."""
    return RelayError(f"The next hop answered {reply.code} where yes or no was asked; check smtp.next_hop.", reply.wire)
