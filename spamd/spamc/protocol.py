"""What clients say, SPAMC 1.0 to 1.5: a command line, headers, an empty line, a message.

    PROCESS SPAMC/1.5
    Content-length: 1234

Reads lines and bytes that `session` brings, and knows no connection. Spellings that real clients differ in are all understood:
header names in any case, lines that end in a bare LF, a message without Content-length (it ends where the client's sending does),
a blank line too many behind it. Version 1.0 has no headers.

Security: everything is hostile. `session` bounds lines and their number; a packed message is unpacked in small pieces; what is
quoted back to a client is printable and short, and nothing of it is logged.
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MAX_HEADERS = 255
MAX_QUOTED = 100
PIECE_BYTES = 65_536

JUDGING = frozenset({"CHECK", "SYMBOLS", "REPORT", "REPORT_IFSPAM", "PROCESS", "HEADERS"})
COMMANDS = JUDGING | {"PING", "SKIP", "TELL"}

UNAVAILABLE = 69
PROTOCOL = 76
TIMEOUT = 79

NAMES = {UNAVAILABLE: "Service Unavailable", PROTOCOL: "Bad header line", TIMEOUT: "Timeout"}
"""The words behind each code, as SpamAssassin writes them."""

_COMMAND = re.compile(r"([A-Z_]+) SPAMC/(\d{1,3})\.(\d{1,3})")
_HEADER = re.compile(r"([^\s:]+):[ \t]*(.*)")


class Refused(Exception):  # noqa: N818  the name tells what happened
    """A request that gets an error instead of a reply.

    Args:
        code: the response code.
        reason: what is wrong; may quote the client.
        topic: the same in fixed words, for the log.
    """

    def __init__(self, code: int, reason: str, topic: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.topic = topic or reason

    @property
    def wire(self) -> bytes:
        """The one line that the client gets, which bears version 1.0 whatever the client speaks."""
        return f"SPAMD/1.0 {self.code} {NAMES[self.code]}: {self}\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants.

    Attributes:
        command: one of `COMMANDS`.
        version: of the protocol, as numbers.
        length: size of the message as sent; None where the client did not say.
        is_packed: whether the message is a zlib stream.
    """

    command: str
    version: tuple[int, int]
    length: int | None = None
    is_packed: bool = False

    @property
    def has_headers(self) -> bool:
        """Whether headers follow the command line."""
        return self.command in JUDGING and self.version > (1, 0)


def read_command(line: bytes) -> Request:
    """Read the command line.

    Args:
        line: with or without its end; empty where the client sent nothing.

    Raises:
        Refused: it is none.
    """
    if not line:
        raise Refused(PROTOCOL, "(closed before headers)")
    match = _COMMAND.fullmatch(_text(line))
    if not match or match[1] not in COMMANDS:
        raise Refused(PROTOCOL, _quoted(line), "unknown command")
    return Request(match[1], (int(match[2]), int(match[3])))


def read_headers(request: Request, lines: Sequence[bytes]) -> Request:
    """Read the headers; those that say nothing to us (User, for one) are passed over.

    Args:
        request: the command before them.
        lines: the headers, each with or without its end.

    Returns:
        The request with what the headers add.

    Raises:
        Refused: one of them is no header, or asks for what cannot be.
    """
    length: int | None = None
    packing = ""
    for line in lines:
        match = _HEADER.fullmatch(_text(line))
        if not match:
            raise Refused(PROTOCOL, _quoted(line), "no header")
        name, value = match[1].lower(), match[2].strip()
        if name == "content-length":
            length = _length(value, length)
        elif name == "compress":
            packing = value.lower()
    if packing not in {"", "zlib"}:
        raise Refused(UNAVAILABLE, "Compression type not supported")
    if packing and length is None:
        raise Refused(UNAVAILABLE, "Compress requires Content-length header")
    return Request(request.command, request.version, length, is_packed=bool(packing))


def _length(value: str, known: int | None) -> int:
    """Read a Content-length; two that differ would let client and server disagree about where the message ends."""
    if not re.fullmatch(r"[0-9]{1,15}", value):
        raise Refused(PROTOCOL, "(Content-Length contains non-numeric bytes)")
    if known not in {None, int(value)}:
        raise Refused(PROTOCOL, "(two Content-Length headers that differ)")
    return int(value)


def unpack(packed: bytes) -> Iterator[bytes]:
    """Unpack a message, piece by piece, so that whoever counts the pieces can stop a bomb.

    Args:
        packed: a zlib stream; what follows it is passed over.

    Yields:
        Pieces of at most `PIECE_BYTES`.

    Raises:
        Refused: it is no whole zlib stream.
    """
    stream = zlib.decompressobj()
    try:
        for start in range(0, len(packed), PIECE_BYTES):
            rest = packed[start : start + PIECE_BYTES]
            # Past its end a stream would hand the same rest back for ever.
            while rest and not stream.eof:
                yield stream.decompress(rest, PIECE_BYTES)
                rest = stream.unconsumed_tail
        while not stream.eof and (piece := stream.decompress(b"", PIECE_BYTES)):
            yield piece
    except zlib.error:
        raise Refused(PROTOCOL, "(the message is no zlib stream)") from None
    if not stream.eof:
        raise Refused(PROTOCOL, "(the zlib stream is cut off)")


def too_big(max_bytes: int) -> Refused:
    """Return the refusal of a message that is too big."""
    return Refused(UNAVAILABLE, f"the message is larger than spamc.max_message_bytes ({max_bytes})")


def split_mbox_line(message: bytes) -> tuple[bytes, bytes]:
    """Part the `From ` line that Exim and procmail put before a message from the message itself."""
    if not message.startswith(b"From "):
        return b"", message
    end = message.find(b"\n") + 1 or len(message)
    return message[:end], message[end:]


def _text(line: bytes) -> str:
    """Return a line without its end."""
    return line.removesuffix(b"\n").removesuffix(b"\r").decode("latin-1")


def _quoted(line: bytes) -> str:
    """Return what may be quoted of a line: printable ASCII, and not much."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in _text(line)[:MAX_QUOTED])
