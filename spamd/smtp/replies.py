"""Every reply that the proxy gives in its own name, and what each error means to a client.

The next hop's replies pass through and are not here. All of it is ASCII, and nothing a client sent is ever quoted back. A wrong
5xx loses mail and a wrong 4xx does not: whatever goes wrong on our side of the wire, or is not proven to be the message's own
fault, is 4xx. Called by all of `smtp`.

Security: texts tell a client what to do, never what broke inside.
"""

from dataclasses import dataclass
from typing import Self

from spamd import errors

MAX_REPLY_LINES = 100


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply.

    Attributes:
        code: its three digits.
        wire: all of its lines as sent, joined by CRLF, without the last CRLF.
    """

    code: int
    wire: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """Make a reply of its text: code, space, words."""
        return cls(int(text[:3]), text.encode("ascii"))

    @classmethod
    def of_lines(cls, code: int, texts: list[str]) -> Self:
        """Make a reply of several lines, given without code."""
        lines = [f"{code}-{text}" for text in texts[:-1]] + [f"{code} {texts[-1]}"]
        return cls(code, "\r\n".join(lines).encode("ascii"))

    @property
    def is_positive(self) -> bool:
        """Whether it says yes (2xx)."""
        return 200 <= self.code < 300  # noqa: PLR2004  the classes of RFC 5321 4.2.1

    @property
    def is_refusal(self) -> bool:
        """Whether it says no, for now (4xx) or for good (5xx)."""
        return self.code >= 400  # noqa: PLR2004

    def clean(self) -> "Reply":
        """Return it fit to be passed on: printable ASCII alone, the code and the division into lines unchanged."""
        if not self.wire.translate(None, _FINE):
            return self
        return Reply(self.code, b"\r\n".join(line.translate(_PRINTABLE) for line in self.wire.split(b"\r\n")))


_PRINTABLE = bytes(value if 32 <= value < 127 else ord("?") for value in range(256))  # noqa: PLR2004  printable ASCII

_FINE = bytes(range(32, 127))

# Commands.
OK = Reply.of("250 2.0.0 OK")
BYE = Reply.of("221 2.0.0 Bye")
START_TLS = Reply.of("220 2.0.0 Ready to start TLS")
GO_AHEAD = Reply.of("354 End data with <CR><LF>.<CR><LF>")
HELP = Reply.of("214 2.0.0 HELO EHLO MAIL RCPT DATA RSET NOOP QUIT XFORWARD VRFY HELP")
CANNOT_VERIFY = Reply.of("252 2.5.0 Cannot verify; send the message and it will be tried")
UNKNOWN_COMMAND = Reply.of("500 5.5.2 Command not recognised")
NOT_IMPLEMENTED = Reply.of("502 5.5.1 Command not implemented")
COMMAND_TOO_LONG = Reply.of("500 5.5.2 Command line too long")
BAD_LINE = Reply.of("500 5.5.2 Command lines end in CRLF and hold neither CR, LF nor NUL")
NO_ARGUMENT = Reply.of("501 5.5.4 This command takes no argument")
HOSTNAME_MISSING = Reply.of("501 5.5.4 Give your host name")
ARGUMENT_MISSING = Reply.of("501 5.5.4 This command needs an argument")
MAIL_SYNTAX = Reply.of("501 5.5.4 Syntax: MAIL FROM:<address> [parameters]")
RCPT_SYNTAX = Reply.of("501 5.5.4 Syntax: RCPT TO:<address> [parameters]")

# Order of commands.
NEED_HELO = Reply.of("503 5.5.1 Send EHLO or HELO first")
NEED_TLS = Reply.of("530 5.7.0 Send STARTTLS first")
ENCRYPTED_ALREADY = Reply.of("503 5.5.1 TLS is active already")
NEED_MAIL = Reply.of("503 5.5.1 Send MAIL first")
NESTED_MAIL = Reply.of("503 5.5.1 A transaction is already open")
NO_RECIPIENTS = Reply.of("554 5.5.1 No valid recipients")
NO_RECIPIENTS_NOW = Reply.of("450 4.5.1 No recipient was accepted for now")
NOT_WITHIN_TRANSACTION = Reply.of("503 5.5.1 Not within a transaction")
TRANSACTION_LOST = Reply.of("451 4.5.1 This transaction has failed; start again later")
ONE_RECIPIENT_AT_A_TIME = Reply.of("452 4.5.3 One recipient at a time; send the others again")

# The session.
NOT_ALLOWED = Reply.of("421 4.7.1 This server serves only clients that its allowed_clients names")
TOO_MANY_CONNECTIONS = Reply.of("421 4.7.0 Too many connections from your address; try again later")
NOT_SMTP = Reply.of("421 4.7.0 This is no web server; goodbye")
TOO_MANY_ERRORS = Reply.of("421 4.7.0 Too many errors; goodbye")
SHUTTING_DOWN = Reply.of("421 4.3.2 Service is restarting; try again soon")
AFTER_STARTTLS = Reply.of("421 4.7.0 Nothing may follow STARTTLS before its answer")
IDLE = Reply.of("421 4.4.2 Nothing was said for too long")
DATA_TOO_SLOW = Reply.of("421 4.4.2 The message came too slowly")
DATA_TOO_LONG = Reply.of("421 4.3.1 The message does not end")

# The message.
TOO_BIG = Reply.of("552 5.3.4 Message is larger than this server takes")
NO_MEMORY = Reply.of("452 4.3.1 Too much mail at once; try again later")
BARE_NEWLINE = Reply.of("550 5.5.2 Message holds a CR or LF that is not part of CRLF")
LOOP = Reply.of("554 5.4.6 Message has been here or on too many hops before; a mail loop")
SPAM = Reply.of("554 5.7.1 Message refused as spam")
DEFERRED = Reply.of("451 4.7.1 Message could not be judged now; try again later")
QUARANTINE_FAILED = Reply.of("451 4.3.0 Message could not be put in quarantine now; try again later")

# What went wrong on our side.
INTERNAL_ERROR = Reply.of("451 4.3.0 Internal error; try again later")
MISCONFIGURED = Reply.of("451 4.3.5 Server is not configured properly; try again later")
NEXT_HOP_LOST = Reply.of("451 4.4.2 The next mail server cannot be reached or fell silent; try again later")

REPLIES: dict[type[errors.SpamdError], Reply] = {
    errors.SpamdError: INTERNAL_ERROR,
    errors.ConfigError: MISCONFIGURED,
    errors.PluginError: MISCONFIGURED,
    errors.UnknownNameError: MISCONFIGURED,
    errors.DuplicateNameError: MISCONFIGURED,
    errors.DatasetError: INTERNAL_ERROR,
    errors.CheckpointError: MISCONFIGURED,
    errors.FetchError: INTERNAL_ERROR,
    errors.TrainingError: INTERNAL_ERROR,
    errors.ScoringError: DEFERRED,
    errors.ScoringTimeout: DEFERRED,
    errors.RelayError: NEXT_HOP_LOST,
}
"""Reply of each error class; a test walks the tree so that none is missing. All of them are temporary."""


def reply_to(error: BaseException) -> Reply:
    """Choose the reply for an error that stopped a command.

    Args:
        error: what was raised; one that is no `SpamdError` counts as internal.

    Returns:
        A temporary refusal, which makes the client try again.
    """
    return REPLIES.get(type(error), INTERNAL_ERROR) if isinstance(error, errors.SpamdError) else INTERNAL_ERROR
