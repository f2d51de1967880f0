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
from spamd.smtp.proxy_protocol import Peer
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
        offers_tls: whether the client may say STARTTLS.
        requires_tls: whether it must, before it sends mail.
        announced: the client, where a load balancer named it, so that the next hop would not know it.

    Attributes:
        helo: the name the client gave; empty before it did.
        is_encrypted: whether the session runs in TLS.
        transaction: what it has open at the next hop.
    """

    def __init__(
        self,
        hostname: str,
        next_hop: NextHop,
        max_message_bytes: int,
        *,
        offers_tls: bool = False,
        requires_tls: bool = False,
        announced: Peer | None = None,
    ) -> None:
        self.helo = ""
        self.is_encrypted = False
        self.transaction = Transaction(next_hop)
        self._hostname = hostname
        self._next_hop = next_hop
        self._max_message_bytes = max_message_bytes
        self._offers_tls = offers_tls
        self._requires_tls = requires_tls
        self._announced = announced
        self._is_extended = False
        self._has_forwarded = False
        self._methods: dict[bytes, Callable[[bytes, str], Awaitable[Reply]]] = {
            b"HELO": self._helo,
            b"EHLO": self._ehlo,
            b"XFORWARD": self._xforward,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"STARTTLS": self._starttls,
        }

    @property
    def protocol(self) -> str:
        """How mail comes in, in the words of a trace field (RFC 3848)."""
        return ("ESMTPS" if self.is_encrypted else "ESMTP") if self._is_extended else "SMTP"

    def begin_anew(self, *, is_encrypted: bool) -> None:
        """Forget what the client said so far."""
        self.helo, self._is_extended, self._has_forwarded = "", False, False
        self.is_encrypted = is_encrypted

    async def answer(self, line: bytes) -> Reply:
        """Answer one command.

        Args:
            line: the whole line without its line end.

        Returns:
            The reply. `GO_AHEAD` means that a message may come now, `START_TLS` that TLS begins behind it, `BYE` that the session
            is over.

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
        self.helo, self._is_extended = argument, False
        return Reply.of(f"250 {self._hostname}")

    async def _ehlo(self, _line: bytes, argument: str) -> Reply:
        """Begin anew and announce what works from here to the next hop.

        A guess would lose mail: a client that is told of no SMTPUTF8 bounces. So a next hop that was never reached means 451.
        """
        if not argument:
            return replies.HOSTNAME_MISSING
        await self.transaction.reset()
        capabilities = await self._next_hop.capabilities()
        announced = announcement(capabilities, self._max_message_bytes, is_encrypted=self.is_encrypted)
        self.helo, self._is_extended = argument, True
        return Reply.of_lines(250, [self._hostname, *announced, *["STARTTLS"] * (self._offers_tls and not self.is_encrypted)])

    async def _starttls(self, _line: bytes, argument: str) -> Reply:
        """Let TLS begin; what was open ends."""
        if not self._offers_tls:
            return replies.NOT_IMPLEMENTED
        if argument:
            return replies.NO_ARGUMENT
        if self.is_encrypted:
            return replies.ENCRYPTED_ALREADY
        await self.transaction.reset()
        return replies.START_TLS

    def _needs_tls(self) -> bool:
        """Tell whether the client must say STARTTLS before it sends mail."""
        return self._requires_tls and not self.is_encrypted

    async def _xforward(self, line: bytes, argument: str) -> Reply:
        """Pass on what is known of the original client, which is legal between transactions alone."""
        if self._needs_tls():
            return replies.NEED_TLS
        if not argument:
            return replies.ARGUMENT_MISSING
        if self.transaction.phase is Phase.OPEN:
            return replies.NOT_WITHIN_TRANSACTION
        reply = await self.transaction.xforward(line)
        self._has_forwarded = self._has_forwarded or reply.is_positive
        return reply

    async def _forward(self, client: Peer) -> None:
        """Tell the next hop, as far as it wants to know, who the client behind the load balancer is.

        Whatever it answers, the message goes on: it is about the log. A client that has said more itself is not contradicted.
        """
        has_forwarded, self._has_forwarded = self._has_forwarded, False
        wanted = (await self._next_hop.capabilities()).get("XFORWARD", "").upper().split()
        if has_forwarded or "ADDR" not in wanted or not client.address:
            return
        known = {"NAME": "[UNAVAILABLE]", "ADDR": xforward_address(client.address), "PORT": str(client.port)}
        attributes = " ".join(f"{name}={value}" for name, value in known.items() if name in wanted)
        await self.transaction.xforward(f"XFORWARD {attributes}".encode())

    async def _mail(self, line: bytes, _argument: str) -> Reply:
        """Open a transaction at the next hop."""
        if self._needs_tls():
            return replies.NEED_TLS
        if not self.helo:
            return replies.NEED_HELO
        if self.transaction.phase is Phase.OPEN:
            return replies.NESTED_MAIL
        if not MAIL_COMMAND.match(line):
            return replies.MAIL_SYNTAX
        size = SIZE_PARAMETER.search(line)
        if size and int(size[1]) > self._max_message_bytes:
            return replies.TOO_BIG
        if self._announced:
            await self._forward(self._announced)
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
    b"BDAT": replies.NOT_IMPLEMENTED,
    b"TURN": replies.NOT_IMPLEMENTED,
    b"ETRN": replies.NOT_IMPLEMENTED,
    b"GET": replies.NOT_SMTP,
    b"POST": replies.NOT_SMTP,
    b"CONNECT": replies.NOT_SMTP,
}
"""Commands that are answered alike at any time."""


def announcement(capabilities: Mapping[str, str], max_message_bytes: int, *, is_encrypted: bool = False) -> list[str]:
    """Say what EHLO announces: what the next hop announces and what passes through us, and PIPELINING.

    Args:
        capabilities: of the next hop: keyword -> parameters.
        max_message_bytes: our own limit; the lower one is announced.
        is_encrypted: whether the session runs in TLS. REQUIRETLS is for such alone (RFC 8689, section 2). PIPELINING is not:
            with it Exim says QUIT early and closes its side, after which asyncio sends nothing more through TLS, no reply either.

    Returns:
        The lines after the host name.
    """
    lines = [] if is_encrypted else ["PIPELINING"]
    if "SIZE" in capabilities:
        theirs = capabilities["SIZE"]
        has_limit = theirs.isdecimal() and int(theirs) > 0
        lines.append(f"SIZE {min(int(theirs), max_message_bytes) if has_limit else max_message_bytes}")
    passed = [word for word in PASSED_CAPABILITIES if word in capabilities and (is_encrypted or word != "REQUIRETLS")]
    return lines + [f"{keyword} {capabilities[keyword]}".strip() for keyword in passed]


def xforward_address(address: str) -> str:
    """Write an address as XFORWARD takes it."""
    return f"IPV6:{address}" if ":" in address else address
