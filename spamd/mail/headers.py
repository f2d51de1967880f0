"""Header fields as bytes: forged X-Spam-* out, ours in, the rest as it was.

Works on a message in wire form (dots still stuffed) or plain form, with any line ends, and never parses more than it must:
whatever is not one of the fields concerned leaves as it came, so that signatures survive. Where readers disagree about what ends
a line or the header, a forged field is removed if any of them would see it. Called by `service` and `smtp`.

Security: the message is hostile. Nothing of it stands in our fields; every pattern here takes linear time.
"""

import base64
import re
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache

from spamd.verdict import REQUIRED_POINTS, Label, Unscored, Verdict

_MAX_STARS = 50
_MAX_WORD = 64
_MAX_LINE = 78
_LONG_LINE = 900

# CR, LF and CRLF all end a line for some reader; a run of CR before LF is one end.
_LINE_END = rb"(?:\r*+\n|\r++)"
# On the wire a line's first dot goes away at the next hop, so that a name or a blank may stand behind one.
_FORGED = re.compile(
    rb"(\r*+)(?<![^\r\n])(?:\.?x-spam-(?!prev-)[!-9;-~]*+[ \t]*+:[^\r\n]*+(?:%(end)s\.?[ \t][^\r\n]*+)*+(%(end)s|\Z))++"
    % {b"end": _LINE_END},
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    rb"(?<![^\r\n])(\.?subject[ \t]*+:)([^\r\n]*+(?:%(end)s\.?[ \t][^\r\n]*+)*+)" % {b"end": _LINE_END}, re.IGNORECASE
)
_RECEIVED = re.compile(
    rb"(?<![^\r\n])\.?received[ \t]*+:([^\r\n]*+(?:%(end)s\.?[ \t][^\r\n]*+)*+)" % {b"end": _LINE_END}, re.IGNORECASE
)
_UNFIT = re.compile(r"[^A-Za-z0-9.:_+/-]")
_CONTINUES = (b" ", b"\t", b". ", b".\t")
_CUSHION = b"X-Spamd-Continued: the message began with the continuation of a line"
"""Takes up the first line of a message that begins with white space, which would otherwise fold into our last field."""


def prepend_fields(message: bytes, fields: bytes) -> bytes:
    """Put our fields before a message and take forged ones out.

    Args:
        message: the message, in wire or plain form.
        fields: whole header fields, each ended by CRLF, or each by LF for a message whose lines end so.

    Returns:
        The fields and the message; no byte of it is changed but for removed `X-Spam-*` fields (`X-Spam-Prev-*` stay).
    """
    rest = strip_fields(message)
    return b"".join((fields, _cushion(rest, b"\r\n" if fields.endswith(b"\r\n") else b"\n"), rest))


def strip_fields(message: bytes) -> bytes:
    """Take every `X-Spam-*` field out of the header, except `X-Spam-Prev-*`; the same object where there is none."""
    end = _header_end(message)
    header = message[:end]
    if b"x-spam-" not in header.lower():
        return message
    kept = _FORGED.sub(_remove, header)
    return message if len(kept) == len(header) else kept + message[end:]


def _cushion(message: bytes, line_end: bytes) -> bytes:
    """Return what must stand between a field of ours and a message: nothing, unless its first line would fold."""
    return _CUSHION + line_end if message.startswith(_CONTINUES) else b""


def line_end_of(message: bytes) -> bytes:
    """Return what ends the lines of a message, CRLF or LF, by its first line; CRLF where it has no line end."""
    first = message.find(b"\n")
    return b"\r\n" if first < 0 or message[first - 1 : first] == b"\r" else b"\n"


def header_block(message: bytes) -> bytes:
    """Return the header of a message with the empty line that ends it; all of a message that has no empty line."""
    end = _header_end(message)
    blank = next((blank for blank in (b"\r\n", b"\n") if message.startswith(blank, end)), b"")
    return message[: end + len(blank)]


def _remove(match: re.Match[bytes]) -> bytes:
    """Say what stays of a run of forged fields: as a rule nothing.

    Behind a bare CR they are the end of another line to readers to whom CR ends none; that line keeps its end.
    """
    carriage_returns, line_end = match[1], match[2]
    if not carriage_returns or (line_end and not line_end.endswith(b"\n")):
        return carriage_returns
    is_whole_line = match.start() == 0 or match.string[match.start() - 1 : match.start()] == b"\n"
    return b"" if is_whole_line else carriage_returns[:-1] + line_end


def _header_end(message: bytes) -> int:
    """Where the first empty line begins; the length of the message where there is none.

    A line that holds a bare CR is not empty: a forged field below it is in the header for most readers.
    """
    if message.startswith((b"\n", b"\r\n")):
        return 0
    wide = message.find(b"\n\r\n")
    narrow = message.find(b"\n\n", 0, wide + 1 if wide >= 0 else len(message))
    first = narrow if narrow >= 0 else wide
    return len(message) if first < 0 else first + 1


def verdict_fields(verdict: Verdict | Unscored, *, hostname: str, version: str) -> bytes:
    """Write our fields.

    Args:
        verdict: what is known about the message.
        hostname: name of this host.
        version: version of spamd.

    Returns:
        X-Spam-Checker-Version, -Flag (spam only), -Score, -Level and -Status, each ended by CRLF. A message without a verdict has
        neither flag, score nor level, and its status names the reason.
    """
    if isinstance(verdict, Unscored):
        scored, is_spam, points, probability = "", False, "0.0", ""
    else:
        is_spam = verdict.label is Label.SPAM
        value = verdict.points + 0.0
        points, probability = f"{value:.1f}", f" probability={verdict.score:.4f}"
        flag = "X-Spam-Flag: YES\r\n" if is_spam else ""
        scored = f"{flag}X-Spam-Score: {points}\r\nX-Spam-Level: {'*' * max(0, min(_MAX_STARS, int(value)))}\r\n"
    tests = ",".join(map(_word, verdict.tests))
    status = f"score={points} required={REQUIRED_POINTS:.1f} tests={tests}{probability} autolearn=no version={_word(version)}"
    checker = f"spamd {_word(version)} (checkpoint {_word(verdict.checkpoint)}) on {_word(hostname)}"
    fields = f"X-Spam-Checker-Version: {checker}\r\n{scored}X-Spam-Status: {'Yes' if is_spam else 'No'}, {status}\r\n"
    return fields.encode("ascii")


def received_field(*, client: str, helo: str, hostname: str, identifier: str, when: datetime, protocol: str) -> bytes:
    """Write our trace field (RFC 5321 4.4).

    Args:
        client: address of the client, `192.0.2.1` or `2001:db8::1`; empty where it has none (a Unix socket).
        helo: the name that the client gave in its greeting.
        hostname: name of this host.
        identifier: id of this instance, or of the message as `instance.number`; `count_passes` finds either by the instance.
        when: time of receipt, with its time zone.
        protocol: `SMTP`, `ESMTP` or `LMTP`.

    Returns:
        The field, ASCII, folded before column 78, ended by CRLF.
    """
    trace = _trace(client, helo, hostname, protocol)
    return f"{trace}\r\n id {_clean(identifier)};\r\n {_date(when.replace(microsecond=0))}\r\n".encode("ascii")


@lru_cache(maxsize=256)
def _trace(client: str, helo: str, hostname: str, protocol: str) -> str:
    """Write what our trace field begins with, folded; alike for all messages of a session and as a rule of a client."""
    address = f"IPv6:{client}" if ":" in client else client
    words = ["from", _word(helo) or "unknown", *[f"([{_word(address)}])"] * bool(client)]
    words += ["by", _word(hostname), "(spamd)", "with", _word(protocol)]
    lines = ["Received:"]
    for word in words:
        if len(lines[-1]) + len(word) + 1 < _MAX_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(f" {word}")
    return "\r\n".join(lines)


@lru_cache(maxsize=4)
def _date(when: datetime) -> str:
    """Write a date; many messages come in one second."""
    return format_datetime(when)


def _clean(text: str) -> str:
    """Cut a text from outside to one word that can break no field: printable ASCII without brackets, quotes and separators."""
    return _UNFIT.sub("?", text.strip("[]")[:_MAX_WORD])


_word = lru_cache(maxsize=256)(_clean)
"""The same for what comes again and again."""


def count_hops(message: bytes) -> int:
    """Count the Received fields in the header."""
    header = message[: _header_end(message)]
    return sum(1 for _ in _RECEIVED.finditer(header)) if b"received" in header.lower() else 0


def count_passes(message: bytes, identifier: str) -> int:
    """Count the Received fields that bear an id, whole or as the part before a dot: as often has the message been there."""
    own = _word(identifier).encode("ascii")
    if not own or own not in message:
        return 0
    bears = re.compile(rb"\bid\s+" + re.escape(own) + rb"(?![^.;\s])")
    return sum(1 for match in _RECEIVED.finditer(message, 0, _header_end(message)) if bears.search(match[1]))


def rewrite_subject(message: bytes, tag: str) -> bytes:
    """Put a tag before the subject, and keep the old subject in X-Spam-Prev-Subject.

    Args:
        message: the message, in wire or plain form.
        tag: the tag; other than ASCII it becomes an RFC 2047 encoded word.

    Returns:
        The message with its first Subject changed, or with a Subject of the tag alone where it has none; as it was where the
        subject bears the tag already.
    """
    tag = " ".join(tag.split())
    if not tag:
        return message
    match = _SUBJECT.search(message, 0, _header_end(message))
    if match is None:
        line_end = line_end_of(message)
        return b"".join((b"Subject: ", _encoded(tag, before_word=False), line_end, _cushion(message, line_end), message))
    old = match[2]
    if any(old.lstrip().startswith(_encoded(tag, before_word=before)) for before in (False, True)):
        return message
    line_end = b"\n" if message[match.end() : match.end() + 1] == b"\n" else b"\r\n"
    encoded = _encoded(tag, before_word=old.lstrip().startswith(b"=?"))
    space = b"" if old[:1] in (b" ", b"\t", b"\r", b"\n") else b" "
    fold = line_end if len(old) > _LONG_LINE and space == b"" and old[:1] in (b" ", b"\t") else b""
    new = b"".join((match[1], b" ", encoded, fold, space, old, line_end, b"X-Spam-Prev-Subject:", old))
    return b"".join((message[: match.start()], new, message[match.end() :]))


def _encoded(tag: str, *, before_word: bool) -> bytes:
    """Write a tag as it may stand in a header; the blank between two encoded words would vanish, so that it goes inside."""
    if tag.isascii() and tag.isprintable() and "=?" not in tag:
        return tag.encode("ascii")
    text = f"{tag} " if before_word else tag
    return b"=?utf-8?b?" + base64.b64encode(text.encode("utf-8", "replace")) + b"?="
