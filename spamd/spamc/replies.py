"""What clients are told, byte for byte as SpamAssassin's spamd writes it to each version of its protocol.

Clients are strict here: Exim scans for `SPAMD/x 0 EX_OK`, CRLF, `Spam:` (so that below 1.3 no Content-length may stand between),
Haraka wants exactly one decimal, amavis a Content-length that is true to the byte. Pure functions; called by `session`. The
message itself is `mail.headers`' work.
"""

from dataclasses import dataclass

from spamd.mail.headers import header_block, line_end_of, prepend_fields, rewrite_subject, verdict_fields
from spamd.spamc.protocol import Request, split_mbox_line
from spamd.verdict import REQUIRED_POINTS, Action, Label, Unscored, Verdict, action_for

PONG = b"SPAMD/1.5 0 PONG\r\n"
OK = b"SPAMD/1.1 0 EX_OK\r\n"
OLD_OK = b"SPAMD/1.0 0 EX_OK\r\n"

WITH_LENGTH = (1, 3)
WITH_HEADERS = (1, 2)


@dataclass(frozen=True, slots=True)
class Signature:
    """What our fields and reports bear besides the verdict.

    Attributes:
        hostname: our name.
        version: version of spamd.
        subject_tag: text put before the subject of spam; empty leaves subjects alone.
    """

    hostname: str
    version: str
    subject_tag: str = ""


def reply_to(message: bytes, request: Request, verdict: Verdict | Unscored, signature: Signature) -> bytes:
    """Write the reply about a message.

    Args:
        message: as it came, unpacked, mbox line and all.
        request: what the client wants, one of `JUDGING`.
        verdict: what is known about the message; one without a verdict is ham with 0.0 points.
        signature: what our fields bear besides.

    Returns:
        The whole reply.
    """
    spam = _spam_header(verdict, words=("Yes", "No") if request.command == "REPORT_IFSPAM" else ("True", "False"))
    match request.command:
        case "CHECK":
            return OK + spam + b"\r\n"
        case "PROCESS":
            return _with_message(request, spam, tagged(message, verdict, signature))
        case "HEADERS":
            return _with_message(request, spam, header_block(tagged(message, verdict, signature)))
        case "SYMBOLS":
            symbols = ",".join(verdict.tests).encode("ascii")
            return _with_text(request, spam, symbols if request.version >= WITH_LENGTH else symbols + b"\r\n")
        case _:
            is_wanted = request.command == "REPORT" or _is_spam(verdict)
            return _with_text(request, spam, report(verdict, signature) if is_wanted else b"")


def _is_spam(verdict: Verdict | Unscored) -> bool:
    """Tell whether clients are told that a message is spam; one without a verdict is ham."""
    return isinstance(verdict, Verdict) and verdict.label is Label.SPAM


def _points(verdict: Verdict | Unscored) -> str:
    """Write points with the one decimal that clients want."""
    return f"{verdict.points + 0.0:.1f}" if isinstance(verdict, Verdict) else "0.0"


def _spam_header(verdict: Verdict | Unscored, words: tuple[str, str]) -> bytes:
    """Write the `Spam:` header.

    Args:
        verdict: what is known about the message.
        words: what spam and ham are called.
    """
    word = words[0] if _is_spam(verdict) else words[1]
    return f"Spam: {word} ; {_points(verdict)} / {REQUIRED_POINTS:.1f}\r\n".encode("ascii")


def report(verdict: Verdict | Unscored, signature: Signature) -> bytes:
    """Write the report for people, laid out as SpamAssassin's."""
    points = _points(verdict)
    because = f"no verdict: {verdict.reason}" if isinstance(verdict, Unscored) else f"probability of spam {verdict.score:.4f}"
    lines = [
        f"Judged by spamd {signature.version} (checkpoint {verdict.checkpoint}) on {signature.hostname}.",
        "",
        f"Content analysis details:   ({points} points, {REQUIRED_POINTS:.1f} required)",
        "",
        " pts rule name              description",
        "---- ---------------------- --------------------------------------------------",
        *(f"{points:>4} {test:<22} {because}" for test in verdict.tests),
    ]
    return "".join(f"{line}\n" for line in lines).encode("ascii", "replace")


def tagged(message: bytes, verdict: Verdict | Unscored, signature: Signature) -> bytes:
    """Put our fields before a message, in its own line ends; forged ones go, and no other byte changes.

    An mbox line stays in front of everything, where whoever sent it looks for it.
    """
    mbox_line, message = split_mbox_line(message)
    fields = verdict_fields(verdict, hostname=signature.hostname, version=signature.version)
    fields = fields.replace(b"\r\n", line_end_of(message))
    if action_for(verdict, subject_tag=signature.subject_tag) is Action.REWRITE_SUBJECT:
        message = rewrite_subject(message, signature.subject_tag)
    return mbox_line + prepend_fields(message, fields)


def _with_text(request: Request, spam: bytes, text: bytes) -> bytes:
    """Join a reply that carries text."""
    length = b"Content-length: %d\r\n" % len(text) if request.version >= WITH_LENGTH else b""
    return b"".join((OK, length, spam, b"\r\n", text))


def _with_message(request: Request, spam: bytes, message: bytes) -> bytes:
    """Join a reply that carries a message: 1.2 has no `Spam:` yet, and older versions have no headers at all."""
    if request.version < WITH_HEADERS:
        return OLD_OK + message
    return b"".join(
        (OK, b"Content-length: %d\r\n" % len(message), spam if request.version >= WITH_LENGTH else b"", b"\r\n", message)
    )
