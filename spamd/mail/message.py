"""Raw bytes of a message to its parts, in bounded time and memory, whatever the bytes are.

Splits a message along MIME's lines (RFC 2045 to 2047, 2231) and names what is wrong with it by short words. It does not use the
standard library's parser: that recurses with the nesting of `message/rfc822`, tests every line against the boundary of every
enclosing part, and splits parameters in quadratic time, all of which a stranger can turn into minutes. Here each byte is
looked at a fixed number of times. It reads a copy only; nothing here ever writes a message.

Called by `text` and by nobody else. Security: all input is hostile; limits stand as constants below, and `parse_message` never
raises.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spamd.mail.charsets import decode_transfer, decode_words
from spamd.mail.fields import MAX_HEADER_BYTES, MAX_STRUCTURED_BYTES, read_fields, read_structured, split_head

MAX_PARSED_BYTES = 2 * 1024 * 1024
"""Bytes of a message that are parsed; the rest is ignored."""

MAX_PARTS = 200
MAX_DEPTH = 12


_TYPE = re.compile(r"[!-.0-~]+/[!-.0-~]+")
_LIKELY_BOUNDARY = re.compile(rb"(?:\A|\n)--([^\n]{0,199}[^\s])[ \t]*+\ncontent-", re.IGNORECASE)
_QUOTED_PRINTABLE = re.compile(rb"(?:=[0-9A-F]{2}){4}|=3D\"|=20\n")
_LOOKS_LIKE_HTML = re.compile(rb"<(?:html|body|table|div|font|p|br|a|img|head|meta)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One node of a message's tree of parts.

    Attributes:
        fields: lower-case field name -> raw value of its first copy, unfolded.
        content_type: type and subtype in lower case.
        parameters: parameters of Content-Type, decoded, names in lower case.
        disposition: `inline`, `attachment` or empty.
        filename: name that the sender gave it, or empty.
        encoded: the body as it stands in the message; empty where the part has children.
        children: parts of a multipart, or the one message inside `message/rfc822`.
    """

    fields: Mapping[str, bytes]
    content_type: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    disposition: str = ""
    filename: str = ""
    encoded: bytes = b""
    children: tuple["Part", ...] = ()

    @property
    def charset(self) -> str:
        """The charset that the part declares, or empty."""
        return self.parameters.get("charset", "")

    @property
    def content(self) -> bytes:
        """The body with its transfer encoding removed."""
        encoding = self.fields.get("content-transfer-encoding", b"")[:40].decode("ascii", "replace")
        return decode_transfer(self.encoded, encoding)

    def header(self, name: str, hint: str = "") -> str:
        """Decode a field for reading; empty where the part lacks it."""
        return decode_words(self.fields.get(name, b""), hint).strip()


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message.

    Attributes:
        raw: the bytes that were handed in, untouched.
        root: the outermost part.
        defects: what is wrong with it, sorted: `bad-header`, `bad-type`, `cut`, `depth`, `multipart-empty`, `no-boundary`,
            `no-header`, `nul`, `parts`, `unclosed`.
    """

    raw: bytes
    root: Part
    defects: tuple[str, ...]

    @property
    def charset(self) -> str:
        """The first charset that a part declares: what raw 8-bit header fields are probably written in."""
        return next((part.charset for part in walk(self.root) if part.charset), "")


def walk(part: Part) -> list[Part]:
    """List a part and everything below it, in the order of the message."""
    found = [part]
    for child in part.children:
        found += walk(child)
    return found


def parse_message(raw: bytes) -> Message:
    """Split a message into its parts.

    Args:
        raw: the message, headers first, with any line ends; a leading mbox `From ` line is skipped.

    Returns:
        The parts and the defects. Never raises.
    """
    parser = _Parser()
    copy = raw[:MAX_PARSED_BYTES]
    if len(raw) > MAX_PARSED_BYTES:
        parser.defects.add("cut")
    if b"\0" in copy:
        parser.defects.add("nul")
        copy = copy.replace(b"\0", b"")
    copy = copy.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if copy.startswith((b"From ", b">From ")):
        copy = copy.partition(b"\n")[2]
    root = parser.parse(copy, 0, "text/plain")
    return Message(raw, root, tuple(sorted(parser.defects)))


class _Parser:
    """Walks down the parts of one message, counting parts and noting defects."""

    def __init__(self) -> None:
        self.defects: set[str] = set()
        self.num_parts = 0

    def parse(self, content: bytes, depth: int, default_type: str) -> Part:
        """Parse header and body of one part, and what the body holds."""
        self.num_parts += 1
        head, body = split_head(content)
        if not head and depth == 0:
            self.defects.add("no-header")
        fields, is_sound = read_fields(head)
        if not is_sound:
            self.defects.add("bad-header")
        content_type, parameters = self._content_type(fields, default_type)
        disposition, options = read_structured(fields.get("content-disposition", b""))
        filename = (options.get("filename") or parameters.get("name") or "").strip()
        leaf = Part(fields, content_type, parameters, disposition, filename, body)
        if content_type.startswith("multipart/") or self._has_lost_its_type(leaf, depth):
            return self._multipart(leaf, depth)
        if content_type in {"message/rfc822", "message/global"}:
            return self._embedded(leaf, depth)
        return leaf

    def _content_type(self, fields: Mapping[str, bytes], default: str) -> tuple[str, dict[str, str]]:
        """Read Content-Type, falling back to the default as RFC 2045 5.2 asks."""
        if "content-type" not in fields:
            return default, {}
        name, parameters = read_structured(fields["content-type"])
        if not _TYPE.fullmatch(name):
            self.defects.add("bad-type")
            return "text/html" if name in {"html", "text/html"} else "text/plain", parameters
        return name, parameters

    @staticmethod
    def _has_lost_its_type(leaf: Part, depth: int) -> bool:
        """Whether a message without Content-Type is a multipart all the same: it begins with a delimiter and a part's header."""
        if depth or "content-type" in leaf.fields:
            return False
        return _LIKELY_BOUNDARY.match(leaf.encoded[:MAX_STRUCTURED_BYTES].lstrip()) is not None

    def _multipart(self, leaf: Part, depth: int) -> Part:
        """Split a multipart body at its boundary."""
        boundary = leaf.parameters.get("boundary", "").rstrip().encode("utf-8", "replace")
        pieces, is_closed = _split_at(leaf.encoded, boundary) if boundary else ([], True)
        if not pieces and (match := _LIKELY_BOUNDARY.search(leaf.encoded[:MAX_HEADER_BYTES])):
            self.defects.add("no-boundary")
            pieces, is_closed = _split_at(leaf.encoded, match[1])
        if not pieces:
            self.defects.add("multipart-empty")
            return _as_text(leaf)
        content_type = leaf.content_type if leaf.content_type.startswith("multipart/") else "multipart/alternative"
        if not is_closed:
            self.defects.add("unclosed")
        if depth >= MAX_DEPTH:
            self.defects.add("depth")
            return _as_text(leaf)
        default_type = "message/rfc822" if leaf.content_type == "multipart/digest" else "text/plain"
        children = []
        for piece in pieces:
            if self.num_parts >= MAX_PARTS:
                self.defects.add("parts")
                break
            children.append(self.parse(piece, depth + 1, default_type))
        return replace(leaf, content_type=content_type, encoded=b"", children=tuple(children))

    def _embedded(self, leaf: Part, depth: int) -> Part:
        """Parse the message inside a `message/rfc822` part."""
        if depth >= MAX_DEPTH or self.num_parts >= MAX_PARTS:
            self.defects.add("depth")
            return _as_text(leaf)
        inner = self.parse(leaf.content.lstrip(b"\n"), depth + 1, "text/plain")
        return replace(leaf, encoded=b"", children=(inner,))


def _as_text(leaf: Part) -> Part:
    """Read a container that cannot be split as the text that it is."""
    content_type = "text/html" if _LOOKS_LIKE_HTML.search(leaf.content[:MAX_HEADER_BYTES]) else "text/plain"
    fields = dict(leaf.fields)
    if _QUOTED_PRINTABLE.search(leaf.encoded[:MAX_HEADER_BYTES]):
        fields.setdefault("content-transfer-encoding", b"quoted-printable")
    return replace(leaf, fields=fields, content_type=content_type, disposition="", filename="")


def _split_at(body: bytes, boundary: bytes) -> tuple[list[bytes], bool]:
    """Cut a multipart body at its delimiter lines; also says whether the closing delimiter was there."""
    delimiter = b"\n--" + boundary
    content = b"\n" + body
    pieces: list[bytes] = []
    start = -1
    position = content.find(delimiter)
    while position >= 0 and len(pieces) < MAX_PARTS:
        after = position + len(delimiter)
        end = content.find(b"\n", after)
        end = len(content) if end < 0 else end
        tail = content[after:end].rstrip(b" \t")
        if tail in (b"", b"--"):
            if start >= 0:
                pieces.append(content[start:position])
            if tail:
                return pieces, True
            start = end + 1
        position = content.find(delimiter, end)
    if start >= 0 and len(pieces) < MAX_PARTS:
        pieces.append(content[start:])
    return pieces, False
