"""Header blocks as the parser reads them: bytes to fields, and structured values to parameters.

Takes damaged headers the way mail readers do, in linear time. Called by `message`; what leaves on the wire is the business of
`headers`.
"""

import re
from urllib.parse import unquote_to_bytes

from spamd.mail.charsets import decode_text, decode_words

MAX_HEADER_BYTES = 65_536
"""Bytes of one header block that are read; fields beyond are ignored."""

MAX_STRUCTURED_BYTES = 2_048
_MAX_FIELD_BYTES = 16_384
_MAX_FIELDS = 1_000

_FIELD_START = re.compile(rb"([!-9;-~]+)[ \t]*:(.*)")
_COMMENT = re.compile(r"\([^()]*+\)")
_PARAMETER = re.compile(r";\s*(?:\([^()]*+\)\s*)*+([^=;\s]{1,80})\s*=\s*(?:\"((?:[^\"\\]|\\.)*+)\"?|([^;]*))")
_NAMES = frozenset({"name", "filename"})
"""Parameters for people: encoded words stand in them, against RFC 2047, and parentheses are part of them."""

_NUMBERS = frozenset(map(str, range(100)))


def split_head(content: bytes) -> tuple[bytes, bytes]:
    """Split a part into header block and body.

    The first empty line ends the header. A line that is no field ends it too, unless the next line is one: what follows a line
    without colon at the very start is body.
    """
    if content.startswith(b"\n"):
        return b"", content[1:]
    end = content.find(b"\n\n")
    head, body = (content, b"") if end < 0 else (content[:end], content[end + 2 :])
    position = 0
    for line in _lines(head):
        following = position + len(line) + 1
        if line[:1] not in b" \t" and not _FIELD_START.match(line):
            upcoming = head[following : following + 200].partition(b"\n")[0]
            if position == 0 or not _FIELD_START.match(upcoming):
                return content[:position], content[position:]
        position = following
    return head, body


def read_fields(head: bytes) -> tuple[dict[str, bytes], bool]:
    """Read the fields of a header block.

    Returns:
        Lower-case name -> raw value, unfolded, of the first copy of each field; and whether all of the block could be read.
    """
    is_sound = len(head) <= MAX_HEADER_BYTES
    fields: dict[str, bytes] = {}
    lines: list[bytes] = []
    for line in _lines(head):
        if line[:1] in b" \t" and lines:
            lines.append(line)
            continue
        _store(fields, lines)
        lines = [line] if _FIELD_START.match(line) else []
        is_sound = is_sound and (bool(lines) or not line)
    _store(fields, lines)
    return fields, is_sound


def _lines(head: bytes) -> list[bytes]:
    """Cut a header block into lines; of one that is too long only whole lines within the limit."""
    if len(head) > MAX_HEADER_BYTES:
        head = head[: max(head.rfind(b"\n", 0, MAX_HEADER_BYTES), 0)] or head[:MAX_HEADER_BYTES]
    return head.split(b"\n")


def _store(fields: dict[str, bytes], lines: list[bytes]) -> None:
    """Unfold one field and keep it if it is the first of its name."""
    if not lines or len(fields) >= _MAX_FIELDS:
        return
    match = _FIELD_START.match(lines[0])
    if match:
        value = b"".join([match[2], *lines[1:]])[:_MAX_FIELD_BYTES].strip()
        fields.setdefault(match[1].decode("ascii").lower(), value)


def read_structured(value: bytes) -> tuple[str, dict[str, str]]:
    """Read `token; name=value; ...` with RFC 2231 continuations and charsets, and without comments (RFC 5322 3.2.2)."""
    text = decode_text(value[:MAX_STRUCTURED_BYTES])[0]
    main = _COMMENT.sub("", text.partition(";")[0]).strip().lower()
    plain: dict[str, str] = {}
    pieces: dict[str, list[tuple[int, str, bool]]] = {}
    for name, quoted, bare in _PARAMETER.findall(text):
        base, star, rest = name.lower().partition("*")
        value_text = re.sub(r"\\(.)", r"\1", quoted) if quoted else (bare if base in _NAMES else _COMMENT.sub("", bare)).strip()
        if star:
            number = rest.rstrip("*")
            order = int(number) if number in _NUMBERS else 0
            pieces.setdefault(base, []).append((order, value_text, not number or rest.endswith("*")))
        elif base in _NAMES:
            plain.setdefault(base, decode_words(value_text.encode("utf-8", "replace")))
        else:
            plain.setdefault(base, value_text)
    plain.update({base: _join_pieces(found) for base, found in pieces.items()})
    return main, plain


def _join_pieces(pieces: list[tuple[int, str, bool]]) -> str:
    """Join the numbered pieces of an RFC 2231 parameter and decode them."""
    charset = ""
    content = b""
    for position, (_, text, is_extended) in enumerate(sorted(pieces, key=lambda piece: piece[0])):
        value = text
        if position == 0 and is_extended and text.count("'") >= 2:  # noqa: PLR2004  charset'language'value
            charset, _, value = text.split("'", 2)
        raw = value.encode("utf-8", "replace")
        content += unquote_to_bytes(raw) if is_extended else raw
    return decode_text(content, charset)[0]
