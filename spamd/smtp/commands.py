"""The commands of one session, and the order in which they may come.

Answers every command line with one reply. MAIL, RCPT and XFORWARD are the next hop's to judge: the line goes on as it is and the
reply comes back; only what cannot be a command at all is refused here. Does not touch the connection to the client; reading a
message after DATA is `session`'s part. Called by `session`.

Security: lines are hostile, free of CR, LF and NUL, and bounded in length when they come here; none of them is quoted in a reply.
"""

import re
from collections.abc import Awaitable, Callable, Mapping

from spamd.smtp import replies
from spamd.smtp.next_hop import NextHop
from spamd.smtp.replies import Reply
from spamd.smtp.transaction import Phase, Transaction

PASSED_CAPABILITIES = (
    "8BITMIME",
    "SMTPUTF8",
    "DSN",
    "ENHANCEDSTATUSCODES",
    "REQUIRETLS",
    "DELIVERBY",
    "MT-PRIORITY",
    "XFORWARD",
)
"""What works through us because commands and messages pass unchanged; CHUNKING and BINARYMIME would not."""

MAIL_COMMAND = re.compile(rb"MAIL\s+FROM:\s*\S", re.IGNORECASE)
RCPT_COMMAND = re.compile(rb"RCPT\s+TO:\s*\S", re.IGNORECASE)
SIZE_PARAMETER = re.compile(rb"\sSIZE=(\d{1,20})(?:\s|$)", re.IGNORECASE)


class Commands:
    """What one client may say, and what it is told.

    Args:
        hostname: our name.
        next_hop: where mail goes on to.
        max_message_bytes: what EHLO announces at the most.

    Attributes:
        helo: the name the client gave; empty before it did.
        is_extended: whether it said EHLO.
        transaction: what it has open at the next hop.
    """

    def __init__(self, hostname: str, next_hop: NextHop, max_message_bytes: int) -> None:
        self.helo = ""
        self.is_extended = False
        self.transaction = Transaction(next_hop)
        self._hostname = hostname
        self._next_hop = next_hop
        self._max_message_bytes = max_message_bytes
        self._methods: dict[bytes, Callable[[bytes, str], Awaitable[Reply]]] = {
            b"HELO": self._helo,
            b"EHLO": self._ehlo,
            b"XFORWARD": self._xforward,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
        }

    async def answer(self, line: bytes) -> Reply:
        """Answer one command.

        Args:
            line: the whole line without its line end.

        Returns:
            The reply. `GO_AHEAD` means that a message may come now, `BYE` that the session is over.

        Raises:
            RelayError: the next hop is lost.
        """
        verb, _, argument = line.partition(b" ")
        method = self._methods.get(verb.upper())
        if method:
            return await method(line, argument.strip().decode("utf-8", "replace"))
        return SIMPLE_REPLIES.get(verb.upper(), replies.UNKNOWN_COMMAND)

    async def _helo(self, _line: bytes, argument: str) -> Reply:
        """Begin anew, plainly."""
        if not argument:
            return replies.HOSTNAME_MISSING
        await self.transaction.reset()
        self.helo, self.is_extended = argument, False
        return Reply.of(f"250 {self._hostname}")

    async def _ehlo(self, _line: bytes, argument: str) -> Reply:
        """Begin anew and announce what works from here to the next hop.

        A guess would lose mail: a client that is told of no SMTPUTF8 bounces. So a next hop that was never reached means 451.
        """
        if not argument:
            return replies.HOSTNAME_MISSING
        await self.transaction.reset()
        announced = announcement(await self._next_hop.capabilities(), self._max_message_bytes)
        self.helo, self.is_extended = argument, True
        return Reply.of_lines(250, [self._hostname, *announced])

    async def _xforward(self, line: bytes, argument: str) -> Reply:
        """Pass on what is known of the original client, which is legal between transactions alone."""
        if not argument:
            return replies.ARGUMENT_MISSING
        if self.transaction.phase is Phase.OPEN:
            return replies.NOT_WITHIN_TRANSACTION
        return await self.transaction.xforward(line)

    async def _mail(self, line: bytes, _argument: str) -> Reply:
        """Open a transaction at the next hop."""
        if not self.helo:
            return replies.NEED_HELO
        if self.transaction.phase is Phase.OPEN:
            return replies.NESTED_MAIL
        if not MAIL_COMMAND.match(line):
            return replies.MAIL_SYNTAX
        size = SIZE_PARAMETER.search(line)
        if size and int(size[1]) > self._max_message_bytes:
            return replies.TOO_BIG
        return await self.transaction.mail(line)

    async def _rcpt(self, line: bytes, _argument: str) -> Reply:
        """Add a recipient at the next hop."""
        if self.transaction.phase is not Phase.OPEN:
            return self._no_transaction()
        return await self.transaction.rcpt(line) if RCPT_COMMAND.match(line) else replies.RCPT_SYNTAX

    async def _data(self, _line: bytes, argument: str) -> Reply:
        """Let a message come where somebody will have it. The next hop hears of DATA only once the message is here."""
        if argument:
            return replies.NO_ARGUMENT
        if self.transaction.phase is not Phase.OPEN:
            return self._no_transaction()
        if self.transaction.num_recipients:
            return replies.GO_AHEAD
        return replies.NO_RECIPIENTS_NOW if self.transaction.has_deferred else replies.NO_RECIPIENTS

    async def _rset(self, _line: bytes, argument: str) -> Reply:
        """End the transaction."""
        if argument:
            return replies.NO_ARGUMENT
        await self.transaction.reset()
        return replies.OK

    def _no_transaction(self) -> Reply:
        """What a command is told that needs an open transaction.

        After a MAIL that failed for the moment, the rest of a pipelined transaction must not be refused for good.
        """
        return replies.TRANSACTION_LOST if self.transaction.phase is Phase.FAILED else replies.NEED_MAIL


SIMPLE_REPLIES = {
    b"NOOP": replies.OK,
    b"QUIT": replies.BYE,
    b"VRFY": replies.CANNOT_VERIFY,
    b"HELP": replies.HELP,
    b"EXPN": replies.NOT_IMPLEMENTED,
    b"AUTH": replies.NOT_IMPLEMENTED,
    b"STARTTLS": replies.NOT_IMPLEMENTED,
    b"BDAT": replies.NOT_IMPLEMENTED,
    b"TURN": replies.NOT_IMPLEMENTED,
    b"ETRN": replies.NOT_IMPLEMENTED,
}
"""Commands that are answered alike at any time."""


def announcement(capabilities: Mapping[str, str], max_message_bytes: int) -> list[str]:
    """Say what EHLO announces: what the next hop announces and what passes through us, and PIPELINING.

    Args:
        capabilities: of the next hop: keyword -> parameters.
        max_message_bytes: our own limit; the lower one is announced.

    Returns:
        The lines after the host name.
    """
    lines = ["PIPELINING"]
    if "SIZE" in capabilities:
        theirs = capabilities["SIZE"]
        has_limit = theirs.isdecimal() and int(theirs) > 0
        lines.append(f"SIZE {min(int(theirs), max_message_bytes) if has_limit else max_message_bytes}")
    return lines + [f"{keyword} {capabilities[keyword]}".strip() for keyword in PASSED_CAPABILITIES if keyword in capabilities]
